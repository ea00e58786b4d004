"""Clusters of many different pods are certified by what whole nodes can hold."""

from dataclasses import replace
from itertools import count

from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.solver.local import greedy
from bayplan.solver.problem.counting import build
from bayplan.solver.search import Search
from bayplan.solver.solution import silent
from benchmarks import family
from benchmarks.family import Cell
from benchmarks.priority_matters import cases


def test_the_fewest_moves_are_found_and_proved() -> None:
    """A plan would move two pods too many, and could not say whether fewer would do."""
    case = next(cases(Cell(nodes=16, ppn=4, priorities=1, util=0.9), 1))
    snapshot = family.snapshot(case.cluster, case.homes)

    result = plan(snapshot, Policy(time_limit_s=10.0, max_moves=100), clock=lambda: 0.0)

    assert result.engine == "mixes"
    assert len(result.plan.moves) == 7
    assert all(stage.proved for stage in result.plan.certificate.stages)


def test_few_nodes_are_certified_too() -> None:
    """The exact model alone left 8 moves of 5 standing, with a bound of 3."""
    *_, case = cases(Cell(nodes=4, ppn=8, priorities=1, util=1.05), 3)
    snapshot = family.snapshot(case.cluster, case.homes)

    result = plan(snapshot, Policy(time_limit_s=1.0, max_moves=100), clock=lambda: 0.0)

    assert all(stage.proved for stage in result.plan.certificate.stages)


def test_placing_leaves_time_for_fewer_moves() -> None:
    """The search for one pod more took all of the time, and twice the moves needed were made."""
    case = next(cases(Cell(nodes=16, ppn=4, priorities=1, util=1.0), 1))
    instance, policy = build(family.snapshot(case.cluster, case.homes)), Policy(max_moves=100)
    ticks = count()

    found = Search(
        instance=instance,
        policy=policy,
        clock=lambda: next(ticks) * 0.001,
        deadline_at=0.2,
        seed=0,
        incumbent=greedy.fill(instance, policy.order),
        told=(),
        repairs=True,
        progress=silent,
    ).run()

    place = next(stage for stage in found.stages if stage.name == "place 1")
    assert not place.proved
    assert place.seconds < 0.75 * 0.2


def test_dear_moves_are_proved_as_fast_as_cheap_ones() -> None:
    """The bound rose by one at a time, a hundred thousand times for what one move costs."""
    *_, case = cases(Cell(nodes=8, ppn=4, priorities=1, util=1.05), 2)
    snapshot = family.snapshot(case.cluster, case.homes)
    pods = tuple(replace(pod, move_cost=99_991 + 7 * n) for n, pod in enumerate(snapshot.pods))
    policy = Policy(time_limit_s=1.0, max_moves=100)

    result = plan(replace(snapshot, pods=pods), policy, clock=lambda: 0.0)

    stage = result.plan.certificate.stages[2]
    assert stage.value == 700_434
    assert stage.bound > 650_000
