"""Tell the person waiting what is being done.

Building takes minutes and starting takes seconds, so everything that waits takes a `Progress`.
It is a plain function: the demo, pytest and the command line each show it in their own way.
"""

import sys
from collections.abc import Callable

Progress = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Print one line of progress where it does not mix with a program's output."""
    print(line, file=sys.stderr, flush=True)
