"""Writing the file of an agent, beside those of others."""

from collections.abc import Container, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from foa.agents.profile import AgentProfile, load_profile
from foa.errors import BadInput
from foa.interop.markdown import write_profile
from foa.values.ids import MAX_ID_CHARACTERS, AgentId

_MOST_FILES = 10_000  # of a folder, that are looked at for ids


def write_agent_file(profile: AgentProfile, path: Path, *, force: bool = False) -> AgentId:
    """Write an agent file; gives the agent's id, which no other agent file of that folder has.

    Args:
        profile: the agent; another id is made of its own where that is taken.
        path: the file.
        force: overwrite the file that is there.

    Raises:
        BadInput: there is a file already, or it cannot be written.
    """
    if path.is_dir():
        raise BadInput(f"{path} is a folder: name the file, as in --output {path / profile.agent_id}.md")
    agent = _free(profile.agent_id, set(_ids(path.parent, but=path)))
    try:
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(write_profile(replace(profile, agent_id=agent)))
    except FileExistsError as error:
        raise BadInput(f"{path} is there already: give another --output, or --force to overwrite it") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from error
    return agent


def _ids(folder: Path, *, but: Path) -> Iterator[AgentId]:
    for path in islice(folder.glob("*.md"), _MOST_FILES):
        if path != but:
            try:
                yield load_profile(path).agent_id
            except BadInput:
                continue  # no agent will come of it


def _free(agent: AgentId, taken: Container[AgentId]) -> AgentId:
    if agent not in taken:
        return agent
    others = (f"-{number}" for number in count(2))
    ids = (AgentId(agent[: MAX_ID_CHARACTERS - len(other)] + other) for other in others)
    return next(each for each in ids if each not in taken)
