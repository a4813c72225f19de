"""The report of a run: one HTML page with its plots, the plots as PNG files, and the raw figures as JSON. Needs matplotlib.

Plots: accuracy and worst tenth · ε by site · participation · money and credit. A table has every decision with its reason
and what the guard said of it.
"""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from foa.errors import StoreFailed
from foa.fl.rounds import RoundRow
from foa.fl.story import epsilons

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;width:100%;font-size:13px}
td,th{border-bottom:1px solid #ddd;padding:.3rem .5rem;text-align:left;vertical-align:top}
img{max-width:100%}.bad{color:#a00}"""


def write_report(folder: Path, title: str, rows: Sequence[RoundRow], *, facts: Mapping[str, str]) -> Path:
    """Write the report; gives the page's path.

    Args:
        folder: gets `report.html`, `rounds.json` and a PNG a plot; is created.
        title: of the page.
        rows: every round.
        facts: shown at the top, name → value.

    Raises:
        StoreFailed: the folder cannot be written.
    """
    pictures = {name: _picture(draw, rows) for name, draw in _PLOTS.items()}
    page = _page(title, rows, facts, pictures)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            (folder / f"{name}.png").write_bytes(picture)
        (folder / "rounds.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1))
        (folder / "report.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreFailed(f"report in {folder}: {error}") from error
    return folder / "report.html"


def _picture(draw: Callable[[Axes, Sequence[RoundRow]], None], rows: Sequence[RoundRow]) -> bytes:
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots(), rows)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _accuracy(axes: Axes, rows: Sequence[RoundRow]) -> None:
    shown = [row for row in rows if row.accuracy is not None]
    axes.plot([row.round for row in shown], [row.accuracy or 0.0 for row in shown], label="mean over clients")
    axes.plot([row.round for row in shown], [row.worst10 or 0.0 for row in shown], label="worst tenth", linestyle="--")
    for row in rows:
        if not row.taken:
            axes.axvline(row.round, color="#c44", linewidth=0.8)
    axes.set(title="Accuracy (red: round not taken)", xlabel="round", ylim=(0, 1.02))
    axes.legend(loc="lower right")


def _epsilon(axes: Axes, rows: Sequence[RoundRow]) -> None:
    spent = epsilons(rows)
    names = sorted(spent, key=lambda name: -spent[name][0])[:40]
    axes.bar(names, [spent[name][1] for name in names], color="#ddd", label="budget")
    axes.bar(names, [spent[name][0] for name in names], color="#47a", label="spent at most")
    axes.set(title="Privacy ε by site" if names else "Privacy: no site keeps a ledger", ylabel="ε")
    axes.tick_params(axis="x", rotation=60 if len(names) > 6 else 0)
    if names:
        axes.legend()


def _participation(axes: Axes, rows: Sequence[RoundRow]) -> None:
    kinds = ("trained", "refused", "lost", "screened")
    colours = dict(zip(kinds, ("#5a5", "#fa4", "#999", "#c44"), strict=True))
    below = [0] * len(rows)
    for kind in kinds:
        counts = [sum(client.kind == kind for client in row.clients) for row in rows]
        axes.bar([row.round for row in rows], counts, bottom=below, color=colours[kind], label=kind)
        below = [a + b for a, b in zip(below, counts, strict=True)]
    axes.set(title="Clients of each round", xlabel="round")
    axes.legend(loc="lower right", ncols=4)


def _money(axes: Axes, rows: Sequence[RoundRow]) -> None:
    paid, credit = dict[str, float](), dict[str, float]()
    for row in rows:
        for client in row.clients:
            paid[client.client] = paid.get(client.client, 0.0) + client.usd
            credit[client.client] = credit.get(client.client, 0.0) + (client.credit or 0.0)
    names = sorted(paid, key=lambda name: -paid[name] - credit[name])[:40]
    if not any(paid.values()) and not any(credit.values()):
        axes.set(title="Money and credit: none in this run")
        return
    axes.bar([i - 0.2 for i in range(len(names))], [paid[name] for name in names], width=0.4, label="paid, US$")
    axes.bar(
        [i + 0.2 for i in range(len(names))], [credit[name] for name in names], width=0.4, label="credit (loss lowered)"
    )
    axes.set_xticks(range(len(names)), names, rotation=60 if len(names) > 6 else 0)
    axes.set(title="Money and credit by client")
    axes.legend()


_PLOTS: Mapping[str, Callable[[Axes, Sequence[RoundRow]], None]] = {
    "accuracy": _accuracy,
    "epsilon": _epsilon,
    "participation": _participation,
    "money": _money,
}


def _page(title: str, rows: Sequence[RoundRow], facts: Mapping[str, str], pictures: Mapping[str, bytes]) -> str:
    top = "".join(f"<tr><th>{html.escape(name)}<td>{html.escape(value)}" for name, value in facts.items())
    images = "".join(
        f'<p><img alt="{name}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        for name, picture in pictures.items()
    )
    decisions = "".join(_decision(row) for row in rows)
    answers = "".join(_answers(row) for row in rows)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{html.escape(title)}</h1><table>{top}</table>{images}"
        "<h2>Decisions</h2><table><tr><th>round<th>who decided<th>rule<th>k<th>deadline<th>aggregation<th>noise ≥<th>reason"
        f"{decisions}</table><h2>What sites answered</h2><table><tr><th>round<th>site<th>what<th>why{answers}</table>"
        "<p>Raw figures: rounds.json"
    )


def _decision(row: RoundRow) -> str:
    who = f"{row.model} ({row.verdict})" if row.model and row.verdict != "fallback" else "rule"
    faults = f'<br><span class="bad">{html.escape("; ".join(row.faults))}</span>' if row.faults else ""
    plan = row.plan
    return (
        f"<tr><td>{row.round}<td>{html.escape(who)}<td>{plan.selector}<td>{plan.k}<td>{plan.deadline_seconds:.0f} s"
        f"<td>{plan.aggregation}<td>{plan.noise_floor:g}<td>{html.escape(plan.reason)}{faults}"
    )


def _answers(row: RoundRow) -> str:
    noted = [client for client in row.clients if client.reason]
    return "".join(
        f"<tr><td>{row.round}<td>{html.escape(client.client)}"
        f"<td>{'trained on other terms' if client.kind == 'trained' else client.kind}<td>{html.escape(client.reason)}"
        for client in noted
    )
