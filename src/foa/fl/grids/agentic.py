"""Around any Grid: a server agent picks who trains, guardians answer, updates are screened. Needs the extra `fl`.

The Strategy inside sees a Grid on which only the chosen nodes exist while it configures training, and everybody while it
configures evaluation; so any Flower Strategy works unchanged, with `fraction_train=1.0`.

    configure_train    ─► get_node_ids       PROFILE, SELECT (the server agent decides once a round)
    send_and_receive   ─► asks go out, answers come back, SCREEN, robust rule, CREDIT
    configure_evaluate ─► get_node_ids       everybody
    evaluate_fn        ─► close_round        the round is recorded; `foa.fl.training` calls it
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from foa.fl.aggregate import Arrays, Update, capped, cut
from foa.fl.auction import Bid, auction
from foa.fl.block import FlBlock
from foa.fl.checkpoint import State
from foa.fl.contents import arrays_of, first_metrics, metric, put_arrays
from foa.fl.flower import REFUSED, pack, unpack
from foa.fl.guardian import Terms, TrainAsk
from foa.fl.memory import Outcome
from foa.fl.rounds import ClientRow, RoundRow
from foa.fl.server import Choice, ServerAgent
from foa.fl.sift import Sifted, Validate, shares, sift
from foa.fl.terms import RECORD, Told, read_told, write_ask
from foa.values.ids import AgentId


@dataclass(frozen=True, slots=True, kw_only=True)
class AgenticSettings:
    """What a run asks of its clients, and by which keys it reads their metrics."""

    run: str
    terms: Terms
    purpose: str = "*"
    rounds: int = 0  #: planned in all; told to guardians. 0: not told
    usd_a_round: float = 0.0  #: above 0: clients are bought by auction within it
    credit: bool = False  #: Shapley values of every round; needs `validate`
    quarantine_rounds: int = 3
    #: hidden axes of each array, by name: with them, clients of less width get that part of the model (HeteroFL)
    hidden: Mapping[str, tuple[int, ...]] | None = None
    samples_key: str = "num-examples"
    loss_key: str = "loss"
    accuracy_key: str = "accuracy"
    seed: int = 0


#: Who is there, by Flower's number.
Profiles = Callable[[], Mapping[int, FlBlock]]


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
        state: State | None = None,
        validate: Validate | None = None,
        on_round: Callable[[State, RoundRow, ArrayRecord], None] | None = None,
    ) -> None:
        """Make it.

        Args:
            inner: carries the messages.
            agent: decides.
            settings: of the run.
            loop: where the agent's model lives; the Strategy runs in another thread.
            profiles: who is there, by Flower's number.
            state: of a run that is taken up again.
            validate: loss on the server's data; without it there is no roll-back and no credit.
            on_round: hears of every round when it is over, with the model, from the Strategy's thread.
        """
        self._inner = inner
        self._agent = agent
        self._settings = settings
        self._loop = loop
        self._profiles = profiles
        self.state = state or State()
        self._validate = validate
        self._on_round = on_round
        self._choice: Choice | None = None
        self._training = True
        self._row: RoundRow | None = None
        self._payments: Mapping[AgentId, float] = {}

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
        present = {block.id for block in profiles.values()}
        if profiles and (self._choice is None or not present.issuperset(self._choice.clients)):
            self._choose(profiles)
        chosen = set[AgentId]() if self._choice is None else set(self._choice.clients)
        return sorted(node for node, block in profiles.items() if block.id in chosen)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Carry one exchange; a training exchange is screened on its way back."""
        going = list(messages)
        if self._training and self._choice is not None:
            self._training = False
            return self._train(going, self._choice, timeout)
        replies = list(self._inner.send_and_receive(going, timeout=timeout))
        if not self._training:
            self._measure(replies)
        return replies

    # ── select ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _choose(self, profiles: Mapping[int, FlBlock]) -> None:
        memory = self.state.memory
        for block in profiles.values():
            memory = memory.know(block.id, samples=block.samples, width=block.width)
        self.state = replace(self.state, memory=memory)
        present = [block.id for block in profiles.values() if not memory.is_quarantined(block.id)]
        self._payments = self._bought(profiles, present)
        if self._settings.usd_a_round > 0 and self._payments:
            present = list(self._payments)
        deciding = self._agent.choose(
            memory,
            present or [block.id for block in profiles.values()],
            previous=self.state.rows[-1].plan if self.state.rows else None,
            records=tuple(row.record() for row in self.state.rows[-10:]),
            hour=next(iter(profiles.values())).hour,
        )
        choice = asyncio.run_coroutine_threadsafe(deciding, self._loop).result()
        if self._payments:
            # what was bought trains: leaving winners out again would make honest prices a bad idea
            choice = replace(choice, clients=tuple(self._payments))
        self._choice = choice

    def _bought(self, profiles: Mapping[int, FlBlock], present: Sequence[AgentId]) -> Mapping[AgentId, float]:
        if self._settings.usd_a_round <= 0:
            return {}
        devices, there = self.state.memory.devices, set(present)
        bids = [
            Bid(
                client=block.id,
                usd=block.usd_a_round,
                value=block.samples**0.5 * (1.0 if (loss := devices[block.id].loss) is None else 0.1 + loss),
            )
            for block in profiles.values()
            if block.id in there
        ]
        return auction(bids, budget_usd=self._settings.usd_a_round).payments

    # ── train ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _train(self, messages: Sequence[Message], choice: Choice, timeout: float | None) -> list[Message]:
        profiles = self._profiles()
        names = {node: block.id for node, block in profiles.items()}
        asked = [self._with_ask(message, choice, len(messages), profiles) for message in messages]
        began = time.monotonic()
        seconds = choice.plan.deadline_seconds if timeout is None else min(timeout, choice.plan.deadline_seconds)
        replies = list(self._inner.send_and_receive(asked, timeout=seconds))
        took = time.monotonic() - began
        sent = [names[message.metadata.dst_node_id] for message in messages if message.metadata.dst_node_id in names]
        told: dict[AgentId, Told | None] = {}
        for reply in replies:
            if not reply.has_error() and RECORD in reply.content.config_records:
                told[names[reply.metadata.src_node_id]] = read_told(dict(reply.content.config_records[RECORD]))
                del reply.content[RECORD]
        base = arrays_of(messages[0]) if messages else {}
        kept, rows, sifted = self._sift(base, replies, names, choice, told)
        lost = [client for client in sent if client not in {row.client for row in rows}]
        rows += [ClientRow(client=client, kind="lost", reason="it left or was late") for client in lost]
        self._learn(rows, sifted, replies, names, choice, took)
        self._row = RoundRow(
            round=self.state.memory.round,
            plan=choice.plan,
            verdict=choice.entry.verdict,
            faults=choice.entry.faults,
            model=choice.entry.model,
            decision_seconds=choice.entry.seconds,
            tokens=choice.entry.spend.tokens,
            clients=tuple(sorted(rows, key=lambda row: row.client)),
            seconds=took,
            loss=sifted.loss,
            taken=sifted.taken,
            drift=sifted.drift,
        )
        return kept

    def _with_ask(self, message: Message, choice: Choice, cohort: int, profiles: Mapping[int, FlBlock]) -> Message:
        terms, block = self._settings.terms, profiles.get(message.metadata.dst_node_id)
        width = terms.width if block is None else min(terms.width, block.width)
        ask = TrainAsk(
            run=self._settings.run,
            round=self.state.memory.round + 1,
            purpose=self._settings.purpose,
            terms=replace(terms, width=width, noise_multiplier=max(terms.noise_multiplier, choice.plan.noise_floor)),
            deadline_seconds=choice.plan.deadline_seconds,
            cohort=cohort,
            rounds=self._settings.rounds,
        )
        # the strategy shares one record among its messages: each gets its own
        own = unpack(pack(message))
        if self._settings.hidden is not None and width < 1:
            put_arrays(own, cut(arrays_of(own), width, self._settings.hidden))
        for config in own.content.config_records.values():
            if "server-round" in config:
                # Flower counts from 1 again after a resume; the run does not
                config["server-round"] = ask.round
        own.content[RECORD] = ConfigRecord(write_ask(ask))  # type: ignore[arg-type]
        return own

    def _sift(
        self,
        base: Arrays,
        replies: Sequence[Message],
        names: Mapping[int, AgentId],
        choice: Choice,
        told: Mapping[AgentId, Told | None],
    ) -> tuple[list[Message], list[ClientRow], Sifted]:
        """What the strategy may see of the replies, and a row for each."""
        rows, messages, updates = list[ClientRow](), dict[AgentId, Message](), list[Update]()
        for reply in replies:
            client = names[reply.metadata.src_node_id]
            if reply.has_error():
                kind = "refused" if reply.error.code >= REFUSED else "lost"
                rows.append(ClientRow(client=client, kind=kind, reason=(reply.error.reason or "")[:400]))
                continue
            samples = int(metric(reply, self._settings.samples_key) or 1)
            updates.append(Update(client=client, arrays=arrays_of(reply), samples=samples))
            messages[client] = reply
        # what a VCV says is rounded, so a truthful count may be a fifth over it
        limits = {block.id: math.ceil(block.samples * 1.2) for block in self._profiles().values()}
        validate = self._validate
        noised = any(said is not None and said.noise_multiplier > 0 for said in told.values())
        sifted = sift(
            base,
            capped(updates, limits),
            rule=choice.plan.aggregation,
            validate=validate,
            losses=self.state.losses,
            noised=noised,
        )
        rows += [ClientRow(client=client, kind="screened", reason=why) for client, why in sifted.suspects.items()]
        credit = dict[AgentId, float]()
        if self._settings.credit and validate is not None and sifted.taken:
            rng = np.random.default_rng((self._settings.seed, self.state.memory.round))
            credit = shares(base, sifted.kept, validate, rng=rng)
        rows += [self._trained(update, told.get(update.client), credit.get(update.client)) for update in sifted.kept]
        if not sifted.taken:
            return [], rows, sifted
        instead = sifted.model if sifted.robust else None
        return [self._shown(messages[update.client], update, instead) for update in sifted.kept], rows, sifted

    def _trained(self, update: Update, said: Told | None, credit: float | None) -> ClientRow:
        return ClientRow(
            client=update.client,
            kind="trained",
            reason="" if said is None else said.reasons,
            seconds=0.0 if said is None else said.seconds,
            samples=update.samples,
            told=said,
            usd=self._payments.get(update.client, 0.0),
            credit=credit,
        )

    def _shown(self, reply: Message, update: Update, instead: Arrays | None) -> Message:
        """The reply with its capped sample count and, where a robust rule spoke, that rule's model."""
        metrics = first_metrics(reply)
        if metrics is not None and self._settings.samples_key in metrics:
            metrics[self._settings.samples_key] = update.samples
        if instead is not None:
            put_arrays(reply, instead)
        return reply

    def _learn(
        self,
        rows: Sequence[ClientRow],
        sifted: Sifted,
        replies: Sequence[Message],
        names: Mapping[int, AgentId],
        choice: Choice,
        took: float,
    ) -> None:
        losses = {
            names[reply.metadata.src_node_id]: metric(reply, self._settings.loss_key)
            for reply in replies
            if not reply.has_error()
        }
        profiles = {block.id: block for block in self._profiles().values()}
        outcomes = list[Outcome]()
        for row in rows:
            client = AgentId(row.client)
            block = profiles.get(client)
            outcomes.append(
                Outcome(
                    client=client,
                    kind=row.kind if row.kind in ("trained", "refused") else "lost",
                    seconds=row.seconds or took,
                    joules=0.0 if block is None else block.joules_a_round,
                    loss=losses.get(client),
                    hour=12 if block is None else block.hour,
                )
            )
        memory = self.state.memory.after(outcomes, present=sorted(profiles), k=choice.plan.k)
        for client in sifted.suspects:
            memory = memory.quarantine(client, rounds=self._settings.quarantine_rounds)
        kept = (*self.state.losses, sifted.loss)[-20:] if sifted.taken and sifted.loss is not None else self.state.losses
        self.state = replace(self.state, memory=memory, losses=kept)

    # ── the end of a round ─────────────────────────────────────────────────────────────────────────────────────────────
    def _measure(self, replies: Sequence[Message]) -> None:
        """Take what evaluation brought into the round's row and the memory."""
        names = {node: block.id for node, block in self._profiles().items()}
        measured = dict[AgentId, float]()
        for reply in replies:
            client = names.get(reply.metadata.src_node_id)
            accuracy = None if client is None or reply.has_error() else metric(reply, self._settings.accuracy_key)
            if client is not None and accuracy is not None and 0 <= accuracy <= 1:
                measured[client] = accuracy
        if self._row is None or not measured:
            return
        ranked = sorted(measured.values())
        worst = ranked[: max(1, len(ranked) // 10)]
        self._row = replace(
            self._row,
            accuracy=sum(ranked) / len(ranked),
            worst10=sum(worst) / len(worst),
            accuracies=tuple(sorted(measured.items())),
        )
        devices = {
            client: replace(device, accuracy=measured.get(client, device.accuracy))
            for client, device in self.state.memory.devices.items()
        }
        self.state = replace(self.state, memory=replace(self.state.memory, devices=devices))

    def close_round(self, model: ArrayRecord) -> None:
        """End a round with the model that the strategy kept: record it, tell it, and choose anew from here on."""
        row, self._row, self._choice, self._training = self._row, None, None, True
        if row is None:
            return
        self.state = replace(self.state, rows=(*self.state.rows, row))
        if self._on_round is not None:
            self._on_round(self.state, row, model)
