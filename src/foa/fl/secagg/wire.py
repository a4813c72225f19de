"""The record in which server and members speak of secure aggregation, bounded on both sides. Needs no Flower.

stage    server to member                               member to server
setup    the ask                                        sealing, masking
share    nodes, sealing, masking, threshold, scale      nodes, sealed, seed
train    nodes, sealed, beside model and ask            masked
reveal   there, gone                                    seed and mask-key shares, by node
"""

from collections.abc import Mapping

import numpy as np

from foa.errors import BadMessage
from foa.fl.secagg.assembly import NEIGHBOURS, Revealed, Shared
from foa.fl.secagg.levels import Scale
from foa.fl.secagg.masks import KEY_BYTES, Levels
from foa.fl.secagg.member import Keys
from foa.fl.secagg.shares import SHARE_BYTES

SECAGG = "foa-secagg"  #: name of the record
MAX_NODES = NEIGHBOURS + 1
SEALED_BYTES = 2 * SHARE_BYTES + 16  #: two shares and the seal's tag

Values = Mapping[str, object]
Flat = dict[str, int | float | str | bytes | list[int] | list[bytes]]


def write_keys(keys: Keys) -> Flat:
    """A member's public keys."""
    return {"sealing": keys.sealing, "masking": keys.masking}


def read_keys(values: Values) -> Keys:
    """A member's public keys; `BadMessage` where they are none."""
    return Keys(_bytes(values, "sealing", KEY_BYTES), _bytes(values, "masking", KEY_BYTES))


def write_share(keys: Mapping[int, Keys], threshold: int, scale: Scale) -> Flat:
    """What a member needs before it shares its secrets."""
    return {
        "stage": "share",
        "nodes": [*keys],
        "sealing": [entry.sealing for entry in keys.values()],
        "masking": [entry.masking for entry in keys.values()],
        "threshold": threshold,
        "members": scale.members,
        "weight-max": scale.weight_max,
        "reach": scale.reach,
    }


def read_share(values: Values) -> tuple[dict[int, Keys], int, Scale]:
    """Neighbours' keys, threshold and scale; `BadMessage` where they are none."""
    keys = _by_node(values, "sealing", KEY_BYTES), _by_node(values, "masking", KEY_BYTES)
    reach = values.get("reach")
    if not isinstance(reach, float):
        raise BadMessage("the reach of a secure aggregation is no number")
    scale = Scale(members=_whole(values, "members"), weight_max=_whole(values, "weight-max"), reach=reach)
    return {node: Keys(keys[0][node], keys[1][node]) for node in keys[0]}, _whole(values, "threshold"), scale


def write_shared(shared: Shared) -> Flat:
    """What a member hands in."""
    return {"nodes": [*shared.sealed], "sealed": [*shared.sealed.values()], "seed": shared.seed_sha256}


def read_shared(values: Values) -> Shared:
    """What a member handed in; `BadMessage` where it is nothing of the kind."""
    return Shared(sealed=read_sealed(values), seed_sha256=_bytes(values, "seed", 32))


def write_train(sealed: Mapping[int, bytes]) -> Flat:
    """The sealed shares for one member."""
    return {"stage": "train", "nodes": [*sealed], "sealed": [*sealed.values()]}


def read_sealed(values: Values) -> dict[int, bytes]:
    """Sealed shares, by node; `BadMessage` where they are none."""
    return _by_node(values, "sealed", SEALED_BYTES)


def write_masked(masked: Levels) -> Flat:
    """A masked vector."""
    return {"masked": masked.astype("<u4").tobytes()}


def read_masked(values: Values, count: int) -> Levels:
    """A masked vector of so many numbers; `BadMessage` where it is none."""
    return np.frombuffer(_bytes(values, "masked", 4 * count), "<u4").astype(np.uint32)


def write_reveal(there: list[int], gone: list[int]) -> Flat:
    """Who is there, and who is gone."""
    return {"stage": "reveal", "there": there, "gone": gone}


def read_reveal(values: Values) -> tuple[list[int], list[int]]:
    """Who is there, and who is gone; `BadMessage` where it does not say."""
    return _nodes(values, "there"), _nodes(values, "gone")


def write_revealed(revealed: Revealed) -> Flat:
    """What a member reveals."""
    return {
        "there": [*revealed.seeds],
        "seeds": [*revealed.seeds.values()],
        "gone": [*revealed.privates],
        "privates": [*revealed.privates.values()],
    }


def read_revealed(values: Values) -> Revealed:
    """What a member revealed; `BadMessage` where it is nothing of the kind."""
    return Revealed(
        seeds=_by_node(values, "seeds", SHARE_BYTES, nodes="there"),
        privates=_by_node(values, "privates", SHARE_BYTES, nodes="gone"),
    )


def _bytes(values: Values, key: str, size: int) -> bytes:
    found = values.get(key)
    if not isinstance(found, bytes) or len(found) != size:
        raise BadMessage(f"{key} of a secure aggregation has not {size:,} bytes")
    return found


def _whole(values: Values, key: str) -> int:
    found = values.get(key)
    if isinstance(found, bool) or not isinstance(found, int):
        raise BadMessage(f"{key} of a secure aggregation is no whole number")
    return found


def _nodes(values: Values, key: str) -> list[int]:
    found = values.get(key)
    if not isinstance(found, list) or len(found) > MAX_NODES or not all(type(node) is int for node in found):
        raise BadMessage(f"{key} of a secure aggregation is no list of at most {MAX_NODES} members")
    return found


def _by_node(values: Values, key: str, size: int, *, nodes: str = "nodes") -> dict[int, bytes]:
    names, column = _nodes(values, nodes), values.get(key)
    if not isinstance(column, list) or not all(isinstance(entry, bytes) and len(entry) == size for entry in column):
        raise BadMessage(f"{key} of a secure aggregation is no list of {size} bytes each")
    if len(column) != len(names) or len({*names}) != len(names):
        raise BadMessage(f"{key} of a secure aggregation does not go with its members")
    return dict(zip(names, column, strict=True))
