"""Python functions as agents.

    @agent(skills=["arithmetic"])
    async def adder(question: Question) -> str:
        \"\"\"Adds the numbers of a question.\"\"\"
        return str(sum(int(n) for n in re.findall(r"\\d+", question.text)))

The docstring is the description. A plain function runs in a thread. It answers drafts; plans and revisions are made by rule.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import overload

from foa.agents.brain import Agent, Answer, Revised, Revision
from foa.agents.profile import AgentProfile, Limits, slug
from foa.agents.rules import propose_by_rule, revise_by_rule
from foa.errors import BudgetExceeded, FabricError, ModelUnreachable
from foa.messages import Drafted, DraftRequest, Propose, Proposed
from foa.values.budget import Budget, Spend
from foa.values.draft import Draft
from foa.values.ids import AgentId, JobId, check_id
from foa.values.plan import Proposal
from foa.values.resources import Price, Resources
from foa.values.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A subtask as a function sees it."""

    text: str  #: what is asked
    inputs: tuple[str, ...] = ()  #: answers of the subtasks before it
    task: Task  #: the whole task it is a part of
    job: JobId
    attempt: int = 1
    budget: Budget


Drafter = Callable[[Question], "Awaitable[str | Draft] | str | Draft"]
Proposer = Callable[[Propose], Proposal]
Reviser = Callable[[Revision], Revised]


class FunctionBrain:
    """Answers drafts by a function, the rest by rule or by the functions given for it."""

    def __init__(self, function: Drafter, *, price: Price, propose: Proposer | None, revise: Reviser | None) -> None:
        self._function = function
        self._price = price
        self._propose = propose
        self._revise = revise or revise_by_rule
        self._threaded = not inspect.iscoroutinefunction(inspect.unwrap(function))

    async def propose(self, request: Propose) -> Answer:
        """Leave the task whole, or split it as the function given for it does."""
        if self._propose is not None:
            return Answer(body=Proposed(proposal=self._propose(request)))
        return Answer(body=Proposed(proposal=propose_by_rule(request.task.text, most=1)))

    async def draft(self, request: DraftRequest) -> Answer:
        """Call the function.

        Raises:
            BudgetExceeded: its price is over the request's money.
            ModelUnreachable: it raised; the sentence says what.
        """
        usd = self._price.of(tokens_in=0, tokens_out=0, calls=1)
        if usd > request.budget.usd:
            raise BudgetExceeded(f"one call costs US$ {usd:.6f} and US$ {request.budget.usd:.6f} are left")
        question = Question(
            text=request.text,
            inputs=tuple(item.answer for item in request.inputs),
            task=request.task,
            job=JobId(request.job),
            attempt=request.attempt,
            budget=request.budget,
        )
        said = await self._call(question)
        draft = said if isinstance(said, Draft) else Draft(answer=said[:20_000])
        return Answer(body=Drafted(draft=draft), spend=Spend(usd=usd))

    async def _call(self, question: Question) -> str | Draft:
        try:
            found = await asyncio.to_thread(self._function, question) if self._threaded else self._function(question)
            said = await found if inspect.isawaitable(found) else found
        except FabricError:
            raise
        except Exception as error:  # a user's function may raise anything; the asker gets a sentence, not a silence
            raise ModelUnreachable(f"the function raised {type(error).__name__}: {str(error)[:300]}") from error
        if not isinstance(said, str | Draft):  # pyright: ignore[reportUnnecessaryIsInstance] - users' code is not always typed
            raise ModelUnreachable(f"the function gave a {type(said).__name__}; it must give a str or a foa Draft")
        return said

    async def revise(self, revision: Revision) -> Revised:
        """Vote over the claims, or as the function given for it does."""
        return self._revise(revision)

    async def forget(self, job: JobId) -> None:
        """A function keeps nothing."""

    async def aclose(self) -> None:
        """A function holds nothing."""


@overload
def agent(name: Drafter, /) -> Agent: ...
@overload
def agent(
    name: str | None = None,
    /,
    *,
    description: str | None = None,
    skills: Sequence[str] = (),
    examples: Sequence[str] = (),
    policies: Sequence[str] = (),
    price: Price | float = 0.0,
    spec: str = "",
    slots: int = 4,
    propose: Proposer | None = None,
    revise: Reviser | None = None,
) -> Callable[[Drafter], Agent]: ...
def agent(
    name: str | Drafter | None = None,
    /,
    *,
    description: str | None = None,
    skills: Sequence[str] = (),
    examples: Sequence[str] = (),
    policies: Sequence[str] = (),
    price: Price | float = 0.0,
    spec: str = "",
    slots: int = 4,
    propose: Proposer | None = None,
    revise: Reviser | None = None,
) -> Agent | Callable[[Drafter], Agent]:
    """Make an agent of a function; also usable without brackets.

    Args:
        name: its name and id; by default the function's.
        description: what it does; by default its docstring.
        skills: discrete skills it has.
        examples: requests it is good at.
        policies: labels it is cleared for.
        price: US dollars a call, or a Price.
        spec: how it works, in words.
        slots: requests it takes at once.
        propose: splits tasks; by default they are left whole.
        revise: revises drafts; by default a vote over the claims.

    Raises:
        ValueError: the name cannot be an id, a label is no label, or there are no slots.
    """
    if callable(name):
        return agent()(name)
    charged = price if isinstance(price, Price) else Price(usd_per_call=price)

    def wrap(function: Drafter) -> Agent:
        called = name or getattr(function, "__name__", "agent").strip("<>")
        about = description or " ".join((inspect.getdoc(function) or called).split())
        if slots < 1:
            raise ValueError(f"agent {called!r} has {slots} slots; give it at least 1")
        profile = AgentProfile(
            agent_id=AgentId(check_id(slug(called), what="agent")),
            name=called[:120],
            description=about[:2_000],
            spec=spec,
            skills=tuple(skills),
            examples=tuple(examples),
            policies=frozenset(policies),
            resources=Resources(price=charged),
            limits=Limits(slots=slots),
        )
        return Agent(profile=profile, brain=FunctionBrain(function, price=charged, propose=propose, revise=revise))

    return wrap


__all__ = ["FunctionBrain", "Question", "agent"]
