"""Carrying out a plan, one safe step at a time.

    victims:  Waiting ──evict──▶ Started (terminating) ──▶ gone
                                                            │ move: its owner makes a new pod
                                                            ▼
    homes:    Waiting ──room is free, whole gang──▶ Started (gate lifted, pinned) ──▶ Done (bound)

`advance` compares a plan with the cluster as it is now and says what to do next and how far each
action is. It keeps no memory: everything it needs is in the plan and on the pods, so it can be
asked again after any crash. The operator does the steps and asks again.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bayplan import filters
from bayplan.plan import Bind, Evict, Move, Plan
from bayplan.policy import Policy
from bayplan.snapshot import GangKey, Node, NodeName, Pod, PodKey, Resources, Snapshot

#: Seconds after a plan's creation in which a moved pod's owner should have made its replacement;
#: after that the plan ends without it, and a replacement that still comes is planned anew.
REPLACEMENT_GRACE_S = 30


class State(StrEnum):
    """How far an action is."""

    WAITING = "Waiting"
    STARTED = "Started"
    DONE = "Done"
    FAILED = "Failed"


class Phase(StrEnum):
    """How far a plan is."""

    EXECUTING = "Executing"
    COMPLETED = "Completed"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictPod:
    """Ask for a running pod's eviction; `because` is for its event."""

    pod: PodKey
    uid: str
    node: NodeName
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePod:
    """Lift a waiting pod's gate and pin it to `node`, in one patch.

    `replaces` is the uid of the moved pod whose place it takes, or "".
    """

    pod: PodKey
    uid: str
    node: NodeName
    replaces: str = ""


Step = EvictPod | ReleasePod


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How far one action is, in words."""

    pod: PodKey
    type: str
    state: State
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What to do next, and how far the plan is.

    `todo` may be done in any order; doing a step twice does no harm.
    """

    phase: Phase
    message: str
    todo: tuple[Step, ...]
    reports: tuple[Report, ...]

    @property
    def done(self) -> int:
        """How many actions are done."""
        return sum(report.state is State.DONE for report in self.reports)


def nodes_of(plan: Plan) -> frozenset[NodeName]:
    """Return the nodes on which a plan does something: what `advance` must see in full."""
    return frozenset(
        [bind.node for bind in plan.binds]
        + [evict.node for evict in plan.evictions]
        + [node for move in plan.moves for node in (move.source, move.target)]
    )


def advance(plan: Plan, snapshot: Snapshot, policy: Policy, *, age_s: float) -> Progress:
    """Return the next steps of `plan` on the cluster as it is now.

    `snapshot` holds the nodes of `nodes_of(plan)` with every pod on them, and all waiting pods.
    `age_s` is the plan's age in seconds.
    """
    pass_ = _Pass(plan, snapshot)
    # 1. Give homes to the waiting pods and replacements that have one free.
    homes = [*pass_.binds(), *pass_.replacements(age_s)]
    # 2. Make victims go, unless something failed: then nobody else is disturbed for this plan.
    broken = any(report.state is State.FAILED for report in homes)
    victims = pass_.victims(policy.max_parallel_moves, stop=broken)
    # 3. Say how far it is.
    reports = (*_merged(victims, homes),)
    phase, message = _phase(reports, pass_.todo)
    return Progress(phase=phase, message=message, todo=tuple(pass_.todo), reports=reports)


class _Pass:
    """One look at the cluster: rooms shrink as steps are chosen."""

    def __init__(self, plan: Plan, snapshot: Snapshot) -> None:
        self.plan = plan
        self.todo: list[Step] = []
        self._nodes = {node.name: node for node in snapshot.nodes}
        self._pods = {pod.key: pod for pod in snapshot.pods}
        self._free = snapshot.free()
        self._leaving = self._nodes_with_victims()

    def binds(self) -> list[Report]:
        """Return how far each bind is; whole gangs with room for all are put on the list."""
        reports: list[Report] = []
        for group in _by_gang(self.plan.binds):
            states = [self._bind_state(bind) for bind in group]
            if State.FAILED not in {state for state, _ in states}:
                states = self._release(group, states)
            reports += [_report(b, "Bind", *s) for b, s in zip(group, states, strict=True)]
        return reports

    def replacements(self, age_s: float) -> list[Report]:
        """Return how far each move's replacement is; those with room are put on the list."""
        waiting = self._waiting_by_owner()
        reports = []
        for move in self.plan.moves:
            state, message = self._replacement_state(move, waiting, age_s)
            reports.append(_report(move, "Move", state, message))
        return reports

    def victims(self, max_parallel: int, *, stop: bool) -> list[Report]:
        """Return how far each victim is; the next ones to go are put on the list."""
        reports = []
        on_their_way = sum(self._victim_state(v) is State.STARTED for v in self._victims())
        for victim in self._victims():
            state, message = self._victim_state(victim), "has left its node"
            if state is State.STARTED:
                message = f"is leaving {_source(victim)}"
            if state is State.WAITING and stop:
                message = "stays: the plan can no longer be completed"
            elif state is State.WAITING and on_their_way >= max_parallel:
                message = f"waits for its turn: {on_their_way} pods are on their way"
            elif state is State.WAITING:
                on_their_way += 1
                message = f"is asked to leave {_source(victim)}"
                self._ask_to_leave(victim)
            reports.append(_report(victim, _kind(victim), state, message))
        return reports

    def _victims(self) -> tuple[Move | Evict, ...]:
        """Return who must leave, the least harmful first: moves have another home."""
        return (*self.plan.moves, *self.plan.evictions)

    def _victim_state(self, victim: Move | Evict) -> State:
        pod = self._pods.get(victim.pod)
        if pod is None or pod.uid != victim.uid or pod.node != _source(victim):
            return State.DONE
        return State.STARTED if pod.terminating else State.WAITING

    def _nodes_with_victims(self) -> frozenset[NodeName]:
        """Return the nodes on which room is still to come."""
        staying = [v for v in self._victims() if self._victim_state(v) is not State.DONE]
        return frozenset(_source(victim) for victim in staying)

    def _ask_to_leave(self, victim: Move | Evict) -> None:
        because = "it makes room for pods of higher priority and has no other home for now"
        if isinstance(victim, Move):
            because = f"its replacement is planned on {victim.target}"
        self.todo.append(
            EvictPod(pod=victim.pod, uid=victim.uid, node=_source(victim), because=because)
        )

    def _bind_state(self, bind: Bind) -> tuple[State, str]:
        pod = self._pods.get(bind.pod)
        if pod is None or pod.uid != bind.uid or pod.terminating:
            return State.FAILED, "is gone"
        if pod.node == bind.node:
            return _arrived(pod)
        if pod.node is not None:
            return State.FAILED, f"is on {pod.node} instead of {bind.node}"
        if not pod.waiting:
            return State.FAILED, f"no longer waits for {bind.node}: its gate was lifted"
        return self._home_state(pod, bind.node)

    def _home_state(self, pod: Pod, name: NodeName) -> tuple[State, str]:
        """Return whether `name` can still be the pod's home; whether it is free comes later."""
        node: Node | None = self._nodes.get(name)
        if node is None:
            return State.FAILED, f"cannot go to {name}: the node is gone"
        refusal = filters.static_rejection(pod, node)
        if refusal is not None:
            return State.FAILED, f"cannot go to {name}: {refusal.message}"
        if pod.requests.fits(self._free[name]) or name in self._leaving:
            return State.WAITING, f"waits for room on {name}"
        short = pod.requests.shortfall(self._free[name])
        return State.FAILED, f"cannot go to {name}: others took its room ({_words(short)} short)"

    def _release(
        self, group: Sequence[Bind], states: Sequence[tuple[State, str]]
    ) -> list[tuple[State, str]]:
        """Return the states after releasing the group's waiting pods, if all have room now."""
        waiting = [b for b, (s, _) in zip(group, states, strict=True) if s is State.WAITING]
        room = dict(self._free)
        for bind in waiting:
            asks = self._pods[bind.pod].requests
            if not asks.fits(room[bind.node]):
                return list(states)
            room[bind.node] = room[bind.node] - asks
        self._free = room
        self.todo += [ReleasePod(pod=b.pod, uid=b.uid, node=b.node) for b in waiting]
        freed = (State.STARTED, "is released to its node")
        return [freed if s[0] is State.WAITING else s for s in states]

    def _waiting_by_owner(self) -> dict[str, list[Pod]]:
        """Return pods that may take a moved pod's place, by their owner's uid, oldest first."""
        planned = {bind.uid for bind in self.plan.binds}
        pods = [p for p in self._pods.values() if p.waiting and p.uid not in planned]
        by_owner: dict[str, list[Pod]] = defaultdict(list)
        for pod in sorted(pods, key=lambda p: (p.created_at, p.key)):
            if pod.owner and not pod.terminating:
                by_owner[pod.owner.uid].append(pod)
        return by_owner

    def _replacement_state(
        self, move: Move, waiting: dict[str, list[Pod]], age_s: float
    ) -> tuple[State, str]:
        taken = next((p for p in self._pods.values() if p.replaces == move.uid), None)
        if taken is not None:
            return _arrived(taken)
        candidates = waiting.get(move.owner.uid, []) if move.owner else []
        if not candidates:
            return self._without_replacement(move, age_s)
        pod = candidates.pop(0)
        state, message = self._home_state(pod, move.target)
        if state is State.WAITING and pod.requests.fits(self._free[move.target]):
            self._free[move.target] = self._free[move.target] - pod.requests
            self.todo.append(
                ReleasePod(pod=pod.key, uid=pod.uid, node=move.target, replaces=move.uid)
            )
            return State.STARTED, f"{pod.key.name} is released to {move.target} in its place"
        return state, f"{pod.key.name} {message} in its place"

    def _without_replacement(self, move: Move, age_s: float) -> tuple[State, str]:
        if self._victim_state(move) is not State.DONE:
            return State.WAITING, f"will move to {move.target}"
        if age_s > REPLACEMENT_GRACE_S:
            return State.DONE, "left, and nothing was made in its place"
        return State.WAITING, f"waits for {move.owner or 'its owner'} to make a pod in its place"


def _by_gang(binds: Iterable[Bind]) -> list[list[Bind]]:
    """Return the binds in groups that start together: a gang, or one pod alone."""
    groups: dict[GangKey | PodKey, list[Bind]] = defaultdict(list)
    for bind in binds:
        groups[bind.gang or bind.pod].append(bind)
    return list(groups.values())


def _arrived(pod: Pod) -> tuple[State, str]:
    if pod.bound:
        return State.DONE, f"runs on {pod.node}"
    return State.STARTED, f"is pinned to {pod.node}; the scheduler binds it next"


def _source(victim: Move | Evict) -> NodeName:
    return victim.source if isinstance(victim, Move) else victim.node


def _kind(action: Move | Evict) -> str:
    return "Move" if isinstance(action, Move) else "Evict"


def _report(action: Bind | Move | Evict, kind: str, state: State, message: str) -> Report:
    return Report(pod=action.pod, type=kind, state=state, message=message)


def _merged(victims: Sequence[Report], homes: Sequence[Report]) -> Iterable[Report]:
    """Return one report per action: a move's is its victim's until that has left."""
    leaving = {r.pod: r for r in victims if r.type == "Move" and r.state is not State.DONE}
    yield from (report for report in victims if report.type == "Evict")
    yield from (leaving.get(r.pod, r) if r.type == "Move" else r for r in homes)


def _phase(reports: Sequence[Report], todo: Sequence[Step]) -> tuple[Phase, str]:
    failed = [r for r in reports if r.state is State.FAILED]
    started = [r for r in reports if r.state is State.STARTED]
    done = sum(r.state is State.DONE for r in reports)
    if failed and not todo and not started:
        first = failed[0]
        return Phase.FAILED, f"stopped: {first.pod} {first.message}; a new plan follows"
    if done == len(reports):
        return Phase.COMPLETED, "every step is done"
    waiting = next((r for r in reports if r.state is not State.DONE), None)
    tail = f": {waiting.pod} {waiting.message}" if waiting else ""
    return Phase.EXECUTING, f"{done} of {len(reports)} steps done{tail}"


def _words(amounts: Resources) -> str:
    return ", ".join(f"{n} {name}" for name, n in amounts.items)
