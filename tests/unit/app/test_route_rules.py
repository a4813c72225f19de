"""Settings reach the router."""

from foa.app.zero import route_rules
from foa.values.parameters import Parameters


def test_thresholds_are_those_of_the_settings():
    rules = route_rules(Parameters(decomp_threshold=0.2, fit_threshold=0.4, fallback_agents=2))
    assert (rules.threshold, rules.fit, rules.fallback) == (0.2, 0.4, 2)
