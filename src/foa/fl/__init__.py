"""Federated learning on the fabric: agents propose, a deterministic kernel disposes.

    server agent ──proposes──► guard ──checked decision──► selectors ─► guardians ─► train ─► aggregate ─► credit
                                                               ▲ offers, refusals │
                                                               └─ privacy ledger ◄┘ (debit before training)

Everything here needs numpy alone, except what says otherwise at its top: Flower, torch and Opacus come with the extra `fl`.
"""
