"""A2A agent cards (1.0, and 0.3 on the way in), in both directions. A VCV rides in `capabilities.extensions[]`.

The extension's `params` hold the card as it was signed: whoever reads the A2A card can check the VCV with the agent's own
own key. An A2A card without it gives a profile: its embeddings are made where it is taken in.
"""

from collections.abc import Mapping
from typing import cast

import msgspec

from foa.agents.profile import AgentProfile
from foa.errors import BadCapability
from foa.interop.profiles import Found, items_of, profile, read_object, text_of, texts_of
from foa.registry.canonical import canonical
from foa.registry.card import decode_card
from foa.values.vcv import Vcv

EXTENSION = "urn:foa:a2a:vcv:1"  #: names our extension
PROTOCOL_VERSION = "1.0"


def to_a2a(vcv: Vcv, card: bytes, *, url: str, binding: str = "JSONRPC") -> dict[str, object]:
    """Give the A2A card of an agent, to be served as `/.well-known/agent-card.json`.

    Args:
        card: the agent's VCV as it was signed.
        url: where A2A requests for it are taken.
        binding: `JSONRPC`, `GRPC` or `HTTP+JSON`.
    """
    extension = {
        "uri": EXTENSION,
        "description": "Versioned Capability Vector, signed by the agent",
        "required": False,
        "params": msgspec.json.decode(card),
    }
    return {
        "name": vcv.name,
        "description": vcv.description or vcv.name,
        "version": str(vcv.version),
        "supportedInterfaces": [{"url": url, "protocolBinding": binding, "protocolVersion": PROTOCOL_VERSION}],
        "capabilities": {"streaming": True, "pushNotifications": False, "extensions": [extension]},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [_skill(skill, vcv) for skill in vcv.skills or (vcv.name,)],
    }


def from_a2a(document: bytes) -> AgentProfile:
    """Give the profile that an A2A card describes.

    Raises:
        BadInput: it is no card.
    """
    card = read_object(document, what="A2A card")
    skills = items_of(card, "skills")
    described = [text for skill in skills if (text := text_of(skill, "description"))]
    found = Found(name=text_of(card, "name"), description=" ".join([text_of(card, "description"), *described]).strip())
    for skill in skills:
        found.skills += [text_of(skill, "name", "id"), *texts_of(skill, "tags")]
        found.examples += texts_of(skill, "examples")
    return profile(found, what="A2A card")


def vcv_of_a2a(document: bytes) -> Vcv | None:
    """Give the VCV that rides in an A2A card, its signature checked; None where none does.

    Raises:
        BadInput: it is no card.
        BadCapability: there is a VCV and it does not hold.
    """
    card = read_object(document, what="A2A card")
    capabilities = card.get("capabilities")
    if not isinstance(capabilities, dict):
        return None
    for extension in items_of(cast("Mapping[str, object]", capabilities), "extensions"):
        if extension.get("uri") == EXTENSION:
            return decode_card(_bytes(extension.get("params")))
    return None


def _bytes(params: object) -> bytes:
    try:
        return canonical(params)
    except ValueError as error:
        raise BadCapability(f"the VCV in this A2A card is not usable: {error}") from error


def _skill(skill: str, vcv: Vcv) -> dict[str, object]:
    described = f"{vcv.name}: {skill}"
    entry: dict[str, object] = {
        "id": skill.lower().replace(" ", "-"),
        "name": skill,
        "description": described,
        "tags": [skill],
    }
    if vcv.examples:
        entry["examples"] = list(vcv.examples)[:8]
    return entry
