"""`kill -9` of a site, or of the server, in the middle of a round: the run ends, ε is neither refunded nor spent twice."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.chaos._fl_processes import BUDGET, PLAN, ROUNDS, RUN, a_run, agent
from tests.fl_sites import PROJECT, TOPICS

from foa.app.clock import SystemClock
from foa.broker import Broker, BrokerConfig
from foa.fl.grids.mqtt import MqttGrid
from foa.fl.ledger import PrivacyLedger
from foa.fl.roll import Roll, Wanted
from foa.fl.rounds import RoundRow
from foa.fl.training import train
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("_fl_processes.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
EVERY_ROUND = [f"{RUN}/round-{number}" for number in range(1, ROUNDS + 1)]


def keys(path: Path) -> list[str]:
    with PrivacyLedger(path, BUDGET) as ledger:
        assert ledger.spent <= BUDGET.allowance
        return [entry.key for entry in ledger.entries()]


def test_a_killed_server_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "server", str(tmp_path), "3"]
    killed = subprocess.run(command, env=ENVIRONMENT, timeout=120, check=False, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    # the debit of the round it died in stands
    assert keys(tmp_path / "site-0.db") == EVERY_ROUND[:3]
    again = subprocess.run(command, env=ENVIRONMENT, timeout=120, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == {"rounds": [1, 2, 3, 4], "began": 3}
    for i in range(3):
        assert keys(tmp_path / f"site-{i}.db") == EVERY_ROUND


@asynccontextmanager
async def site(folder: Path, name: str, port: int, at_round: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        "site",
        str(folder),
        name,
        str(port),
        str(at_round),
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_killed_site_is_lost_for_its_round_and_comes_back(tmp_path: Path) -> None:
    rows: list[RoundRow] = []
    roll = Roll(Wanted(project=PROJECT), SystemClock())
    async with (
        Broker(BrokerConfig(host="127.0.0.1", port=0)) as broker,
        MqttTransport(f"mqtt://127.0.0.1:{broker.port}", client_id="server") as link,
        MqttGrid(link, TOPICS, RUN, roll) as grid,
        site(tmp_path, "site-1", broker.port, 0),
        site(tmp_path, "site-2", broker.port, 0),
        site(tmp_path, "site-0", broker.port, 2) as doomed,
    ):
        await grid.present(3, seconds=60)

        async def kill_in_its_round() -> None:
            assert doomed.stdout is not None
            async with asyncio.timeout(60):
                assert await doomed.stdout.readline() == b"in the round\n"
            doomed.kill()
            await doomed.wait()
            await grid.absent(AgentId("site-0"), seconds=30)

        async with asyncio.TaskGroup() as group:
            group.create_task(kill_in_its_round(), name="kill")
            trained = await train(a_run(None), grid, agent(3), grid.profiles, on_round=rows.append)
        assert [row.round for row in trained.state.rows] == [1, 2, 3, 4]
        lost = {(row.round, client.client) for row in rows for client in row.clients if client.kind == "lost"}
        assert lost == {(2, "site-0")}
        # round 2 was paid for and never came back: the debit stands
        assert keys(tmp_path / "site-0.db") == EVERY_ROUND[:2]
        async with site(tmp_path, "site-0", broker.port, 0):
            await grid.present(3, seconds=60)
        with PrivacyLedger(tmp_path / "site-0.db", BUDGET) as ledger:
            assert not ledger.debit(EVERY_ROUND[1], PLAN, at=0.0).fresh
