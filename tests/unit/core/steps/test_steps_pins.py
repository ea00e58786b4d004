"""Pins that others made, which a plan has to live with while it is carried out."""

from dataclasses import replace

import pytest

from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.plan import Plan
from bayplan.policy import Policy
from bayplan.steps import STALL_S, Phase, Progress, State, advance
from tests.builders import node, pod, snapshot
from tests.scenes.steps import bind, done, evict, pinned, plan


def advanced(made: Plan, *things: Node | Pod, idle_s: float = 0) -> Progress:
    """Return the first steps of a plan."""
    return advance(made, snapshot(*things), Policy(), idle_s=idle_s)


@pytest.mark.parametrize("gpus", [5, 9], ids=["there is no room left", "no room is enough"])
def test_a_pin_that_can_never_be_kept_takes_no_room_from_a_plan(gpus: int) -> None:
    """The planner counts it for nothing: each plan would fail, and the next one be the same."""
    made = plan(bind("new", "n1"), bind("urgent", "n2"), evict("low", "n2"))
    there: list[Node | Pod] = [
        node("n1"),
        node("n2"),
        pod("half", gpus=4, on="n1"),
        pod("low", gpus=8, on="n2"),
    ]
    waiting = [pod("new", gpus=4), pod("urgent", gpus=8, priority=9)]

    found = advanced(made, *there, *waiting, pinned("stray", "n1", gpus=gpus))

    assert found.phase is Phase.EXECUTING
    assert done(found) == ["release new to n1", "evict low from n2"]


def test_a_pin_that_may_be_kept_takes_its_room() -> None:
    """The scheduler may bind it any moment."""
    made = plan(bind("new", "n1"))

    found = advanced(made, node("n1"), pod("new", gpus=8), pinned("stray", "n1", gpus=1))

    assert found.phase is Phase.FAILED
    assert "others took its room" in found.message


def test_a_pod_of_the_plan_itself_is_not_overlooked() -> None:
    """It would be told to be gone, and room would be given away that it may yet get."""
    made = plan(bind("a", "n1"), bind("b", "n1"))
    there: list[Node | Pod] = [
        node("n1"),
        pod("foreign", gpus=4, on="n1"),
        pinned("a", "n1", gpus=8),
    ]

    found = advanced(made, *there, pod("b", gpus=1))

    (a, b) = found.reports
    assert (a.state, b.state) == (State.FAILED, State.FAILED)
    assert "others took its room" in a.message


def test_who_was_pinned_by_the_plan_makes_no_older_pin_hopeless() -> None:
    """Two pods would be sent to the room of one."""
    made = plan(bind("mine", "n1"), bind("more", "n1"))
    mine = replace(pinned("mine", "n1", gpus=4), created_at=1)
    theirs = replace(pinned("theirs", "n1", gpus=4), created_at=2)

    found = advanced(made, node("n1"), mine, theirs, pod("more", gpus=4))

    assert [report.state for report in found.reports] == [State.STARTED, State.FAILED]


def test_a_pod_that_an_older_plan_pinned_keeps_no_plan_for_ever() -> None:
    """The scheduler never binds it, and no other plan would be made for it."""
    made = plan(bind("a", "n1"))
    there = (node("n1"), node("n2"), pinned("a", "n2"))

    waits, stalled = (advanced(made, *there, idle_s=idle_s) for idle_s in (0, STALL_S))

    assert waits.phase is Phase.EXECUTING
    assert stalled.phase is Phase.FAILED
    assert "is pinned to n2, but the scheduler does not bind it" in stalled.message
