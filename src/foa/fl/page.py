"""The page of a run's report: who decided what and why, what was agreed, kept and paid. Pure: rows in, HTML out."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from foa.fl.guard import GuardEntry
from foa.fl.market import Offer
from foa.fl.rounds import ClientRow, RoundRow, TalkRow

MOST_LINES = 500  #: of one table; `rounds.json` has them all
RAW_CHARACTERS = 300  #: of a model's reply

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
h2{margin-top:2.5rem}table{border-collapse:collapse;width:100%;font-size:13px}.wide{overflow-x:auto}
td,th{border-bottom:1px solid #ddd;padding:.3rem .5rem;text-align:left;vertical-align:top}
th{white-space:nowrap}code{font-size:12px;overflow-wrap:anywhere}img{max-width:100%}.bad{color:#a00}.none{color:#666}"""

_ALT = {
    "accuracy": "Accuracy and worst tenth of clients by round",
    "epsilon": "Privacy budget and what was spent of it by site",
    "participation": "What became of each round's clients",
    "money": "Pay, penalties and credit by client",
}


def page(
    title: str,
    rows: Sequence[RoundRow],
    facts: Mapping[str, str],
    pictures: Mapping[str, bytes],
    decisions: Sequence[tuple[str, GuardEntry]],
) -> str:
    """The page, whole: pictures are inside.

    Args:
        title: of the page.
        rows: every round.
        facts: shown at the top, name → value.
        pictures: PNG by name.
        decisions: (site, what its model decided).
    """
    top = "".join(f"<tr><th>{_text(name)}<td>{_text(value)}" for name, value in facts.items())
    images = "".join(
        f'<p><img alt="{_text(_ALT.get(name, name))}" src="data:image/png;base64,{base64.b64encode(drawn).decode()}">'
        for name, drawn in pictures.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style><h1>{_text(title)}</h1><table>{top}</table>{images}"
        + _table("What the server decided", _DECISION, map(_decision, rows))
        + _table("What was negotiated", _TALK, (_talk(row, talk) for row in rows for talk in row.talks), _NO_TALK)
        + _table("Agreements, pay and audit by site", _SITE, _sites(rows), "No site trained.")
        + _table("What the audit found", _FOUND, _findings(rows), "Every claim and every agreement held.")
        + _table("Why sites did not train, or on other terms", _ANSWER, _answers(rows), "Everybody trained as asked.")
        + _table("What the sites' models decided", _ASKED, (_asked(site, entry) for site, entry in decisions), _NO_MODEL)
        + "<p>Raw figures: rounds.json"
    )


_DECISION = ("round", "who decided", "rule", "k", "deadline", "aggregation", "noise ≥", "sent", "kB in", "kB out", "reason")
_TALK = ("round", "site", "called for", "bids", "agreed", "pay, US$", "decided by", "reason")
_SITE = ("site", "trained", "counted again", "refused", "lost", "paid, US$", "penalties, US$", "credit")
_FOUND = ("round", "site", "what", "kind", "penalty, US$")
_ANSWER = ("round", "site", "what", "at", "why")
_ASKED = ("site", "decision", "model", "guard", "faults", "reply")
_NO_TALK = "There was no negotiation in this run."
_NO_MODEL = "None: rules decided at every site, or the sites keep their decisions to themselves."


def _text(value: object) -> str:
    return html.escape(str(value))


def _table(title: str, heads: Sequence[str], lines: Iterable[str], without: str = "") -> str:
    """A section with a table, or with a sentence where there is nothing to show."""
    shown = list(islice(lines, MOST_LINES + 1))
    if not shown:
        return f'<h2>{title}</h2><p class="none">{without}'
    more = f"<p>The first {MOST_LINES} of them; the others are in rounds.json." if len(shown) > MOST_LINES else ""
    head = "".join(f"<th>{name}" for name in heads)
    return f'<h2>{title}</h2><div class="wide"><table><tr>{head}{"".join(shown[:MOST_LINES])}</table></div>{more}'


def _line(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}" for cell in cells)


def _decision(row: RoundRow) -> str:
    who = f"{row.model} ({row.verdict})" if row.model and row.verdict != "fallback" else "rule"
    faults = f'<br><span class="bad">{_text("; ".join(row.faults))}</span>' if row.faults else ""
    plan, taken = row.plan, "" if row.taken else '<br><span class="bad">the new model was not taken</span>'
    deadline, noise = f"{plan.deadline_seconds:.0f} s", f"{plan.noise_floor:g}"
    reason = _text(plan.reason) + faults + taken
    sent = (f"{plan.share:.0%}", f"{row.bytes_in / 1000:.1f}", f"{row.bytes_out / 1000:.1f}")
    return _line(str(row.round), _text(who), plan.selector, str(plan.k), deadline, plan.aggregation, noise, *sent, reason)


def _talk(row: RoundRow, talk: TalkRow) -> str:
    called = _terms(talk.bids[0]) if talk.bids else ""
    agreed = '<span class="bad">no</span>' if talk.agreed is None else _terms(talk.agreed)
    pay = "" if talk.agreed is None else f"{talk.agreed.usd:.2f}"
    who = _text(talk.by or "rules")
    return _line(str(row.round), _text(talk.client), called, str(len(talk.bids)), agreed, pay, who, _text(talk.reason))


def _terms(offer: Offer) -> str:
    """Terms in a few words; what is usual is left out."""
    width = "" if offer.width == 1 else f", width {offer.width:g}"
    return f"{offer.epochs} × {offer.steps} steps{width}, noise {offer.noise_multiplier:.3g}"


def _sites(rows: Sequence[RoundRow]) -> list[str]:
    by_site = dict[str, list[ClientRow]]()
    for row in rows:
        for client in row.clients:
            by_site.setdefault(client.client, []).append(client)
    return [_site(name, found) for name, found in sorted(by_site.items())]


def _site(name: str, found: Sequence[ClientRow]) -> str:
    kinds = [client.kind for client in found]
    shares = [client.credit for client in found if client.credit is not None]
    return _line(
        _text(name),
        str(kinds.count("trained")),
        str(sum(client.age > 0 for client in found)),
        str(kinds.count("refused")),
        str(kinds.count("lost")),
        f"{sum(client.usd for client in found):.2f}",
        f"{sum(client.penalty_usd for client in found):.2f}",
        f"{sum(shares):.3g}" if shares else "",
    )


def _findings(rows: Sequence[RoundRow]) -> list[str]:
    return [
        _line(
            str(row.round),
            _text(client.client),
            _text("; ".join(client.findings)),
            '<span class="bad">a lie</span>' if client.lied else "not as agreed",
            f"{client.penalty_usd:.2f}",
        )
        for row in rows
        for client in row.clients
        if client.findings
    ]


def _answers(rows: Sequence[RoundRow]) -> list[str]:
    return [
        _line(str(row.round), _text(client.client), _what(client), client.node, _text(client.reason))
        for row in rows
        for client in row.clients
        if client.reason or client.kind != "trained"
    ]


def _what(client: ClientRow) -> str:
    if client.kind == "trained":
        return "trained on other terms"
    if client.age:
        return f"refused; its update of {client.age} round{'s' if client.age > 1 else ''} ago counted again, decayed"
    return "no candidate" if client.node == "profile" else client.kind


def _asked(site: str, entry: GuardEntry) -> str:
    verdict = f'<span class="bad">{entry.verdict}</span>' if entry.verdict == "fallback" else _text(entry.verdict)
    reply = f"<code>{_text(entry.raw[:RAW_CHARACTERS])}</code>"
    return _line(_text(site), _text(entry.who), _text(entry.model), verdict, _text("; ".join(entry.faults)), reply)
