"""A site that refuses for now has its last update counted again, half as much each round, and never for ever."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foa.fl.client_mod import Site, guardian_mod
from foa.fl.guardian import Condition, Guardian, Limits
from foa.fl.negotiation import Negotiation
from foa.fl.rounds import ClientRow
from foa.values.ids import AgentId
from tests.fakes import HandClock
from tests.fl_runs import SETTINGS, SITES, a_run, agent, go, of

AGAIN = replace(SETTINGS, recount_rounds=2)


def tired_after(rounds: int, calls: int = 1) -> list[object]:
    """A site whose battery is low from its so-many-th ask on."""
    asked = iter([*([False] * rounds * calls), *([True] * 99)])

    def condition() -> Condition:
        low = next(asked)
        return Condition(records=2000, battery=0.1 if low else 1.0, plugged=False)

    return [guardian_mod(Site(guardian=Guardian(Limits()), condition=condition, clock=HandClock(), keys={}))]


def rows(found: Sequence[ClientRow]) -> list[tuple[str, int]]:
    return [(row.kind, row.age) for row in found]


async def test_the_last_update_counts_again_for_some_rounds_and_then_no_more() -> None:
    trained = await go(a_run(rounds=4, settings=AGAIN), mods={SITES[0]: tired_after(1)}, led_by=agent(k=6))
    seen = [of(row, SITES[0]) for row in trained.state.rows]
    assert rows(seen) == [("trained", 0), ("refused", 1), ("refused", 2), ("refused", 0)]
    assert "battery at 10%" in seen[1].reason
    assert trained.state.memory.devices[SITES[0]].refusals == 3


async def test_without_the_setting_it_is_left_out() -> None:
    trained = await go(a_run(rounds=2), mods={SITES[0]: tired_after(1)}, led_by=agent(k=6))
    assert rows([of(row, SITES[0]) for row in trained.state.rows]) == [("trained", 0), ("refused", 0)]
    assert trained.state.kept == {}


async def test_what_counts_again_is_half_of_the_change_for_each_round_since() -> None:
    def tired_but(*awake: AgentId) -> dict[AgentId, list[object]]:
        return {site: tired_after(0) for site in SITES if site not in awake}

    six, pair = agent(k=6), tired_but(*SITES[:2])
    first = await go(a_run(rounds=1, settings=AGAIN), mods=pair, led_by=six)
    both = await go(a_run(rounds=2, settings=AGAIN), mods=pair | {SITES[0]: tired_after(1)}, led_by=six)
    alone = await go(a_run(rounds=1, settings=AGAIN, arrays=first.arrays), mods=tired_but(SITES[1]), led_by=six)
    zero = await go(a_run(rounds=1, settings=AGAIN), mods=tired_but(SITES[0]), led_by=six)
    base, own = first.arrays["w"].numpy(), alone.arrays["w"].numpy()
    change = zero.arrays["w"].numpy()  # what the first site alone makes of nought
    # two equal weights: site 1's model of this round, and the model plus half of the other's change
    expected = (own + base + change / 2) / 2
    assert abs(both.arrays["w"].numpy() - expected).max() < 1e-5


async def test_a_refusal_in_a_negotiation_counts_again_too_and_a_killed_run_knows_of_it(tmp_path: Path) -> None:
    settings = replace(AGAIN, negotiation=Negotiation(rounds=1))
    run = a_run(rounds=2, settings=settings, checkpoint=tmp_path / "run.ckpt")
    await go(replace(run, rounds=1), mods={SITES[0]: tired_after(1, calls=2)}, led_by=agent(k=6))
    trained = await go(run, mods={SITES[0]: tired_after(0)}, led_by=agent(k=6))
    seen = of(trained.state.rows[1], SITES[0])
    assert (seen.kind, seen.node, seen.age) == ("refused", "negotiate", 1)


async def test_when_nobody_brings_anything_new_nothing_is_counted_again() -> None:
    trained = await go(a_run(rounds=2, settings=AGAIN), mods={site: tired_after(1) for site in SITES}, led_by=agent(k=6))
    assert {(row.kind, row.age) for row in trained.state.rows[1].clients} == {("refused", 0)}
    assert not trained.state.rows[1].taken
