"""OASF records (Open Agentic Schema Framework 1.1, AGNTCY), in both directions. A VCV rides in `modules[]`."""

from collections.abc import Mapping
from typing import cast

import msgspec

from foa.agents.profile import AgentProfile
from foa.errors import BadCapability
from foa.interop.profiles import Found, items_of, profile, read_object, text_of
from foa.registry.canonical import canonical
from foa.registry.card import decode_card
from foa.values.vcv import Vcv

SCHEMA_VERSION = "1.1.0"
MODULE = "foa/vcv"  #: names our module


def to_oasf(vcv: Vcv, card: bytes, *, created_at: str, authors: tuple[str, ...] = ()) -> dict[str, object]:
    """Give the OASF record of an agent.

    Args:
        card: the agent's VCV as it was signed.
        created_at: RFC 3339, e.g. `2026-11-22T10:00:00Z`.
    """
    return {
        "name": vcv.agent_id,
        "schema_version": SCHEMA_VERSION,
        "version": str(vcv.version),
        "description": vcv.description or vcv.name,
        "authors": list(authors) or [vcv.name],
        "created_at": created_at,
        "skills": [{"name": skill} for skill in vcv.skills],
        "domains": [],
        "locators": [],
        "modules": [{"name": MODULE, "data": msgspec.json.decode(card)}],
    }


def from_oasf(document: bytes) -> AgentProfile:
    """Give the profile that an OASF record describes; the last step of a skill's path is a skill too.

    Raises:
        BadInput: it is no record.
    """
    record = read_object(document, what="OASF record")
    found = Found(name=text_of(record, "name"), description=text_of(record, "description"))
    for skill in items_of(record, "skills"):
        path = text_of(skill, "name", "class_name", "category_name")
        found.skills += [path, path.rpartition("/")[2].replace("_", " ")]
    for domain in items_of(record, "domains"):
        found.skills.append(text_of(domain, "name"))
    return profile(found, what="OASF record")


def vcv_of_oasf(document: bytes) -> Vcv | None:
    """Give the VCV that rides in an OASF record, its signature checked; None where none does.

    Raises:
        BadInput: it is no record.
        BadCapability: there is a VCV and it does not hold.
    """
    record = read_object(document, what="OASF record")
    for module in items_of(record, "modules"):
        if module.get("name") == MODULE:
            try:
                return decode_card(canonical(cast("Mapping[str, object]", module.get("data"))))
            except ValueError as error:
                raise BadCapability(f"the VCV in this OASF record is not usable: {error}") from error
    return None
