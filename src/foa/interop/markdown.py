"""An agent as the Markdown file that communities exchange: YAML front matter, the Spec below. Reading is `parse_profile`."""

import msgspec
import yaml

from foa.agents.profile import KINDS, AgentProfile, Limits
from foa.errors import BadInput
from foa.values.vcv import Vcv


def to_markdown(vcv: Vcv, *, spec: str = "") -> str:
    """Give the file of an agent. Its Spec is not in its VCV, only the Spec's embedding: give it where it is known.

    Raises:
        BadInput: it answers no kind of request that the agent of a file answers.
    """
    return write_profile(profile_of(vcv, spec=spec))


def profile_of(vcv: Vcv, *, spec: str = "") -> AgentProfile:
    """Give what a VCV says of its agent, as its author would write it.

    Raises:
        BadInput: it answers no kind of request that the agent of a file answers.
    """
    kinds = tuple(kind for kind in vcv.kinds if kind in KINDS)
    if not kinds:
        raise BadInput(
            f"agent {vcv.agent_id} answers {', '.join(vcv.kinds) or 'nothing'}: a file describes an agent that drafts"
        )
    return AgentProfile(
        agent_id=vcv.agent_id,
        name=vcv.name,
        description=vcv.description,
        spec=spec,
        skills=vcv.skills,
        examples=vcv.examples,
        policies=vcv.p,
        resources=vcv.r,
        kinds=kinds,
    )


def write_profile(profile: AgentProfile) -> str:
    """Give the file of a profile, without its tools and corpora: these are things of the machine that it ran on."""
    resources = {
        name: value
        for name, value in msgspec.to_builtins(profile.resources).items()
        if name not in ("price", "tools", "corpora") and value is not None
    }
    usual = msgspec.to_builtins(Limits())
    fields: dict[str, object] = {
        "id": str(profile.agent_id),
        "name": profile.name,
        "description": profile.description,
        "skills": list(profile.skills),
        "examples": list(profile.examples),
        "policies": sorted(profile.policies),
        "resources": resources,
        "price": {name: usd for name, usd in msgspec.to_builtins(profile.resources.price).items() if usd},
        "model": profile.model,
        "kinds": list(profile.kinds),
        "limits": {name: most for name, most in msgspec.to_builtins(profile.limits).items() if most != usual[name]},
    }
    stated = {name: value for name, value in fields.items() if value not in ([], {}, "")}
    front = yaml.safe_dump(stated, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n{profile.spec.strip()}\n"
