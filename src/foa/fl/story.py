"""A run in plain words: what each node gave in a line, and a report at the end whose every figure has its place.

NodeEvent ─► said · credits · cost          for those who watch
rounds    ─► tell_story ─► Story            for those who asked: words, claims with sources, figures, the bill
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foa.fl.rounds import NodeEvent, RoundRow
from foa.values.budget import Spend
from foa.values.draft import Claim, Draft, Source

MAX_SAID = 400  #: characters of one node's line
MAX_NAMED = 20  #: sites in one sentence
MAX_FIGURES = 64  #: of one story: what a reply may carry
MEASURED, UNMEASURED = 0.9, 0.5  #: confidence in a report with, and without, an accuracy that the sites measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The end of a run as whoever asked for it reads it."""

    draft: Draft
    figures: Mapping[str, float]
    spend: Spend


def said(event: NodeEvent) -> str:
    """What a node gave, in a line; empty where it only began."""
    if event.state == "began" or not isinstance(event.value, Mapping):
        return ""
    value: Mapping[str, Any] = event.value
    return _LINES[event.node](value)[:MAX_SAID] if event.node in _LINES else ""


def brought(event: NodeEvent) -> dict[str, float]:
    """What each site brought, where it was measured; a lie that the audit found counts as the most harm of the round."""
    if event.node != "credit" or not isinstance(event.value, Mapping):
        return {}
    settled: Mapping[str, Any] = event.value
    found = {site: float(one["credit"]) for site, one in settled.items() if one.get("credit") is not None}
    worst = max(map(abs, found.values()), default=0.0) or 1.0
    return found | {site: -worst for site, one in settled.items() if one.get("lied")}


def cost(event: NodeEvent) -> Spend:
    """What a node cost: the decision its tokens, the credit what the sites are paid."""
    if event.state == "began" or not isinstance(event.value, Mapping):
        return Spend()
    value: Mapping[str, Any] = event.value
    match event.node:
        case "select":
            tokens, asked = int(value.get("tokens") or 0), bool(value.get("model"))
            return Spend(tokens_in=tokens, calls=int(asked), seconds=float(value.get("seconds") or 0.0))
        case "train":
            return Spend(seconds=float(value.get("seconds") or 0.0))
        case "credit":
            return Spend(usd=sum(float(one.get("usd") or 0.0) for one in value.values()))
        case _:
            return Spend()


def whole_cost(rows: Sequence[RoundRow]) -> Spend:
    """What a run cost."""
    return Spend(
        usd=sum(client.usd for row in rows for client in row.clients),
        tokens_in=sum(row.tokens for row in rows),
        calls=sum(bool(row.model) for row in rows),
        seconds=sum(row.seconds + row.decision_seconds for row in rows),
    )


def epsilons(rows: Sequence[RoundRow]) -> dict[str, tuple[float, float]]:
    """For each site that keeps a ledger: (ε spent at most, ε budget), as last told, in steps of ½."""
    found = dict[str, tuple[float, float]]()
    for row in rows:
        for client in row.clients:
            if client.told is not None and client.told.epsilon_budget >= 0:
                budget = client.told.epsilon_budget
                found[client.client] = (budget - client.told.epsilon_left, budget)
    return found


def tell_story(what: str, rows: Sequence[RoundRow], *, report: Path) -> Story:
    """Tell a run that has ended.

    Args:
        what: was trained, in words.
        rows: every round; one at least.
        report: the run's page; `rounds.json` lies beside it.
    """
    figures = _figures(rows)
    raw = Source(kind="file", locator=str(report.with_name("rounds.json"))[-500:])
    sentences = [
        f"{what}: {len(rows)} round{'' if len(rows) == 1 else 's'} of federated learning; every site kept its data.",
        *_accuracy(rows[-1]),
        *_part(rows),
        *_contribution(rows),
        *_privacy(rows),
        _money(rows),
    ]
    claims = tuple(Claim(text=sentence[:2_000], source=raw) for sentence in sentences)
    page = Claim(text="The report has every round with its plots.", source=Source(kind="file", locator=str(report)[-500:]))
    draft = Draft(
        answer="\n".join([*sentences, f"Report: {report}"])[:20_000],
        claims=(*claims, page),
        confidence=MEASURED if "accuracy" in figures else UNMEASURED,
    )
    return Story(draft=draft, figures=figures, spend=whole_cost(rows))


def _figures(rows: Sequence[RoundRow]) -> dict[str, float]:
    last, spend = rows[-1], whole_cost(rows)
    found: dict[str, float] = {"rounds": len(rows), "usd": spend.usd, "tokens": spend.tokens}
    if last.accuracy is not None:
        found["accuracy"] = last.accuracy
    if last.worst10 is not None:
        found["worst_tenth"] = last.worst10
    if spent := epsilons(rows):
        found["epsilon_most"] = max(each for each, _ in spent.values())
    worst = sorted(last.accuracies, key=lambda pair: pair[1])
    for site, accuracy in worst[: MAX_FIGURES - len(found)]:
        found[f"accuracy of {site}"[:64]] = accuracy
    return found


def _accuracy(last: RoundRow) -> list[str]:
    if last.accuracy is None:
        return ["No site measured an accuracy."]
    told = [f"Accuracy {last.accuracy:.4f}, each site counting alike; the worst tenth of sites {last.worst10 or 0.0:.4f}."]
    ranked = sorted(last.accuracies, key=lambda pair: pair[1])
    if ranked:
        by_site = ", ".join(f"{site} {accuracy:.4f}" for site, accuracy in ranked[:MAX_NAMED])
        told.append(f"By site, worst first: {by_site}{_more(len(ranked))}.")
        told.append(f"Most of its errors are at {ranked[0][0]}: {1 - ranked[0][1]:.1%} of its test cases.")
    return told


def _part(rows: Sequence[RoundRow]) -> list[str]:
    told: list[str] = []
    for kind, words in (("trained", "Took part"), ("refused", "Refused"), ("lost", "Lost"), ("screened", "Set aside")):
        times = Counter(client.client for row in rows for client in row.clients if client.kind == kind)
        if not times:
            continue
        why = {client.client: client.reason for row in rows for client in row.clients if client.kind == kind}
        named = [
            f"{site} {count}×" + (f" ({why[site][:120]})" if why[site] and kind != "trained" else "")
            for site, count in times.most_common(MAX_NAMED)
        ]
        told.append(f"{words}: {', '.join(named)}{_more(len(times))}.")
    return told


def _contribution(rows: Sequence[RoundRow]) -> list[str]:
    total: dict[str, float] = {}
    for row in rows:
        for client in row.clients:
            if client.credit is not None:
                total[client.client] = total.get(client.client, 0.0) + client.credit
    if not total:
        return []
    ranked = sorted(total.items(), key=lambda item: -item[1])
    named = ", ".join(f"{site} {credit:+.4f}" for site, credit in ranked[:MAX_NAMED])
    return [f"Contribution, by how much each lowered the loss on the server's own data: {named}{_more(len(ranked))}."]


def _privacy(rows: Sequence[RoundRow]) -> list[str]:
    spent = sorted(epsilons(rows).items(), key=lambda item: -item[1][0])
    if not spent:
        return ["No site kept a privacy ledger."]
    named = ", ".join(f"{site} {used:g} of {budget:g}" for site, (used, budget) in spent[:MAX_NAMED])
    return [f"Privacy, ε spent at most: {named}{_more(len(spent))}."]


def _money(rows: Sequence[RoundRow]) -> str:
    spend = whole_cost(rows)
    models = sorted({row.model for row in rows if row.model and row.verdict != "fallback"})
    who = ", ".join(models) or "the rule"
    return f"Sites were paid US$ {spend.usd:.2f}; {who} decided the rounds, for {spend.tokens:,} tokens."


def _more(count: int) -> str:
    return f" and {count - MAX_NAMED} more" if count > MAX_NAMED else ""


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (" …" if len(names) > 6 else "")


def _profile(value: Mapping[str, Any]) -> str:
    refused = value.get("refused") or {}
    return f"{value.get('present', 0)} sites are there" + (f"; may not: {_names(list(refused))}" if refused else "")


def _select(value: Mapping[str, Any]) -> str:
    plan = value.get("plan") or {}
    who = value.get("model") if value.get("verdict") != "fallback" else ""
    return f"{who or 'rule'}: {plan.get('selector')}, k={plan.get('k')}, {plan.get('aggregation')}: {plan.get('reason', '')}"


def _negotiate(value: Mapping[str, Any]) -> str:
    talks = [one for one in value.values() if isinstance(one, Mapping) and "agreed" in one]
    if talks:
        return f"{sum(one['agreed'] is not None for one in talks)} of {len(talks)} sites agreed"
    return f"{len(value)} sites answered with terms" if value else "terms as asked"


def _train(value: Mapping[str, Any]) -> str:
    parts = [f"{len(value[kind])} {kind}" for kind in ("trained", "refused", "lost") if value.get(kind)]
    return f"{', '.join(parts) or 'nobody trained'}, {float(value.get('seconds') or 0.0):.1f} s"


def _screen(value: Mapping[str, Any]) -> str:
    return f"set aside: {_names(list(value))}" if value else "nobody set aside"


def _aggregate(value: Mapping[str, Any]) -> str:
    loss = f", loss {value['loss']:.4f}" if value.get("loss") is not None else ""
    return f"{value.get('rule')}{loss}" + ("" if value.get("taken") else ": worse by far, the last model stays")


def _evaluate(value: Mapping[str, Any]) -> str:
    if value.get("accuracy") is None:
        return "no accuracy"
    return f"accuracy {value['accuracy']:.4f}, worst tenth {value.get('worst10') or 0.0:.4f}"


def _credit(value: Mapping[str, Any]) -> str:
    shares = [f"{site} {one['credit']:+.4f}" for site, one in value.items() if one.get("credit") is not None]
    paid = sum(float(one.get("usd") or 0.0) for one in value.values())
    return (_names(shares) or "not measured") + (f"; paid US$ {paid:.2f}" if paid else "")


_LINES = {
    "profile": _profile,
    "select": _select,
    "negotiate": _negotiate,
    "train": _train,
    "screen": _screen,
    "aggregate": _aggregate,
    "evaluate": _evaluate,
    "credit": _credit,
}
