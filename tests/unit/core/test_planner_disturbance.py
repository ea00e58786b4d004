"""The planner on clusters where not everybody may be disturbed."""

from dataclasses import replace

import pytest

from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import GOODBYE_S, OVERSTAY_S, Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.rules.restraints import restrained
from tests.builders import budget, node, pod, snapshot
from tests.scenes.planner import POLICY, evicted, made, moved, placed, result_of, unit


@pytest.mark.parametrize(
    ("allowed", "moves"), [(2, 2), (1, 0), (0, 0)], ids=["enough", "one short", "nothing left"]
)
def test_a_plan_disturbs_no_more_than_disruption_budgets_admit(allowed: int, moves: int) -> None:
    """A plan would stop half-way, at an eviction that is refused."""
    team = [pod(f"r{i}", gpus=4, on=f"n{i}", labels={"app": "x"}) for i in range(4)]
    nodes = [node(f"n{i}") for i in range(4)]
    unit_of_two = unit("u", 8, 8)

    plan = made(*nodes, *team, *unit_of_two, budget("x", allowed=allowed, app="x"))

    assert len(plan.moves) == moves
    assert len(plan.binds) == moves


@pytest.mark.parametrize("nodes", [4, 150], ids=["a few nodes", "a fleet"])
@pytest.mark.parametrize(("allowed", "moves"), [(2, 2), (1, 0)], ids=["enough", "one short"])
def test_a_pod_that_needs_two_moves_of_one_budget_waits_where_that_admits_one(
    nodes: int, allowed: int, moves: int
) -> None:
    """A plan for it would wait for the budget, and fail, and be made again."""
    pods = [pod(f"r{i}", gpus=3, on="n0", labels={"app": "x"}) for i in range(2)]
    for i in range(1, nodes):
        gpus = 5 if i < 3 else 8
        pods.append(pod(f"f{i}", gpus=gpus, on=f"n{i}", disruption=Disruption.FIXED))
    there = [node(f"n{i}") for i in range(nodes)]

    plan = made(*there, *pods, pod("w", gpus=8), budget("x", allowed=allowed, app="x"))

    assert len(plan.moves) == moves
    assert placed(plan) == ({"w": "n0"} if moves else {})


def test_evictions_count_against_a_disruption_budget_as_well() -> None:
    """A higher priority would take what the API server does not give."""
    team = [pod(f"r{i}", gpus=4, on="n0", labels={"app": "x"}) for i in range(2)]
    things: list[Node | Pod] = [node("n0"), *team, pod("w", gpus=8, priority=10)]

    assert len(made(*things, budget("x", allowed=2, app="x")).evictions) == 2
    assert len(made(*things, budget("x", allowed=1, app="x")).evictions) == 0


@pytest.mark.parametrize(("age_s", "moves"), [(599, 0), (600, 1)], ids=["cooling down", "over"])
def test_a_moved_pod_is_not_moved_again_at_once(age_s: int, moves: int) -> None:
    """A pod would be on the move for ever."""
    now = 1_000_000
    arrived = replace(pod("a", gpus=4, on="n0"), replaces="old", started_at=now - age_s)
    full = pod("b", gpus=4, on="n1", disruption=Disruption.FIXED)
    seen = Snapshot.of([node("n0"), node("n1")], [arrived, full, pod("w", gpus=8)])

    result = result_of(restrained(seen, now=now, cooldown_s=POLICY.cooldown_s))

    assert len(result.plan.moves) == moves


def test_the_room_of_a_pod_that_gives_way_is_planned_with_as_long_as_it_may_take() -> None:
    """Another pod would be made to go for the same newcomer, or nobody ever again."""
    old = replace(pod("old", gpus=8, on="n0"), gives_way_by=1000)
    new = replace(pod("new", gpus=8, on="n1"), replaces=old.uid, serves_by=1000)
    seen = snapshot(node("n0"), node("n1"), old, new, pod("w", gpus=8))

    soon, late = (result_of(seen.once_left(1000 + GOODBYE_S + s)).plan for s in (0, 1))

    assert [bind.node for bind in soon.binds] == ["n0"]
    assert not soon.victims
    assert not late.binds
    assert not late.victims
    assert seen.without_overdue(1000 + GOODBYE_S) is seen
    (overdue,) = [p for p in seen.without_overdue(1001 + GOODBYE_S).pods if p.uid == old.uid]
    assert overdue.disruption is Disruption.FIXED
    assert not overdue.gives_way_by


def test_a_pod_that_only_says_that_it_gives_way_stays() -> None:
    """Others would be planned into its room, and wait for it for good."""
    alone = replace(pod("old", gpus=8, on="n0"), gives_way_by=1000)
    new = replace(pod("new", gpus=8, on="n1"), replaces=alone.uid, serves_by=10**9)
    for_ever = replace(alone, gives_way_by=10**9)

    for pods in ((alone,), (for_ever, new)):
        seen = snapshot(node("n0"), node("n1"), *pods, pod("w", gpus=8, priority=-1))
        plan = result_of(seen.once_left(1000)).plan
        assert "n0" not in [bind.node for bind in plan.binds]


def test_a_pod_that_overstays_its_deadline_keeps_its_room() -> None:
    """A plan would wait for room that a stuck pod never gives back."""
    stuck = replace(pod("old", gpus=8, on="n0", terminating=True), leaves_at=1000)
    seen = snapshot(node("n0"), stuck, pod("w", gpus=8))

    soon, late = (result_of(seen.once_left(1000 + OVERSTAY_S + after_s)).plan for after_s in (0, 1))

    assert placed(soon) == {"w": "n0"}
    assert placed(late) == {}


def test_room_for_a_nominated_pod_is_taken() -> None:
    """Two schedulers would give away the same room."""
    nominated = replace(pod("foreign", gpus=8, on="n0"), bound=False, disruption=Disruption.FIXED)

    assert placed(made(node("n0"), nominated, pod("w", gpus=8))) == {}
    assert placed(made(node("n0"), pod("w", gpus=8))) == {"w": "n0"}


def test_a_pod_that_preempts_nobody_evicts_nobody() -> None:
    """PreemptionPolicy Never would be ignored."""
    low = pod("low", gpus=4, on="n0", disruption=Disruption.EVICTABLE)

    result = made(node("n0"), low, pod("high", gpus=8, priority=10, preempts=False))

    assert evicted(result) == []
    assert placed(result) == {}


def test_a_pod_that_preempts_nobody_may_move_others() -> None:
    """Room in pieces would be useless to it."""
    low = pod("low", gpus=4, on="n0")

    result = made(
        node("n0"), node("n1", gpus=4), low, pod("high", gpus=8, priority=10, preempts=False)
    )

    assert moved(result) == ["low"]
    assert placed(result) == {"high": "n0"}
