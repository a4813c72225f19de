"""The audit of a round: what each client claimed and agreed against what the server saw; pay and credit follow from it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from foa.fl.aggregate import Arrays, Update
from foa.fl.audit import Evidence, findings, penalty_usd, settled
from foa.fl.rounds import ClientRow
from foa.fl.stages.cohort import Cohort
from foa.fl.stages.receive import Received, sample_limits
from foa.values.ids import AgentId


def inspect(
    received: Received, base: Arrays, cohort: Cohort, owed: Mapping[AgentId, float], *, seconds: float, first: bool = False
) -> tuple[tuple[ClientRow, ...], dict[AgentId, float]]:
    """The rows after the audit, and what each client owes of its penalties.

    Args:
        received: of the round.
        base: the model that went out.
        cohort: of the round.
        owed: penalties of earlier rounds that no pay has covered yet, US dollars.
        seconds: the round took.
        first: of this server process: only that may have been asked before, by one that was killed. Who then answers as
            it did before is not held to the time and the terms of now.
    """
    evidence = _evidence(received, base, cohort, seconds, first=first)
    rows, owes = list[ClientRow](), dict(owed)
    for row in received.rows:
        client = AgentId(row.client)
        if row.kind == "trained" and client in evidence:
            others = [seen for name, seen in evidence.items() if name != client]
            row, owes[client] = _judged(row, evidence[client], others, owes.get(client, 0.0))
        rows.append(row)
    return tuple(rows), {client: usd for client, usd in owes.items() if usd > 0}


def _judged(row: ClientRow, seen: Evidence, others: Sequence[Evidence], owed: float) -> tuple[ClientRow, float]:
    found = findings(seen, others)
    penalty = penalty_usd(row.usd, found)
    paid, owes = settled(row.usd, penalty, owed)
    # what it seems to have contributed does not speak for who did other than it said
    credit = min(row.credit, 0.0) if found and row.credit is not None else row.credit
    texts, lied = tuple(finding.text for finding in found), any(finding.lie for finding in found)
    return replace(row, usd=paid, credit=credit, findings=texts, lied=lied, penalty_usd=penalty), owes


def _evidence(received: Received, base: Arrays, cohort: Cohort, seconds: float, *, first: bool) -> dict[AgentId, Evidence]:
    updates, limits = {update.client: update for update in received.sifted.kept}, sample_limits(cohort)
    found = dict[AgentId, Evidence]()
    for row in received.rows:
        client = AgentId(row.client)
        if row.kind != "trained":
            continue
        update, noised = updates.get(client), row.told is not None and row.told.noise_multiplier > 0
        again = first and row.told is not None and row.told.again
        found[client] = Evidence(
            told=row.told,
            agreed=None if again else cohort.agreed(client),
            samples=received.claimed.get(client, 0),
            samples_most=limits.get(client),
            loss=None if noised else received.losses.get(client),
            seconds=None if again else seconds,
            width=None if update is None else _width(base, update),
            moved=None if update is None or noised else _moved(base, update),
        )
    return found


def _width(base: Arrays, update: Update) -> float | None:
    """The share of the most narrowed axis: a client of width w holds at least w of each."""
    shares = (
        part / whole
        for name, array in base.items()
        for part, whole in zip(update.arrays[name].shape, array.shape, strict=True)
        if whole
    )
    return min(shares, default=None)


def _moved(base: Arrays, update: Update) -> float:
    total = 0.0
    for name, array in update.arrays.items():
        part = base[name][tuple(slice(0, length) for length in array.shape)]
        total += float(np.sum((array.astype(np.float64) - part) ** 2))
    return float(np.sqrt(total))
