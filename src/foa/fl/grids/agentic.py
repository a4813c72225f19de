"""Around any Grid: a server agent picks who trains, guardians answer, updates are screened. Needs the extra `fl`.

The Strategy inside sees a Grid on which only the chosen nodes exist while it configures training, and everybody while it
configures evaluation; so any Flower Strategy works unchanged, with `fraction_train=1.0`.

    configure_train    ─► get_node_ids       PROFILE, SELECT, NEGOTIATE (once a round)
    send_and_receive   ─► TRAIN: asks go out, answers come back; SCREEN, AGGREGATE
    configure_evaluate ─► get_node_ids       everybody
    send_and_receive   ─► EVALUATE
    evaluate_fn        ─► close_round        CREDIT; the round is recorded; `foa.fl.training` calls it

What happens in each stage is in `foa.fl.stages`; here is only when.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from foa.fl.block import FlBlock
from foa.fl.checkpoint import State
from foa.fl.contents import arrays_of, size_of
from foa.fl.negotiation import QUERY
from foa.fl.outcomes import profiled
from foa.fl.rounds import OnNode, RoundRow
from foa.fl.server import ServerAgent
from foa.fl.sift import Validate
from foa.fl.stages.admit import refusals
from foa.fl.stages.ask import asks
from foa.fl.stages.choose import choose, known
from foa.fl.stages.cohort import AgenticSettings, Barred, Cohort, Profiles
from foa.fl.stages.events import Events
from foa.fl.stages.inspect import inspect
from foa.fl.stages.learn import learn
from foa.fl.stages.measure import accuracies, measured_row, measured_state
from foa.fl.stages.negotiate import negotiate
from foa.fl.stages.receive import Received, receive
from foa.fl.stages.record import begun_row, trained_row, unasked
from foa.fl.stages.recount import keep, marked, recounted
from foa.fl.stages.secure import secure
from foa.values.ids import AgentId


class AgenticGrid(Grid):
    """The Grid that a Strategy is started on. One a run."""

    def __init__(
        self,
        inner: Grid,
        agent: ServerAgent,
        settings: AgenticSettings,
        *,
        loop: asyncio.AbstractEventLoop,
        profiles: Profiles,
        barred: Barred | None = None,
        state: State | None = None,
        validate: Validate | None = None,
        on_round: Callable[[State, RoundRow, ArrayRecord], None] | None = None,
        on_node: OnNode | None = None,
    ) -> None:
        """Make it.

        Args:
            inner: carries the messages.
            agent: decides.
            settings: of the run.
            loop: where the agent's model lives; the Strategy runs in another thread.
            profiles: who is there, by Flower's number.
            barred: who would be there and may not be asked, with the reason; each round's row says so.
            state: of a run that is taken up again.
            validate: loss on the server's data; without it there is no roll-back and no credit.
            on_round: hears of every round when it is over, with the model, from the Strategy's thread.
            on_node: hears when a node of a round begins and ends, from the same thread; may raise `JobCancelled`.
        """
        self._inner = inner
        self._agent = agent
        self._settings = settings
        self._loop = loop
        self._profiles = profiles
        self._barred = barred or dict[AgentId, str]
        self.state = state or State()
        self._first = self.state.memory.round + 1  #: round of this process
        self._validate = validate
        self._on_round = on_round
        self._events = Events(on_node)
        self._cohort: Cohort | None = None
        self._training = True
        self._row: RoundRow | None = None

    # ── Flower's side ──────────────────────────────────────────────────────────────────────────────────────────────────
    def set_run(self, run: Run) -> None:
        """See Flower's Grid."""
        self._inner.set_run(run)

    @property
    def run(self) -> Run:
        """See Flower's Grid."""
        return self._inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """See Flower's Grid."""
        return self._inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Flower's Grid; not watched by the agent."""
        return self._inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See Flower's Grid; not watched by the agent."""
        return self._inner.pull_messages(message_ids)

    def get_node_ids(self) -> Iterable[int]:
        """The chosen nodes while training is configured, everybody else while evaluation is."""
        # a cancelled Grid raises here, where a strategy may be waiting for nodes
        self._inner.get_node_ids()
        profiles = self._profiles()
        if not self._training:
            return sorted(profiles)
        if profiles and not self._stands(profiles):
            self._begin(profiles)
        return [] if self._cohort is None else [node for node in self._cohort.nodes if node in profiles]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Carry one exchange; a training exchange is screened on its way back."""
        going = list(messages)
        if self._training and self._cohort is not None:
            self._training = False
            return self._train(going, self._cohort, timeout)
        replies = list(self._inner.send_and_receive(going, timeout=timeout))
        if not self._training and self._row is not None:
            self._row = self._measure(self._row, replies)
        return replies

    # ── when each stage is due ─────────────────────────────────────────────────────────────────────────────────────────
    def _stands(self, profiles: Mapping[int, FlBlock]) -> bool:
        """Whether this round's choice was made and everybody of it is still there."""
        present = {block.id for block in profiles.values()}
        return self._cohort is not None and present.issuperset(self._cohort.choice.clients)

    def _begin(self, profiles: Mapping[int, FlBlock]) -> None:
        """PROFILE, SELECT, NEGOTIATE."""
        self._events.enter(self.state.memory.round + 1)
        self._events.began("profile")
        self.state = known(self.state, profiles)
        gated = refusals(profiles, self._settings, self._agent.bounds, self.state.rows)
        barred = self._barred()
        self._events.ended("profile", profiled(len(profiles), {**barred, **gated}))
        self._events.began("select")
        deciding = choose(self._agent, self.state, profiles, self._settings, gated)
        cohort = asyncio.run_coroutine_threadsafe(deciding, self._loop).result()
        cohort = replace(cohort, gated={**barred, **cohort.gated})
        self._events.ended("select", begun_row(cohort))
        self._events.began("negotiate")
        if self._settings.negotiation.rounds > 0:
            cohort = negotiate(cohort, self.state, self._settings, self._query)
        self._cohort, self._row = cohort, begun_row(cohort)
        self._events.ended("negotiate", self._row)

    def _query(self, contents: Mapping[int, RecordDict], seconds: float) -> Sequence[Message]:
        group = str(self.state.memory.round + 1)
        calls = [self._inner.create_message(content, QUERY, node, group) for node, content in contents.items()]
        return list(self._inner.send_and_receive(calls, timeout=seconds))

    def _train(self, messages: Sequence[Message], cohort: Cohort, timeout: float | None) -> Sequence[Message]:
        """TRAIN, SCREEN, AGGREGATE."""
        deadline = cohort.choice.plan.deadline_seconds
        self._events.began("train")
        asked = asks(messages, cohort, self._settings)
        began = time.monotonic()
        within = deadline if timeout is None else min(timeout, deadline)
        received = self._exchange(messages, asked, cohort, within)
        seconds = time.monotonic() - began
        base = arrays_of(messages[0]) if messages else {}
        audited, owed = inspect(received, base, cohort, self.state.owed, seconds=seconds, first=cohort.round == self._first)
        counted = {row.client for row in audited}
        received = replace(received, rows=(*audited, *(row for row in unasked(cohort) if row.client not in counted)))
        self.state = learn(replace(self.state, owed=owed), received, cohort, self._settings, seconds=seconds)
        self._row = trained_row(cohort, received, seconds=seconds, bytes_out=received.bytes_out)
        for node in ("train", "screen", "aggregate"):
            self._events.ended(node, self._row)
        self._events.began("evaluate")
        return received.messages

    def _exchange(self, sent: Sequence[Message], asked: Sequence[Message], cohort: Cohort, seconds: float) -> Received:
        losses, validate = self.state.losses, self._validate
        if self._settings.secure_aggregation:
            going = (sent, asked, cohort, self._settings)
            return secure(self._carry, *going, seconds=seconds, losses=losses, validate=validate)
        replies = self._carry(asked, seconds)
        rounds, kept = self._settings.recount_rounds, self.state.kept
        again = recounted(sent, replies, cohort, kept, rounds=rounds)
        fresh = [reply for reply in replies if cohort.name(reply.metadata.src_node_id) not in again]
        counted = [*fresh, *(one.message for one in again.values())]
        went = [*asked, *(one.sent for one in again.values())]
        received = receive(sent, went, counted, cohort, self._settings, losses=losses, validate=validate)
        if rounds > 0:
            base = arrays_of(sent[0]) if sent else {}
            self.state = replace(self.state, kept=keep(kept, received, base, cohort.round, but=again))
        return replace(marked(received, again), bytes_out=sum(map(size_of, asked)))

    def _carry(self, messages: Sequence[Message], seconds: float) -> list[Message]:
        return list(self._inner.send_and_receive(messages, timeout=seconds))

    def _measure(self, row: RoundRow, replies: Sequence[Message]) -> RoundRow:
        """EVALUATE."""
        found = accuracies(replies, self._profiles(), self._settings)
        if not found:
            return row
        self.state = measured_state(self.state, found)
        return measured_row(row, found)

    def close_round(self, model: ArrayRecord) -> None:
        """End a round with the model that the strategy kept: record it, tell it, and choose anew from here on."""
        row, training = self._row, self._training
        self._row, self._cohort, self._training = None, None, True
        if row is None or training:
            return
        for node in ("evaluate", "credit"):
            self._events.ended(node, row)
        self.state = replace(self.state, rows=(*self.state.rows, row))
        if self._on_round is not None:
            self._on_round(self.state, row, model)
