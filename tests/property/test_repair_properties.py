"""What holds for every step of the search by chains, exchanges and windows."""

from collections.abc import Iterator
from random import Random
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.sat.python import cp_model

from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Stage
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.solver import engine
from bayplan.solver.exact import variables
from bayplan.solver.exact.constraints import RULES, allowed
from bayplan.solver.exact.cpsat import Model
from bayplan.solver.exact.variables import Window
from bayplan.solver.local import ejection, exchange, greedy, repair
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment, kept, present
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.instance import Instance
from bayplan.solver.programs.budget import Budget
from bayplan.solver.solution import Solution
from bayplan.validate import validate
from tests import oracle
from tests.property.plans import frozen, policies, snapshots


def steps(instance: Instance, policy: Policy, start: Assignment) -> Iterator[Assignment]:
    """Yield what chains, exchanges and windows of two nodes make of `start`, goal by goal."""
    for position, goal in enumerate(goals.in_order(instance, policy.order)):
        for search in (ejection, exchange):
            for better in search.improvements(
                instance, policy, start, goal=goal, ended=lambda: False
            ):
                start = better
                yield start
        aim = repair.Aim(position=position, bound=goal.limit(instance))
        budget = Budget(clock=frozen, deadline_at=1.0, effort=0.02, seed=0)
        with mock.patch.object(repair, "_NODES", 2):
            for better in repair.improvements(instance, policy, start, aim=aim, budget=budget):
                start = better
                yield start


def worth(instance: Instance, policy: Policy, assignment: Assignment) -> tuple[int, ...]:
    """Return how good an assignment is, to be compared."""
    return goals.values(instance, goals.in_order(instance, policy.order), assignment)


def violations(snapshot: Snapshot, policy: Policy, instance: Instance, found: Assignment) -> object:
    """Return what the validator says of the plan that carries an assignment out."""
    stages = tuple(
        Stage(name=goal.name, value=goal.value(instance, found), bound=goal.limit(instance))
        for goal in goals.in_order(instance, policy.order)
    )
    solution = Solution(assignment=found, stages=stages, engine="repair", sizes=())
    with mock.patch.object(engine, "solve", return_value=solution):
        result = plan(snapshot, policy, clock=frozen)
    # The planner puts a simpler plan in the place of one that is not valid.
    assert result.plan.certificate.stages == stages
    return validate(snapshot, policy, result.plan)


@given(snapshot=snapshots(), policy=policies(), from_greedy=st.booleans())
def test_every_step_is_valid_and_better(
    snapshot: Snapshot, policy: Policy, *, from_greedy: bool
) -> None:
    """A search that ends early would publish a plan that breaks a rule or makes things worse."""
    instance = build(snapshot)
    found = greedy.fill(instance, policy.order) if from_greedy else present(instance)

    for better in steps(instance, policy, found):
        assert worth(instance, policy, better) > worth(instance, policy, found)
        assert violations(snapshot, policy, instance, better) == ()
        found = better


@settings(max_examples=max(settings().max_examples // 3, 20))
@given(snapshot=snapshots(), policy=policies())
def test_the_same_seed_takes_the_same_steps(snapshot: Snapshot, policy: Policy) -> None:
    """Two planners would publish different plans for one cluster."""
    runs = [
        [
            worth(instance, policy, each)
            for each in steps(instance, policy, greedy.fill(instance, policy.order))
        ]
        for instance in (build(snapshot), build(snapshot))
    ]

    assert runs[0] == runs[1]


@given(snapshot=snapshots(nodes=3, pods=6), policy=policies())
def test_a_window_of_everything_finds_the_best_in_all_goals(
    snapshot: Snapshot, policy: Policy
) -> None:
    """A weight could be too small for what comes after it, or a rule could miss the window."""
    instance = build(snapshot)
    order, start = goals.in_order(instance, policy.order), present(instance)
    window = Window(
        base=start,
        nodes=tuple(range(len(instance.nodes))),
        classes=tuple(range(len(instance.classes))),
    )
    names = tuple(goal.name for goal in order)

    found = Model(instance, policy, 0, window).climb(order, start, seconds=60.0, effort=60.0)

    assert found.assignment is not None
    assert worth(instance, policy, found.assignment) == oracle.best(snapshot, policy, names)


@given(snapshot=snapshots(), policy=policies(), seed=st.integers(0, 2**32))
def test_rules_judge_assignments_as_the_model_does(
    snapshot: Snapshot, policy: Policy, seed: int
) -> None:
    """A chain could be taken that the exact model forbids."""
    instance, random = build(snapshot), Random(seed)  # noqa: S311 - an example, not a secret
    start = greedy.fill(instance, policy.order)
    disturbed = Assignment(
        final=shaken(random, start.final),
        survivors=shaken(random, start.survivors),
        units=shaken(random, start.units),
    )

    for each in (start, disturbed):
        assert allowed(instance, policy, each) == feasible(instance, policy, each)


def shaken(random: Random, counts: "np.typing.NDArray[np.int64]") -> "np.typing.NDArray[np.int64]":
    """Return the counts, sometimes with one or two of them changed by one."""
    changed = counts.copy()
    for _ in range(random.choice([0, 0, 1, 2])):
        if changed.size:
            changed.flat[random.randrange(changed.size)] += random.choice([-1, 1])
    return changed


def feasible(instance: Instance, policy: Policy, assignment: Assignment) -> bool:
    """Return whether the model has a solution that is this assignment."""
    model = cp_model.CpModel()
    v = variables.declare(model, instance)
    for rule in RULES:
        rule.add(model, v, policy)
    stay, free = kept(instance, assignment), assignment.final.copy()
    for at, variable in v.final.items():
        model.add(variable == int(assignment.final[at]))
        free[at] = 0
    for at, variable in v.kept.items():
        model.add(variable == int(stay[at]))
    for i, variable in v.survivors.items():
        model.add(variable == int(assignment.survivors[i]))
    for k, variable in v.units.items():
        model.add(variable == int(assignment.units[k]))
    unseen = free.any() or any(
        assignment.survivors[i] for i in range(len(instance.classes)) if i not in v.survivors
    )
    return not unseen and cp_model.CpSolver().solve(model) in {
        cp_model.OPTIMAL,
        cp_model.FEASIBLE,
    }
