"""What whole nodes prove, goal by goal, against brute force."""

from collections.abc import Iterator

from bayplan.cluster.snapshot import Snapshot
from bayplan.policy import Policy
from bayplan.solver.bounds import generation
from bayplan.solver.bounds.demand import demand_for
from bayplan.solver.exact.constraints import allowed
from bayplan.solver.exact.cpsat import Model
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment, present
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.goals import Goal, Keep, LeastDisruption, Place
from bayplan.solver.problem.instance import Instance
from bayplan.solver.programs.budget import Budget
from tests import oracle
from tests.property.plans import frozen


def starts(instance: Instance, policy: Policy) -> Iterator[tuple[int, Goal, Assignment]]:
    """Yield each goal that has a bound with a placement that is best in all goals before it."""
    model, start = Model(instance, policy, 0), present(instance)
    for position, goal in enumerate(goals.in_order(instance, policy.order)):
        if isinstance(goal, Keep | Place | LeastDisruption):
            yield position, goal, start
        found = model.improve(goal, start, seconds=60.0, effort=60.0, spare=False)
        assert found.assignment is not None
        start = found.assignment
        model.require(goal, goal.value(instance, start))


def proved(
    instance: Instance, policy: Policy, position: int, start: Assignment
) -> generation.Proof:
    """Return what comes of a goal where those before it have reached what `start` does."""
    order = goals.in_order(instance, policy.order)
    goal = order[position]
    assert isinstance(goal, Keep | Place | LeastDisruption)
    reached = [(each, each.value(instance, start)) for each in order[:position]]
    demand = demand_for(instance, policy, goal, reached)
    budget = Budget(clock=frozen, deadline_at=60.0, effort=20.0, seed=0)
    found = generation.search(instance, demand, start, budget)
    # Where there is room for everybody at once nothing is priced.
    return found or generation.Proof(bound=-(10**9), assignment=None)


def check(snapshot: Snapshot, policy: Policy) -> None:
    """Compare bounds and placements of all stages with brute force."""
    instance = build(snapshot)
    order = goals.in_order(instance, policy.order)
    names = tuple(goal.name for goal in order)
    best = oracle.best(snapshot, policy, names)
    for position, goal, start in starts(instance, policy):
        proof = proved(instance, policy, position, start)
        cost = -best[position]
        assert proof.bound <= cost
        if proof.assignment is None or not allowed(instance, policy, proof.assignment):
            continue
        # What was disturbed so far is not asked: under ProtectFirst more may be.
        asked = (*(each for each in order[:position] if isinstance(each, Keep | Place)), goal)
        better = goals.values(instance, asked, proof.assignment)
        assert better > goals.values(instance, asked, start)
        assert (
            goals.values(instance, order[: position + 1], proof.assignment) <= best[: position + 1]
        )
        assert goal.value(instance, proof.assignment) * (-1 if goal.maximise else 1) >= proof.bound
