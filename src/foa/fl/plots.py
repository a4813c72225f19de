"""The plots of a run's report: accuracy and worst tenth, ε by site, participation, money and credit. Needs matplotlib."""

import io
from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from foa.fl.rounds import ClientRow, RoundRow
from foa.fl.story import epsilons

FEW = 30  #: rounds of which each has its own mark


def _picture(draw: Callable[[Axes, Sequence[RoundRow]], None], rows: Sequence[RoundRow]) -> bytes:
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots(), rows)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _accuracy(axes: Axes, rows: Sequence[RoundRow]) -> None:
    shown = [row for row in rows if row.accuracy is not None]
    rounds, marker = [row.round for row in shown], "o" if len(shown) <= FEW else ""  # a line of one point is not seen
    axes.plot(rounds, [row.accuracy or 0.0 for row in shown], label="mean over clients", marker=marker)
    axes.plot(rounds, [row.worst10 or 0.0 for row in shown], label="worst tenth", linestyle="--", marker=marker)
    for row in rows:
        if not row.taken:
            axes.axvline(row.round, color="#c44", linewidth=0.8)
    axes.set(title="Accuracy (red: round not taken)", xlabel="round", ylim=(-0.02, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")


def _epsilon(axes: Axes, rows: Sequence[RoundRow]) -> None:
    spent = epsilons(rows)
    names = sorted(spent, key=lambda name: -spent[name][0])[:40]
    axes.bar(names, [spent[name][1] for name in names], color="#ddd", label="budget")
    axes.bar(names, [spent[name][0] for name in names], color="#47a", label="spent at most")
    axes.set(title="Privacy ε by site", ylabel="ε")
    axes.tick_params(axis="x", rotation=60 if len(names) > 6 else 0)
    axes.legend()


_PARTS: Sequence[tuple[str, str, Callable[[ClientRow], bool]]] = (
    ("trained", "#5a5", lambda client: client.kind == "trained"),
    ("counted again", "#ac5", lambda client: client.age > 0),
    ("refused", "#fa4", lambda client: client.kind == "refused" and not client.age and client.node != "profile"),
    ("no candidate", "#fdb", lambda client: client.node == "profile"),
    ("lost", "#999", lambda client: client.kind == "lost"),
    ("screened", "#c44", lambda client: client.kind == "screened"),
)


def _participation(axes: Axes, rows: Sequence[RoundRow]) -> None:
    below = [0] * len(rows)
    for label, colour, counts_in in _PARTS:
        counts = [sum(map(counts_in, row.clients)) for row in rows]
        if label != "trained" and not any(counts):
            continue
        axes.bar([row.round for row in rows], counts, bottom=below, color=colour, label=label)
        below = [a + b for a, b in zip(below, counts, strict=True)]
    axes.set(title="Clients of each round", xlabel="round", ylim=(0, 1.2 * max([1, *below])))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right", ncols=len(_PARTS))


def _money(axes: Axes, rows: Sequence[RoundRow]) -> None:
    paid, credit = dict[str, float](), dict[str, float]()
    kept_back = dict[str, float]()
    for row in rows:
        for client in row.clients:
            kept_back[client.client] = kept_back.get(client.client, 0.0) + client.penalty_usd
            paid[client.client] = paid.get(client.client, 0.0) + client.usd
            credit[client.client] = credit.get(client.client, 0.0) + (client.credit or 0.0)
    names = sorted(paid, key=lambda name: -paid[name] - credit[name])[:40]
    shown = [
        (label, colour, found)
        for label, colour, found in (
            ("paid, US$", "#47a", paid),
            ("penalties, US$", "#c44", kept_back),
            ("credit (loss lowered)", "#fa4", credit),
        )
        if any(found.values())
    ]
    width = 0.8 / len(shown)
    for place, (label, colour, found) in enumerate(shown):
        middle = (place - (len(shown) - 1) / 2) * width
        axes.bar([i + middle for i in range(len(names))], [found[n] for n in names], width=width, color=colour, label=label)
    axes.set_xticks(range(len(names)), names, rotation=60 if len(names) > 6 else 0)
    axes.set(title="Money and credit by client")
    axes.legend()


_DRAWN: Mapping[str, tuple[Callable[[Axes, Sequence[RoundRow]], None], Callable[[Sequence[RoundRow]], bool]]] = {
    "accuracy": (_accuracy, lambda rows: any(row.accuracy is not None for row in rows)),
    "epsilon": (_epsilon, lambda rows: bool(epsilons(rows))),
    "participation": (_participation, lambda rows: any(row.clients for row in rows)),
    "money": (_money, lambda rows: any(_money_of(row) for row in rows)),
}


def pictures(rows: Sequence[RoundRow]) -> dict[str, bytes]:
    """Every plot that has something to show, as PNG by name."""
    return {name: _picture(draw, rows) for name, (draw, has_any) in _DRAWN.items() if has_any(rows)}


def _money_of(row: RoundRow) -> bool:
    return any(client.usd or client.penalty_usd or client.credit for client in row.clients)
