"""A site killed between the debit and the reply has still paid."""

import subprocess
import sys
from pathlib import Path

from foa.fl.ledger import PrivacyLedger
from foa.fl.privacy import NoisyTraining, PrivacyBudget

BUDGET = PrivacyBudget(epsilon=4.0, delta=1e-4, order=8)
ROUND = NoisyTraining(noise_multiplier=4.0, sample_rate=1.0, steps=1)

KILLED_AFTER_ITS_DEBIT = """
import os, signal, sys
from foa.fl.ledger import PrivacyLedger
from foa.fl.privacy import NoisyTraining, PrivacyBudget
ledger = PrivacyLedger(sys.argv[1], PrivacyBudget(epsilon=4.0, delta=1e-4, order=8))
ledger.debit("run/1", NoisyTraining(noise_multiplier=4.0, sample_rate=1.0, steps=1), at=0.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_nine_refunds_nothing_and_the_same_round_is_not_paid_twice(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", KILLED_AFTER_ITS_DEBIT, str(path)], check=False, timeout=60)
        assert ended.returncode == -9
    with PrivacyLedger(path, BUDGET) as ledger:
        # three kills of one round: α / 2σ² = 8 / 32 = 0.25, once
        assert ledger.spent == 0.25
        assert ledger.find("run/1") is None
        assert not ledger.debit("run/1", ROUND, at=1.0).fresh
