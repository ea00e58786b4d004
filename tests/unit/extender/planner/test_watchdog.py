"""A planner that hangs ends."""

import threading

from bayplan_extender.planner.watchdog import limited


def test_a_pass_that_hangs_ends_the_process() -> None:
    """The lease would be renewed for a planner that does nothing, and no gate would be lifted."""
    dead = threading.Event()

    with limited(0.01, die=dead.set):
        assert dead.wait(10)


def test_a_pass_in_time_does_not() -> None:
    """Every planner would end after its first plan."""
    dead = threading.Event()

    with limited(3600, die=dead.set):
        pass

    assert not dead.is_set()
    assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())
