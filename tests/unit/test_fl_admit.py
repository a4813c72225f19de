"""The gate before any choice: clearance, what is left of ε, speed. Whoever could take part is never kept out."""

import math

import pytest

from foa.errors import PolicyDenied
from foa.fl.block import FlBlock
from foa.fl.guardian import Terms
from foa.fl.negotiation import Negotiation
from foa.fl.plans import Bounds
from foa.fl.stages.admit import least_epsilon, refusals
from foa.fl.stages.cohort import AgenticSettings

TERMS = Terms(epochs=1, steps=100, width=1.0, batch=10, noise_multiplier=1.0, clip=1.0)
#: noise of 2 at most, half of the steps at least
RUN = AgenticSettings(
    run="r", terms=TERMS, policies=("phi",), negotiation=Negotiation(rounds=1, share_min=0.5, noise_max=2.0)
)
BOUNDS = Bounds(k_max=9, deadline_max_seconds=60.0, noise_max=1.0)


def site(name: str, **said: object) -> FlBlock:
    return FlBlock(**{"agent": name, "samples": 7, "policies": ("phi",), "epsilon": 20.0, "epsilon_left": 20.0, **said})  # type: ignore[arg-type]


def refused(*blocks: FlBlock, run: AgenticSettings = RUN) -> dict[str, str]:
    return {str(client): why for client, why in refusals(dict(enumerate(blocks)), run, BOUNDS, ()).items()}


def test_every_label_of_the_run_has_to_be_on_the_card() -> None:
    found = refused(site("a"), site("b", policies=()), site("c", policies=("phi", "eu")))
    assert found == {"b": "it is not cleared for phi"}


def test_a_run_that_nobody_is_cleared_for_is_denied_with_every_reason() -> None:
    with pytest.raises(PolicyDenied, match="a: it is not cleared for phi; b: it is not cleared for phi"):
        refused(site("a", policies=()), site("b", policies=("eu",)))


def test_what_the_cheapest_round_costs_is_a_bound_in_the_sites_favour() -> None:
    # 7 · √2 records are one batch of 10: a step sees all of them, and 50 at σ = 2 cost 50 · 2 / (2 · 2²) at order 2
    assert math.isclose(least_epsilon(RUN, BOUNDS, samples=7), 12.5)


def test_a_site_whose_budget_cannot_pay_for_that_is_no_candidate() -> None:
    # it tells what is left rounded down to a half, so 12 may be 12.49: under 12.5 all the same
    found = refused(site("a", epsilon_left=11.5), site("b", epsilon_left=12.0))
    assert found == {"a": "under 12 is left of its privacy budget and a round needs 12.50 at least"}


def test_a_site_without_a_budget_is_no_candidate_where_noise_is_asked() -> None:
    assert refused(site("a"), site("b", epsilon=None, epsilon_left=None, samples=1000))["b"].startswith(
        "the run asks for noise"
    )


def test_a_site_too_slow_for_the_least_work_is_no_candidate() -> None:
    # half of the work: 61 s and 59 s, the longest deadline is 60 s
    found = refused(site("a", samples=10**6, seconds_a_round=122.0), site("b", samples=10**6, seconds_a_round=118.0))
    assert set(found) == {"a"}
