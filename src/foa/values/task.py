"""A task as a user gives it, and a job: a task that was admitted."""

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from foa.values.budget import Budget
from foa.values.resources import Name, Needs

MAX_TASK_CHARACTERS = 100_000

Label = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9:._-]{0,63}$(?!\n)")]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TASK_CHARACTERS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a chat transcript, in the OpenAI form."""

    role: Literal["system", "user", "assistant"]
    content: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What somebody asks of the federation."""

    text: Text  #: the question; for a transcript, its last user turn
    transcript: Annotated[tuple[Turn, ...], msgspec.Meta(max_length=1000)] = ()  #: earlier turns, oldest first
    kind: Name = "general"  #: kind of work; reputation is kept for each kind
    skills: Annotated[tuple[Name, ...], msgspec.Meta(max_length=32)] = ()  #: every one is required
    policies: Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)] = ()  #: p_s: labels an agent must be cleared for
    needs: Needs = Needs()
    spec: Text = ""  #: how the work must be done (e_s); empty: no demand


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A task with the budget it may spend, as it is published on `foa/orchestrator/jobs`."""

    task: Task
    budget: Budget
    synth: Literal["concatenate", "rebase", "merge"] | None = None  #: None: the orchestrator's setting
