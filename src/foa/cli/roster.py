"""Agents as people read them: a list, one in full, and why they fit a question or do not. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from foa.app.standing import Standing
from foa.cli.words import clean, count, money, shorten
from foa.values.ids import AgentId
from foa.values.resources import Price, Resources
from foa.values.result import Routed
from foa.values.vcv import Vcv, Vitals


def facts_of(vcv: Vcv) -> dict[str, Any]:
    """An agent without its vectors, for `--json`."""
    return {
        "agent_id": vcv.agent_id,
        "version": vcv.version,
        "name": vcv.name,
        "description": vcv.description,
        "skills": vcv.skills,
        "examples": vcv.examples,
        "policies": sorted(vcv.p),
        "resources": vcv.r,
        "embedder": vcv.embedder,
        "kinds": vcv.kinds,
        "public_key": vcv.public_key,
    }


def draw_agents(
    agents: Sequence[Vcv], refused: Mapping[str, str], told_by: Mapping[AgentId, str] | None = None
) -> RenderableType:
    """Every agent in a line, and the cards that were refused.

    Args:
        agents: all that are known.
        refused: why, by id.
        told_by: the orchestrator that told of an agent which is at another broker.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    columns = ("agent", "skills", "policies", "price", "what it does", *(["known from"] if told_by else []))
    for column in columns:
        table.add_column(column, overflow="fold")
    for vcv in agents:
        table.add_row(
            Text(vcv.agent_id, style="bold"),
            shorten(", ".join(vcv.skills), 60),
            clean(", ".join(sorted(vcv.p))),
            price_of(vcv.r.price),
            shorten(vcv.description, 120),
            *([told_by.get(vcv.agent_id, "this broker")] if told_by else []),
        )
    parts: list[Text] = [*_refusals(refused), Text(count(len(agents), "agent"), style="dim")]
    if told_by:
        parts.append(Text(f"{count(len(told_by), 'agent')} at other brokers: known here, not asked from here", style="dim"))
    return Group(table, *parts)


def draw_agent(vcv: Vcv, vitals: Vitals, told_by: str = "", stands: Sequence[Standing] = ()) -> RenderableType:
    """One agent in full.

    Args:
        vcv: its card.
        vitals: how it is now.
        told_by: the orchestrator that told of it, where it is at another broker.
        stands: its reputation on this machine.
    """
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in _rows(vcv, vitals, told_by):
        if value:
            table.add_row(name, Text(clean(value)))
    if stands:
        table.add_row("reputation", Text(clean(standing_of(stands))))
    return table


def draw_standings(agent: str, stands: Sequence[Standing]) -> RenderableType:
    """The reputation of an agent that is not there."""
    return Text(f"{clean(agent)} is not there; its reputation: {clean(standing_of(stands))}")


def standing_of(stands: Sequence[Standing]) -> str:
    """Reputation in words, a line for each kind of work."""
    return "\n".join(f"{one.kind} {one.mean:.2f} (graded work: {one.evidence:.1f})" for one in stands)


def _rows(vcv: Vcv, vitals: Vitals, told_by: str) -> Iterator[tuple[str, str]]:
    yield "agent", f"{vcv.agent_id}, version {vcv.version}"
    yield "name", vcv.name
    yield "does", vcv.description
    yield "skills", ", ".join(vcv.skills)
    yield "examples", "\n".join(vcv.examples)
    yield "policies", ", ".join(sorted(vcv.p)) or "cleared for none"
    yield "answers", ", ".join(vcv.kinds)
    yield "price", price_of(vcv.r.price)
    yield "resources", "\n".join(_resources(vcv.r))
    yield "embedder", vcv.embedder
    yield "key", vcv.public_key or "unsigned"
    if told_by:
        yield "where", f"at another broker: {told_by} told of it, and it is not asked from here"
        return
    yield "now", f"{'online' if vitals.online else 'offline'}, load {vitals.load:.0%}, {vitals.queue} waiting"


def _resources(resources: Resources) -> Iterator[str]:
    for each in fields(resources):
        value = getattr(resources, each.name)
        if value not in (None, ()) and each.name != "price":
            yield f"{each.name}: {', '.join(value) if isinstance(value, tuple) else f'{value:g}'}"


def price_of(price: Price) -> str:
    """What an agent charges, in words."""
    parts = [
        f"{money(price.usd_per_call)} a call" * bool(price.usd_per_call),
        f"{money(price.usd_per_1k_tokens_in)} per 1,000 tokens read" * bool(price.usd_per_1k_tokens_in),
        f"{money(price.usd_per_1k_tokens_out)} per 1,000 written" * bool(price.usd_per_1k_tokens_out),
    ]
    return ", ".join(part for part in parts if part) or "free"


def draw_search(routed: Routed) -> RenderableType:
    """Every score with its factors, every refusal with its reason."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("agent")
    for column in ("score", "similarity", "policy", "resources", "spec", "reputation"):
        table.add_column(column, justify="right")
    for each in routed.candidates:
        factors = each.factors
        numbers = (factors.similarity, factors.policy, factors.resources, factors.spec, factors.reputation)
        table.add_row(Text(clean(each.agent), style="bold"), f"{each.score:.3f}", *(f"{number:.3f}" for number in numbers))
    nobody = f"no agent fits: {clean(routed.why)}" if routed.why else "no agent fits"
    parts: list[RenderableType] = [table] if routed.candidates else [Text(nobody, style="red")]
    if routed.fit is not None:
        parts.append(Text(f"fit {routed.fit:.0%}: how likely the best of them can do it", style="dim"))
    if routed.fallback:
        parts.append(Text(f"fallback: {clean(routed.fallback)}", style="yellow"))
    return Group(*parts, *_refusals(routed.refusals))


def _refusals(refused: Mapping[str, str]) -> Iterator[Text]:
    for agent, why in refused.items():
        yield Text(f"refused {clean(agent)}: {shorten(why, 300)}", style="yellow")
