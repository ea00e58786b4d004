"""Ending a planner that hangs.

The lease is renewed by a thread of its own, so a pass that never ends would keep everybody waiting
for a leader that does nothing. Once the process is gone, another replica takes the lease over; with
none, the operator lifts the gates.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

_log = structlog.get_logger()


def _die() -> None:
    os._exit(1)  # a hung thread would outlive any gentler end


@contextmanager
def limited(limit_s: float, *, die: Callable[[], None] = _die) -> Iterator[None]:
    """End the process if the block takes longer than `limit_s` seconds."""

    def hung() -> None:
        _log.error("pass_hangs", limit_s=limit_s, action="the process ends")
        die()

    timer = threading.Timer(limit_s, hung)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
