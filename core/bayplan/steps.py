"""Carrying out a plan, one safe step at a time.

    victims:  Waiting ──evict──▶ Started (terminating) ──▶ gone
                                                            │ move: its owner makes a new pod
                                                            ▼
    homes:    Waiting ──room is free, whole gang──▶ Started (gate lifted, pinned) ──▶ Done (bound)

`advance` compares a plan with the cluster as it is now and says what to do next and how far each
action is. It keeps no memory: everything it needs is in the plan and on the pods, so it can be
asked again after any crash. The operator does the steps and asks again.

Nobody is disturbed in vain: a victim is asked to leave only while every home that the plan
promises is still there, counting the room that is to come. Once one is not, no further victim
goes, what has begun is finished (a gang of which one has left goes whole), and the plan ends as
failed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bayplan import filters, units
from bayplan.plan import Bind, Evict, Move, Plan
from bayplan.policy import Policy
from bayplan.snapshot import Disruption, GangKey, NodeName, Pod, PodKey, Resources, Snapshot

#: Seconds without progress in which a moved pod's owner should have made its replacement; after
#: that the plan ends without it, and a replacement that still comes is planned anew.
REPLACEMENT_GRACE_S: Final = 30

#: Seconds without progress after which a plan gives up what waits: an eviction that a
#: PodDisruptionBudget keeps refusing, a pinned pod that the scheduler does not bind.
STALL_S: Final = 120

#: The same while it waits for pods that are leaving: serving pods may drain for minutes.
LEAVING_STALL_S: Final = 900

#: Owners that give a pod made again the name of the one that is gone.
_SAME_NAME: Final = frozenset({"InferenceDeployment", "StatefulSet"})


#: What is reported of a victim that need not leave any more.
SPARED: Final = "stays: its room is no longer needed"


class State(StrEnum):
    """How far an action is."""

    WAITING = "Waiting"
    STARTED = "Started"
    DONE = "Done"
    FAILED = "Failed"


#: States of a victim that has been asked to leave.
_BEGUN: Final = frozenset({State.STARTED, State.DONE})


class Phase(StrEnum):
    """How far a plan is."""

    EXECUTING = "Executing"
    COMPLETED = "Completed"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictPod:
    """Ask for a running pod's eviction.

    `because` is for its event; `target` is where its replacement goes, if it has another home.
    """

    pod: PodKey
    uid: str
    node: NodeName
    because: str
    target: NodeName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePod:
    """Lift a waiting pod's gate and pin it to `node`, in one patch.

    `replaces` is the uid of the moved pod whose place it takes, or ""; `device` is the number of
    the GPU that it shares, if it does; `gang` starts together.
    """

    pod: PodKey
    uid: str
    node: NodeName
    replaces: str = ""
    device: int | None = None
    gang: GangKey | None = None


Step = EvictPod | ReleasePod

#: Victims that leave together.
Group = tuple[Move | Evict, ...]


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


def advance(plan: Plan, snapshot: Snapshot, policy: Policy, *, idle_s: float) -> Progress:
    """Return the next steps of `plan` on the cluster as it is now.

    `snapshot` holds the nodes of `nodes_of(plan)` with every pod on them, and all pods without a
    node that are managed. `idle_s` is the time since the state of an action last changed.
    """
    pass_ = _Pass(plan, snapshot, idle_s)
    # 1. Give homes to the waiting pods and replacements that have one free.
    homes = [*pass_.binds(), *pass_.replacements()]
    # 2. Make victims go, unless something failed: then nobody else is disturbed for this plan.
    victims = pass_.victims(policy.max_parallel_moves, stop=_failed(homes))
    # 3. Say how far it is.
    reports = (*_merged(victims, homes),)
    phase, message = _phase(plan, reports, pass_.todo)
    return Progress(phase=phase, message=message, todo=tuple(pass_.todo), reports=reports)


class _Pass:
    """One look at the cluster: rooms shrink as steps are chosen.

    Two accounts are kept of each node. `_free` is the room there is now: what is released must
    fit in it. `_due` adds what leaving pods will give back and subtracts every home that the plan
    still owes: a home that does not fit in it will never be there.
    """

    def __init__(self, plan: Plan, snapshot: Snapshot, idle_s: float) -> None:
        self.plan = plan
        self.todo: list[Step] = []
        self._nodes = {node.name: node for node in snapshot.nodes}
        self._pods = {pod.key: pod for pod in snapshot.pods}
        self._free = snapshot.free()
        self._due = dict(self._free)
        self._terminated = dict.fromkeys(self._free, Resources())
        self._owed: dict[NodeName, Resources] = defaultdict(Resources)
        self._count_leaving(snapshot.placed())
        patience = LEAVING_STALL_S if self._is_awaited(snapshot.placed()) else STALL_S
        self._stalled = idle_s >= patience
        self._idle_s = idle_s

    def binds(self) -> list[Report]:
        """Return how far each bind is; whole gangs with room for all are put on the list."""
        groups = [(group, [self._bind_state(b) for b in group]) for group in self._by_gang()]
        reports: list[Report] = []
        for group, states in groups:
            told = states if _has_failed(states) else self._release(group, states)
            reports += [_report(b, "Bind", *s) for b, s in zip(group, told, strict=True)]
        return reports

    def replacements(self) -> list[Report]:
        """Return how far each move's replacement is; those with room are put on the list."""
        newcomers = self._newcomers_by_owner()
        taken = self._taken()
        return [
            _report(move, "Move", *self._move_state(move, taken.get(move.uid), newcomers))
            for move in self.plan.moves
        ]

    def _taken(self) -> Mapping[str, Pod]:
        """Return the pods that have taken a moved pod's place, by its uid."""
        return {p.replaces: p for p in self._pods.values() if p.replaces and not p.terminating}

    def victims(self, max_parallel: int, *, stop: bool) -> list[Report]:
        """Return how far each victim is; the next ones to go are put on the list.

        Those who leave together do so at once, or none of them does. Once one has begun, no
        failure and no limit keeps the others: half a gang is of no use to anybody.
        """
        spared = self._spared()
        leaving = [group for group in self._groups() if group[0].uid not in spared]
        found = [(group, [self._victim_state(v) for v in group]) for group in leaving]
        stop = stop or any(_has_failed(states) for _, states in found)
        on_their_way = sum(s is State.STARTED for _, states in found for s, _ in states)
        unfinished = any(_has_begun(s) and _has_waiting(s) for _, s in found)
        reports = []
        for group, states in found:
            waiting = [v for v, s in zip(group, states, strict=True) if s[0] is State.WAITING]
            begun, stays = _has_begun(states), ""
            if stop and not begun:
                stays = "stays: the plan can no longer be completed"
            elif not begun and unfinished:
                # Evictions of a pass are refused together: the rest of a gang is asked for alone.
                stays = "waits for its turn: a gang that has begun to leave goes first"
            elif not begun and 0 < on_their_way > max_parallel - len(waiting):
                stays = f"waits for its turn: {on_their_way} pods are on their way"
            else:
                on_their_way += len(waiting)
                self._ask_to_leave(waiting, group)
            told = ((s, stays if stays and s is State.WAITING else m) for s, m in states)
            reports += [_report(v, _kind(v), *t) for v, t in zip(group, told, strict=True)]
        stays_for_good = (victim for group in spared.values() for victim in group)
        return reports + [_report(v, _kind(v), State.DONE, SPARED) for v in stays_for_good]

    def _spared(self) -> Mapping[str, Group]:
        """Return who need not leave, by the first one's uid: all homes on their nodes have room.

        Other pods may have ended since the plan was made. A move that is spared needs no home
        either, which may spare a victim there.
        """
        candidates = [group for group in self._groups() if self._may_be_spared(group)]
        spared: dict[str, Group] = {}
        while found := next((g for g in candidates if self._is_spare(g, spared)), None):
            spared[found[0].uid] = found
            for move in (victim for victim in found if isinstance(victim, Move)):
                asks = self._pods[move.pod].requests.on_device(move.device)
                self._owed[move.target] = self._owed[move.target] - asks
        return spared

    def _may_be_spared(self, group: Group) -> bool:
        """Return whether none of them has begun to leave, and it is for the room of some."""
        homes = {b.node for b in self.plan.binds} | {m.target for m in self.plan.moves}
        waits = all(self._victim_state(victim)[0] is State.WAITING for victim in group)
        return waits and any(_source(victim) in homes for victim in group)

    def _is_spare(self, group: Group, spared: Collection[str]) -> bool:
        return group[0].uid not in spared and all(
            _source(victim) in self._free
            and not self._is_kept_apart(victim)
            and self._owed[_source(victim)].fits(
                self._free[_source(victim)] + self._terminated[_source(victim)]
            )
            for victim in group
        )

    def _is_kept_apart(self, victim: Move | Evict) -> bool:
        """Return whether the victim may have to leave for another reason than room.

        Then one of those who meet on its node asks something of other pods. Who leaves a node
        that is no home may be in the way of anybody.
        """
        source = _source(victim)
        homes = [(b.pod, b.node) for b in self.plan.binds]
        homes += [(m.pod, m.target) for m in self.plan.moves]
        here = [key for key, name in homes if name == source] or [key for key, _ in homes]
        met = (self._pods.get(key) for key in (victim.pod, *here))
        return any(pod is not None and pod.constraints.peers is not None for pod in met)

    def _groups(self) -> Sequence[Group]:
        """Return the victims in groups that leave together: an evicted gang, or one pod alone."""
        groups: dict[GangKey | PodKey, list[Move | Evict]] = defaultdict(list)
        for victim in self._victims():
            gang = victim.gang if isinstance(victim, Evict) else None
            groups[gang or victim.pod].append(victim)
        return [tuple(group) for group in groups.values()]

    def _victims(self) -> Sequence[Move | Evict]:
        """Return who must leave, the least harmful first.

        Moves come before evictions, for they have another home; those whose home is free now
        before those that would have to wait for it.
        """
        moves = sorted(self.plan.moves, key=lambda move: not self._has_free_target(move))
        return (*moves, *self.plan.evictions)

    def _has_free_target(self, move: Move) -> bool:
        victim, free = self._pods.get(move.pod), self._free.get(move.target)
        if victim is None or free is None:
            return False
        return victim.requests.on_device(move.device).fits(free)

    def _victim_state(self, victim: Move | Evict) -> tuple[State, str]:
        pod = self._remaining(victim)
        if pod is None:
            return State.DONE, "has left its node"
        if pod.terminating and self._stalled:
            return State.FAILED, f"does not end on {_source(victim)}: look at its finalizers"
        if pod.terminating:
            return State.STARTED, f"is leaving {_source(victim)}"
        if problem := _not_allowed(victim, pod):
            return State.FAILED, problem
        if self._stalled:
            return State.FAILED, f"does not leave {_source(victim)}"
        return State.WAITING, f"is asked to leave {_source(victim)}"

    def _remaining(self, victim: Move | Evict) -> Pod | None:
        """Return the victim while it is still where the plan saw it."""
        pod = self._pods.get(victim.pod)
        there = pod is not None and pod.uid == victim.uid and pod.node == _source(victim)
        return pod if there else None

    def _count_leaving(self, placed: Iterable[Pod]) -> None:
        """Add to `_due` and `_terminated` what pods will give back."""
        victims = {victim.uid for victim in self._victims() if self._remaining(victim)}
        leaving = [pod for pod in placed if pod.terminating or pod.uid in victims]
        for pod in leaving:
            if pod.node in self._due:
                self._due[pod.node] = self._due[pod.node] + pod.requests
            if pod.node in self._terminated and pod.terminating:
                self._terminated[pod.node] = self._terminated[pod.node] + pod.requests

    def _is_awaited(self, placed: Iterable[Pod]) -> bool:
        """Return whether a pod is leaving whose room, or whose going, the plan waits for.

        One that will not end, on a node where every home has room, is no matter of the plan.
        """
        victims = {victim.uid for victim in self._victims()}
        asks: dict[NodeName, Resources] = defaultdict(Resources)
        for action, pod in self._still_to_come():
            asks[_home(action)] = asks[_home(action)] + pod.requests.on_device(action.device)
        short = {name for name in asks if not asks[name].fits(self._free.get(name, Resources()))}
        leaving = (pod for pod in placed if pod.terminating)
        return any(pod.uid in victims or pod.node in short for pod in leaving)

    def _still_to_come(self) -> Iterator[tuple[Bind | Move, Pod]]:
        """Yield the homes that are not taken yet, each with the pod for whose size it is."""
        for bind in self.plan.binds:
            pod = self._pods.get(bind.pod)
            if pod is not None and pod.uid == bind.uid and pod.node is None:
                yield bind, pod
        taken, newcomers = self._taken(), self._newcomers_by_owner()
        for move in self.plan.moves:
            if move.uid not in taken:
                victim = self._remaining(move)
                pod = victim or _pop_replacement(move, newcomers)
                if pod is not None:
                    yield move, pod

    def _ask_to_leave(self, waiting: Iterable[Move | Evict], group: Group) -> None:
        """Put those of a group who have not begun to leave on the list."""
        newcomers = self._newcomers_to({_source(victim) for victim in group})
        for victim in waiting:
            source, target = _source(victim), None
            because = f"it makes room for {newcomers}"
            if isinstance(victim, Move):
                target = victim.target
                because += f", and its replacement is planned on {target}"
            self.todo.append(
                EvictPod(
                    pod=victim.pod, uid=victim.uid, node=source, because=because, target=target
                )
            )

    def _newcomers_to(self, names: Collection[NodeName]) -> str:
        """Return who gets a home on one of the nodes, in words."""
        pods = [bind.pod for bind in self.plan.binds if bind.node in names]
        pods += [move.pod for move in self.plan.moves if move.target in names]
        if not pods:
            return "a better packing"
        more = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
        return f"{pods[0]}{more}"

    def _bind_state(self, bind: Bind) -> tuple[State, str]:
        pod = self._pods.get(bind.pod)
        if pod is None or pod.uid != bind.uid or pod.terminating:
            return State.FAILED, "is gone"
        if pod.node == bind.node:
            return self._arrival_state(pod, bind.node)
        if pod.node is not None:
            return self._elsewhere_state(pod)
        if not pod.waiting:
            return State.FAILED, f"no longer waits for {bind.node}: its gate was lifted"
        return self._home_state(pod, bind)

    def _elsewhere_state(self, pod: Pod) -> tuple[State, str]:
        """Return how far a pod is that the plan before this one released while this was made.

        It has a home, so nothing has failed; the home that this plan had for it is not needed.
        """
        if pod.bound:
            return State.DONE, f"runs on {pod.node} already"
        if self._stalled:
            return State.FAILED, f"is pinned to {pod.node}, but the scheduler does not bind it"
        return State.STARTED, f"is pinned to {pod.node} already; the scheduler binds it next"

    def _arrival_state(self, pod: Pod, name: NodeName) -> tuple[State, str]:
        """Return how far a pod is that is bound, or pinned and will be."""
        if pod.bound:
            return State.DONE, f"runs on {name}"
        node = self._nodes.get(name)
        if node is None:
            return State.FAILED, f"is pinned to {name}: the node is gone"
        if refusal := filters.static_rejection(pod, node):
            return State.FAILED, f"is pinned to {name}: {refusal.message}"
        short = pod.requests.shortfall(self._due[name] + pod.requests)
        if short.items:
            return State.FAILED, f"is pinned to {name}: others took its room ({_words(short)})"
        if self._stalled:
            return State.FAILED, f"is pinned to {name}, but the scheduler does not bind it"
        return State.STARTED, f"is pinned to {name}; the scheduler binds it next"

    def _home_state(self, pod: Pod, action: Bind | Move) -> tuple[State, str]:
        """Return whether its home can still become the pod's, and take it off what is due."""
        name, asks = _home(action), pod.requests.on_device(action.device)
        node = self._nodes.get(name)
        if node is None:
            return State.FAILED, f"cannot go to {name}: the node is gone"
        if refusal := filters.static_rejection(pod, node):
            return State.FAILED, f"cannot go to {name}: {refusal.message}"
        short = asks.shortfall(self._due[name])
        if short.items:
            return State.FAILED, f"cannot go to {name}: others took its room ({_words(short)})"
        self._due[name] = self._due[name] - asks
        if self._stalled:
            return State.FAILED, f"did not get to {name} in time"
        self._owed[name] = self._owed[name] + asks
        return State.WAITING, f"waits for room on {name}"

    def _release(
        self, group: Sequence[Bind], states: Sequence[tuple[State, str]]
    ) -> Sequence[tuple[State, str]]:
        """Return the states after releasing the group's waiting pods, if all have room now."""
        waiting = [b for b, (s, _) in zip(group, states, strict=True) if s is State.WAITING]
        room = dict(self._free)
        for bind in waiting:
            asks = self._pods[bind.pod].requests.on_device(bind.device)
            if not asks.fits(room[bind.node]):
                return states
            room[bind.node] = room[bind.node] - asks
        for bind in waiting:
            asks = self._pods[bind.pod].requests.on_device(bind.device)
            self._owed[bind.node] = self._owed[bind.node] - asks
        self._free = room
        self.todo += [
            ReleasePod(pod=b.pod, uid=b.uid, node=b.node, device=b.device, gang=b.gang)
            for b in waiting
        ]
        freed = (State.STARTED, "is released to its node")
        return [freed if s[0] is State.WAITING else s for s in states]

    def _newcomers_by_owner(self) -> Mapping[str, list[Pod]]:
        """Return pods that may take a moved pod's place, by their owner's uid, oldest first.

        A pod that the plan has decided on waited already when it was made, so it is none.
        """
        decided = {b.uid for b in self.plan.binds} | {h.uid for h in self.plan.holds}
        pods = [p for p in self._pods.values() if p.waiting and p.uid not in decided]
        by_owner: dict[str, list[Pod]] = defaultdict(list)
        for pod in sorted(pods, key=lambda p: (p.created_at, p.key)):
            if pod.owner and not pod.terminating:
                by_owner[pod.owner.uid].append(pod)
        return by_owner

    def _move_state(
        self, move: Move, taken: Pod | None, newcomers: Mapping[str, list[Pod]]
    ) -> tuple[State, str]:
        """Return how far a move is, seen from its target."""
        if taken is not None:
            return self._arrival_state(taken, taken.node or move.target)
        victim = self._remaining(move)
        if victim is not None and not victim.terminating:
            # The replacement will ask for what the victim asks for: is its home still there?
            state, message = self._home_state(victim, move)
            return state, message if state is State.FAILED else f"will move to {move.target}"
        pod = _pop_replacement(move, newcomers)
        if pod is not None:
            return self._replacement_state(move, pod)
        if victim is not None:
            return State.WAITING, f"is leaving {move.source} for {move.target}"
        if self._idle_s >= REPLACEMENT_GRACE_S:
            return State.DONE, "left, and nothing was made in its place"
        return State.WAITING, f"waits for {move.owner or 'its owner'} to make a pod in its place"

    def _replacement_state(self, move: Move, pod: Pod) -> tuple[State, str]:
        state, message = self._home_state(pod, move)
        asks = pod.requests.on_device(move.device)
        if state is State.WAITING and asks.fits(self._free[move.target]):
            self._free[move.target] = self._free[move.target] - asks
            self._owed[move.target] = self._owed[move.target] - asks
            self.todo.append(
                ReleasePod(
                    pod=pod.key,
                    uid=pod.uid,
                    node=move.target,
                    replaces=move.uid,
                    device=move.device if asks.share_milli else None,
                )
            )
            return State.STARTED, f"{pod.key.name} is released to {move.target} in its place"
        return state, f"{pod.key.name} {message} in its place"

    def _by_gang(self) -> Iterable[Sequence[Bind]]:
        """Return the binds in groups that start together: a gang, or one pod alone."""
        groups: dict[GangKey | PodKey, list[Bind]] = defaultdict(list)
        for bind in self.plan.binds:
            groups[bind.gang or bind.pod].append(bind)
        return groups.values()


def _pop_replacement(move: Move, newcomers: Mapping[str, list[Pod]]) -> Pod | None:
    """Take the pod that its owner made in the place of a moved one off the list."""
    candidates = newcomers.get(move.owner.uid, []) if move.owner else []
    named = move.owner is not None and move.owner.kind in _SAME_NAME
    found = next((pod for pod in candidates if not named or pod.key == move.pod), None)
    if found is not None:
        candidates.remove(found)
    return found


def _failed(reports: Iterable[Report]) -> bool:
    return any(report.state is State.FAILED for report in reports)


def _has_failed(states: Iterable[tuple[State, str]]) -> bool:
    return any(state is State.FAILED for state, _ in states)


def _has_begun(states: Iterable[tuple[State, str]]) -> bool:
    return any(state in _BEGUN for state, _ in states)


def _has_waiting(states: Iterable[tuple[State, str]]) -> bool:
    return any(state is State.WAITING for state, _ in states)


def _source(victim: Move | Evict) -> NodeName:
    return victim.source if isinstance(victim, Move) else victim.node


def _home(action: Bind | Move) -> NodeName:
    return action.target if isinstance(action, Move) else action.node


def _not_allowed(victim: Move | Evict, pod: Pod) -> str:
    """Return why a victim may no longer be asked to leave, or ""."""
    if pod.disruption is Disruption.FIXED:
        return "may not be disturbed any more"
    if isinstance(victim, Move) and pod.disruption is not Disruption.MOVABLE:
        return "may not be moved any more"
    return ""


def _kind(action: Move | Evict) -> str:
    return "Move" if isinstance(action, Move) else "Evict"


def _report(action: Bind | Move | Evict, kind: str, state: State, message: str) -> Report:
    return Report(pod=action.pod, type=kind, state=state, message=message)


def _merged(victims: Sequence[Report], homes: Sequence[Report]) -> Iterable[Report]:
    """Return one report per action: a move's is its victim's until that has left.

    A home that failed is told at once, or nobody would learn why the victims stay.
    """
    moving = [report for report in victims if report.type == "Move"]
    leaving = {r.pod: r for r in moving if r.state is not State.DONE or r.message == SPARED}
    yield from (report for report in victims if report.type == "Evict")
    for report in homes:
        failed = report.state is State.FAILED or report.type == "Bind"
        yield report if failed else leaving.get(report.pod, report)


def _phase(plan: Plan, reports: Sequence[Report], todo: Sequence[Step]) -> tuple[Phase, str]:
    failed = [r for r in reports if r.state is State.FAILED]
    started = [r for r in reports if r.state is State.STARTED]
    done = sum(r.state is State.DONE for r in reports)
    if failed and not todo and not started:
        first = failed[0]
        return Phase.FAILED, f"stopped: {first.pod} {first.message}; a new plan follows"
    if not reports:
        return Phase.COMPLETED, f"nothing to do; {_held(len(plan.holds))}"
    if done == len(reports):
        return Phase.COMPLETED, "every step is done"
    waiting = next(r for r in reports if r.state is not State.DONE)
    told = f"{done} of {len(reports)} steps done: {waiting.pod} {waiting.message}"
    return Phase.EXECUTING, told


def _held(n: int) -> str:
    return "1 pod is held" if n == 1 else f"{n} pods are held"


def _words(short: Resources) -> str:
    return ", ".join(f"{units.words(name, n)} short" for name, n in short.items)
