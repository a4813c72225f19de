"""What tests need that a base installation does not have: said at the end of every run, never silently left out."""

from importlib.util import find_spec

import pytest
from hypothesis import settings

# a busy machine may take long for one example; all else is as Hypothesis has it, where CI is set without chance
settings.register_profile("patient", settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.load_profile("patient")

#: Tests that import Flower or torch. `.ci/run` installs the extra, so there they all run.
NEED_FL = [
    "chaos/test_fl_federation_kills.py",
    "chaos/test_fl_kills.py",
    "contract/test_fl_grids.py",
    "integration/test_fl_compression.py",
    "integration/test_fl_events.py",
    "integration/test_fl_hostile_server.py",
    "integration/test_fl_negotiation.py",
    "integration/test_fl_metrics.py",
    "integration/test_fl_mixed.py",
    "integration/test_fl_blobs.py",
    "integration/test_fl_project.py",
    "integration/test_fl_recount.py",
    "integration/test_fl_secure_aggregation.py",
    "integration/test_fl_site_rules.py",
    "integration/test_fl_sites.py",
    "integration/test_fl_thin_lines.py",
    "integration/test_fl_serve.py",
    "integration/test_fl_training.py",
    "integration/test_fl_widths.py",
    "integration/test_fl_wishes.py",
    "unit/test_fl_plots.py",
    "unit/test_fl_told.py",
]
_HAS_FL = find_spec("flwr") is not None and find_spec("torch") is not None

collect_ignore = [] if _HAS_FL else NEED_FL


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the files that were not run, and how to run them."""
    if not _HAS_FL:
        files = ", ".join(NEED_FL)
        terminalreporter.write_line(f"not run, federated learning is not installed (scripts/environment fl): {files}")
