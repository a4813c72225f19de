"""A site's model: it lives on the event loop, is asked from a client app's thread, and leaves its decisions in a file."""

import asyncio
from pathlib import Path

import pytest
from tests.fakes import HandClock

from foa.app.federated_guardian import DecisionLog, advised, decisions_in
from foa.fl.guard import Guard, GuardEntry
from foa.fl.guardian import Accept, Condition, Counter, Guardian, Limits, Terms, TrainAsk
from foa.fl.guardian_model import ModelGuardian, on_loop
from foa.fl.project import SiteSpec
from foa.ports import ModelReply, ModelRequest
from foa.values.budget import Spend

TERMS = Terms(epochs=4, steps=40, width=1.0, batch=4, noise_multiplier=0.0, clip=1.0)
ASK = TrainAsk(run="r", round=1, purpose="*", terms=TERMS, deadline_seconds=60.0, cohort=4)
LESS = {"verdict": "less", "epochs": 1, "steps": 10, "width": 1.0, "noise_multiplier": 0.0, "reason": "the ward is busy"}


class Wishes:
    """A model that wants less, on the loop it was made for."""

    name = "wishes"
    drives_tools = False

    def __init__(self) -> None:
        self.asked: list[ModelRequest] = []

    async def ask(self, request: ModelRequest) -> ModelReply:
        self.asked.append(request)
        return ModelReply(text=str(LESS), value=LESS)

    async def aclose(self) -> None: ...


async def test_a_model_is_asked_from_a_thread_with_the_owners_words() -> None:
    model, rules = Wishes(), Guardian(Limits())
    consider = on_loop(ModelGuardian(rules, Guard(model, HandClock()), spec="Quiet at night."), asyncio.get_running_loop())
    verdict, entry = await asyncio.to_thread(consider, ASK, Condition(records=100))
    assert isinstance(verdict, Counter)
    assert (verdict.terms.steps, verdict.reasons) == (10, ("the ward is busy",))
    assert entry is not None
    assert entry.verdict == "accepted"
    assert "The owner asks: Quiet at night." in model.asked[0].prompt


async def test_when_the_loop_is_over_the_rules_decide() -> None:
    over = asyncio.new_event_loop()
    over.close()
    consider = on_loop(ModelGuardian(Guardian(Limits()), Guard(Wishes(), HandClock())), over)
    assert consider(ASK, Condition(records=100)) == (Accept(terms=TERMS), None)


async def test_a_model_that_hangs_is_given_up_and_the_rules_decide() -> None:
    class Hangs(Wishes):
        async def ask(self, request: ModelRequest) -> ModelReply:
            await asyncio.Event().wait()
            raise AssertionError

    guardian = ModelGuardian(Guardian(Limits()), Guard(Hangs(), HandClock()))
    consider = on_loop(guardian, asyncio.get_running_loop(), seconds=0.01)
    assert await asyncio.to_thread(consider, ASK, Condition(records=100)) == (Accept(terms=TERMS), None)


async def test_decisions_are_on_record_with_the_prompt_as_its_hash(tmp_path: Path) -> None:
    path, clock = tmp_path / "decisions-ward.jsonl", HandClock()
    beside = advised(SiteSpec(name="ward", spec="Quiet at night."), Wishes(), clock, path)
    consider = beside(Guardian(Limits()))
    assert consider is not None
    await asyncio.to_thread(consider, ASK, Condition(records=100))
    (decision,) = decisions_in(tmp_path)
    assert (decision.site, decision.entry.model, decision.entry.verdict) == ("ward", "wishes", "accepted")
    assert decision.entry.raw == str(LESS)
    assert len(decision.entry.prompt_sha256) == 64
    assert b"Quiet at night" not in path.read_bytes()


async def test_without_wishes_or_without_a_model_the_rules_stand_alone(tmp_path: Path) -> None:
    path, clock = tmp_path / "decisions-ward.jsonl", HandClock()
    assert advised(SiteSpec(name="ward"), Wishes(), clock, path)(Guardian(Limits())) is None
    assert advised(SiteSpec(name="ward", spec="Quiet."), None, clock, path)(Guardian(Limits())) is None


ENTRY = GuardEntry(
    who="guardian/r/round-1",
    model="m",
    prompt_sha256="0" * 64,
    raw="",
    verdict="accepted",
    faults=(),
    repairs=0,
    seconds=0.0,
    spend=Spend(),
)


def test_a_damaged_line_is_left_out_and_a_full_log_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "decisions-ward.jsonl"
    path.write_bytes(b"not json\n")
    assert decisions_in(tmp_path) == []
    assert "no decision" in caplog.text
    monkeypatch.setattr("foa.app.federated_guardian.MAX_LOG_BYTES", 1)
    DecisionLog(path, "ward", HandClock())(ENTRY)
    assert (tmp_path / "decisions-ward.before.jsonl").read_bytes() == b"not json\n"
    assert [decision.entry for decision in decisions_in(tmp_path)] == [ENTRY]
