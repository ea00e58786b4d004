"""Carrying out a plan step by step: who is asked to leave, when, and for whom."""

from dataclasses import replace

import pytest

from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import OVERSTAY_S, Disruption, Pod
from bayplan.plan import (
    Evict,
    Move,
    Plan,
)
from bayplan.steps import LEAVING_STALL_S, EvictPod, Phase
from tests.builders import node, pod
from tests.scenes.steps import advance, bind, done, evict, key, move, plan, told

#: What is told of pods that should have ended.
KEPT = "finalizer a.io/x keeps it; whoever set that has to take it away"
LOST = (
    "n1 does not report that it has ended; bring that node back, or delete the Node if it is gone"
    " for good"
)


def test_a_victim_is_asked_to_leave_and_its_room_is_awaited() -> None:
    """Nobody is released into room that is not free yet."""
    made = plan(bind("a", "n1"), evict("v", "n1"))

    found = advance(made, node("n1"), pod("a", gpus=8), pod("v", gpus=8, on="n1"))

    assert found.todo == (
        EvictPod(
            pod=key("v"),
            uid="uid-v",
            node=NodeName("n1"),
            because="it makes room for default/a",
        ),
    )
    assert told(found) == [
        "Evict v Waiting: is asked to leave n1",
        "Bind a Waiting: waits for room on n1, which default/v is to leave first",
    ]


@pytest.mark.parametrize(
    ("victim", "line"),
    [
        pytest.param(
            replace(pod("v", on="n1", terminating=True), leaves_at=3600),
            "Evict v Started: is leaving n1, by 01:00:00 UTC at most",
            id="one that is leaving is not asked again",
        ),
        pytest.param(pod("w"), "Evict v Done: has left its node", id="one that is gone is done"),
        pytest.param(
            replace(pod("v", on="n1"), uid="other"),
            "Evict v Done: has left its node",
            id="a namesake is not the victim",
        ),
        pytest.param(
            pod("v", on="n1", disruption=Disruption.FIXED),
            "Evict v Failed: may not be disturbed any more",
            id="one that may no longer be disturbed stays",
        ),
    ],
)
def test_victim(victim: Pod, line: str) -> None:
    """A step is checked again with fresh data before it is done."""
    found = advance(plan(evict("v", "n1")), node("n1"), victim)

    assert told(found) == [line]
    assert not found.todo


@pytest.mark.parametrize(
    ("finalizers", "late_s", "hangs"),
    [
        pytest.param((), 0, "", id="its time is not over"),
        pytest.param((), OVERSTAY_S, "", id="its node may need a moment to tell"),
        pytest.param((), OVERSTAY_S + 1, LOST, id="a lost node"),
        pytest.param(("a.io/x",), 0, "", id="a finalizer harms nobody before"),
        pytest.param(("a.io/x",), 1, KEPT, id="a finalizer"),
        pytest.param(
            ("a.io/x", "b.io/y"),
            1,
            "finalizers a.io/x, b.io/y keep it; whoever set those has to take them away",
            id="two finalizers",
        ),
    ],
)
def test_what_keeps_a_pod_that_should_have_ended_is_named(
    finalizers: tuple[str, ...], late_s: int, hangs: str
) -> None:
    """Seen: for a quarter of an hour the plan said only that the pod is leaving."""
    stuck = replace(
        pod("v", gpus=8, on="n1", terminating=True), leaves_at=3600, finalizers=finalizers
    )
    made = plan(bind("a", "n1"), evict("v", "n1"))

    found = advance(made, node("n1"), pod("a", gpus=8), stuck, now=3600 + late_s)

    since = f"has hung since 01:00:00 UTC: {hangs}"
    ends = f"and {since}" if hangs else "by 01:00:00 UTC at most"
    by = (
        f"on which default/v {since}" if hangs else "which default/v leaves by 01:00:00 UTC at most"
    )
    assert told(found) == [
        f"Evict v Started: is leaving n1, {ends}",
        f"Bind a Waiting: waits for room on n1, {by}",
    ]


def test_a_plan_tells_first_of_the_victim_that_hangs() -> None:
    """Seen: it told the first unfinished step, a place that had room, and nobody looked further."""
    stuck = pod("v", gpus=8, on="n1", terminating=True)
    stuck = replace(stuck, leaves_at=3600, finalizers=("a.io/x",))
    made = plan(bind("b", "n2", "g"), bind("a", "n1", "g"), move("v", "n1", "n3"))
    gang = (pod("a", gpus=8), pod("b", gpus=8))

    found = advance(made, node("n1"), node("n2"), node("n3"), *gang, stuck, now=3700)

    hangs = f"waits for room on n1, on which default/v has hung since 01:00:00 UTC: {KEPT}"
    assert found.message == f"0 of 3 steps done: default/a {hangs}"


STUCK = replace(pod("x", gpus=8, on="n1", terminating=True), leaves_at=3600, finalizers=("a.io/x",))


@pytest.mark.parametrize(
    ("others", "step"),
    [
        pytest.param([], evict("v", "n3"), id="nobody else is to leave there"),
        pytest.param([pod("v", on="n1")], evict("v", "n1"), id="a victim is to leave there, too"),
    ],
)
def test_a_plan_tells_first_of_any_pod_that_hangs_whose_room_it_needs(
    others: list[Pod], step: Evict
) -> None:
    """It told of a place that had room, or that a victim was to leave, for a quarter of an hour."""
    made = plan(bind("b", "n2", "g"), bind("a", "n1", "g"), step)
    gang = (pod("a", gpus=8), pod("b", gpus=8))
    nodes = (node("n1", gpus=9), node("n2"), node("n3"))

    found = advance(made, *nodes, *gang, STUCK, *others, now=3700, max_parallel=0)

    waits = "waits for room on n1, on which default/x has hung since 01:00:00 UTC"
    assert f"steps done: default/a {waits}: {KEPT}" in found.message


def test_a_pod_that_hangs_where_others_make_enough_room_is_in_nobodys_way() -> None:
    """Somebody would mend what harms nobody, and not learn who leaves by when."""
    leaves = replace(pod("v", gpus=8, on="n1", terminating=True), leaves_at=7200)

    found = advance(
        plan(bind("a", "n1")), node("n1", gpus=16), pod("a", gpus=8), STUCK, leaves, now=3700
    )

    line = "Bind a Waiting: waits for room on n1, which default/v leaves by 02:00:00 UTC at most"
    assert told(found) == [line]


def test_a_plan_that_ends_for_a_pod_that_hangs_names_it() -> None:
    """After a quarter of an hour it said no more than that its pod came too late."""
    found = advance(
        plan(bind("a", "n1")), node("n1"), pod("a", gpus=8), STUCK, now=4500, idle_s=LEAVING_STALL_S
    )

    assert found.message == (
        "stopped: default/a did not get to n1 in time, on which default/x has hung since"
        f" 01:00:00 UTC: {KEPT}; a new plan follows"
    )


def test_a_pod_that_may_only_be_evicted_with_its_unit_since_the_plan_is_not_moved() -> None:
    """Its template was changed meanwhile: nobody makes it again."""
    moved = pod("v", on="n1", disruption=Disruption.EVICTABLE)

    found = advance(plan(move("v", "n1", "n2")), node("n1"), node("n2"), moved)

    assert not found.todo
    assert "Move v Failed: may not be moved any more" in told(found)


def test_a_pod_that_may_only_be_evicted_is_evicted() -> None:
    """Nobody would ever make room whose like nobody makes again elsewhere."""
    victim = pod("v", on="n1", disruption=Disruption.EVICTABLE)

    assert done(advance(plan(evict("v", "n1")), node("n1"), victim)) == ["evict v from n1"]


def test_only_so_many_victims_are_on_their_way_at_a_time() -> None:
    """The budget counts those that are leaving already."""
    made = plan(evict("u", "n1"), evict("v", "n1"), evict("w", "n1"))
    pods = [pod("u", on="n1", terminating=True), pod("v", on="n1"), pod("w", on="n1")]

    found = advance(made, node("n1"), *pods, max_parallel=2)

    assert done(found) == ["evict v from n1"]
    assert told(found)[2] == "Evict w Waiting: waits for its turn: 2 pods are on their way"


def test_moves_go_before_evictions_and_those_with_a_free_target_first() -> None:
    """The least harmful step comes first."""
    made = plan(evict("e", "n1"), move("m", "n1", "n2"), move("o", "n1", "n3"))
    pods = [
        pod("e", gpus=1, on="n1"),
        pod("m", gpus=4, on="n1"),
        pod("o", gpus=2, on="n1"),
        pod("x", gpus=6, on="n2", terminating=True),
    ]

    found = advance(made, node("n1"), node("n2"), node("n3"), *pods)

    assert done(found) == ["evict o from n1", "evict m from n1", "evict e from n1"]


@pytest.mark.parametrize(
    "things",
    [
        pytest.param([pod("a", gpus=8)], id="a home is gone"),
        pytest.param(
            [node("n2"), pod("a", gpus=8), pod("x", gpus=1, on="n2")],
            id="a home has been taken",
        ),
        pytest.param([node("n2")], id="a pod that waited is gone"),
    ],
)
def test_once_something_has_failed_nobody_else_is_disturbed(things: list[Node | Pod]) -> None:
    """The victim would go for a plan that cannot be completed."""
    made = plan(bind("a", "n2"), bind("b", "n1"), evict("v", "n1"))
    pods = [pod("b", gpus=8), pod("v", gpus=8, on="n1")]

    found = advance(made, node("n1"), *pods, *things)

    assert not found.todo
    assert "Evict v Waiting: stays: the plan can no longer be completed" in told(found)
    assert found.phase is Phase.FAILED


@pytest.mark.parametrize(
    "stays", [evict("u", "n1"), move("u", "n1", "n2")], ids=["to be evicted", "to be moved"]
)
def test_once_a_victim_may_not_go_nobody_else_is_disturbed(stays: Move | Evict) -> None:
    """The others would leave, and the newcomer still have no room."""
    made = plan(bind("a", "n1"), stays, evict("v", "n1"))
    may_not = Disruption.FIXED if isinstance(stays, Evict) else Disruption.EVICTABLE
    pods = [pod("u", gpus=4, on="n1", disruption=may_not), pod("v", gpus=4, on="n1")]

    found = advance(made, node("n1"), node("n2"), pod("a", gpus=8), *pods)

    assert done(found) == []
    assert "Evict v Waiting: stays: the plan can no longer be completed" in told(found)
    assert found.phase is Phase.FAILED


def test_nobody_leaves_for_a_home_that_would_not_be_large_enough() -> None:
    """Even with every victim gone, a stranger's 2 GPUs keep the 8-GPU pod away."""
    made = plan(bind("a", "n1"), evict("v", "n1"))
    pods = [pod("a", gpus=8), pod("v", gpus=6, on="n1"), pod("x", gpus=2, on="n1")]

    found = advance(made, node("n1"), *pods)

    assert not found.todo
    assert found.message == (
        "stopped: default/a cannot go to n1: others took its room (2 GPUs short); a new plan"
        " follows"
    )


@pytest.mark.parametrize(
    ("things", "why"),
    [
        pytest.param([], "the node is gone", id="gone"),
        pytest.param([node("n2", schedulable=False)], "n2 is cordoned", id="cordoned"),
        pytest.param(
            [node("n2"), pod("x", gpus=6, on="n2")],
            "others took its room (2 GPUs short)",
            id="full",
        ),
    ],
)
def test_nobody_is_moved_to_a_target_that_is_no_home_any_more(
    things: list[Node | Pod], why: str
) -> None:
    """The victim would be left without a place."""
    made = plan(move("m", "n1", "n2"))

    found = advance(made, node("n1"), pod("m", gpus=4, on="n1"), *things)

    assert not found.todo
    assert told(found) == [f"Move m Failed: cannot go to n2: {why}"]
    assert found.phase is Phase.FAILED


@pytest.mark.parametrize(
    ("made", "because"),
    [
        pytest.param(
            plan(evict("v", "n1"), bind("a", "n1"), bind("b", "n1")),
            "it makes room for default/a and 1 more",
            id="for two pods",
        ),
        pytest.param(
            plan(evict("v", "n1"), bind("a", "n1"), bind("b", "n2")),
            "it makes room for default/a",
            id="not for who goes to another node",
        ),
        pytest.param(
            plan(evict("v", "n1"), move("c", "n2", "n1")),
            "it makes room for default/c",
            id="for one that is moved there",
        ),
        pytest.param(
            plan(move("v", "n1", "n2"), bind("a", "n1")),
            "it makes room for default/a, and its replacement is planned on n2",
            id="a moved pod has another home",
        ),
        pytest.param(
            plan(move("v", "n1", "n2")),
            "it makes room for a better packing, and its replacement is planned on n2",
            id="a move that empties a node",
        ),
    ],
)
def test_a_victim_is_told_for_whom_it_leaves(made: Plan, because: str) -> None:
    """The event on the pod is what its owner gets to see."""
    pods = [pod("v", gpus=8, on="n1"), pod("a", gpus=4), pod("b", gpus=4)]
    pods += [pod("c", gpus=1, on="n2")]

    found = advance(made, node("n1"), node("n2", gpus=16), *pods)

    told_to_v = [s.because for s in found.todo if isinstance(s, EvictPod) and s.uid == "uid-v"]
    assert told_to_v == [because]
