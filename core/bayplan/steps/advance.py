"""One pass over a plan at work: what to do next, and how far each action is."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from bayplan.cluster.keys import NodeName
from bayplan.cluster.snapshot import Snapshot
from bayplan.gates import believed
from bayplan.inference.drains import Farewell
from bayplan.plan import Plan
from bayplan.policy import Policy
from bayplan.steps.books import Books
from bayplan.steps.homes import Homes
from bayplan.steps.progress import Progress, State, Step, merged, phase_of
from bayplan.steps.surges import NOTHING_BESIDE, Beside
from bayplan.steps.victims import Victims


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
    farewells: Mapping[str, Farewell] = MappingProxyType({}),
    beside: Beside = NOTHING_BESIDE,
    denied: Mapping[str, str] = MappingProxyType({}),
    finished: Collection[str] = (),
) -> Progress:
    """Return the next steps of `plan` on the cluster as it is now.

    `snapshot` holds the nodes of `nodes_of(plan)` with every pod on them, and all pods without a
    node that are managed. `idle_s` is the time since the state of an action last changed, or
    a victim last drained: that takes as long as its owner allows. The state is meant that is found
    with 0, for what is given up after some time is no change; less than `REPLACEMENT_GRACE_S` is
    like 0.
    `farewells` are the victims, by uid, that are taken out of service before they leave; `beside`
    says whose replacement may start first. `denied` says why the API server refuses, whatever the
    time, to release or evict pods, by uid; `finished` are the pods, by uid, that have run to their
    end on these nodes.
    """
    # As the planner saw it: a pin that can never be kept takes no room from anybody.
    there = believed(snapshot, ours=_placed_by(plan, snapshot))
    books = Books(plan, there, farewells, idle_s, denied, finished=finished)
    # 1. Give homes to the waiting pods and replacements that have one free.
    homes = Homes(books)
    placed = homes.reports()
    # 2. Make victims go, unless something failed: then nobody else is disturbed for this plan.
    victims = Victims(books, beside)
    cleared = victims.reports(
        policy.max_parallel_moves, stop=any(report.state.is_failure for report in placed)
    )
    # 3. Say how far it is.
    todo: tuple[Step, ...] = (*homes.todo, *victims.todo)
    reports = (*merged(cleared, placed),)
    phase, message = phase_of(plan, reports, todo)
    patient = any(report.state in {State.DRAINING, State.STARTING} for report in reports)
    return Progress(
        phase=phase,
        message=message,
        todo=todo,
        reports=reports,
        patient=patient or books.awaits_replacement,
    )


def _placed_by(plan: Plan, snapshot: Snapshot) -> frozenset[str]:
    """Return the uids of the pods to which the plan gives their nodes."""
    moves = {move.uid: move for move in plan.moves}
    said = (pod for pod in snapshot.pods if pod.replaces in moves)
    replacements = (pod.uid for pod in said if moves[pod.replaces].is_replaced_by(pod))
    return frozenset(bind.uid for bind in plan.binds) | frozenset(replacements)
