"""The paper's six phases, a file each. A phase never imports a phase; agents are met only on the wire.

decompose ─► assign ─► [ draft ─► cluster ─► refine ─► report ] for every node as soon as it is ready ─► synthesise
                       [ train ─► report ] where an agent that trains fits the node better
"""
