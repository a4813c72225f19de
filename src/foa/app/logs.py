"""Log lines on stderr: time, level, what happened, and the fields beside it. The only place that sets a level.

00:41:07 warning foa.registry.listen refused a card agent=liar reason="its signature does not hold"
"""

import logging
import sys
from typing import Literal

#: What every record has; whatever else stands on one is a field that its author gave.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
MAX_FIELD = 300  #: characters of one field


class LineFormatter(logging.Formatter):
    """One record, one line: nothing in it breaks the line or steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line, and the traceback under it where there is one."""
        head = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()} {record.name}"
        fields = [f"{name}={_field(value)}" for name, value in vars(record).items() if name not in _USUAL]
        line = " ".join([head, _plain(record.getMessage()), *fields])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logs(level: Literal["debug", "info", "warning", "error"]) -> None:
    """Write what is at least this severe to stderr; other libraries are heard from `warning` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    handler.addFilter(_ours_or_loud)  # some libraries set a level of their own
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("foa").setLevel(level.upper())


def _ours_or_loud(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.split(".")[0] == "foa"


def _field(value: object) -> str:
    text = _plain(str(value))[:MAX_FIELD]
    return f'"{text}"' if " " in text or not text else text


def _plain(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
