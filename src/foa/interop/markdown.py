"""An agent as the Markdown file that communities exchange: YAML front matter, the Spec below. Reading is `parse_profile`."""

import msgspec
import yaml

from foa.agents.profile import KINDS
from foa.errors import BadInput
from foa.values.vcv import Vcv


def to_markdown(vcv: Vcv, *, spec: str = "") -> str:
    """Give the file of an agent. Its Spec is not in its VCV, only the Spec's embedding: give it where it is known.

    Raises:
        BadInput: it answers no kind of request that the agent of a file answers.
    """
    kinds = [kind for kind in vcv.kinds if kind in KINDS]
    if not kinds:
        raise BadInput(
            f"agent {vcv.agent_id} answers {', '.join(vcv.kinds) or 'nothing'}: a file describes an agent that drafts"
        )
    resources = {
        name: value
        for name, value in msgspec.to_builtins(vcv.r).items()
        if name not in ("price", "tools", "corpora") and value is not None
    }
    price = {name: usd for name, usd in msgspec.to_builtins(vcv.r.price).items() if usd}
    fields: dict[str, object] = {
        "id": str(vcv.agent_id),
        "name": vcv.name,
        "description": vcv.description,
        "skills": list(vcv.skills),
        "examples": list(vcv.examples),
        "policies": sorted(vcv.p),
        "resources": resources,
        "price": price,
        "kinds": kinds,
    }
    stated = {name: value for name, value in fields.items() if value not in ([], {}, "")}
    front = yaml.safe_dump(stated, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n{spec.strip()}\n"
