"""Clearing: victims leave for the homes that a plan promises, and nobody else does.

Those that serve finish their requests first, out of service.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.pods import Disruption, Pod
from bayplan.inference.drains import DrainState
from bayplan.plan import Evict, Move, together
from bayplan.steps.allowances import Allowances
from bayplan.steps.ledger import Ledger, source_of
from bayplan.steps.progress import (
    GIVEN_UP,
    SPARED,
    DrainPod,
    EvictPod,
    Report,
    ServePod,
    Standing,
    StartPod,
    State,
    clock,
    hanging,
    has_failed,
    keeping,
    report_of,
    still_finishing,
)
from bayplan.steps.surges import SurgeContext, Surges

#: States of a victim that has been asked to leave.
_BEGUN: Final = frozenset({State.STARTED, State.DONE})

#: Why a victim that serves is not drained.
_UNDRAINED: Final = (
    "it is not drained first, for PodDisruptionBudget {} would keep it once it is not ready: to"
    " have it drained, set spec.unhealthyPodEvictionPolicy to AlwaysAllow there"
)

#: Victims that leave together.
Group = tuple[Move | Evict, ...]


@dataclass(slots=True, kw_only=True)
class _Queue:
    """Who may begin to leave in this pass.

    Attributes:
        max_parallel: Most pods that are on their way at a time.
        on_their_way: How many are.
        stop: Whether nobody else may begin, for the plan cannot be completed.
        surging: Whether replacements start that must serve before.
        unfinished: Whether a part of a gang has begun to leave, and the rest has not.
    """

    max_parallel: int
    on_their_way: int
    stop: bool
    surging: bool = False
    unfinished: bool = False


class Victims:
    """Says how far each victim is, and who drains or is asked to leave next: the `todo`.

    Of those in `lost` the home, or that of their replacement, has failed. When the plan is `over`,
    because its window has closed, nobody begins to leave for free room.
    """

    def __init__(
        self, ledger: Ledger, surge: SurgeContext, *, lost: Collection[PodKey], over: bool
    ) -> None:
        self._ledger = ledger
        self._surge = surge
        self._lost = lost
        self._over = over
        self._allowances = Allowances(ledger, ())
        self._shortage = ""
        self.todo: list[StartPod | DrainPod | ServePod | EvictPod] = []

    def reports(self, max_parallel: int, *, stragglers: int) -> list[Report]:
        """Return how far each victim is; the next ones to go are put on the list.

        Those who leave together do so at once, or none of them does. Once one has begun, no
        failure and no limit keeps the others: half a gang is of no use to anybody. The limit is on
        all that are on their way, `stragglers` of plans before included.
        """
        given_up = self._given_up()
        stay = {**given_up, **self._spared(given_up)}
        groups = [group for group in self._groups() if group[0].uid not in stay]
        leaving = [(group, self._states(group)) for group in groups]
        # A home that nobody moves to any more is no loss.
        is_lost = bool(set(self._lost).difference(v.pod for g in given_up.values() for v in g))
        queue = _Queue(
            max_parallel=max_parallel,
            on_their_way=stragglers + sum(self._on_their_way(*each) for each in leaving),
            stop=is_lost or any(self._has_failed(*each) for each in leaving),
        )
        # 1. Those whose replacement starts first.
        victims = [victim for group in groups for victim in group]
        surges = Surges(self._ledger, self._surge, victims)
        queue.on_their_way = surges.begin(queue.on_their_way, max_parallel, stop=queue.stop)
        queue.stop, queue.surging = queue.stop or has_failed(surges.told.values()), surges.busy
        self.todo += surges.todo
        reports = [
            report_of(v, *surges.told[v.uid], hindered=v.uid in surges.hindered)
            for v in victims
            if v.uid in surges.told
        ]
        # 2. The others.
        reports += self._clear([g for g in groups if g[0].uid not in surges.told], queue)
        # 3. Those who need not leave.
        for uid, group in stay.items():
            self._put_back(group)
            why = GIVEN_UP if uid in given_up else SPARED
            reports += [report_of(victim, State.DONE, why) for victim in group]
        return reports

    def _clear(self, groups: Sequence[Group], queue: _Queue) -> list[Report]:
        """Return how far those are who leave before their replacement starts."""
        self._allowances = Allowances(self._ledger, (v for group in groups for v in group))
        self._shortage = self._allowances.shortage()
        found = [(group, self._states(group)) for group in groups]
        queue.unfinished = any(_has_begun(s) and _has_waiting(s) for _, s in found)
        reports: list[Report] = []
        for group, states in found:
            waiting = [v for v, s in zip(group, states, strict=True) if s[0] is State.WAITING]
            now: Standing | None
            stays = "" if _has_begun(states) else self._stays(group, waiting, queue)
            if stays:
                now = State.WAITING, stays
                if queue.stop:
                    self._put_back(group)
            else:
                queue.on_their_way += 0 if self._drains(group, states) else len(waiting)
                now = self._let_go(waiting, group)
            told = (now if now and s[0] is State.WAITING else s for s in states)
            reports += [self._report(v, t) for v, t in zip(group, told, strict=True)]
        return reports

    def _report(self, victim: Move | Evict, told: Standing) -> Report:
        """Return how far a victim is; it is hindered if a budget is too small or it hangs."""
        pod = self._ledger.remaining(victim)
        hangs = pod is not None and pod.terminating and bool(hanging(pod, self._ledger.now))
        return report_of(victim, *told, hindered=hangs or told[1] == self._short())

    def _short(self) -> str:
        """Return what a victim says that waits for a PodDisruptionBudget; read with a shortage."""
        return f"waits: {self._shortage}"

    def _stays(self, group: Group, waiting: Sequence[Move | Evict], queue: _Queue) -> str:
        """Return why a group of which nobody has begun to leave may not now; "" if it may."""
        if queue.stop:
            return "stays: the plan can no longer be completed"
        drains = any(map(self._has_drained, group))
        if queue.surging and not drains:
            return "waits until the replacements that are starting serve"
        if queue.unfinished:
            # Evictions of a pass are refused together: the rest of a gang is asked for alone.
            return "waits for its turn: a gang that has begun to leave goes first"
        if self._shortage and not all(map(self._has_drained, waiting)):
            return self._short()
        if not drains and 0 < queue.on_their_way > queue.max_parallel - len(waiting):
            return f"waits for its turn: {_are_on_their_way(queue.on_their_way)}"
        return ""

    def _states(self, group: Group) -> list[Standing]:
        return [self._victim_state(victim) for victim in group]

    def _on_their_way(self, group: Group, states: Sequence[Standing]) -> int:
        """Return how many of a group are leaving, or finish their requests before they do."""
        if self._drains(group, states):
            return len(group)
        return sum(state is State.STARTED for state, _ in states)

    def _has_failed(self, group: Group, states: Sequence[Standing]) -> bool:
        """Return whether one of a group cannot leave, and nothing else sees to its going."""
        return has_failed(states) and (isinstance(group[0], Evict) or not self._gives_way(group[0]))

    def _gives_way(self, victim: Move | Evict) -> bool:
        """Return whether the replacement of a victim is there already."""
        pod = self._ledger.remaining(victim)
        return pod is not None and bool(pod.gives_way_by)

    def _drains(self, group: Group, states: Iterable[Standing]) -> bool:
        """Return whether nobody of a group has left, and somebody was taken out of service."""
        return not _has_begun(states) and any(map(self._has_drained, group))

    def _has_drained(self, victim: Move | Evict) -> bool:
        """Return whether a victim was taken out of service, be it still busy."""
        return self._drain_of(victim).begun

    def _drain_of(self, victim: Move | Evict) -> DrainState:
        return self._ledger.drain_of(victim)

    def _let_go(self, waiting: Sequence[Move | Evict], group: Group) -> Standing | None:
        """Ask those of a group to leave who have not begun to, or have them drain before.

        Return how far they all are then; None where each has its own words.
        """
        drains = [self._drain_of(victim) for victim in waiting]
        due = [
            victim
            for victim, drain in zip(waiting, drains, strict=True)
            if not (drain.begun or drain.over or self._allowances.keeps_drained(victim))
        ]
        if any(map(self._allowances.is_unsure, due)):
            return State.WAITING, "waits until its PodDisruptionBudget has counted who drains"
        if not due and all(drain.over or not drain.begun for drain in drains):
            self._ask_to_leave(waiting, group)
            return None
        self.todo += [DrainPod(pod=v.pod, uid=v.uid, because=self._because(v, group)) for v in due]
        if due:
            return State.WAITING, "is to finish its requests before it leaves"
        return still_finishing(drains)

    def _put_back(self, group: Iterable[Move | Evict]) -> None:
        """Put those of a group back into service who were taken out for the plan."""
        out = (v for v in group if self._drain_of(v).begun and self._drain_of(v).yields)
        self.todo += [ServePod(pod=victim.pod, uid=victim.uid) for victim in out]

    def _given_up(self) -> Mapping[str, Group]:
        """Return the moves that have not begun when the plan is over, but for those others need.

        By uid. Who waits, or has left already, may have its home where one of them is.
        """
        if not self._over:
            return {}
        idle = {group[0].uid: group for group in self._groups() if self._is_idle(group)}
        on: dict[NodeName, list[str]] = defaultdict(list)
        for uid, group in idle.items():
            self._count_homes(group, owed=False)
            for victim in group:
                on[source_of(victim)].append(uid)
        homes = {bind.node for bind in self._ledger.plan.binds}
        homes |= {move.target for move in self._ledger.plan.moves if move.uid not in idle}
        doubtful = list(idle)
        while doubtful:
            uid = doubtful.pop()
            if uid in idle and not self._may_stay(idle[uid], homes):
                needed = idle.pop(uid)
                self._count_homes(needed, owed=True)
                # Its own home is one from now on: who is there may be in the way.
                targets = {move.target for move in needed if isinstance(move, Move)}
                homes |= targets
                doubtful += (other for target in targets for other in on[target])
        return idle

    def _is_idle(self, group: Group) -> bool:
        """Return whether nothing was done for any of them."""
        return all(
            self._victim_state(victim)[0] is State.WAITING
            and not (self._gives_way(victim) or self._drain_of(victim).begun)
            for victim in group
        )

    def _may_stay(self, group: Group, homes: Collection[NodeName]) -> bool:
        """Return whether all homes on their nodes have room, but for those of the idle."""
        return all(
            self._has_room(source_of(victim))
            and not (source_of(victim) in homes and self._is_kept_apart(victim))
            for victim in group
        )

    def _count_homes(self, group: Group, *, owed: bool) -> None:
        """Count the homes of those who move as still owed, or as owed no more.

        One that is lost never was.
        """
        moves = (victim for victim in group if isinstance(victim, Move))
        for move in (move for move in moves if move.pod not in self._lost):
            asks = self._ledger.pods[move.pod].requests.on_device(move.device)
            before = self._ledger.owed[move.target]
            self._ledger.owed[move.target] = before + asks if owed else before - asks

    def _spared(self, given_up: Collection[str]) -> Mapping[str, Group]:
        """Return who need not leave, by the first one's uid: all homes on their nodes have room.

        Other pods may have ended since the plan was made. A move that is spared needs no home
        either, which may spare a victim there.
        """
        groups = (group for group in self._groups() if group[0].uid not in given_up)
        candidates = [group for group in groups if self._may_be_spared(group)]
        spared: dict[str, Group] = {}
        while found := next((g for g in candidates if self._is_spare(g, spared)), None):
            spared[found[0].uid] = found
            self._count_homes(found, owed=False)
        return spared

    def _may_be_spared(self, group: Group) -> bool:
        """Return whether none of them has begun to leave, and it is for the room of some.

        Who gives way to a replacement leaves in any case, so its room is no surprise.
        """
        homes = {b.node for b in self._ledger.plan.binds} | {
            m.target for m in self._ledger.plan.moves
        }
        waits = all(
            self._victim_state(victim)[0] is State.WAITING and not self._gives_way(victim)
            for victim in group
        )
        return waits and any(source_of(victim) in homes for victim in group)

    def _is_spare(self, group: Group, spared: Collection[str]) -> bool:
        return group[0].uid not in spared and all(
            self._has_room(source_of(victim)) and not self._is_kept_apart(victim)
            for victim in group
        )

    def _has_room(self, name: NodeName) -> bool:
        """Return whether all homes that are owed on a node have room there, or will have."""
        there = self._ledger.free.get(name)
        return there is not None and self._ledger.owed[name].fits(
            there + self._ledger.terminated[name]
        )

    def _is_kept_apart(self, victim: Move | Evict) -> bool:
        """Return whether the victim may have to leave for another reason than room.

        Then one of those who meet on its node asks something of other pods. Who leaves a node
        that is no home may be in the way of anybody.
        """
        source = source_of(victim)
        homes = [(b.pod, b.node) for b in self._ledger.plan.binds]
        homes += [(m.pod, m.target) for m in self._ledger.plan.moves]
        here = [key for key, name in homes if name == source] or [key for key, _ in homes]
        met = (self._ledger.pods.get(key) for key in (victim.pod, *here))
        return any(pod is not None and pod.constraints.peers is not None for pod in met)

    def _groups(self) -> Sequence[Group]:
        """Return the victims in groups that leave together: an evicted gang, or one pod alone."""
        return [tuple(group) for group in together(self._victims())]

    def _victims(self) -> Sequence[Move | Evict]:
        """Return who must leave, the least harmful first.

        Moves come before evictions, for they have another home; those whose home is free now
        before those that would have to wait for it.
        """
        moves = sorted(self._ledger.plan.moves, key=lambda move: not self._has_free_target(move))
        return (*moves, *self._ledger.plan.evictions)

    def _has_free_target(self, move: Move) -> bool:
        victim, free = self._ledger.pods.get(move.pod), self._ledger.free.get(move.target)
        if victim is None or free is None:
            return False
        return victim.requests.on_device(move.device).fits(free)

    def _victim_state(self, victim: Move | Evict) -> Standing:
        pod = self._ledger.remaining(victim)
        if pod is None:
            return State.DONE, "has left its node"
        if pod.terminating:
            return self._end(victim, pod)
        if hindrance := self._hindrance(victim, pod):
            return hindrance
        if self._ledger.stalled:
            why = f": {self._shortage}" if self._shortage else ""
            return State.FAILED, f"does not leave {source_of(victim)}{why}"
        return State.WAITING, f"is asked to leave {source_of(victim)}"

    def _end(self, victim: Move | Evict, pod: Pod) -> Standing:
        """Return how far a victim is that is being deleted."""
        if self._ledger.stalled:
            return State.FAILED, f"does not end on {source_of(victim)}: {keeping(pod)}"
        if hangs := hanging(pod, self._ledger.now):
            return State.STARTED, f"is leaving {source_of(victim)}, and {hangs}"
        by = clock(pod.leaves_at)
        return State.STARTED, f"is leaving {source_of(victim)}, by {by} at most"

    def _hindrance(self, victim: Move | Evict, pod: Pod) -> Standing | None:
        """Return how far a victim is that may not be asked to leave, if so."""
        if problem := _not_allowed(victim, pod):
            return State.FAILED, problem
        why = self._ledger.denied.get(victim.uid)
        stays = f"stays on {source_of(victim)}, for its going is refused: {why}"
        return (State.REFUSED, stays) if why else None

    def _ask_to_leave(self, waiting: Iterable[Move | Evict], group: Group) -> None:
        """Put evictions on the list."""
        self.todo += [
            EvictPod(
                pod=victim.pod,
                uid=victim.uid,
                node=source_of(victim),
                because=self._because(victim, group),
                target=victim.target if isinstance(victim, Move) else None,
            )
            for victim in waiting
        ]

    def _because(self, victim: Move | Evict, group: Group) -> str:
        """Return why a victim of a group leaves, in words."""
        because = f"it makes room for {self._newcomers_to({source_of(each) for each in group})}"
        if isinstance(victim, Move):
            because = f"{because}, and its replacement is planned on {victim.target}"
        if self._drain_of(victim).over:
            return because
        keeper = self._allowances.keeps_drained(victim)
        return f"{because}; {_UNDRAINED.format(keeper)}" if keeper else because

    def _newcomers_to(self, names: Collection[NodeName]) -> str:
        """Return who gets a home on one of the nodes, in words."""
        pods = [bind.pod for bind in self._ledger.plan.binds if bind.node in names]
        pods += [move.pod for move in self._ledger.plan.moves if move.target in names]
        if not pods:
            return "a better packing"
        more = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
        return f"{pods[0]}{more}"


def _has_begun(states: Iterable[Standing]) -> bool:
    return any(state in _BEGUN for state, _ in states)


def _has_waiting(states: Iterable[Standing]) -> bool:
    return any(state is State.WAITING for state, _ in states)


def _are_on_their_way(n: int) -> str:
    return "1 pod is on its way" if n == 1 else f"{n} pods are on their way"


def _not_allowed(victim: Move | Evict, pod: Pod) -> str:
    """Return why a victim may no longer be asked to leave, or ""."""
    if isinstance(victim, Evict) and pod.gives_way_by:
        return "is being moved: its replacement is there already"
    if pod.disruption is Disruption.FIXED:
        return "may not be disturbed any more"
    if isinstance(victim, Move) and pod.disruption is not Disruption.MOVABLE:
        return "may not be moved any more"
    return ""
