"""What the user sees when something goes wrong: one sentence on stderr and an exit code that says which kind.

docs/reference/exit-codes.md has a section for each code. FOA_DEBUG=1 shows the traceback as well.
"""

import sys
import traceback

from foa.app.settings import wants_tracebacks
from foa.cli.words import clean
from foa.errors import FabricError

INTERRUPTED = 130  #: 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  #: 128 + SIGPIPE


def fail(error: BaseException) -> int:
    """Tell the user, and give the exit code."""
    if wants_tracebacks():
        traceback.print_exception(error)
    cause = first_cause(error)
    match cause:
        case KeyboardInterrupt():
            say("interrupted")
            return INTERRUPTED
        case BrokenPipeError():
            sys.stderr.close()  # nobody reads any more: keep the interpreter from complaining at its end
            return PIPE_CLOSED
        case FabricError():
            say(str(cause))
            return cause.exit_code
        case _:
            what = f"{type(cause).__name__}: {cause}"[:500]
            say(f"this is a fault in foa itself, please report it: {what} (FOA_DEBUG=1 shows where)")
            return 1


def first_cause(error: BaseException) -> BaseException:
    """The error that tells most: out of a group, the first of ours, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [first_cause(each) for each in error.exceptions]
    return next((each for each in found if isinstance(each, FabricError)), found[0])


def say(sentence: str) -> None:
    """One sentence on stderr."""
    print(f"foa: {clean(sentence)}", file=sys.stderr, flush=True)
