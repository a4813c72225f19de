"""A client app that takes part in secure aggregation: only its masked update leaves the site. Needs the extra `fl`.

setup and share are answered here; train goes through guardian and app, and its reply is masked; reveal is answered here.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict

from foa.errors import BadMessage
from foa.fl.aggregate import Arrays
from foa.fl.contents import arrays_of, metric
from foa.fl.flower import REFUSED, ClientAppCallable, category_of, failure
from foa.fl.guardian import TrainAsk
from foa.fl.secagg import wire
from foa.fl.secagg.assembly import Revealed, Shared
from foa.fl.secagg.levels import Scale, to_levels
from foa.fl.secagg.member import Member
from foa.fl.secagg.wire import SECAGG, Flat
from foa.fl.terms import RECORD, read_ask

RUNS = 8  #: under way at a time; the oldest is given up for a ninth
REMEMBERED = 64  #: runs whose last revealed round is remembered


@dataclass(slots=True)
class _Seat:
    """This client in one round of one run."""

    ask: TrainAsk
    member: Member
    scale: Scale | None = None


class SecureSeat:
    """A client app with secure aggregation in front. One for each client; it is no more than a pass-through otherwise."""

    def __init__(
        self,
        app: ClientAppCallable,
        *,
        refusal: Callable[[TrainAsk], str | None],
        survivors_min: int = 2,
        samples_key: str = "num-examples",
    ) -> None:
        """Put it in front.

        Args:
            app: guardian and all.
            refusal: why this client takes no part in a round, asked before keys are made; None: it does.
            survivors_min: least updates in a sum that it helps to unmask.
            samples_key: of the app's metric that says how much its update counts.
        """
        self._app = app
        self._refusal = refusal
        self._survivors_min = survivors_min
        self._samples_key = samples_key
        self._seats: OrderedDict[str, _Seat] = OrderedDict()

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer one message."""
        if category_of(message) != "train" or RECORD not in message.content.config_records:
            return self._app(message, context)
        try:
            ask = read_ask(message.content.config_records[RECORD])
            if not ask.secure_aggregation and SECAGG not in message.content.config_records:
                return self._app(message, context)
            return self._take(ask, message, context)
        except BadMessage as error:
            return failure(message, REFUSED, str(error))

    def _take(self, ask: TrainAsk, message: Message, context: Context) -> Message:
        if not ask.secure_aggregation or SECAGG not in message.content.config_records:
            # whole updates must not leave under the name of masked ones, nor the other way round
            raise BadMessage("the server's terms and its message differ on secure aggregation")
        values = dict(message.content.config_records[SECAGG])
        stage = values.get("stage")
        if stage == "setup":
            return self._setup(ask, message, context)
        seat = self._seats.get(ask.run)
        if seat is None or seat.ask.key != ask.key:
            raise BadMessage("this site knows of no such round of secure aggregation: begin with its setup")
        if stage == "share":
            keys, threshold, scale = wire.read_share(values)
            shared = Shared(sealed=seat.member.share(keys, threshold), seed_sha256=seat.member.seed_sha256)
            seat.scale = scale
            return _reply(message, wire.write_shared(shared))
        if stage == "train":
            return self._train(seat, values, message, context)
        if stage == "reveal":
            return self._reveal(seat, values, message, context)
        raise BadMessage(f"there is no stage {str(stage)[:20]!r} in secure aggregation")

    def _setup(self, ask: TrainAsk, message: Message, context: Context) -> Message:
        if ask.share < 1:
            raise BadMessage("compressed updates cannot be masked: ask for whole ones, or for no secure aggregation")
        if ask.round <= _revealed(context, ask.run):
            raise BadMessage("this round was added up before; once more with other members would show single updates")
        if (why := self._refusal(ask)) is not None:
            return failure(message, REFUSED, why)
        member = Member(node=message.metadata.dst_node_id, about=ask.key, survivors_min=self._survivors_min)
        self._seats.pop(ask.run, None)
        self._seats[ask.run] = _Seat(ask=ask, member=member)
        while len(self._seats) > RUNS:
            self._seats.popitem(last=False)
        return _reply(message, wire.write_keys(member.keys()))

    def _train(self, seat: _Seat, values: wire.Values, message: Message, context: Context) -> Message:
        sealed = wire.read_sealed(values)
        if seat.scale is None:
            raise BadMessage("secure aggregation is at 'share', and the server asks for 'train': begin a new round")
        del message.content[SECAGG]
        base = arrays_of(message)
        reply = self._app(message, context)
        if reply.has_error():
            return reply
        weight = int(metric(reply, self._samples_key) or 1)
        masked = seat.member.hide(sealed, to_levels(change_of(base, arrays_of(reply)), weight, seat.scale))
        # metrics would tell of this site alone: they stay here, and so does whatever else the app sent
        content = RecordDict({SECAGG: ConfigRecord(wire.write_masked(masked))})  # type: ignore[arg-type]
        if RECORD in reply.content.config_records:
            content[RECORD] = reply.content[RECORD]
        return Message(content, reply_to=message)

    def _reveal(self, seat: _Seat, values: wire.Values, message: Message, context: Context) -> Message:
        seeds, privates = seat.member.reveal(*wire.read_reveal(values))
        _remember(context, seat.ask)
        del self._seats[seat.ask.run]
        return _reply(message, wire.write_revealed(Revealed(seeds=seeds, privates=privates)))


def floats(arrays: Arrays) -> list[str]:
    """The arrays whose changes are added up; others keep the value they had."""
    return sorted(name for name, array in arrays.items() if np.issubdtype(array.dtype, np.floating))


def change_of(base: Arrays, trained: Arrays) -> np.ndarray:
    """What training changed, in one row.

    Raises:
        BadMessage: the app gave back other arrays, or numbers that are not finite.
    """
    names = floats(base)
    if any(name not in trained or trained[name].shape != base[name].shape for name in names):
        raise BadMessage("the app gave back another model than it got: nothing was sent")
    rows = [(trained[name].astype(np.float64) - base[name]).ravel() for name in names]
    change = np.concatenate([np.zeros(0), *rows])
    if not np.isfinite(change).all():
        raise BadMessage("training gave numbers that are not finite: nothing was sent")
    return change


def _reply(message: Message, values: Flat) -> Message:
    return Message(RecordDict({SECAGG: ConfigRecord(values)}), reply_to=message)  # type: ignore[arg-type]


def _revealed(context: Context, run: str) -> int:
    kept = context.state.config_records.get(SECAGG)
    found = 0 if kept is None else kept.get(run, 0)
    return found if isinstance(found, int) else 0


def _remember(context: Context, ask: TrainAsk) -> None:
    kept = context.state.config_records.get(SECAGG)
    rounds = {} if kept is None else dict(kept)
    rounds.pop(ask.run, None)
    newest = dict([*rounds.items()][-(REMEMBERED - 1) :])
    context.state[SECAGG] = ConfigRecord({**newest, ask.run: ask.round})
