"""Federation of Agents: agents of different owners find each other, work together and learn together over MQTT v5.

    import foa

    async with foa.Federation.start(agents=["agents/*.md"]) as federation:
        job = await federation.submit("How does Agent-0 decide which agents work on a subtask?")
        print((await job.result()).answer)

What `__all__` names is public; everything else may change any day. Names are looked up when they are first used, so that
`import foa` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foa.agents.functions import Question, agent
    from foa.app.client import JobHandle
    from foa.app.federation import Federation
    from foa.app.settings import Settings, read_settings
    from foa.errors import FabricError
    from foa.values.budget import Budget, Spend
    from foa.values.draft import Claim, Draft, Source
    from foa.values.resources import Needs, Price
    from foa.values.result import Result
    from foa.values.task import Submission, Task, Turn

_HOMES = {
    "Budget": "foa.values.budget",
    "Claim": "foa.values.draft",
    "Draft": "foa.values.draft",
    "FabricError": "foa.errors",
    "Federation": "foa.app.federation",
    "JobHandle": "foa.app.client",
    "Needs": "foa.values.resources",
    "Price": "foa.values.resources",
    "Question": "foa.agents.functions",
    "Result": "foa.values.result",
    "Settings": "foa.app.settings",
    "Source": "foa.values.draft",
    "Spend": "foa.values.budget",
    "Submission": "foa.values.task",
    "Task": "foa.values.task",
    "Turn": "foa.values.task",
    "agent": "foa.agents.functions",
    "read_settings": "foa.app.settings",
}

__version__ = "0.1.0"
__all__ = [
    "Budget",
    "Claim",
    "Draft",
    "FabricError",
    "Federation",
    "JobHandle",
    "Needs",
    "Price",
    "Question",
    "Result",
    "Settings",
    "Source",
    "Spend",
    "Submission",
    "Task",
    "Turn",
    "agent",
    "read_settings",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'foa' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
