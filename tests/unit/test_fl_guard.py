"""The guard between a model and a decision."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from foa.errors import ModelReplyInvalid, ModelUnreachable
from foa.fl.guard import Checked, Guard, GuardEntry, GuardLimits, Unfit
from foa.fl.replies import number, whole
from foa.ports import ModelReply, ModelRequest
from foa.values.budget import Spend

REQUEST = ModelRequest(instructions="choose k", prompt="5 clients", schema={"type": "object"})


class Scripted:
    """A model that says what it is told to, or raises it."""

    name = "scripted"
    drives_tools = False

    def __init__(self, *replies: Mapping[str, Any] | Exception) -> None:
        self.replies = list(replies)
        self.prompts: list[str] = []

    async def ask(self, request: ModelRequest) -> ModelReply:
        self.prompts.append(request.prompt)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return ModelReply(text=repr(reply), value=reply, spend=Spend(calls=1))

    async def aclose(self) -> None: ...


class Silent(Scripted):
    """A model that never answers."""

    async def ask(self, request: ModelRequest) -> ModelReply:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


def check(value: Mapping[str, Any]) -> Checked[int]:
    return Checked(value=whole(value, "k", 1, 5))


async def decide(guard: Guard) -> tuple[int, GuardEntry]:
    made = await guard.decide(REQUEST, who="test", check=check, rule=lambda: 2)
    return made.value, made.entry


async def test_a_fitting_reply_decides() -> None:
    value, entry = await decide(Guard(Scripted({"k": 4}), HandClock()))
    assert (value, entry.verdict, entry.repairs, entry.spend.calls) == (4, "accepted", 0, 1)


async def test_faults_are_told_and_the_repair_decides() -> None:
    model = Scripted({"k": 9}, {"k": 3})
    value, entry = await decide(Guard(model, HandClock()))
    assert (value, entry.verdict, entry.repairs) == (3, "accepted", 1)
    assert "k must be 1 to 5, not 9" in model.prompts[1]


async def test_after_two_repairs_the_rule_decides() -> None:
    model = Scripted({"k": 9}, {"k": 8}, {"k": "x"}, {"k": 1})
    value, entry = await decide(Guard(model, HandClock()))
    assert (value, entry.verdict, entry.repairs, len(model.prompts)) == (2, "fallback", 2, 3)
    assert len(entry.faults) == 3


@pytest.mark.parametrize("error", [ModelUnreachable("gone"), ModelReplyInvalid("no JSON", raw="hm", spend=Spend(calls=3))])
async def test_a_failing_model_hands_over_to_the_rule(error: Exception) -> None:
    value, entry = await decide(Guard(Scripted(error), HandClock()))
    assert (value, entry.verdict) == (2, "fallback")
    assert entry.faults


async def test_a_model_that_never_answers_costs_its_deadline_only() -> None:
    value, entry = await decide(Guard(Silent(), HandClock(), limits=GuardLimits(seconds=0.01)))
    assert value == 2
    assert "no usable reply within" in entry.faults[0]


async def test_the_breaker_opens_rests_and_tries_once_more() -> None:
    clock, model = HandClock(), Scripted(*[ModelUnreachable("gone")] * 4)
    guard = Guard(model, clock, limits=GuardLimits(failures=3, rest_seconds=60))
    for _ in range(5):
        await decide(guard)
    assert len(model.prompts) == 3
    clock.at = 61.0
    await decide(guard)
    await decide(guard)
    assert len(model.prompts) == 4  # one try after the rest, then closed again at once


async def test_a_success_closes_the_breaker() -> None:
    clock = HandClock()
    guard = Guard(Scripted(ModelUnreachable("gone"), ModelUnreachable("gone"), {"k": 1}, ModelUnreachable("gone")), clock)
    for _ in range(4):
        await decide(guard)
    assert not guard.open


async def test_no_model_means_the_rule_and_no_name_in_the_log() -> None:
    log: list[GuardEntry] = []
    value, entry = await decide(Guard(None, HandClock(), log=log.append))
    assert (value, entry.model, log) == (2, "", [entry])


async def test_a_bug_in_a_check_escapes() -> None:
    def broken(value: Mapping[str, Any]) -> Checked[int]:
        raise KeyError("k")

    with pytest.raises(KeyError):
        await Guard(Scripted({"k": 1}), HandClock()).decide(REQUEST, who="test", check=broken, rule=lambda: 2)


HOSTILE: Sequence[object] = [True, None, "4", 4.5, float("nan"), float("inf"), 10**5000, [10**5000], {}, -1, 6]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
def test_what_is_no_whole_number_in_bounds_is_unfit(value: object) -> None:
    with pytest.raises(Unfit):
        whole({"k": value}, "k", 1, 5)


@pytest.mark.parametrize("value", [value for value in HOSTILE if value != 4.5], ids=lambda value: type(value).__name__)
def test_what_is_no_number_in_bounds_is_unfit(value: object) -> None:
    with pytest.raises(Unfit):
        number({"x": value}, "x", 0.0, 5.0)
