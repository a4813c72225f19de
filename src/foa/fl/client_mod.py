"""A guardian in front of an ordinary Flower ClientApp, as a mod: the app stays as it is. Needs the extra `fl`.

    app = guarded(app, site)                       # any app
    app = ClientApp(mods=[guardian_mod(site)])     # the same, but Flower shows its mods no query, so it does not negotiate

A train message is audited, answered with no, or trained on terms the guardian allows; the debit is on disk before the app
runs, and the reply is on disk before it is sent. A call for offers is answered here: the app hears nothing of it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp.typing import Mod

from foa.errors import BadMessage, FabricError
from foa.fl.bidder import Bidder, Consider, decided_by
from foa.fl.contents import arrays_of
from foa.fl.flower import (
    CRASHED,
    REFUSED,
    REFUSED_DEGRADED,
    ClientAppCallable,
    category_of,
    failure,
    pack_content,
    unpack_content,
)
from foa.fl.guard import GuardEntry
from foa.fl.guardian import Accept, Condition, Counter, Guardian, Limits, Refuse, Terms, TrainAsk, Verdict
from foa.fl.ledger import PrivacyLedger
from foa.fl.metrics import SAMPLES, hush
from foa.fl.narrow import narrow
from foa.fl.negotiation import QUERY, read_call, write_answer
from foa.fl.packing import is_to_pack, pack_reply
from foa.fl.secagg.site import SecureSeat
from foa.fl.terms import RECORD, Told, read_ask, write_told
from foa.ports import Clock

log = logging.getLogger(__name__)

EVALUATE = "evaluate"  #: Flower's type of a message that asks for measurements
KEPT = "foa-kept"  #: name of the record in a kept reply that says how it went out
COUNTED = ("noise_multiplier", "steps", "batch")  #: the terms by which a ledger counts, so that the app has to hear them


def _nothing() -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What stands behind a client app: its guardian and how its device is."""

    guardian: Guardian
    condition: Callable[[], Condition]  #: how the device is now
    clock: Clock
    consider: Consider | None = None  #: asks a model too; None: the rules alone
    usd_a_round: float = 0.0  #: reserve price
    #: a field of `Terms` → the key by which the app reads it from its `config` record, e.g. {"epochs": "local-epochs"}
    keys: Mapping[str, str] = field(default_factory=_nothing)
    config_record: str = "config"  #: the app's own record
    samples_key: str = SAMPLES  #: the app's metric that says how much its update counts


def guardian_mod(site: Site, *, masked: bool = False) -> Mod:
    """The mod. Messages without a `foa` record (another server's) are refused where the owner set conditions on training.

    Args:
        site: behind it.
        masked: secure aggregation stands in front, as in `guarded`; without it no such round is taken part in.
    """

    bidder = Bidder(site.guardian, usd=site.usd_a_round, consider=site.consider)

    def guard(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        kind, ours = category_of(message), RECORD in message.content.config_records
        if kind == QUERY and ours:
            return _bid(site, bidder, message)
        if kind == EVALUATE and not site.guardian.limits.evaluates:
            return failure(message, REFUSED, "its owner tells no measurements")
        if kind != "train":
            return call_next(message, context)
        if not ours:
            if _has_conditions(site.guardian.limits):
                return failure(message, REFUSED, "no terms were given, and this site trains on its owner's conditions only")
            return call_next(message, context)
        try:
            ask = read_ask(message.content.config_records[RECORD])
            if ask.secure_aggregation and not masked:
                raise BadMessage("nothing here would mask the update: put `guarded` around the app, not the mod alone")
            return _answer(site, bidder, ask, message, context, call_next)
        except BadMessage as error:
            return failure(message, REFUSED, str(error))
        except FabricError as error:
            # the ledger said no, or could not write: nothing was trained
            return failure(message, REFUSED_DEGRADED, str(error))

    return guard


def guarded(app: ClientAppCallable, site: Site) -> ClientAppCallable:
    """The app with the guardian in front, and secure aggregation where the server asks for it, without touching the app."""
    mod = guardian_mod(site, masked=True)
    return SecureSeat(
        lambda message, context: mod(message, context, app),
        refusal=lambda ask: _refusal(site, ask),
        survivors_min=site.guardian.limits.cohort_min,
        samples_key=site.samples_key,
    )


def _has_conditions(limits: Limits) -> bool:
    """Whether an owner wants of a round what only its terms can say."""
    named = "*" not in limits.purposes
    return named or limits.noise_min > 0 or limits.cohort_min > 1 or limits.secure_aggregation_required


def _refusal(site: Site, ask: TrainAsk) -> str | None:
    verdict = site.guardian.consider(ask, site.condition())
    return verdict.reason if isinstance(verdict, Refuse) else None


def _bid(site: Site, bidder: Bidder, message: Message) -> Message:
    """The answer to a call for offers."""
    try:
        call = read_call(message.content.config_records[RECORD])
        answer = bidder.answer(call, site.condition(), at=site.clock.now())
    except BadMessage as error:
        return failure(message, REFUSED, str(error))
    except FabricError as error:
        return failure(message, REFUSED_DEGRADED, str(error))
    if answer.kind == "refuse":
        return failure(message, REFUSED_DEGRADED if answer.degraded else REFUSED, answer.reason)
    record = ConfigRecord(write_answer(answer))  # type: ignore[arg-type]
    return Message(RecordDict({RECORD: record}), reply_to=message)


def _consider(site: Site, bidder: Bidder, ask: TrainAsk, condition: Condition) -> tuple[Verdict, GuardEntry | None]:
    """The verdict on an ask; what was agreed is not asked of a model again, only of the rules."""
    if site.consider is None or bidder.stands(ask):
        return site.guardian.consider(ask, condition), None
    return site.consider(ask, condition)


def _answer(
    site: Site, bidder: Bidder, ask: TrainAsk, message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    ledger = site.guardian.ledger
    if ledger is not None and (kept := ledger.find(ask.key)) is not None:
        return _again(kept, ask, message)
    condition = site.condition()
    verdict, entry = _consider(site, bidder, ask, condition)
    if isinstance(verdict, Refuse):
        return failure(message, REFUSED_DEGRADED if verdict.degraded else REFUSED, verdict.reason)
    terms = verdict.terms
    paying = ledger if terms.noise_multiplier > 0 else None
    if paying is not None:
        _check_heard(site, message)
    site.guardian.commit(ask, terms, condition, at=site.clock.now())
    _put_terms(site, message, terms)
    narrow(message, asked=ask.terms.width, allowed=terms.width)
    # what was left out without noise must not go out under noise
    left = f"{'plain' if paying is None else 'noised'}/{ask.run}"
    packs = is_to_pack(context, run=left, share=ask.share)
    base = arrays_of(message) if packs else {}
    began = site.clock.monotonic()
    reply = call_next(message, context) if paying is None else _run_paid(call_next, message, context, ask, paying)
    if reply.has_error():
        return reply
    if packs:
        pack_reply(reply, base, context, run=left, share=ask.share)
    if paying is not None:
        hush(reply, records=condition.records, samples_key=site.samples_key)
    told = replace(_told(site, verdict, site.clock.monotonic() - began), by=decided_by(entry))
    reply.content[RECORD] = ConfigRecord(write_told(told))  # type: ignore[arg-type]
    if paying is not None:
        how = ConfigRecord({"secure-aggregation": ask.secure_aggregation})
        paying.keep(ask.key, pack_content(RecordDict({**reply.content, KEPT: how})))
    return reply


def _again(kept: bytes, ask: TrainAsk, message: Message) -> Message:
    """The reply that was kept, to whoever may have it: what went out under masks does not go out without."""
    content = unpack_content(kept)
    if KEPT in content:
        hidden = content.config_records[KEPT].get("secure-aggregation") is True
        del content[KEPT]
        if hidden and not ask.secure_aggregation:
            raise BadMessage("this round was answered under secure aggregation, and is not answered without")
    if RECORD in content.config_records:
        content.config_records[RECORD]["again"] = True
    return Message(content, reply_to=message)


def _run_paid(
    call_next: ClientAppCallable, message: Message, context: Context, ask: TrainAsk, ledger: PrivacyLedger
) -> Message:
    """Let the app train with noise. Where it fails, only that is told, and once: no noise protects an error's text."""
    try:
        reply = call_next(message, context)
        why = f"{reply.error.code} {reply.error.reason}" if reply.has_error() else ""
    except Exception as error:  # noqa: BLE001  a user's code: anything may come
        reply, why = None, f"{type(error).__name__}: {error}"
    if reply is not None and not why:
        return reply
    log.error("training with noise failed in %s: %s", ask.key, why)
    ledger.keep(ask.key, b"")
    return failure(message, CRASHED, "training failed at the site; its owner finds the reason in its log")


def _check_heard(site: Site, message: Message) -> None:
    """Let a round with noise begin whose app hears what the ledger counts.

    Raises:
        BadMessage: it would train on other terms than are paid for.
    """
    if missing := [name for name in COUNTED if name not in site.keys]:
        raise BadMessage(
            f"the app is not told {', '.join(missing)}, so no noise can be counted: name it in [keys] of FL.toml"
        )
    if site.config_record not in message.content.config_records:
        raise BadMessage(f"the message has no record {site.config_record!r}, from which the app would hear how much noise")


def _put_terms(site: Site, message: Message, terms: Terms) -> None:
    """Write the terms where the app reads its configuration."""
    config = message.content.config_records.get(site.config_record)
    for name, key in site.keys.items():
        if config is not None:
            config[key] = getattr(terms, name)


def _told(site: Site, verdict: Accept | Counter, seconds: float) -> Told:
    epsilon = site.guardian.epsilon_told()
    terms = verdict.terms
    return Told(
        countered=isinstance(verdict, Counter),
        reasons="; ".join(verdict.reasons)[:400] if isinstance(verdict, Counter) else "",
        seconds=seconds,
        noise_multiplier=terms.noise_multiplier,
        steps=terms.steps,
        epochs=terms.epochs,
        width=terms.width,
        epsilon_budget=-1.0 if epsilon is None else epsilon[0],
        epsilon_left=-1.0 if epsilon is None else epsilon[1],
    )
