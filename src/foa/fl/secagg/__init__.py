"""Secure aggregation: the server learns the sum of the updates of a round and no single one.

    setup ─► keys ─► sealed shares ─► train, masked ─► unmask ─► sum

Sources: Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning", CCS 2017 (two masks, shares
of both secrets, drop-outs); Bell et al., "Secure single-server aggregation with (poly)logarithmic overhead", CCS 2020
(SecAgg+: each member shares with some neighbours only). docs/decisions/0030 says why this is not Flower's own, and
docs/explanation/secure-aggregation.md which promise holds against whom.
"""
