"""What the registry reads in a card's text: the words that are embedded, and whether c is their embedding."""

from typing import cast

import msgspec

from foa.errors import FalseClaim
from foa.registry.calibration import Calibration
from foa.registry.card import capability_text
from foa.values.vcv import Vcv, Vector


def text_of(vcv: Vcv) -> str:
    """The text that c is the embedding of."""
    return capability_text(name=vcv.name, description=vcv.description, skills=vcv.skills, examples=vcv.examples)


def profile_texts(vcv: Vcv, calibration: Calibration) -> list[str]:
    """What an agent says it can do, after the embedder's own intro, and its name.

    Nothing where the agent is found under c: it has only a name, or the embedder was not calibrated for them apart.
    """
    told = capability_text(name="", description=vcv.description, skills=vcv.skills, examples=vcv.examples)
    return [f"{calibration.intro}{told}", vcv.name] if told and calibration.name else []


def search_texts(vcv: Vcv, calibration: Calibration, most: int) -> list[str]:
    """What an agent is good at, request by request and skill by skill; each becomes a vector beside c."""
    return [*map(calibration.request, vcv.examples), *vcv.skills][:most]


def same_card(held: bytes | None, payload: bytes) -> bool:
    """Tell whether this is the held card, or the same content signed again later.

    Args:
        held: None: none is.
        payload: a card that was decoded before.
    """
    if held is None or held == payload:
        return held is not None
    old, new = _body(held), _body(payload)
    earlier, later = old.pop("issued_at"), new.pop("issued_at")
    return old == new and cast("float", later) > cast("float", earlier)


def _body(payload: bytes) -> dict[str, object]:
    """What a card says, without its signature."""
    return cast("dict[str, object]", msgspec.json.decode(payload)["vcv"])


def text_lie(vcv: Vcv, ours: Vector, least: float) -> FalseClaim | None:
    """Why c is not the embedding of the card's own text, or None.

    Args:
        vcv: as decoded.
        ours: the embedding of its text by our own embedder, of the same shape (d,).
        least: cosine from which the two are the same.
    """
    if (cosine := float(vcv.c @ ours)) < least:
        return FalseClaim(f"agent {vcv.agent_id}: c is not the embedding of its own text (cosine {cosine:.2f})")
    return None
