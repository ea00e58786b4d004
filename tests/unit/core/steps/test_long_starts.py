"""What a plan waits for may take an hour: until then it goes on telling that it is at work."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bayplan.cluster.pods import GOODBYE_S
from bayplan.steps import Progress
from tests.builders import node, pod
from tests.scenes.steps import advance, bind, move, plan, told
from tests.scenes.surges import MADE, look, may, serving, starting

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


def behind_stragglers(now: float) -> Progress:
    """Return how far a plan is that waits for two who leave for older ones."""
    made = plan(move("u", "n1", "n2"))
    there = node("n1"), node("n2"), pod("u", gpus=4, on="n1")
    return advance(made, *there, max_parallel=1, now=now, stragglers=(HOUR - 9, HOUR))


def behind_a_replacement(now: float) -> Progress:
    """Return how far a plan is that waits for the room of one that is moved for an older one."""
    old = serving("v", "n1", gives_way_by=HOUR - GOODBYE_S)
    return advance(plan(bind("a", "n1")), node("n1"), old, pod("a", gpus=8), now=now)


@pytest.mark.parametrize("look_at", [behind_stragglers, behind_a_replacement])
def test_waiting_for_older_plans_is_news_each_minute(look_at: Callable[[float], Progress]) -> None:
    """The webhook would give the room away that such a plan has promised."""
    found = [look_at(now) for now in range(0, HOUR, 60)]

    assert all(each.patient for each in found)
    assert len({each.message for each in found}) == len(found)
    assert found[-1].message.endswith(
        "; who leaves for older plans does so until 01:00:00 UTC at most (1 min more)"
    )
