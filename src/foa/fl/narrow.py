"""A model of less width for a client whose guardian allows less than was asked (HeteroFL). Needs the extra `fl`.

    server: model, cut to the width asked, and which axes may be cut ─► guardian: less ─► app sees a narrower model

Source: Diao, Ding and Tarokh, "HeteroFL", ICLR 2021. The app builds its network after the shapes it is given.
"""

from collections.abc import Mapping

from flwr.app import ConfigRecord, Message

from foa.errors import BadMessage
from foa.fl.aggregate import Arrays, cut
from foa.fl.contents import arrays_of, put_arrays

HIDDEN = "foa-hidden"  #: name of the record: for each array the axes that may be cut
MAX_AXES = 32

Hidden = Mapping[str, tuple[int, ...]]


def put_hidden(message: Message, hidden: Hidden) -> None:
    """Tell which axes may be cut."""
    message.content[HIDDEN] = ConfigRecord({name: list(axes) for name, axes in hidden.items()})


def narrow(message: Message, *, asked: float, allowed: float) -> None:
    """Cut the model in a message to what is allowed, and take out of it what the app need not see.

    Args:
        message: as it came; without the record of axes nothing is cut, and the app has to see to its width itself.
        asked: width that the model in it has, 0 < asked ≤ 1.
        allowed: width to train, above 0.

    Raises:
        BadMessage: the record is not usable.
    """
    if HIDDEN not in message.content.config_records:
        return
    hidden = _hidden(message.content.config_records[HIDDEN])
    del message.content[HIDDEN]
    if allowed < asked:
        put_arrays(message, narrowed(arrays_of(message), hidden, asked=asked, allowed=allowed))


def narrowed(arrays: Arrays, hidden: Hidden, *, asked: float, allowed: float) -> Arrays:
    """The part that a client which allows less than was asked trains; both ends reckon it alike."""
    return cut(arrays, allowed / asked, hidden) if 0 < allowed < asked else arrays


def _hidden(record: Mapping[str, object]) -> Hidden:
    found = dict[str, tuple[int, ...]]()
    for name, axes in record.items():
        if not isinstance(axes, list) or len(axes) > MAX_AXES or not all(type(axis) is int for axis in axes):
            raise BadMessage("the axes that may be cut are no lists of whole numbers")
        found[name] = tuple(axes)
    return found
