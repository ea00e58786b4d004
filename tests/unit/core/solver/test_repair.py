"""Chains, exchanges and windows one by one, and cases in which counting pods goes wrong."""

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest

from bayplan.cluster.constraints import Constraints
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.solver import search
from bayplan.solver.exact.cpsat import Model
from bayplan.solver.exact.variables import Window
from bayplan.solver.local import ejection, exchange, repair
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment, evicted, moves, present
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.goals import Goal, Keep, LeastDisruption, Place
from bayplan.solver.problem.instance import Instance, PlaceGroup
from bayplan.solver.programs.budget import Budget
from tests.builders import node, pod, snapshot

PLACE = Place(PlaceGroup(0, preempts=True))


def frozen() -> float:
    """Return a clock that stands still."""
    return 0.0


def evictions(instance: Instance, assignment: Assignment) -> int:
    """Return how many running pods lose their node without another."""
    return int(evicted(instance, assignment).sum())


def chained(
    goal: Goal, *things: Node | Pod, policy: Policy | None = None
) -> tuple[Instance, Assignment]:
    """Return what chains make of the present placement."""
    instance = build(snapshot(*things))
    steps = chains(instance, present(instance), goal, policy or Policy())
    return instance, steps[-1] if steps else present(instance)


def chains(
    instance: Instance, start: Assignment, goal: Goal, policy: Policy | None = None
) -> list[Assignment]:
    """Return the steps that chains take from an assignment."""
    return list(
        ejection.improvements(instance, policy or Policy(), start, goal=goal, ended=lambda: False)
    )


@pytest.mark.parametrize(
    ("things", "moved"),
    [
        pytest.param(
            (node("a"), node("b"), pod("r", gpus=4, on="a"), pod("w", gpus=8)),
            0,
            id="a pod that fits is placed",
        ),
        pytest.param(
            (
                node("a"),
                node("b"),
                pod("r", gpus=2, on="a"),
                pod("s", gpus=3, on="b"),
                pod("w", gpus=8),
            ),
            1,
            id="one pod steps aside",
        ),
        pytest.param(
            (
                node("a", gpus=8),
                node("b", gpus=4),
                node("c", gpus=4),
                pod("r", gpus=3, on="a"),
                pod("s", gpus=4, on="a"),
                pod("w", gpus=8),
            ),
            2,
            id="two pods of a node step aside",
        ),
        pytest.param(
            (
                node("a", gpus=8),
                node("b", gpus=6),
                node("c", gpus=3),
                pod("r", gpus=5, on="a"),
                pod("s", gpus=3, on="b"),
                pod("w", gpus=8),
            ),
            2,
            id="one pod takes the place of another that steps aside",
        ),
    ],
)
def test_chains_make_room(things: tuple[Node | Pod, ...], moved: int) -> None:
    """A pod would wait although others could make room for it at no loss."""
    instance, found = chained(PLACE, *things)

    assert PLACE.value(instance, found) == 1
    assert (moves(instance, found), evictions(instance, found)) == (moved, 0)


def test_a_gang_gets_room_for_all_or_changes_nothing() -> None:
    """Half a gang would hold GPUs for nothing, or move pods for it."""
    gang = [pod(f"g{i}", gpus=8, gang="g", min_count=2) for i in range(2)]
    nodes = [node("a"), node("b"), node("c")]
    movable = [pod("r", gpus=4, on="a"), pod("s", gpus=4, on="b"), pod("t", gpus=1, on="c")]

    instance, found = chained(PLACE, *nodes, *movable[:2], *gang)
    assert (PLACE.value(instance, found), moves(instance, found)) == (2, 1)

    instance, found = chained(PLACE, *nodes, *movable, *gang)
    assert np.array_equal(found.final, instance.running)


def test_only_a_higher_tier_makes_a_pod_go_without() -> None:
    """A pod would be evicted for an equal one."""
    high = Place(PlaceGroup(10, preempts=True))
    things = (node("a"), pod("r", gpus=8, on="a"))

    instance, found = chained(high, *things, pod("w", gpus=8, priority=10))
    assert (high.value(instance, found), evictions(instance, found)) == (1, 1)

    instance, found = chained(PLACE, *things, pod("w", gpus=8))
    assert np.array_equal(found.final, instance.running)


def test_a_needed_pod_takes_the_place_of_one_that_only_waited() -> None:
    """It would wait because others of its tier were placed sooner, or evict one that runs."""
    needed = Place(PlaceGroup(0, preempts=True, needed=True))
    unit = pod("u-0", gpus=8, gang="u-0", min_count=1, owner="u", min_units=1)
    things = (node("a"), unit, pod("w", gpus=8, priority=0, namespace="other"))
    instance = build(snapshot(*things))
    still = present(instance)
    final = still.final.copy()
    final[[each.place != needed.group for each in instance.classes], 0] = 1
    start = Assignment(final=final, survivors=still.survivors, units=still.units)
    assert (needed.value(instance, start), PLACE.value(instance, start)) == (0, 1)

    found = chains(instance, start, needed)[-1]
    assert (needed.value(instance, found), PLACE.value(instance, found)) == (1, 0)

    order = goals.in_order(instance, Policy().order)
    budget = Budget(clock=frozen, deadline_at=1.0, effort=1.0, seed=0)
    aim = repair.Aim(position=order.index(needed), bound=1)
    *_, found = repair.improvements(instance, Policy(), start, aim=aim, budget=budget)
    assert (needed.value(instance, found), PLACE.value(instance, found)) == (1, 0)

    instance, found = chained(needed, node("a"), pod("r", gpus=8, on="a"), unit)
    assert np.array_equal(found.final, instance.running)


@pytest.mark.parametrize("policy", [Policy(max_moves=0), Policy(max_evictions=0)])
def test_chains_keep_to_the_budgets(policy: Policy) -> None:
    """A plan would disturb more than the administrator allows."""
    high = Place(PlaceGroup(10, preempts=True))
    nodes = (node("a"), node("b"))
    running = (pod("r", gpus=5, on="a"), pod("s", gpus=3, on="b"))
    waiting = pod("w", gpus=8, priority=10)

    instance, found = chained(high, *nodes, *running, waiting, policy=policy)

    assert moves(instance, found) <= policy.max_moves
    assert evictions(instance, found) <= policy.max_evictions


def test_an_evicted_pod_gets_a_place_by_a_chain() -> None:
    """A running pod would be lost although others could make room for it."""
    instance = build(
        snapshot(node("a"), node("b"), pod("r", gpus=6, on="a"), pod("s", gpus=3, on="b"), pod("w"))
    )
    still = present(instance)
    lost = next(
        i for i, each in enumerate(instance.classes) if each.requests["nvidia.com/gpu"] == 6
    )
    final, survivors = still.final.copy(), still.survivors.copy()
    final[lost], survivors[lost] = 0, 0
    evicted = Assignment(final=final, survivors=survivors, units=still.units)

    steps = chains(instance, evicted, Keep(0))

    assert evictions(instance, steps[-1]) == 0


def test_a_moved_pod_goes_home_when_it_can() -> None:
    """A pod would be moved for nothing."""
    instance = build(snapshot(node("a"), node("b"), pod("r", on="a"), pod("w", gpus=8)))
    still = present(instance)
    away = Assignment(
        final=still.final[:, ::-1].copy(), survivors=still.survivors, units=still.units
    )

    steps = chains(instance, away, LeastDisruption())

    assert [moves(instance, step) for step in steps] == [0]


def in_each_others_way() -> tuple[Instance, Assignment]:
    """Return two nodes with one free GPU each, and a pod of two that no chain places.

    The pod of four on "a" and that of three on "b" have to swap.
    """
    sizes = (("a", 4), ("a", 3), ("b", 3), ("b", 2), ("b", 2))
    running = [pod(f"r{i}", gpus=gpus, on=on) for i, (on, gpus) in enumerate(sizes)]
    instance, found = chained(PLACE, node("a"), node("b"), *running, pod("w", gpus=2))
    assert PLACE.value(instance, found) == 0
    return instance, found


def test_pods_that_swap_make_room() -> None:
    """Room in pieces on every node would be of no use."""
    instance, found = in_each_others_way()

    steps = list(exchange.improvements(instance, Policy(), found, goal=PLACE, ended=lambda: False))

    assert [PLACE.value(instance, step) for step in steps] == [1]
    assert (moves(instance, steps[-1]), evictions(instance, steps[-1])) == (2, 0)


def test_swaps_end_with_the_time() -> None:
    """Up to six swaps would be looked for after the time has ended, which is long on many nodes."""
    instance, found = in_each_others_way()
    asked = iter([False, False])

    steps = exchange.improvements(
        instance, Policy(), found, goal=PLACE, ended=lambda: next(asked, True)
    )

    assert list(steps) == []


def test_pods_swap_only_where_they_may_go() -> None:
    """A pod would be moved to a node that its selector forbids."""
    sizes = (("a", 4), ("a", 3), ("b", 3), ("b", 2), ("b", 2))
    tied = Constraints(node_selector=(("zone", "b"),))
    running = [
        pod(f"r{i}", gpus=gpus, on=on, constraints=tied if on == "b" else None)
        for i, (on, gpus) in enumerate(sizes)
    ]
    nodes = (node("a"), node("b", labels={"zone": "b"}))
    instance = build(snapshot(*nodes, *running, pod("w", gpus=2)))

    steps = exchange.improvements(
        instance, Policy(), present(instance), goal=PLACE, ended=lambda: False
    )

    assert list(steps) == []


def test_a_window_finds_what_no_chain_does() -> None:
    """The search would end where chains end."""
    instance, found = in_each_others_way()

    aim = repair.Aim(position=list(goals.in_order(instance, Policy().order)).index(PLACE), bound=1)
    budget = Budget(clock=frozen, deadline_at=1.0, effort=1.0, seed=0)
    steps = list(repair.improvements(instance, Policy(), found, aim=aim, budget=budget))

    assert PLACE.value(instance, steps[-1]) == 1
    assert evictions(instance, steps[-1]) == 0


def test_a_window_leaves_alone_what_it_is_a_part_of() -> None:
    """Windows would count pods that are not there, and take a worse answer for a better one."""
    instance, found = in_each_others_way()
    every = tuple(range(len(instance.classes)))

    Model(instance, Policy(), 0, Window(base=found, nodes=(0,), classes=every))

    assert np.array_equal(found.totals, found.final.sum(axis=1))
    assert np.array_equal(found.placed, found.totals - found.survivors)


def test_nobody_writes_to_what_all_engines_share() -> None:
    """One engine would spoil the work of another."""
    instance, found = in_each_others_way()
    shared = (found.final, found.survivors, found.units, found.totals, found.placed)

    for array in (*shared, instance.running, instance.capacity, instance.upper):
        with pytest.raises(ValueError, match="read-only"):
            np.add(array, 1, out=array)


def test_a_search_ends_with_its_time_and_with_its_effort() -> None:
    """A pass would go on for ever."""
    instance = build(snapshot(node("a"), pod("r", gpus=5, on="a"), pod("w", gpus=4)))
    aim = repair.Aim(position=list(goals.in_order(instance, Policy().order)).index(PLACE), bound=1)

    def search(clock: Callable[[], float], effort: float) -> list[Assignment]:
        budget = Budget(clock=clock, deadline_at=1.0, effort=effort, seed=0)
        with mock.patch.object(repair, "_TRIES_PER_NODE", 10**9):
            found = repair.improvements(
                instance, Policy(), present(instance), aim=aim, budget=budget
            )
            return list(found)

    ticks = iter(np.arange(0.0, 100.0, 0.01))
    assert search(frozen, 0.05) == []
    assert search(lambda: float(next(ticks)), 10**9) == []


def test_nobody_goes_for_equals_that_are_more() -> None:
    """Two small pods would make a large one of their own tier go (one node)."""
    crowded = snapshot(node("n0"), pod("a", gpus=8, on="n0"), pod("c", gpus=4), pod("d", gpus=4))

    found = plan(crowded, Policy(), clock=frozen).plan

    assert (found.binds, found.moves, found.evictions) == ((), (), ())


@pytest.mark.parametrize("whole", [True, False], ids=["whole model", "chains and windows"])
def test_one_move_is_better_than_an_eviction(*, whole: bool) -> None:
    """A pod would be evicted where a move of another does as well (two nodes)."""
    crowded = snapshot(
        node("n0"),
        node("n1"),
        pod("a", gpus=1, on="n0"),
        pod("b", gpus=6, on="n1"),
        pod("c", gpus=5),
        pod("d", gpus=3),
        pod("e", gpus=5),
    )

    with mock.patch.object(search, "MAX_VARIABLES", search.MAX_VARIABLES if whole else 0):
        found = plan(crowded, Policy(), clock=frozen).plan

    assert len(found.moves) == 1
    assert found.evictions == ()
    assert {bind.pod.name for bind in found.binds} >= {"d"}
    assert len(found.binds) == 2
    assert {move.target for move in found.moves} <= {NodeName("n0"), NodeName("n1")}
