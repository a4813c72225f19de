"""What a job teaches, and that it is remembered at the next start."""

from pathlib import Path

from foa.registry.reputation import decode_outcome
from tests.integration.federations import Script, answer, federation, scripted


async def test_a_lost_agent_is_trusted_less_and_a_restart_remembers_it(tmp_path: Path):
    class Refusing(Script):
        async def draft(self, request):
            raise RuntimeError("a bug in somebody's agent")

    state = tmp_path / "jobs.db"
    agents = [scripted("good", Script()), scripted("bad", Refusing())]
    async with federation(tmp_path, agents, state=state) as started:
        await answer(started)
        reputation = started.zero.service.orchestrator.reputation
        good, bad = reputation.mean("good", "general"), reputation.mean("bad", "general")
        kept = [decode_outcome(record) for record in await started.stores.outcomes.replay()]
    assert bad < good
    assert {outcome.grade for outcome in kept if outcome.agent == "bad"} == {0.0}
    async with federation(tmp_path, agents, state=state) as again:
        reputation = again.zero.service.orchestrator.reputation
        assert abs(reputation.mean("bad", "general") - bad) < 1e-9
        assert abs(reputation.mean("good", "general") - good) < 1e-9
