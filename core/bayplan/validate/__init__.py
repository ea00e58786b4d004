"""Whether a plan may be published: every rule checked again, by code that knows no solver.

The planner calls it on each plan before it is published. Each check reads the evidence and
returns what it finds wrong; they are listed in `CHECKS`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Plan
from bayplan.policy import Policy
from bayplan.validate import actions, gangs, objective, rooms, spared
from bayplan.validate.evidence import Evidence, gather
from bayplan.validate.findings import Code, Violation

__all__ = ["CHECKS", "Code", "Violation", "reached", "validate"]


def validate(snapshot: Snapshot, policy: Policy, plan: Plan) -> tuple[Violation, ...]:
    """Return every rule that the plan breaks; empty when it may be published."""
    about = gather(snapshot, policy, plan)
    return tuple(violation for check in CHECKS for violation in check(about))


def reached(snapshot: Snapshot, policy: Policy, plan: Plan) -> Mapping[str, int]:
    """Return what the actions of a plan reach, by name of the stage; 0 for those not counted."""
    return objective.counted(gather(snapshot, policy, plan))


#: Every check, simplest first.
CHECKS: Final[tuple[Callable[[Evidence], Iterator[Violation]], ...]] = (
    actions.known,
    actions.described,
    actions.decided_once,
    actions.states,
    actions.disruptable,
    rooms.accepted,
    rooms.room,
    rooms.devices,
    gangs.between_pods,
    gangs.whole_gangs,
    gangs.ranks,
    actions.budgets,
    actions.disruption_budgets,
    objective.objective,
    spared.spared,
)
