"""What an engine answers: an assignment, what each stage reached, and what bounds it."""

from collections.abc import Callable
from dataclasses import dataclass

from bayplan.plan import Stage
from bayplan.policy import Policy
from bayplan.solver.keepfill.found import Known
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment, present
from bayplan.solver.problem.goals import Goal
from bayplan.solver.problem.instance import Instance

#: Called with what is done next, in a few words.
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """An assignment and what is known about it.

    Attributes:
        assignment: The answer.
        stages: Value and bound by goal, in order.
        engine: Which engine found it.
        sizes: Counts of the instance and the models.
        known: What keep and fill learnt of divided gangs, some of which have to go.
    """

    assignment: Assignment
    stages: tuple[Stage, ...]
    engine: str
    sizes: tuple[tuple[str, int], ...]
    known: Known | None = None


def unchanged(instance: Instance, policy: Policy) -> Solution:
    """Return the present placement as a solution: nobody is placed, nobody disturbed."""
    return only_counted(instance, policy, present(instance))


def only_counted(
    instance: Instance, policy: Policy, assignment: Assignment, told: tuple[Stage, ...] = ()
) -> Solution:
    """Return an assignment with the bounds that cost nothing: counted, or `told` of another."""
    order = goals.in_order(instance, policy.order)
    stages = tuple(
        Stage(
            name=goal.name,
            value=goal.value(instance, assignment),
            bound=cheap_bound(instance, order[: n + 1], assignment, told),
        )
        for n, goal in enumerate(order)
    )
    return Solution(assignment=assignment, stages=stages, engine="greedy", sizes=sizes(instance))


def cheap_bound(
    instance: Instance, upto: tuple[Goal, ...], assignment: Assignment, told: tuple[Stage, ...]
) -> int:
    """Return what nothing can beat in the last goal: what can be counted, or what was `told`.

    Bounds depend on what the stages before reached: what was told counts where that is the same.
    """
    *before, goal = upto
    limit = goal.limit(instance)
    reached = tuple(each.value(instance, assignment) for each in before)
    if len(told) < len(upto) or reached != tuple(each.value for each in told[: len(before)]):
        return limit
    bound = told[len(before)].bound
    return min(bound, limit) if goal.maximise else max(bound, limit)


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
