"""Rows that a query gave, and the look of them as text. Pure."""

from dataclasses import dataclass

MAX_CELL = 300  #: characters of one cell that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The result of a query."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    more: bool = False  #: there were more rows than were asked for

    def text(self, *, most: int = 8_000) -> str:
        """The rows as lines of `column: value`, shortened."""
        lines = [" | ".join(self.columns), *(" | ".join(cell(value) for value in row) for row in self.rows)]
        if self.more:
            lines.append("… there are more rows")
        return "\n".join(lines)[:most] if self.rows else "no rows"


def cell(value: object) -> str:
    """One value on one line, shortened."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = " ".join(str(value).split())
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"
