"""Numbers as people read them, and text that cannot steer the terminal."""

import re

# C0 and C1 controls but tab and newline, and the marks that turn the direction of text: peers and models may send them
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str, *, newlines: bool = True) -> str:
    """Text without anything that a terminal would obey."""
    shown = _CONTROLS.sub("", text.replace("\r\n", "\n"))
    return shown if newlines else " ".join(shown.split())


def shorten(text: str, most: int = 90) -> str:
    """One line of at most this many characters."""
    flat = clean(text, newlines=False)
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def money(usd: float) -> str:
    """US dollars with as many places as a small bill needs."""
    return f"${usd:,.2f}" if usd == 0 or usd >= 0.1 else f"${usd:.4f}"


def count(number: int, noun: str) -> str:
    """`1 call`, `3,201 tokens`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def seconds(number: float) -> str:
    """`0.4 s`, `12.0 s`, `3 min 20 s`."""
    if number >= 60:
        return f"{int(number // 60)} min {int(number % 60)} s"
    return f"{number:.1f} s"
