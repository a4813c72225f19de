"""What each node of a round gave, as bounded plain data: for live events, for a job's steps, for `rounds.json`."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from foa.fl.rounds import ClientRow, RoundRow
from foa.values.ids import AgentId

MOST = 200  #: clients named in one value; the row has all of them


def outcomes(row: RoundRow) -> Mapping[str, Any]:
    """What each node gave, by the node's name (`foa.fl.rounds.NODES`). Of a round that is not over: as far as it went."""
    return {
        "profile": profiled(row.present, _reasons(row.clients, "refused", node="profile")),
        "select": _plain({name: getattr(row, name) for name in ("plan", "verdict", "faults", "model", "tokens")})
        | {"seconds": row.decision_seconds},
        "negotiate": _negotiated(row),
        "train": {kind: _named(row.clients, kind) for kind in ("trained", "lost", "refused")} | {"seconds": row.seconds},
        "screen": _reasons(row.clients, "screened"),
        "aggregate": {"rule": row.plan.aggregation, "taken": row.taken, "loss": row.loss, "drift": row.drift},
        "evaluate": {
            "accuracy": row.accuracy,
            "worst10": row.worst10,
            "clients": dict(row.accuracies[:MOST]),
        },
        "credit": _credited(row),
    }


def profiled(present: int, refused: Mapping[AgentId, str] | Mapping[str, str]) -> dict[str, Any]:
    """How many were there, and who could not be a candidate and why."""
    return {"present": present, "refused": dict(list(refused.items())[:MOST])}


def _negotiated(row: RoundRow) -> dict[str, Any]:
    """By client: bids, what was agreed and why; without negotiation, what it told with its update."""
    if row.talks:
        return {
            talk.client: _plain({"bids": len(talk.bids), "agreed": talk.agreed, "reason": talk.reason, "by": talk.by})
            for talk in row.talks[:MOST]
        }
    said = {client.client: client.told or client.reason for client in row.clients if client.told or client.reason}
    return _plain(dict(list(said.items())[:MOST]))


def _credited(row: RoundRow) -> dict[str, Any]:
    trained = [client for client in row.clients if client.kind == "trained"]
    return {client.client: _settled(client) for client in trained[:MOST]}


def _settled(client: ClientRow) -> dict[str, Any]:
    return {
        "credit": client.credit,
        "usd": client.usd,
        "penalty_usd": client.penalty_usd,
        "findings": list(client.findings),
        "lied": client.lied,
    }


def _named(clients: Iterable[ClientRow], kind: str) -> list[str]:
    return [client.client for client in clients if client.kind == kind and client.node != "profile"][:MOST]


def _reasons(clients: Iterable[ClientRow], kind: str, *, node: str = "train") -> dict[str, str]:
    found = [client for client in clients if client.kind == kind and client.node == node]
    return {client.client: client.reason for client in found[:MOST]}


def _plain(value: object) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(value))
