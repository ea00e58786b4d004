"""Carrying out a plan step by step: who is released to a home, and how plans end."""

from dataclasses import replace

import pytest

from bayplan import steps
from bayplan.cluster.constraints import Taint
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.plan import (
    Plan,
)
from bayplan.steps import Phase, State
from tests.builders import node, pod
from tests.scenes.steps import advance, bind, done, evict, hold, move, pinned, plan, told


def test_a_pod_with_room_is_released_to_its_node() -> None:
    """The simplest plan there is."""
    found = advance(plan(bind("a", "n1")), node("n1"), pod("a"))

    assert done(found) == ["release a to n1"]
    assert told(found) == ["Bind a Started: is released to its node"]
    assert (found.phase, found.message) == (
        Phase.EXECUTING,
        "0 of 1 steps done: default/a is released to its node",
    )


@pytest.mark.parametrize(
    ("things", "state", "message"),
    [
        pytest.param(
            [node("n1"), pod("a", on="n1")], State.DONE, "runs on n1", id="a bound pod is there"
        ),
        pytest.param(
            [node("n1"), pinned("a", "n1")],
            State.STARTED,
            "is pinned to n1; the scheduler binds it next",
            id="a pinned pod is on its way",
        ),
        pytest.param([node("n1")], State.FAILED, "is gone", id="the pod was deleted"),
        pytest.param(
            [node("n1"), replace(pod("a"), uid="other")],
            State.FAILED,
            "is gone",
            id="a namesake is another pod",
        ),
        pytest.param(
            [node("n1"), pod("a", terminating=True)],
            State.FAILED,
            "is gone",
            id="the pod is being deleted",
        ),
        pytest.param(
            [node("n1"), node("n2"), pod("a", on="n2")],
            State.DONE,
            "runs on n2 already",
            id="seen: the plan before had released it elsewhere, and this one failed",
        ),
        pytest.param(
            [node("n1"), node("n2"), pinned("a", "n2")],
            State.STARTED,
            "is pinned to n2 already; the scheduler binds it next",
            id="the plan before has pinned it elsewhere",
        ),
        pytest.param(
            [node("n1"), replace(pod("a"), waiting=False)],
            State.FAILED,
            "no longer waits for n1: its gate was lifted",
            id="the gate was lifted by time-out",
        ),
        pytest.param(
            [pod("a")], State.FAILED, "cannot go to n1: the node is gone", id="the node is gone"
        ),
        pytest.param(
            [node("n1", ready=False), pod("a")],
            State.FAILED,
            "cannot go to n1: n1 is not ready",
            id="the node is not ready",
        ),
        pytest.param(
            [node("n1", schedulable=False), pod("a")],
            State.FAILED,
            "cannot go to n1: n1 is cordoned",
            id="the node was cordoned",
        ),
        pytest.param(
            [node("n1", taints=(Taint(key="gone"),)), pod("a")],
            State.FAILED,
            "cannot go to n1: does not tolerate the taint gone:NoSchedule of n1",
            id="the node was tainted",
        ),
        pytest.param(
            [node("n1"), pod("a", gpus=4), pod("b", gpus=6, on="n1")],
            State.FAILED,
            "cannot go to n1: others took its room (2 GPUs short)",
            id="somebody took its room",
        ),
        pytest.param(
            [
                node("n1"),
                pod("a", gpus=4),
                replace(pod("b", gpus=4, on="n1", terminating=True), leaves_at=3600),
                replace(pod("c", gpus=4, on="n1", terminating=True), leaves_at=3690),
            ],
            State.WAITING,
            "waits for room on n1, which default/b and 1 more leave by 01:01:30 UTC at most",
            id="strangers that are leaving give room",
        ),
        pytest.param(
            [pinned("a", "n1")],
            State.FAILED,
            "is pinned to n1: the node is gone",
            id="the node is gone after the pin",
        ),
        pytest.param(
            [node("n1", ready=False), pinned("a", "n1")],
            State.FAILED,
            "is pinned to n1: n1 is not ready",
            id="the node fails after the pin",
        ),
        pytest.param(
            [node("n1"), pinned("a", "n1", gpus=4), pod("b", gpus=6, on="n1")],
            State.FAILED,
            "is pinned to n1: others took its room (2 GPUs short)",
            id="somebody takes the room after the pin",
        ),
        pytest.param(
            [node("n1", ready=False), pod("a", on="n1")],
            State.DONE,
            "runs on n1",
            id="a bound pod has arrived whatever its node does",
        ),
    ],
)
def test_bind(things: list[Node | Pod], state: State, message: str) -> None:
    """Each pass looks again at what the planner saw."""
    found = advance(plan(bind("a", "n1")), *things)

    assert told(found) == [f"Bind a {state}: {message}"]
    assert not found.todo
    phases = {State.DONE: Phase.COMPLETED, State.FAILED: Phase.FAILED}
    assert found.phase is phases.get(state, Phase.EXECUTING)


def test_pods_that_share_a_node_are_released_only_as_far_as_it_has_room() -> None:
    """Each release takes its room before the next one is judged."""
    made = plan(bind("a", "n1"), bind("b", "n1"), evict("v", "n1"))

    found = advance(made, node("n1"), pod("a", gpus=4), pod("b", gpus=4), pod("v", gpus=4, on="n1"))

    assert done(found) == ["release a to n1", "evict v from n1"]
    assert "Bind b Waiting: waits for room on n1, which default/v is to leave first" in told(found)


def test_a_gang_waits_until_there_is_room_for_all_of_it() -> None:
    """Half a gang on nodes is room wasted."""
    made = plan(bind("a", "n1", "g"), bind("b", "n2", "g"), evict("v", "n2"))
    full = pod("v", gpus=8, on="n2", terminating=True)

    found = advance(made, node("n1"), node("n2"), pod("a", gpus=8), pod("b", gpus=8), full)

    assert not found.todo
    after = advance(made, node("n1"), node("n2"), pod("a", gpus=8), pod("b", gpus=8))
    assert done(after) == ["release a to n1", "release b to n2"]


def test_a_gang_on_one_node_waits_until_there_is_room_for_all_of_it() -> None:
    """Each of them would fit alone."""
    made = plan(bind("a", "n1", "g"), bind("b", "n1", "g"))
    leaving = pod("v", gpus=4, on="n1", terminating=True)

    found = advance(made, node("n1"), pod("a", gpus=4), pod("b", gpus=4), leaving)

    assert not found.todo
    assert found.phase is Phase.EXECUTING


def test_homes_of_one_node_are_judged_together() -> None:
    """A stranger came: the first one has room, and the other would be waited for in vain."""
    made = plan(bind("a", "n1"), bind("b", "n1"))
    stranger = pod("s", gpus=2, on="n1")

    found = advance(made, node("n1"), pod("a", gpus=4), pod("b", gpus=4), stranger)

    assert done(found) == ["release a to n1"]
    assert told(found)[1] == "Bind b Failed: cannot go to n1: others took its room (2 GPUs short)"


def test_a_gang_with_a_lost_home_is_not_released_at_all() -> None:
    """One pod that cannot go keeps the others, which a new plan places together."""
    made = plan(bind("a", "n1", "g"), bind("b", "n2", "g"), bind("c", "n1"))

    found = advance(made, node("n1"), pod("a"), pod("b"), pod("c"))

    assert done(found) == ["release c to n1"]
    assert told(found)[:2] == [
        "Bind a Waiting: waits for room on n1",
        "Bind b Failed: cannot go to n2: the node is gone",
    ]


def test_who_of_a_gang_has_room_is_said_to_wait_for_the_others() -> None:
    """Seen: each of its pods was said to wait for room, also on a node that was empty."""
    made = plan(bind("a", "n1", "g"), bind("b", "n2", "g"), evict("v", "n1"))
    gang = (pod("a", gpus=8), pod("b", gpus=8))

    found = advance(made, node("n1"), node("n2"), *gang, pod("v", gpus=8, on="n1"))

    waits = "waits for room on n1, which default/v is to leave first"
    assert told(found)[1:] == [
        f"Bind a Waiting: {waits}",
        f"Bind b Waiting: waits for others of its gang: n2 has room, but a {waits}",
    ]


def test_a_gang_that_was_interrupted_is_completed() -> None:
    """The operator may die between two patches."""
    made = plan(bind("a", "n1", "g"), bind("b", "n1", "g"))

    found = advance(made, node("n1"), pinned("a", "n1", gpus=4), pod("b", gpus=4))

    assert done(found) == ["release b to n1"]


def test_a_plan_that_only_holds_is_completed_at_once() -> None:
    """There is nothing to carry out."""
    found = advance(plan(hold("a"), hold("b"), hold("c")))

    assert (found.phase, found.message) == (
        Phase.COMPLETED,
        "nothing to do; 3 pods are held",
    )
    assert advance(plan(hold("a"))).message == "nothing to do; 1 pod is held"


def test_a_failed_plan_ends_only_when_what_has_begun_is_finished() -> None:
    """A pod that is leaving has its replacement to come."""
    made = plan(bind("a", "gone"), evict("v", "n1"))

    begun = advance(made, node("n1"), pod("a"), pod("v", on="n1", terminating=True))
    ended = advance(made, node("n1"), pod("a"))

    assert begun.phase is Phase.EXECUTING
    assert ended.phase is Phase.FAILED


@pytest.mark.parametrize(
    ("things", "idle_s", "phase"),
    [
        pytest.param(
            [pod("v", gpus=8, on="n1")],
            steps.STALL_S,
            Phase.FAILED,
            id="a victim that is never let go fails the plan",
        ),
        pytest.param(
            [pod("v", gpus=8, on="n1")],
            steps.STALL_S - 1,
            Phase.EXECUTING,
            id="it is given time",
        ),
        pytest.param(
            [pod("v", gpus=8, on="n1", terminating=True)],
            steps.STALL_S,
            Phase.EXECUTING,
            id="a victim that drains is given more time",
        ),
        pytest.param(
            [pod("x", gpus=8, on="n1", terminating=True)],
            steps.LEAVING_STALL_S,
            Phase.FAILED,
            id="not for ever",
        ),
    ],
)
def test_a_plan_that_makes_no_progress_gives_way(
    things: list[Pod], idle_s: float, phase: Phase
) -> None:
    """A plan at work keeps the planner from making a better one."""
    made = plan(bind("a", "n1"), evict("v", "n1"))

    found = advance(made, node("n1"), pod("a", gpus=8), *things, idle_s=idle_s)

    assert found.phase is phase


@pytest.mark.parametrize(
    ("made", "things", "phase"),
    [
        pytest.param(
            plan(bind("a", "n1")),
            [pinned("a", "n1", gpus=4)],
            Phase.FAILED,
            id="who is pinned has its room",
        ),
        pytest.param(
            plan(bind("a", "n1")), [pod("a", gpus=4)], Phase.FAILED, id="its home has room"
        ),
        pytest.param(
            plan(bind("a", "n2"), evict("v", "n2"), bind("b", "n1")),
            [pod("a", gpus=8), pod("v", gpus=8, on="n2"), pod("b", gpus=4, on="n1")],
            Phase.FAILED,
            id="a victim elsewhere does not go",
        ),
        pytest.param(
            plan(bind("a", "n1")), [pod("a", gpus=5)], Phase.EXECUTING, id="its room is needed"
        ),
        pytest.param(
            plan(move("m", "n2", "n1")),
            [pod("m-2", gpus=5, owner="m")],
            Phase.EXECUTING,
            id="its room is needed for a replacement",
        ),
        pytest.param(
            plan(move("m", "n2", "n1")),
            [pod("m", gpus=5, on="n2")],
            Phase.EXECUTING,
            id="its room is needed for one that has not been moved yet",
        ),
    ],
)
def test_a_stranger_that_does_not_end_is_waited_for_only_where_its_room_is_needed(
    made: Plan, things: list[Pod], phase: Phase
) -> None:
    """Seen: it kept a plan that nobody carried out at work for a quarter of an hour."""
    stuck = pod("x", gpus=4, on="n1", terminating=True)

    found = advance(made, node("n1"), node("n2"), stuck, *things, idle_s=steps.STALL_S)

    assert found.phase is phase


def test_a_victim_that_will_not_end_fails_the_plan() -> None:
    """Seen: the plan stayed Executing for ever, and nobody it covered was planned again."""
    made = plan(bind("a", "n1"), evict("v", "n1"))
    stuck = replace(pod("v", gpus=8, on="n1", terminating=True), finalizers=("a.io/x", "a.io/y"))

    found = advance(made, node("n1"), pod("a", gpus=8), stuck, idle_s=steps.LEAVING_STALL_S)

    assert found.phase is Phase.FAILED
    keeps = "finalizers a.io/x, a.io/y keep it; whoever set those has to take them away"
    assert f"Evict v Failed: does not end on n1: {keeps}" in told(found)


def test_a_release_that_is_refused_for_ever_fails_the_plan() -> None:
    """Seen: a patch that an admission policy refuses kept the plan Executing."""
    found = advance(plan(bind("a", "n1")), node("n1"), pod("a"), idle_s=steps.STALL_S)

    assert (found.phase, done(found)) == (Phase.FAILED, [])


def test_a_pin_that_the_scheduler_ignores_fails_the_plan() -> None:
    """The scheduler may know a reason that the plan does not."""
    found = advance(plan(bind("a", "n1")), node("n1"), pinned("a", "n1"), idle_s=steps.STALL_S)

    assert found.message == (
        "stopped: default/a is pinned to n1, but the scheduler does not bind it; a new plan follows"
    )


def test_nodes_of_a_plan_are_those_it_touches() -> None:
    """The operator reads these and no others."""
    made = plan(bind("a", "n1"), move("m", "n2", "n3"), evict("v", "n4"), hold("h"))

    assert steps.nodes_of(made) == {"n1", "n2", "n3", "n4"}
