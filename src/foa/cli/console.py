"""Where the command line writes: answers and tables to stdout, progress and complaints to stderr."""

import sys

from rich.console import Console

PIPE_WIDTH = 200  #: columns for tables where stdout is no terminal: nothing should be cut there


def output() -> Console:
    """For what was asked for."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def progress() -> Console:
    """For what happens meanwhile."""
    return Console(file=sys.stderr, width=None if sys.stderr.isatty() else PIPE_WIDTH, highlight=False)
