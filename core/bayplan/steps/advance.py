"""One pass over a plan at work: what to do next, and how far each action is."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from bayplan import windows
from bayplan.cluster.keys import NodeName
from bayplan.cluster.snapshot import Snapshot
from bayplan.gates import believed
from bayplan.inference.drains import DrainState
from bayplan.plan import Plan
from bayplan.policy import Order, Policy
from bayplan.steps.homes import Homes
from bayplan.steps.ledger import Ledger
from bayplan.steps.progress import (
    Phase,
    Progress,
    State,
    Step,
    merged,
    phase_of,
    waiting_for_others,
)
from bayplan.steps.surges import NO_SURGE, SurgeContext
from bayplan.steps.victims import Victims

#: Seconds by which the planner's clock may be ahead of the operator's.
_MOST_AHEAD_S: Final = 60


def nodes_of(plan: Plan) -> frozenset[NodeName]:
    """Return the nodes on which a plan does something: what `advance` must see in full."""
    return frozenset(
        [bind.node for bind in plan.binds]
        + [evict.node for evict in plan.evictions]
        + [node for move in plan.moves for node in (move.source, move.target)]
    )


def advance(  # noqa: PLR0913 - all that is known, each by name
    plan: Plan,
    snapshot: Snapshot,
    policy: Policy,
    *,
    idle_s: float,
    now: float = 0.0,
    drains: Mapping[str, DrainState] = MappingProxyType({}),
    surge: SurgeContext = NO_SURGE,
    denied: Mapping[str, str] = MappingProxyType({}),
    finished: Collection[str] = (),
    stragglers: Collection[int] = (),
) -> Progress:
    """Return the next steps of `plan` on the cluster as it is now.

    `snapshot` holds the nodes of `nodes_of(plan)` with every pod on them, and all pods without a
    node that are managed. `idle_s` is the time since the state of an action last changed, or
    a victim last drained: that takes as long as its owner allows. The state is meant that is found
    with 0, for what is given up after some time is no change; less than `REPLACEMENT_GRACE_S` is
    like 0. `now` is when it was looked at, in seconds since the epoch.
    `drains` are the victims, by uid, that are taken out of service before they leave; `surge`
    says whose replacement may start first. `denied` says why the API server refuses, whatever the
    time, to release or evict pods, by uid; `finished` are the pods, by uid, that have run to their
    end on these nodes. `stragglers` says of each pod that still leaves for plans before this one
    by when it is gone, in seconds since the epoch: they count to how many may leave at a time, and
    are waited for.
    """
    # As the planner saw it: a pin that can never be kept takes no room from anybody.
    there = believed(snapshot, ours=_placed_by(plan, snapshot))
    ledger = Ledger(plan, there, drains, idle_s, denied, now=now, finished=finished)
    # 1. Give homes to the waiting pods and replacements that have one free.
    homes = Homes(ledger)
    placed = homes.reports()
    # 2. Make victims go, unless something failed: then nobody else is disturbed for this plan.
    lost = {report.pod for report in placed if report.state.is_failure}
    victims = Victims(ledger, surge, lost=lost, over=_is_over(plan, policy, now))
    cleared = victims.reports(policy.max_parallel_moves, stragglers=len(stragglers))
    # 3. Say how far it is.
    todo: tuple[Step, ...] = (*homes.todo, *victims.todo)
    reports = (*merged(cleared, placed),)
    phase, message = phase_of(plan, reports, todo)
    patient = any(report.state in {State.DRAINING, State.STARTING} for report in reports)
    others = [*(stragglers if any(r.state is State.WAITING for r in cleared) else ())]
    others += ledger.replaced_by
    if others and phase is Phase.EXECUTING:
        message = f"{message}; {waiting_for_others(max(others), now)}"
    return Progress(
        phase=phase,
        message=message,
        todo=todo,
        reports=reports,
        patient=patient or ledger.awaits_replacement or bool(others),
    )


def _is_over(plan: Plan, policy: Policy, now: float) -> bool:
    """Return whether a plan was made for a window that has closed.

    The clock of who made it may be ahead of ours: a window that opens in a moment is open.
    """
    if plan.certificate.order is not Order.DEFRAGMENT:
        return False
    asked = policy.defragmentation.windows
    return all(windows.opened_at(asked, at) is None for at in (now, now + _MOST_AHEAD_S))


def _placed_by(plan: Plan, snapshot: Snapshot) -> frozenset[str]:
    """Return the uids of the pods to which the plan gives their nodes."""
    moves = {move.uid: move for move in plan.moves}
    said = (pod for pod in snapshot.pods if pod.replaces in moves)
    replacements = (pod.uid for pod in said if moves[pod.replaces].is_replaced_by(pod))
    return frozenset(bind.uid for bind in plan.binds) | frozenset(replacements)
