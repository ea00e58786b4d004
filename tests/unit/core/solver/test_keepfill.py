"""Keep and fill part by part: patterns, states, branching, and what the planner makes of it."""

import itertools
from typing import get_args

import numpy as np
import pytest

from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.solver import engine, keepfill
from bayplan.solver.keepfill import simultaneous
from bayplan.solver.keepfill.found import Found
from bayplan.solver.keepfill.patterns import enumerate_patterns
from bayplan.solver.keepfill.stages import countable
from bayplan.solver.problem import goals
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.instance import Counts
from bayplan.solver.problem.states import count_states
from bayplan.solver.programs.branch import relax_whole
from bayplan.solver.programs.budget import Budget
from bayplan.solver.programs.integral import Limits
from bayplan.solver.programs.program import Program, Relaxed, Terms
from bayplan.validate import validate
from benchmarks.fleet import Variant, fleet
from tests.builders import node, pod, snapshot

LIMITS = Limits(seconds=10.0, effort=10.0, seed=0)


def array(*values: int) -> Counts:
    """Return the values as an array of integers."""
    return np.array(values, dtype=np.int64)


def test_patterns_are_every_multiset_that_fits() -> None:
    """A fill would be missing, and an optimum with it."""
    shapes = np.array([[1], [2]], dtype=np.int64)

    patterns = enumerate_patterns(shapes, array(9, 1), array(4))

    assert patterns is not None
    assert sorted(map(tuple, patterns.counts.tolist())) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
        (3, 0),
        (4, 0),
    ]


def test_each_pattern_knows_those_with_one_pod_more() -> None:
    """Patterns that can grow would be taken for maximal, or maximal ones be left out."""
    shapes = np.array([[3, 1], [1, 2], [2, 2]], dtype=np.int64)
    patterns = enumerate_patterns(shapes, array(2, 3, 1), array(7, 6))
    assert patterns is not None
    index = {tuple(row): n for n, row in enumerate(patterns.counts.tolist())}
    assert len(index) == len(patterns.counts) > len(shapes)

    for row, larger in zip(patterns.counts.tolist(), patterns.larger.tolist(), strict=True):
        more = [(*row[:s], row[s] + 1, *row[s + 1 :]) for s in range(len(shapes))]
        assert larger == [index.get(each, -1) for each in more]


def test_only_patterns_that_cannot_grow_are_columns() -> None:
    """The program would be several times as large."""
    shapes = np.array([[1], [2]], dtype=np.int64)
    patterns = enumerate_patterns(shapes, array(9, 1), array(4))
    assert patterns is not None

    fits = patterns.fitting(np.array([[4], [3], [-1]], dtype=np.int64))
    maximal = [patterns.counts[row].tolist() for row in patterns.maximal(fits)]

    assert maximal == [[[2, 1], [4, 0]], [[1, 1], [3, 0]], [[0, 0]]]


def test_too_many_kinds_of_pods_are_left_to_others() -> None:
    """Counting patterns would take all the time there is."""
    shapes = np.arange(1, 41, dtype=np.int64).reshape(-1, 1)

    assert enumerate_patterns(shapes, np.full(40, 99, dtype=np.int64), array(200)) is None


def test_nodes_that_are_alike_are_one_state() -> None:
    """The program would grow with the fleet."""
    states = count_states(
        types=array(0, 0, 0, 1),
        room=np.full((4, 1), 8, dtype=np.int64),
        anchored=np.array([[2], [1], [2], [2]], dtype=np.int64),
        requests=np.array([[3]], dtype=np.int64),
    )

    assert states is not None
    assert states.of_node.tolist() == [0, 1, 0, 2]
    assert states.sizes.tolist() == [2, 1, 1]
    assert states.keeps[:, 0].tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    assert states.residual[:, 0].tolist() == [8, 5, 2, 8, 5, 8, 5, 2]


def knapsack() -> tuple[Program, Counts]:
    """Return a program of one row, 2a + 3b <= 7, and its columns."""
    program = Program()
    columns = program.add_columns(array(9, 9))
    program.add_row(Terms(columns=columns, weights=array(2, 3)), upper=7)
    return program, columns


def test_a_node_can_keep_every_part_of_what_runs_there() -> None:
    """A part that is left out would be a choice that nobody weighs."""
    runs = array(2, 0, 1, 3)

    found = count_states(
        types=array(0, 0),
        room=np.full((2, 1), 9),
        anchored=np.array([runs, array(0, 0, 0, 0)]),
        requests=array(1, 1, 1, 1)[:, None],
    )

    assert found is not None
    parts = list(itertools.product(*(range(each + 1) for each in runs)))
    assert found.keeps[found.owner == 0].tolist() == [list(part) for part in parts]
    assert found.keeps[found.owner == 1].tolist() == [[0, 0, 0, 0]]
    assert found.residual[:, 0].tolist() == [9 - sum(part) for part in parts] + [9]


def test_branching_makes_the_bound_of_whole_columns() -> None:
    """Half a gang would be counted, and no placement could reach the bound."""
    program, columns = knapsack()
    goal = Terms(columns=columns, weights=array(20, 31))

    found = relax_whole(program, goal, columns, maximise=True, seconds=lambda: 10.0)

    assert found is not None
    assert found.root.bound == 72
    assert found.bound == 71
    assert found.vertex.point.tolist() == pytest.approx([2, 1])
    assert program.upper.tolist() == [9, 9]


def test_a_point_near_the_vertex_meets_the_bound_or_there_is_none() -> None:
    """A rounding would break a row, or miss what it was asked for."""
    program, columns = knapsack()
    goal = Terms.over(columns)
    vertex = program.relax(goal, maximise=True, seconds=lambda: 10.0)
    assert not hasattr(vertex, "name")
    program.add_row(goal, lower=vertex.bound)
    narrow = np.zeros(2, dtype=np.bool_)

    point = program.near(vertex, narrow, LIMITS, bound=vertex.bound)

    assert vertex.bound == 3
    assert point is not None
    assert point.tolist() == [3, 0]
    program.add_row(goal, lower=4)
    assert program.near(vertex, narrow, LIMITS, bound=4) is None


def test_a_whole_vertex_is_taken_only_where_it_meets_what_was_asked_since() -> None:
    """A row that came after the vertex would be broken by its placement."""
    program = Program()
    columns = program.add_columns(array(4, 4))
    goal = Terms.over(columns)
    program.add_row(goal, upper=4)
    vertex = program.relax(goal, maximise=True, seconds=lambda: 10.0)
    assert isinstance(vertex, Relaxed)
    wide = np.ones(2, dtype=np.bool_)
    taken = program.near(vertex, wide, LIMITS, bound=4)
    assert taken is not None
    fewer = int(np.argmax(taken))

    program.add_row(Terms.over(columns[[fewer]]), upper=1)
    other = program.near(vertex, wide, LIMITS, bound=4)

    assert taken.tolist() == np.rint(vertex.point).tolist()
    assert other is not None
    assert other[fewer] <= 1
    assert program.near(vertex, wide, LIMITS, bound=4, rows=1) is not None


def test_the_whole_program_is_searched_where_no_vertex_is_near() -> None:
    """The bound of the relaxation would be the last word."""
    program, columns = knapsack()

    solved = program.solve(Terms(columns=columns, weights=array(20, 31)), LIMITS, maximise=True)

    assert solved.bound == 71
    assert solved.point is not None
    assert solved.point.tolist() == [2, 1]


@pytest.mark.parametrize("demand", [0.5, 1.1, 3.0])
@pytest.mark.parametrize("variant", get_args(Variant))
def test_a_fleet_is_planned_with_a_proof(*, demand: float, variant: Variant) -> None:
    """What is promised for thousands of nodes would not hold for forty."""
    of = fleet(nodes=40, demand=demand, seed=7, variant=variant)
    policy = Policy(time_limit_s=60.0, max_moves=10_000, max_evictions=10_000)

    result = plan(of, policy, clock=lambda: 0.0)

    assert result.engine == "keep-and-fill"
    assert all(stage.proved for stage in result.plan.certificate.stages)
    assert validate(of, policy, result.plan) == ()


def test_tight_move_budgets_are_kept_with_a_proof() -> None:
    """Moves would be planned that nobody allowed, or the optimum given up."""
    of = fleet(nodes=30, demand=1.1, seed=1, variant="mixed")
    policy = Policy(time_limit_s=60.0, max_moves=2, max_evictions=1)

    result = plan(of, policy, clock=lambda: 0.0)

    assert len(result.plan.moves) <= 2
    assert result.engine == "keep-and-fill"
    assert all(stage.proved for stage in result.plan.certificate.stages)


def test_slots_that_are_hard_to_win_cost_no_pod_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fits is placed with the least disruption, proved, whatever becomes of the slots."""
    instance = build(fleet(nodes=60, demand=1.1, seed=0, variant="mixed"), divided=True)
    policy = Policy(max_moves=10_000)
    order = countable(instance, policy.order)
    budget = Budget(clock=lambda: 0.0, deadline_at=30.0, effort=30.0, seed=0)
    best = keepfill.solve(instance, policy, budget)

    def value(goal: goals.Goal, of: Found) -> int:
        return goal.value(instance, of.assignment)

    monkeypatch.setattr(
        "bayplan.solver.keepfill.simultaneous.Simultaneous._reaching", lambda *_: None
    )
    monkeypatch.setattr("bayplan.solver.keepfill.sequential.Sequential.run", lambda _: None)

    found = keepfill.solve(instance, policy, budget)

    assert best is not None
    assert found is not None
    missed = [g for g, bound in zip(order, found.bounds, strict=True) if value(g, found) != bound]
    assert missed
    assert all(isinstance(goal, goals.FreeSlots) for goal in missed)
    assert value(missed[0], best) <= found.bounds[order.index(missed[0])]
    assert goals.better(instance, order, best.assignment, found.assignment)


def test_slots_are_not_looked_for_where_no_gpu_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest program of a pass would be solved for slots that cannot be there."""
    instance = build(fleet(nodes=60, demand=4, seed=0), divided=True)
    policy = Policy(max_moves=10_000, max_evictions=10_000)
    budget = Budget(clock=lambda: 0.0, deadline_at=30.0, effort=30.0, seed=0)
    monkeypatch.delattr("bayplan.solver.keepfill.assembly.add_slots")

    found = keepfill.solve(instance, policy, budget)

    assert found is not None
    order = countable(instance, policy.order)
    assert [goal.value(instance, found.assignment) for goal in order] == [*found.bounds]
    assert found.bounds[-4:] == (0, 0, 0, 0)


def test_without_time_there_is_still_a_plan() -> None:
    """A large fleet would get no answer on a slow machine."""
    of = fleet(nodes=40, demand=1.1, seed=7)
    ticks = iter(range(0, 10_000_000, 100))

    result = plan(of, Policy(), clock=lambda: float(next(ticks)))

    assert result.engine == "greedy"
    assert result.plan.binds


def test_a_fill_that_costs_one_node_a_move_is_free_for_another() -> None:
    """Slots would be missed: empty rooms share the fills of smaller ones that leave GPUs free."""
    instance = build(
        snapshot(
            node("n0", gpus=4),
            node("n1"),
            node("n2"),
            pod("r", on="n0"),
            pod("w1", gpus=2, priority=10),
            pod("w2", gpus=4),
            pod("w3", priority=10),
        )
    )
    budget = Budget(clock=lambda: 0.0, deadline_at=10.0, effort=10.0, seed=0)

    found = keepfill.solve(instance, Policy(), budget)

    assert found is not None
    values = [
        goal.value(instance, found.assignment)
        for goal in goals.in_order(instance, Order.PLACE_FIRST)
    ]
    assert values == list(found.bounds) == [2, 1, 1, 0, 1, 3, 6, 12]


def test_two_kinds_of_gpus_on_one_node_are_left_to_others() -> None:
    """Free slots of two kinds of GPU would be counted as one."""
    both = node("n")
    both = type(both)(
        name=both.name,
        allocatable=both.allocatable + type(both.allocatable).of({"amd.com/gpu": 4}),
    )

    assert not keepfill.supports(build(snapshot(both, pod("w"))))


def test_small_instances_go_to_the_direct_model() -> None:
    """States would be counted where there is nothing to count."""
    result = plan(
        snapshot(node("a"), node("b"), pod("r", on="a", gpus=4), pod("w", gpus=8)),
        Policy(),
        clock=lambda: 0.0,
    )

    assert result.engine != "keep-and-fill"
    assert dict(result.sizes)["variables"] < engine.MIN_VARIABLES


def test_a_vertex_without_a_whole_point_beside_it_is_pushed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Minutes would go into a search beside it, while another vertex as good is next to one."""
    instance = build(fleet(nodes=60, demand=1.1, seed=0, variant="mixed"), divided=True)
    monkeypatch.setattr(simultaneous, "beside", lambda *_, **__: None)
    monkeypatch.setattr("bayplan.solver.keepfill.sequential.Sequential.run", lambda _: None)
    budget = Budget(clock=lambda: 0.0, deadline_at=30.0, effort=30.0, seed=0)

    found = keepfill.solve(instance, Policy(max_moves=10_000), budget)

    assert found is not None
    order = countable(instance, Order.PLACE_FIRST)
    assert [goal.value(instance, found.assignment) for goal in order] == list(found.bounds)
