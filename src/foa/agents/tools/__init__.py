"""What agents look things up with. Each is a `foa.ports.Tool`; those that are a `Retriever` can also be asked for evidence
by a small model's agent, which cannot drive tools: retrieve first, then generate.
"""
