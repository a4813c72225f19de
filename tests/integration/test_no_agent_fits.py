"""A question that no agent can do: refused with exit code 3 and what to do, to a program and at the command line."""

import asyncio
import sys
from pathlib import Path

from foa.values.plan import Proposal, ProposedSubtask
from tests.integration.federations import Script, answer, federation, scripted

# no word, and next to no meaning, in common with agents that route tasks
ABSURD = "Braise the lamb shanks with rosemary"
COOKS_NOT = """---
name: {name}
description: Routes tasks to agents; reads code, explains the history of the scoring formula.
---
Answer from what you know.
"""


async def test_a_job_that_no_agent_fits_is_refused_and_nobody_is_asked(tmp_path: Path):
    brain = Script()
    async with federation(tmp_path, [scripted(f"a{i}", brain) for i in range(6)]) as started:
        result = await answer(started, ABSURD)
    assert (result.status, result.exit_code) == ("failed", 3)
    assert "can hardly do it (fit " in result.error
    assert "FOA_FIT_THRESHOLD" in result.error
    assert (brain.proposals, brain.drafts) == (0, [])


async def test_a_federation_of_five_answers_whatever_it_is_asked(tmp_path: Path):
    brain = Script()
    async with federation(tmp_path, [scripted(f"a{i}", brain) for i in range(5)]) as started:
        result = await answer(started, ABSURD)
    assert result.status == "done"
    assert brain.drafts


async def test_foa_ask_ends_with_3_and_says_what_to_do(tmp_path: Path):
    files = [tmp_path / f"a{i}.md" for i in range(6)]
    for file in files:
        file.write_text(COOKS_NOT.format(name=file.stem))
    environment = {"HOME": str(tmp_path), "FOA_STATE_DIR": str(tmp_path)}
    names = ", ".join(f'"{file.name}"' for file in files)
    (tmp_path / "FEDERATION.toml").write_text(f'name = "routers"\nagents = [{names}]\n')
    async with asyncio.timeout(90):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "foa", "ask", ABSURD, "--federation", "FEDERATION.toml"),
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    told = " ".join((out + err).decode().split())
    assert process.returncode == 3, told
    assert "can hardly do it" in told
    assert "Traceback" not in told


async def test_a_subtask_that_no_agent_fits_says_why_and_what_to_do(tmp_path: Path):
    subtasks = (ProposedSubtask(text="Find the code that routes a task"), ProposedSubtask(text=ABSURD))
    brain = Script(plan=Proposal(subtasks=subtasks))
    agents = [scripted(f"a{i}", brain) for i in range(6)]
    async with federation(tmp_path, agents, FOA_REVISIONS_MAX=0) as started:
        result = await answer(started)
    [unanswered] = [one for one in result.reports if one.error]
    assert unanswered.error.startswith("no agent fits it: even the nearest, a")
    assert "FOA_FIT_THRESHOLD" in unanswered.error
    assert result.status == "partial"
