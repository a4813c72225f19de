"""The stages of a round, a file each, called in turn by `foa.fl.grids.agentic`.

choose ─► ask ─► receive ─► learn ─► measure
"""
