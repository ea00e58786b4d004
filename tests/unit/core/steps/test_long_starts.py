"""A replacement may start for an hour: until then the plan goes on telling that it is at work."""

from dataclasses import replace

from tests.builders import node, pod
from tests.steps_scene import told
from tests.unit.core.steps.test_steps_surges import MADE, look, may, serving, starting

HOUR = 3600


def told_at(now: float) -> str:
    """Return what is told of a move whose replacement has to serve within the hour."""
    old = serving("v", "n1", gives_way_by=HOUR)
    new = replace(starting("v2", "n2", "v"), serves_by=HOUR)
    there = (node("n1"), node("n2"), old, pod("w", gpus=8), new)
    return told(look(MADE, *there, surge=may(), now=now))[1]


def test_it_is_told_for_how_long_at_most() -> None:
    """Nobody could tell a slow start from one that hangs."""
    assert told_at(HOUR - 90).endswith(
        "until v2 on n2 serves in its place, until 01:00:00 UTC at most (2 min more)"
    )


def test_each_minute_is_news() -> None:
    """The webhook gives the plan's other room away where it hears nothing for 15 minutes."""
    texts = [told_at(now) for now in range(0, HOUR, 60)]

    assert len({*texts}) == len(texts)


def test_one_that_is_late_has_no_time_left() -> None:
    """A negative one would look like a fault."""
    assert "(0 min more)" in told_at(HOUR + 30)
