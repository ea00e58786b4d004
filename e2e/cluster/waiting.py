"""Wait for something to become true, with a deadline.

Clusters converge in their own time; tests and the demo ask here instead of sleeping.
This is the only module in which a sleep is allowed.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    condition: Callable[[], T],
    *,
    what: str,
    timeout_s: float = 60.0,
    interval_s: float = 0.1,
    retry_on: tuple[type[Exception], ...] = (),
) -> T:
    """Call `condition` until it returns something true, and return that.

    Args:
        condition: What to try; an `AssertionError` in it means "not yet", and so does a
            `LookupError`: a field of an object is not there before its controller has set it.
        what: Names what is awaited, as in "pod web-0 is running".
        timeout_s: Seconds until giving up; the condition is tried at least once. On a machine that
            does ten things beside, what takes 3 s alone takes 30.
        interval_s: Seconds between two tries.
        retry_on: Further exceptions that mean "not yet"; all others pass through.

    Raises:
        AssertionError: Time is up; says what was awaited and what was seen last.
    """
    not_yet: tuple[type[Exception], ...] = (AssertionError, LookupError, *retry_on)
    deadline = time.monotonic() + timeout_s
    while True:
        seen: object
        try:
            seen = value = condition()
            if value:
                return value
        except not_yet as error:
            seen = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s; last seen: {seen!r}")
        time.sleep(interval_s)  # between two looks: most of what is awaited tells nobody
