"""What an agent answers, and where each claim comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from foa.values.budget import Spend
from foa.values.ids import AgentId

Probability = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Answer = Annotated[str, msgspec.Meta(max_length=20_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A place where a claim can be checked."""

    kind: Literal["file", "row", "url", "tool", "agent"]
    #: `src/a.py:10-24` · `commits?rowid=7` · a URL · a tool's name · an agent's id
    locator: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    quote: Annotated[str, msgspec.Meta(max_length=2_000)] = ""  #: the words found there


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One statement of an answer with its source; `source` None means the model says so, nobody else."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One agent's answer to one subtask (Alg. 2)."""

    answer: Answer
    claims: Annotated[tuple[Claim, ...], msgspec.Meta(max_length=64)] = ()
    confidence: Probability = 0.5
    uncertain: bool = False  #: the Spec asked to say so
    fallback: Annotated[str, msgspec.Meta(max_length=500)] = ""  #: not empty: the model failed, and why; a rule answered


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDraft:
    """A draft with who wrote it and what it cost, as Agent-0 keeps it."""

    agent: AgentId
    draft: Draft
    spend: Spend = Spend()
    figures: Mapping[str, float] = field(default_factory=dict[str, float])  #: of a training: accuracy, ε, …
