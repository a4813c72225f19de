"""The server agent: its view, its tools, its rule, and what its imports cost."""

import json
import subprocess
import sys

import pytest
from tests.fakes import HandClock

from foa.errors import BadInput
from foa.fl.memory import Memory, Outcome
from foa.fl.plans import Bounds, RoundPlan, check_plan, limit_change, rule_plan
from foa.fl.server import ServerAgent, should_roll_back
from foa.fl.view import RoundRecord, fleet, tools
from foa.ports import ModelReply, ModelRequest
from foa.values.ids import AgentId

SITES = [AgentId(f"client-{i}") for i in range(6)]
PLAN = RoundPlan(selector="random", k=4, deadline_seconds=20.0, aggregation="fedavg", noise_floor=1.0, reason="")
BOUNDS = Bounds(k_min=1, k_max=16, deadline_min_seconds=1, deadline_max_seconds=100, noise_max=4)
RECORD = RoundRecord(round=1, selector="oort", k=4, trained=3, refused=1, lost=0, seconds=7.0, loss=0.5)


def seen() -> Memory:
    outcomes = [
        Outcome(client=client, kind="trained", loss=1.0 + i, seconds=10.0 * (i + 1)) for i, client in enumerate(SITES)
    ]
    return Memory().after(outcomes, present=SITES, k=6)


class Looking:
    """A model that uses the tool it is given, then chooses within its schema."""

    name, drives_tools = "looking", True

    def __init__(self) -> None:
        self.found: list[str] = []

    async def ask(self, request: ModelRequest) -> ModelReply:
        (tool,) = request.tools
        for of in tool.parameters["properties"]["of"]["enum"]:
            self.found.append(await tool({"of": of}))
        assert request.schema is not None
        value = {key: rule["enum"][0] for key, rule in request.schema["properties"].items() if "enum" in rule}
        return ModelReply(text="", value={**value, "reason": "first of each"})

    async def aclose(self) -> None: ...


async def test_a_model_looks_facts_up_and_no_client_is_named() -> None:
    model = Looking()
    agent = ServerAgent(model, HandClock(), bounds=BOUNDS, k=4, rounds=10)
    choice = await agent.choose(seen(), SITES, records=[RECORD])
    assert choice.entry.verdict == "accepted"
    facts = [json.loads(text) for text in model.found]
    assert facts[0]["clients"] == 6
    assert facts[0]["round_seconds"] == [15.0, 35.0, 55.0]
    assert facts[1][0]["refused"] == 1
    assert not any("client-" in text for text in model.found)


async def test_a_tool_refuses_what_it_does_not_know() -> None:
    (tool,) = tools(seen(), [], [])
    with pytest.raises(BadInput, match="must be one of"):
        await tool({"of": "passwords"})


def test_the_view_of_nobody_is_empty_and_not_an_error() -> None:
    assert fleet([])["clients"] == 0


async def test_one_seed_and_one_memory_give_one_choice() -> None:
    chosen = [
        (await ServerAgent(None, HandClock(), bounds=BOUNDS, k=3, rounds=9, seed=5).choose(seen(), order)).clients
        for order in (SITES, SITES[::-1])
    ]
    assert chosen[0] == chosen[1]


async def test_nobody_to_choose_from_is_misuse() -> None:
    with pytest.raises(ValueError, match="nobody"):
        await ServerAgent(None, HandClock(), bounds=BOUNDS, k=3, rounds=9).choose(Memory(), [])


def test_every_choice_that_the_schema_offers_passes_the_check() -> None:
    properties = BOUNDS.schema(PLAN)["properties"]
    for key in ("k", "deadline_seconds", "noise_floor", "selector", "aggregation", "share"):
        for value in properties[key]["enum"]:
            plan = {
                "selector": "oort",
                "k": 4,
                "deadline_seconds": 20.0,
                "aggregation": "median",
                "noise_floor": 1.0,
                "share": 1.0,
                key: value,
            }
            assert check_plan(plan, BOUNDS, PLAN).limited == ()


def test_sudden_changes_are_held_and_said() -> None:
    wanted = RoundPlan(selector="oort", k=16, deadline_seconds=1.0, aggregation="fedavg", noise_floor=0.0, reason="")
    held = limit_change(wanted, BOUNDS, PLAN)
    assert (held.value.k, held.value.deadline_seconds, held.value.noise_floor) == (8, 10.0, 0.8)
    assert len(held.limited) == 3


def test_the_rule_waits_half_as_long_again_as_rounds_lasted() -> None:
    plan = rule_plan(BOUNDS, None, k=4, durations=[2.0] * 10, lasted=[8.0])
    assert plan.deadline_seconds == 12.0
    assert rule_plan(BOUNDS, None, k=4).deadline_seconds == 100.0


def test_the_rule_turns_to_a_robust_aggregation_under_suspicion() -> None:
    assert rule_plan(BOUNDS, None, k=4).aggregation == "fedavg"
    assert rule_plan(BOUNDS, None, k=4, suspects=0.1).aggregation == "multikrum"
    trusted = Bounds(k_max=16, aggregations=("fedavg", "multikrum", "fltrust"))
    assert rule_plan(trusted, None, k=4, suspects=0.1).aggregation == "fltrust"


@pytest.mark.parametrize(
    ("losses", "newest", "back"),
    [
        ((), 9.0, False),
        ((1.0,), 1.4, False),
        ((1.0,), 1.6, True),
        ((2.0, 1.0), float("nan"), True),
        ((), float("inf"), True),
    ],
)
def test_a_jump_of_validation_loss_is_rolled_back(losses: tuple[float, ...], newest: float, back: bool) -> None:
    assert should_roll_back(losses, newest) is back


def test_the_kernel_needs_neither_torch_nor_flower() -> None:
    code = (
        "import sys, foa, foa.fl.server, foa.fl.guardian_model, foa.fl.market, foa.fl.auction, foa.fl.audit, foa.fl.credit, "
        "foa.fl.compress, foa.fl.sift, foa.fl.checkpoint, foa.fl.project, foa.app.federated_job; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'flwr', 'opacus', 'sklearn', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def grouped() -> Memory:
    memory = seen()
    for i, client in enumerate(SITES):
        memory = memory.know(client, samples=9, group=("north", "south", "elsewhere")[i % 3])
    return memory


class Avoiding:
    """A model that tells one group to sit out, and keeps what it was asked."""

    name, drives_tools = "avoiding", False

    def __init__(self, group: str) -> None:
        self.group = group
        self.asked: list[ModelRequest] = []

    async def ask(self, request: ModelRequest) -> ModelReply:
        self.asked.append(request)
        assert request.schema is not None
        value = {key: rule["enum"][0] for key, rule in request.schema["properties"].items() if "enum" in rule}
        return ModelReply(text="", value={**value, "k": 6, "avoid": self.group, "reason": ""})

    async def aclose(self) -> None: ...


async def test_a_group_sits_a_round_out_where_the_model_says_so() -> None:
    model = Avoiding("north")
    bounds = Bounds(k_min=4, k_max=6, groups=("north", "south"))
    choice = await ServerAgent(model, HandClock(), bounds=bounds, k=6, rounds=9).choose(grouped(), SITES)
    assert choice.plan.avoid == "north"
    # clients 0 and 3 are of the north
    assert {*choice.clients} == {"client-1", "client-2", "client-4", "client-5"}


async def test_no_group_sits_out_that_is_needed_or_that_the_owner_did_not_name() -> None:
    for bounds, group in (
        (Bounds(k_min=5, k_max=6, groups=("north",)), "north"),
        (Bounds(k_max=6, groups=("north",)), "elsewhere"),
    ):
        model = Avoiding(group)
        choice = await ServerAgent(model, HandClock(), bounds=bounds, k=6, rounds=9).choose(grouped(), SITES)
        assert choice.plan.avoid == ""
        assert len(choice.clients) == 6
        assert "elsewhere" not in model.asked[0].prompt


async def test_a_model_is_told_the_day_and_the_hour() -> None:
    model = Avoiding("")
    agent = ServerAgent(
        model, HandClock(), bounds=Bounds(k_max=6, groups=("north",)), k=6, rounds=9, policy="Rest on Sunday."
    )
    await agent.choose(grouped(), SITES, hour=23, weekday=6)
    wishes, facts = model.asked[0].prompt.split("\n")
    assert wishes == "The owner asks: Rest on Sunday."
    told = json.loads(facts)
    assert (told["hour"], told["day"], told["groups"]) == (23, "Sunday", {"north": 2})


def test_a_model_is_not_asked_what_has_one_answer() -> None:
    bounds = Bounds(k_min=4, k_max=4, selectors=("random", "oort"), aggregations=("median",), noise_max=0.0, shares=(1.0,))
    schema = bounds.schema(PLAN)
    assert schema["required"] == ["selector", "deadline_seconds", "reason"]
    said = {"selector": "oort", "deadline_seconds": 20.0, "k": 99, "aggregation": "none of that", "reason": ""}
    plan = check_plan(said, bounds, None).value
    assert (plan.k, plan.aggregation, plan.noise_floor, plan.share, plan.avoid) == (4, "median", 0.0, 1.0, "")
