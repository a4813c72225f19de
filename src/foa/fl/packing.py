"""Compression of a Flower reply on its way from a client to the server, whatever app made it. Needs the extra `fl`.

    app ─► noise, if any ─► pack_reply: change = update − base, largest share, 8 bits ─► wire ─► open_reply: base + change

What was not sent stays in the client's `Context.state` and is added to its next change (error feedback). Compressing after
the noise of differential privacy costs no further ε: it is post-processing. Arrays that are not floats travel whole.
"""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message

from foa.errors import BadMessage
from foa.fl.aggregate import Arrays
from foa.fl.codec import read_packed, write_packed
from foa.fl.compress import Compressor
from foa.fl.contents import arrays_of

PACKED = "foa-packed"  #: name of the record in a reply
LEFT = "foa-left"  #: name of the records in a client's state: what was not sent yet, and of which run


def is_to_pack(context: Context, *, run: str, share: float) -> bool:
    """Whether `pack_reply` has anything to do: less than all is to be sent, or something was left out before."""
    return share < 1 or bool(_left(context, run))


def pack_reply(reply: Message, base: Arrays, context: Context, *, run: str, share: float) -> None:
    """Put the largest changes in the place of a reply's model.

    A reply whose arrays are not those of the base, or are not finite, stays as it is: the server says what is wrong with it.

    Args:
        reply: of the app, with whole weights.
        base: the model it was asked to train from.
        context: the client's; keeps what is left out.
        run: whose model it is: what another run left out is forgotten.
        share: of the changes to send, 0 < share ≤ 1; at 1 whole weights go out, with what was left out before.
    """
    arrays = arrays_of(reply)
    floats = {name: array for name, array in arrays.items() if np.issubdtype(array.dtype, np.floating)}
    if not floats or not _fits(arrays, base) or not all(np.isfinite(array).all() for array in floats.values()):
        return
    left = _left(context, run)
    changes = {name: array.astype(np.float64) - base[name] for name, array in floats.items()}
    name = next(iter(reply.content.array_records))
    if share >= 1:
        if left:
            late = {key: base[key] + changes[key] + _of(left, key, changes[key].shape) for key in changes}
            reply.content[name] = _record({**arrays, **{key: late[key].astype(arrays[key].dtype) for key in late}})
            _keep(context, run, {})
        return
    compressor = Compressor(share=share)
    compressor.restore(left)
    packed = compressor.pack(changes)
    reply.content[name] = _record({key: array for key, array in arrays.items() if key not in floats})
    reply.content[PACKED] = ConfigRecord(write_packed(packed))  # type: ignore[arg-type]
    _keep(context, run, compressor.left)


def is_packed(reply: Message) -> bool:
    """Whether it holds changes in the place of weights."""
    return PACKED in reply.content.config_records


def open_reply(reply: Message, base: Arrays) -> None:
    """Put the whole weights in the place of a packed reply's changes.

    Args:
        reply: as it came; packed.
        base: the very model that this client trained from.

    Raises:
        BadMessage: the packet does not fit the model.
    """
    changes = read_packed(dict(reply.content.config_records[PACKED]), base)
    del reply.content[PACKED]
    whole = arrays_of(reply)
    if not reply.content.array_records or {*whole} & {*changes} or {*whole} | {*changes} != {*base}:
        raise BadMessage("a packed update does not hold each array of the model once: drop it")
    with np.errstate(over="ignore"):
        moved = {key: (base[key] + change).astype(base[key].dtype) for key, change in changes.items()}
    name = next(iter(reply.content.array_records))
    reply.content[name] = _record({key: moved[key] if key in moved else whole[key] for key in base})


def _fits(arrays: Arrays, base: Arrays) -> bool:
    return {name: array.shape for name, array in arrays.items()} == {name: array.shape for name, array in base.items()}


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(np.ascontiguousarray(array)) for name, array in arrays.items()})


def _left(context: Context, run: str) -> Arrays:
    of = context.state.config_records.get(LEFT)
    kept = context.state.array_records.get(f"{LEFT}-arrays")
    if of is None or kept is None or of.get("run") != run:
        return {}
    return {name: array.numpy() for name, array in kept.items()}


def _of(left: Arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    found = left.get(name)
    return np.zeros(shape) if found is None or found.shape != shape else found


def _keep(context: Context, run: str, left: Arrays) -> None:
    # float32 halves what a client has to remember, and is what its weights have
    context.state[LEFT] = ConfigRecord({"run": run})
    context.state[f"{LEFT}-arrays"] = _record({name: array.astype(np.float32) for name, array in left.items()})
