"""What the engines hand on to each other, on the paper's small clusters of many kinds of pods."""

from dataclasses import replace

import pytest

from bayplan.cluster.snapshot import Snapshot
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.solver import keepfill
from bayplan.solver.keepfill.found import Found
from bayplan.solver.keepfill.patterns import most_patterns
from bayplan.solver.local import greedy
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.goals import Keep, Place
from bayplan.solver.problem.instance import Instance
from bayplan.solver.programs.budget import Budget
from bayplan.solver.search import stepped
from bayplan.solver.solution import Solution, cheap_bound, only_counted
from benchmarks import family
from benchmarks.family import Cell

POLICY = Policy(max_moves=10**9, max_evictions=10**9)


def crowded(*, nodes: int, priorities: int, util: float, seed: int) -> Snapshot:
    """Return a cluster on which the default scheduler leaves pods waiting."""
    cluster = family.cluster(Cell(nodes=nodes, ppn=4, priorities=priorities, util=util), seed)
    return family.snapshot(cluster, family.scheduled(cluster))


def steps(instance: Instance) -> Assignment:
    """Return what chains and exchanges make of the greedy placement."""
    order = goals.in_order(instance, POLICY.order)
    placing = tuple(goal for goal in order if isinstance(goal, Keep | Place))
    start = greedy.fill(instance, POLICY.order)
    return stepped(instance, POLICY, start, goals=placing, ended=lambda: False)


def counted(instance: Instance, start: Assignment | None = None) -> Found | None:
    """Return what keep and fill makes of an instance."""
    budget = Budget(clock=lambda: 0.0, deadline_at=30.0, effort=30.0, seed=0)
    return keepfill.solve(instance, POLICY, budget, start=start)


def test_an_engine_that_takes_all_the_time_costs_nobody_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody would be placed where all of them are within milliseconds."""
    now = 0.0

    def endless(*_: object) -> None:
        nonlocal now
        now = 100.0

    monkeypatch.setattr(keepfill, "solve", endless)

    found = plan(crowded(nodes=16, priorities=1, util=0.95, seed=0), POLICY, clock=lambda: now)

    assert now == 100.0
    assert len(found.plan.binds) >= 8
    assert found.plan.holds == ()


def test_fleets_of_few_kinds_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps over a fleet that is counted in milliseconds would take longer than all the rest."""
    instance = build(crowded(nodes=8, priorities=2, util=1.0, seed=2))
    monkeypatch.setattr("bayplan.solver.engine.stepped", lambda *_, **__: pytest.fail("stepped"))
    assert len({asks.tobytes() for asks in instance.requests}) <= 16

    assert plan(
        crowded(nodes=8, priorities=2, util=1.0, seed=2), POLICY, clock=lambda: 0.0
    ).plan.binds


@pytest.mark.parametrize("seed", range(8))
def test_small_clusters_of_many_kinds_are_certified(seed: int) -> None:
    """A pod that has a place would wait, or how little was moved stay unproved (eight nodes)."""
    found = plan(
        crowded(nodes=8, priorities=2, util=1.0, seed=seed), POLICY, clock=lambda: 0.0
    ).plan

    assert found.binds
    assert all(stage.proved for stage in found.certificate.stages)


def test_what_could_be_proved_is_told_of_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a count that found no placement would be lost."""
    instance = build(crowded(nodes=8, priorities=1, util=1.05, seed=0))
    order = goals.in_order(instance, POLICY.order)
    start, best = steps(instance), counted(instance)
    assert best is not None
    values = goals.values(instance, order, best.assignment)
    monkeypatch.setattr(
        "bayplan.solver.keepfill.simultaneous.Simultaneous._reaching", lambda *_: None
    )
    monkeypatch.setattr("bayplan.solver.keepfill.sequential.Sequential.run", lambda _: None)

    found = counted(instance, start)

    assert counted(instance) is None
    assert found is not None
    assert found.assignment is start
    limits = [goal.limit(instance) for goal in order]
    assert list(found.bounds) != limits
    # Up to the first stage that misses its bound they are those of the optimum, then countable.
    reached = [goal.value(instance, start) for goal in order]
    missed = [a != b for a, b in zip(reached, found.bounds, strict=True)]
    sound = missed.index(True)
    assert reached[:sound] == [goal.value(instance, best.assignment) for goal in order[:sound]]
    assert found.bounds[: sound + 1] == best.bounds[: sound + 1]
    assert list(found.bounds[sound + 1 :]) == limits[sound + 1 :]
    assert values >= goals.values(instance, order, start)


def test_bounds_of_another_answer_hold_as_far_as_both_reach_the_same() -> None:
    """A bound that stands on a place more than was found would be taken for a proof."""
    instance = build(crowded(nodes=8, priorities=1, util=1.05, seed=0))
    order = goals.in_order(instance, POLICY.order)
    best, worse = counted(instance), greedy.fill(instance, POLICY.order)
    assert best is not None
    told = told_of(instance, best).stages
    place = next(n for n, goal in enumerate(order) if isinstance(goal, Place))
    upto = order[: place + 2]
    assert told[place].value > order[place].value(instance, worse)

    def bound(of: Assignment, upto: tuple[goals.Goal, ...]) -> int:
        return cheap_bound(instance, upto, of, told)

    assert bound(worse, upto[:-1]) == told[place].bound < order[place].limit(instance)
    assert bound(worse, upto) == upto[-1].limit(instance)
    assert bound(best.assignment, upto) == told[place + 1].bound > upto[-1].limit(instance)


def told_of(instance: Instance, found: Found) -> Solution:
    """Return what was found, with its bounds, as a solution."""
    solution = only_counted(instance, POLICY, found.assignment)
    pairs = zip(solution.stages, found.bounds, strict=True)
    stages = tuple(replace(stage, bound=bound) for stage, bound in pairs)
    return Solution(assignment=found.assignment, stages=stages, engine="", sizes=())


def test_short_limits_count_fewer_patterns() -> None:
    """A count that cannot end in time would leave none to the search."""
    assert most_patterns(0.1) < most_patterns(1.0) < most_patterns(3.0) < 20_000
    assert most_patterns(3_600) == 20_000
