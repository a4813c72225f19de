"""NEGOTIATE: calls go to the chosen, offers come back, and who agrees is who trains. Needs the extra `fl`.

calls ─► answers ─► calls … at most R times ─► agreements, or by auction: sealed prices ─► winners and their pay
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from flwr.app import ConfigRecord, Message, RecordDict

from foa.errors import BadMessage
from foa.fl.auction import Bid, auction
from foa.fl.checkpoint import State
from foa.fl.flower import REFUSED, REFUSED_DEGRADED
from foa.fl.market import Answer, Talk
from foa.fl.negotiation import Call, asked_for, bid_of, opened, read_answer, write_call
from foa.fl.stages.ask import ask_for
from foa.fl.stages.choose import worth
from foa.fl.stages.cohort import AgenticSettings, Cohort
from foa.fl.terms import RECORD
from foa.values.ids import AgentId

#: Carries one round of calls: what goes to which node, and for how many seconds replies are waited for.
Exchange = Callable[[Mapping[int, RecordDict], float], Sequence[Message]]


def negotiate(cohort: Cohort, state: State, settings: AgenticSettings, exchange: Exchange) -> Cohort:
    """The cohort with what was agreed.

    A client whose app knows no query and has no guardian in front does not negotiate: it is asked as the plan says.

    Args:
        cohort: who was chosen.
        state: of the run; what the server's own experience says of a client's worth is in it.
        settings: of the run.
        exchange: carries the calls.
    """
    nodes = {client: node for node in cohort.nodes if (client := cohort.name(node)) is not None and cohort.asks(client)}
    talks = {client: _opened(cohort, settings, client, node) for client, node in nodes.items()}
    for number in range(1, settings.negotiation.rounds + 1):
        going = {nodes[client]: talk for client, talk in talks.items() if not talk.over}
        if not going:
            break
        calls = {node: _call(cohort, settings, node, talk, number) for node, talk in going.items()}
        for client in _hear(exchange(calls, settings.negotiation.seconds), going):
            del talks[client]
    cohort = replace(cohort, talks=talks)
    return _bought(cohort, state, settings) if settings.usd_a_round > 0 else _paid(cohort)


def _opened(cohort: Cohort, settings: AgenticSettings, client: AgentId, node: int) -> Talk:
    wanted = bid_of(ask_for(cohort, settings, node))
    return opened(client, wanted, settings.negotiation, sealed_usd=settings.usd_a_round)


def _call(cohort: Cohort, settings: AgenticSettings, node: int, talk: Talk, number: int) -> RecordDict:
    ask = asked_for(ask_for(cohort, settings, node), talk.call())
    call = Call(ask=ask, number=number, of=talk.calls, sealed=settings.usd_a_round > 0)
    return RecordDict({RECORD: ConfigRecord(write_call(call))})  # type: ignore[arg-type]


def _hear(replies: Sequence[Message], going: Mapping[int, Talk]) -> list[AgentId]:
    """Let each talk hear its answer; gives those who do not negotiate."""
    answers = {reply.metadata.src_node_id: reply for reply in replies}
    deaf = list[AgentId]()
    for node, talk in going.items():
        if node not in answers:
            talk.lost()
        elif (answer := _answer(answers[node], talk)) is None:
            deaf.append(talk.client)
        else:
            talk.hear(answer)
    return deaf


def _answer(reply: Message, talk: Talk) -> Answer | None:
    """What a client says; None: it knows nothing of negotiations."""
    if reply.has_error():
        if reply.error.code < REFUSED:
            return None
        reason = (reply.error.reason or "")[:400]
        return Answer(kind="refuse", reason=reason, degraded=reply.error.code == REFUSED_DEGRADED)
    if RECORD not in reply.content.config_records:
        return None
    try:
        return read_answer(dict(reply.content.config_records[RECORD]), talk.bids[0])
    except BadMessage as error:
        return Answer(kind="refuse", reason=str(error)[:400])


def _paid(cohort: Cohort) -> Cohort:
    agreed = {client: talk.agreed.usd for client, talk in cohort.talks.items() if talk.agreed is not None}
    return replace(cohort, payments={client: usd for client, usd in agreed.items() if usd > 0})


def _bought(cohort: Cohort, state: State, settings: AgenticSettings) -> Cohort:
    """Winners of the auction among those who agreed to the terms; who does not negotiate bids by its card."""
    blocks = cohort.blocks
    prices = {
        client: blocks[client].usd_a_round if (agreed := cohort.agreed(client)) is None else agreed.usd
        for client in cohort.choice.clients
        if cohort.asks(client)
    }
    bids = [
        Bid(client=client, usd=usd, value=worth(blocks[client], state) * _share_of_work(cohort.talks.get(client)))
        for client, usd in prices.items()
    ]
    award = auction(bids, budget_usd=settings.usd_a_round)
    for client, why in award.refused.items():
        if client in cohort.talks:
            cohort.talks[client].agreed, cohort.talks[client].reason = None, why
    if not award.payments:
        # the round goes on with nobody: a strategy that sees no node at all would wait for one for ever
        unsold = {client: why for client, why in award.refused.items() if client not in cohort.talks}
        return replace(cohort, gated={**cohort.gated, **unsold})
    # who was outbid was not asked to train: that is no refusal of its own
    clients = tuple(client for client in cohort.choice.clients if client not in award.refused)
    return replace(cohort, choice=replace(cohort.choice, clients=clients), payments=dict(award.payments))


def _share_of_work(talk: Talk | None) -> float:
    """What a client agreed to do of what it was asked; without this, who does a quarter would be paid as for the whole."""
    if talk is None or talk.agreed is None:
        return 1.0
    wanted, agreed = talk.bids[0], talk.agreed
    return agreed.width / wanted.width * min(agreed.epochs / wanted.epochs, agreed.steps / wanted.steps)
