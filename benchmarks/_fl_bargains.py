"""Negotiations with hostile clients: whatever they answer, the server keeps its limits and the number of its calls."""

import random
import string
from dataclasses import asdict, replace
from typing import Any

from foa.errors import BadMessage
from foa.fl.market import Answer, Offer, Talk
from foa.fl.negotiation import Negotiation, opened, read_answer
from foa.values.ids import AgentId

WANTED = Offer(width=1.0, epochs=4, steps=200, noise_multiplier=0.5, usd=1.0, deadline_seconds=60.0)
SETTINGS = Negotiation(rounds=5, share_min=0.25, noise_max=4.0, usd=1.0, usd_max=3.0)
MOST_CALLS = 10_000  #: a talk that goes on for longer never ends


def bargain(replies: int, seed: int) -> tuple[int, int, int]:
    """Negotiate until so many answers came: answers, what got past the limits, agreements."""
    rng, heard, violations, agreements = random.Random(seed), 0, 0, 0
    while heard < replies:
        talk = opened(AgentId("client-1"), WANTED, SETTINGS)
        # what the server bids next is hostile, too: a model may write it
        talk.side.bidder = lambda own, other, limit: _bid(rng)
        while not talk.over and talk.called < MOST_CALLS:
            talk.call()
            heard += 1
            talk.hear(_answer(rng))
        violations += _broken(talk)
        agreements += talk.agreed is not None
    return heard, violations, agreements


def _broken(talk: Talk) -> int:
    late = talk.called > SETTINGS.rounds
    beyond = talk.agreed is not None and not _within(talk.agreed, talk.side.limit)
    return late + beyond + (not _within(talk.side.last, talk.side.limit))


def _within(bid: Offer, limit: Offer) -> bool:
    """Said again here, each by a comparison that fails for what is not a number."""
    return (
        limit.width <= bid.width <= WANTED.width
        and limit.epochs <= bid.epochs <= WANTED.epochs
        and limit.steps <= bid.steps <= WANTED.steps
        and WANTED.noise_multiplier <= bid.noise_multiplier <= limit.noise_multiplier
        and 0 <= bid.usd <= limit.usd
        and 0 < bid.deadline_seconds <= limit.deadline_seconds
    )


def _answer(rng: random.Random) -> Answer:
    """A client's answer off the wire, or a refusal where it cannot be read, as the server takes it."""
    values: dict[str, Any] = {"answer": rng.choice(["accept", "offer", "offer", "offer", "refuse", "", None, 7])}
    for key, value in asdict(_bid(rng)).items():
        values[key.replace("_", "-")] = value if rng.random() < 0.8 else _anything(rng)
    if rng.random() < 0.2:
        values["reason"] = _anything(rng)
    try:
        return read_answer(values, replace(WANTED, usd=SETTINGS.usd))
    except BadMessage as error:
        return Answer(kind="refuse", reason=str(error))


def _bid(rng: random.Random) -> Offer:
    return Offer(
        width=rng.choice([rng.uniform(0.01, 1.5), 1.0]),
        epochs=rng.randint(0, 9),
        steps=rng.randint(0, 400),
        noise_multiplier=rng.choice([rng.uniform(0, 9), 0.5]),
        usd=rng.choice([rng.uniform(0, 9), 10.0 ** rng.randint(0, 300), 1.0]),
        deadline_seconds=rng.uniform(0, 90),
    )


def _anything(rng: random.Random) -> Any:
    return rng.choice(
        [-1, 10**400, float("nan"), float("inf"), None, True, [], {}, "".join(rng.choices(string.printable, k=500))]
    )
