"""The record in which server and guardian speak of terms, beside whatever a user's app puts into a message. Plain values.

Server to site: the ask. Site to server: what it did and why, with ε in coarse steps.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from foa.errors import BadMessage
from foa.fl.guardian import Terms, TrainAsk

RECORD = "foa"  #: name of the record in a Flower message

Scalar = int | float | str | bool | list[str]
MAX_POLICIES = 32
MAX_TEXT = 500  #: characters of what a site tells in words


def write_ask(ask: TrainAsk) -> dict[str, Scalar]:
    """An ask as flat values."""
    terms = ask.terms
    return {
        "run": ask.run,
        "round": ask.round,
        "purpose": ask.purpose,
        "deadline-seconds": float(ask.deadline_seconds),
        "cohort": ask.cohort,
        "rounds": ask.rounds,
        "secure-aggregation": ask.secure_aggregation,
        "share": float(ask.share),
        "usd": float(ask.usd),
        "policies": list(ask.policies),
        "epochs": terms.epochs,
        "steps": terms.steps,
        "width": float(terms.width),
        "batch": terms.batch,
        "noise-multiplier": float(terms.noise_multiplier),
        "clip": float(terms.clip),
    }


def read_ask(values: Mapping[str, object]) -> TrainAsk:
    """The ask in a message. Whether its numbers make sense is for the guardian's audit.

    Raises:
        BadMessage: a value is missing or of another type.
    """
    try:
        return TrainAsk(
            run=_text(values, "run"),
            round=_whole(values, "round"),
            purpose=_text(values, "purpose"),
            deadline_seconds=_number(values, "deadline-seconds"),
            cohort=_whole(values, "cohort"),
            rounds=_whole(values, "rounds"),
            # servers of an older release say none of these
            secure_aggregation=_yes(values, "secure-aggregation") if "secure-aggregation" in values else False,
            share=_number(values, "share") if "share" in values else 1.0,
            usd=_number(values, "usd") if "usd" in values else 0.0,
            policies=_labels(values, "policies") if "policies" in values else (),
            terms=Terms(
                epochs=_whole(values, "epochs"),
                steps=_whole(values, "steps"),
                width=_number(values, "width"),
                batch=_whole(values, "batch"),
                noise_multiplier=_number(values, "noise-multiplier"),
                clip=_number(values, "clip"),
            ),
        )
    except KeyError as error:
        raise BadMessage(f"the server's terms lack {error}") from error


def _text(values: Mapping[str, object], key: str) -> str:
    found = values[key]
    if not isinstance(found, str) or len(found) > 500:
        raise BadMessage(f"{key} in the server's terms is no short text")
    return found


def _whole(values: Mapping[str, object], key: str) -> int:
    found = values[key]
    if isinstance(found, bool) or not isinstance(found, int) or abs(found) > 10**9:
        raise BadMessage(f"{key} in the server's terms is no whole number of a usable size")
    return found


def _number(values: Mapping[str, object], key: str) -> float:
    found = values[key]
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise BadMessage(f"{key} in the server's terms is no number")
    return float(found)


def _labels(values: Mapping[str, object], key: str) -> tuple[str, ...]:
    found = values[key]
    try:
        labels = msgspec.convert(found, type=tuple[str, ...])
    except msgspec.ValidationError as error:
        raise BadMessage(f"{key} in the server's terms are no list of labels") from error
    if len(labels) > MAX_POLICIES or any(len(label) > 64 for label in labels):
        raise BadMessage(f"{key} in the server's terms are over {MAX_POLICIES}, or longer than 64 characters")
    return labels


def _yes(values: Mapping[str, object], key: str) -> bool:
    found = values[key]
    if not isinstance(found, bool):
        raise BadMessage(f"{key} in the server's terms is neither true nor false")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a guardian says about the round it took part in."""

    countered: bool  #: it trained on other terms than asked
    reasons: str  #: why, for people
    seconds: float  #: of training
    noise_multiplier: float
    steps: int
    epochs: int
    width: float
    epsilon_budget: float  #: −1: it keeps no ledger
    epsilon_left: float  #: in steps of ½; −1: it keeps no ledger
    by: str = ""  #: the model that decided and what its guard said; empty: the rules
    again: bool = False  #: the round was asked before and this is the reply of then, with the time and the terms of then


def write_told(told: Told) -> dict[str, Scalar]:
    """What is told, as flat values."""
    return {key.replace("_", "-"): value for key, value in msgspec.to_builtins(told).items()}


def read_told(values: Mapping[str, object]) -> Told | None:
    """What a site told; None where it is not usable, for it is only for the record."""
    try:
        told = msgspec.convert({key.replace("-", "_"): value for key, value in values.items()}, type=Told)
    except msgspec.ValidationError:
        return None
    numbers = (told.seconds, told.noise_multiplier, told.width, told.epsilon_budget, told.epsilon_left)
    # the record is JSON, which has no infinity: a run could not be taken up again
    is_usable = all(map(math.isfinite, numbers)) and max(len(told.reasons), len(told.by)) <= MAX_TEXT
    return told if is_usable else None
