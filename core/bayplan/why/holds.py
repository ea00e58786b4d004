"""Why each pod that stays waiting must wait, and what would help.

The planner asks after it has decided, so that the room named here is the room after the plan.
What is not proved is not claimed: then the answer is that no place was found in time.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Final

from bayplan.aftermath import Aftermath
from bayplan.cluster import units
from bayplan.cluster.keys import GangKey
from bayplan.cluster.pods import Disruption, Pod, PodKind
from bayplan.plan import Bind, Hold, Move, Reason, Rejection, in_bulk
from bayplan.policy import Policy
from bayplan.why import advice, reasons, remedies, wording
from bayplan.why.blockers import Blocked, Blockers
from bayplan.why.leaving import Rules
from bayplan.why.obstacles import Obstacles
from bayplan.why.rooms import Census, Room, Rooms, fill, usable

#: Most characters of a remedy; an API object takes a few more.
MAX_REMEDY: Final = 900

#: Refusals of nodes that would take the pod if it asked for less, or could bear more.
_UNASKED: Final = frozenset(
    {Reason.TAINT_NOT_TOLERATED, Reason.SELECTOR_MISMATCH, Reason.AFFINITY_MISMATCH}
)

#: What helps a gang whose own rules leave no places for all of it.
_PREFER: Final = "make that preferred instead of required in its pods"

#: What helps who waits for another pod to be placed first.
_NEXT_PLAN: Final = "wait for the next plan, which is made when that pod runs"

#: Refusals that room alone does not lift.
_BETWEEN_PODS: Final = frozenset(
    {
        Reason.POD_ANTI_AFFINITY,
        Reason.TOPOLOGY_SPREAD,
        Reason.POD_AFFINITY,
        Reason.GANG_TOPOLOGY,
        Reason.NOT_ADMITTED,
        Reason.REFUSED_ON_NODE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A pod set aside: what is known about why.

    Attributes:
        proved: Whether it is proved that it cannot be placed without loss elsewhere.
        incomplete: For a gang that lacks pods: how many exist and how many are needed.
    """

    proved: bool
    incomplete: tuple[int, int] | None = None


#: What helps where no place was found, and none is ruled out.
_SEARCH_ON: Final = "wait for the next plan, or raise timeLimitSeconds in the PackingPolicy"

#: What is said of pods for which nobody has found out why they wait.
_UNTOLD: Final = Rejection(
    reason=Reason.NO_PLACE_FOUND,
    message="no place found; the time limit was over before it was known why",
    resolvable=True,
)


def explain(
    after: Aftermath,
    policy: Policy,
    *,
    outcomes: Mapping[str, Outcome],
    in_time: Callable[[], bool],
) -> tuple[Hold, ...]:
    """Return a hold for each waiting pod that has no node after the plan.

    `policy` is what the plan had to keep to; `outcomes` is by pod uid. From when on it is not
    `in_time`, nothing more is found out: pods that are like none before are told so. The most
    urgent come first, and the first is always told why.
    """
    after = _with_devices(after)
    snapshot = after.snapshot
    held = after.held()
    if not held:
        return ()
    asked = {kind.constraints for kind in {pod.kind for pod in held}}
    between = {kind.constraints.peers for kind in snapshot.kinds} - {None}
    together = any(pod.gang_topology for pod in held)
    obstacles = Obstacles(after) if between or together else None
    census = Census(after, asked)
    rules = obstacles or Rules()
    blockers = Blockers(after, census, policy, rules)
    search = remedies.Search(after, census, rules)
    writer = _Writer(census, search, obstacles, blockers, in_time)
    gangs: dict[GangKey, list[Pod]] = defaultdict(list)
    for pod in held:
        if pod.gang is not None:
            gangs[pod.gang].append(pod)
    told = {
        pod.uid: writer.tell(
            pod, gangs.get(pod.gang, []) if pod.gang else [], outcomes.get(pod.uid)
        )
        for pod in sorted(held, key=attrgetter("priority"), reverse=True)
    }
    uids = list(map(attrgetter("uid"), held))
    why, helps = zip(*map(told.__getitem__, uids), strict=True)
    return in_bulk(
        Hold,
        pod=map(attrgetter("key"), held),
        uid=uids,
        rejection=why,
        gang=map(attrgetter("gang"), held),
        remedy=helps,
    )


def _with_devices(after: Aftermath) -> Aftermath:
    """Return the same with each share that the plan places on the GPU that it gets."""
    homes: tuple[Bind | Move, ...] = (*after.bound.actions, *after.moved.actions)
    devices = {action.pod: action.device for action in homes if action.device is not None}
    if not devices:
        return after
    pods = tuple(
        replace(pod, requests=pod.requests.on_device(devices[pod.key]))
        if pod.key in devices
        else pod
        for pod in after.snapshot.pods
    )
    snapshot = replace(after.snapshot, pods=pods)
    return Aftermath.of(snapshot, bound=after.bound, moved=after.moved, evicted=after.evicted)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shortage:
    """Where placing a gang's members one by one ends.

    Attributes:
        members_with_room: How many have room.
        without: Which have none, by their place among the members.
        told: One of these; one that would have none on empty nodes either, if there is such.
        why: Why that one has none.
        ever: Whether it would have none on empty nodes either.
    """

    members_with_room: int
    without: tuple[int, ...]
    told: int
    why: Rejection
    ever: bool


class _Writer:
    """Writes holds; pods that are alike share their sentence."""

    def __init__(
        self,
        census: Census,
        search: remedies.Search,
        obstacles: Obstacles | None,
        blockers: Blockers,
        in_time: Callable[[], bool],
    ) -> None:
        self._census = census
        self._search = search
        self._obstacles = obstacles
        self._rooms = census.rooms(lambda _: True)
        self._blockers = blockers
        self._in_time = in_time
        self._rules = obstacles or Rules()
        self._empty = census.rooms(lambda _: False)
        self._reserved: dict[int, Rooms] = {}
        self._gangs: dict[tuple[PodKind, ...], _Shortage | None] = {}
        self._known: dict[tuple[object, ...], Blocked] = {}
        self._told: dict[tuple[object, ...], tuple[Rejection, str]] = {}

    def tell(self, pod: Pod, gang: Sequence[Pod], outcome: Outcome | None) -> tuple[Rejection, str]:
        """Return why the pod, or the gang it waits with, stays waiting, and what would help."""
        outcome = outcome or Outcome(proved=False)
        if outcome.incomplete is not None:
            return wording.incomplete(pod, *outcome.incomplete)
        look = self._rules.look(pod)
        key = (pod.gang, None if len(gang) > 1 else (pod.kind, look), outcome.proved)
        known = self._told.get(key)
        if known is not None:
            return known
        if self._told and not self._in_time():
            return _UNTOLD, ""
        unit = gang if len(gang) > 1 else (pod,)
        self._told[key] = _with_refusal(pod, *self._unit(unit, proved=outcome.proved))
        return self._told[key]

    def _unit(self, pods: Sequence[Pod], *, proved: bool) -> tuple[Rejection, str]:
        """Return why pods that are placed together stay waiting, and what would help."""
        if len(pods) > 1:
            return self._gang(pods, proved=proved)
        blocked = self._single(pods[0], proved=proved)
        if blocked.alone:
            return blocked.rejection, blocked.remedy
        return blocked.rejection, wording.either(
            blocked.remedy, self._remedy(pods[0], blocked.rejection)
        )

    def _single(self, pod: Pod, *, proved: bool) -> Blocked:
        key = (pod.kind, proved, self._rules.look(pod))
        if key not in self._known:
            self._known[key] = self._judge(pod, proved=proved)
        return self._known[key]

    def _judge(self, pod: Pod, *, proved: bool) -> Blocked:
        final = self._over(pod, self._empty.near([pod]))
        if final is not None:
            return Blocked(rejection=final)
        now = self._over(pod, self._rooms.near([pod]))
        if now is None and self._obstacles:
            now = self._obstacles.gang([pod]) if pod.gang_topology else self._obstacles.single(pod)
            if now is not None and proved:
                return Blocked(rejection=now)
        if now is None and (blocked := self._for_now([pod])):
            return blocked
        if not proved or now is None:
            return Blocked(rejection=wording.not_found(now))
        blocked = self._blockers.find([pod], now)
        return blocked or Blocked(rejection=self._outranked(pod) or now)

    def _for_now(self, pods: Sequence[Pod]) -> Blocked | None:
        """Return who of those that the plan places keeps one of the pods waiting, if it is that."""
        found = map(self._obstacles.for_now, pods) if self._obstacles else ()
        why = next(filter(None, found), None)
        return Blocked(rejection=why, remedy=_NEXT_PLAN, alone=True) if why else None

    def _over(self, pod: Pod, rooms: Sequence[Room]) -> Rejection | None:
        """Return why no node takes the pod; `rooms` are those that its volumes leave to it."""
        return reasons.over_rooms(pod, rooms, self._census.beyond(pod, rooms))

    def _outranked(self, pod: Pod) -> Rejection | None:
        """Return the refusal when pods of its own tier and above leave no node with room."""
        near = self._left_by(pod.priority).near([pod])
        rooms = usable(pod, near)
        if any(pod.requests.fits(room.free) for room in rooms):
            return None
        short: Counter[str] = Counter()
        asked = frozenset(pod.requests)
        for room in rooms:
            lacking = asked.intersection(pod.requests.shortfall(room.free))
            short.update(dict.fromkeys(lacking, room.count))
        if all(units.is_host_port(name) for name in short):
            return None
        message = wording.left_too_little(pod, rooms, short)
        others = reasons.refusing(pod, near, self._census.beyond(pod, near))
        return Rejection(reason=Reason.OUTRANKED, message=f"{message}{others and '; '}{others}")

    def _left_by(self, tier: int) -> Rooms:
        """Return the rooms that are left when every pod goes that the tier outranks."""
        if tier not in self._reserved:
            # Who must stay for now, and is outranked by the tier, outranks nobody.
            self._reserved[tier] = self._census.rooms(
                lambda kind: (
                    kind.priority >= tier
                    or (kind.disruption is Disruption.FIXED and not self._census.held(kind))
                )
            )
        return self._reserved[tier]

    def _gang(self, gang: Sequence[Pod], *, proved: bool) -> tuple[Rejection, str]:
        """Return which member is short of what, after the others took the room that is left."""
        members = sorted(gang, key=wording.largest_first)
        shape = tuple(pod.kind for pod in members)
        if shape not in self._gangs:
            self._gangs[shape] = self._shortage(members)
        short = self._gangs[shape]
        if short is None:
            return self._clash(members, proved=proved)
        pod, why = members[short.told], short.why
        if not short.ever and not proved:
            return wording.not_found(why), self._gang_remedy(members, short)
        rejection = Rejection(
            reason=Reason.GANG_DOES_NOT_FIT,
            message=(
                f"waits whole ({wording.needs(members)}): "
                f"{wording.with_room(short.members_with_room, len(members))}; "
                f"{_beside(short)}{pod.key.name}: {why.message}"
            ),
            resolvable=why.resolvable,
        )
        if why.reason is Reason.REFUSED_ON_NODE:
            return replace(why, message=f"waits whole: {why.message}"), wording.remedy_for(pod, why)
        if why.reason is Reason.NOT_ADMITTED:
            whole = replace(why, message=f"waits whole: {pod.key.name} {why.message}")
            return whole, wording.remedy_for(pod, why)
        bound = self._rules.bind(members)
        blocked = None if short.ever or bound else self._blockers.find(members, rejection)
        blocked = blocked or Blocked(rejection=rejection)
        return blocked.rejection, wording.either(blocked.remedy, self._gang_remedy(members, short))

    def _clash(self, members: Sequence[Pod], *, proved: bool) -> tuple[Rejection, str]:
        """Return why a gang waits that has room in all."""
        why = self._obstacles.gang(members) if self._obstacles else None
        if why is not None:
            return why if proved else wording.not_found(why), wording.remedy_for(members[0], why)
        if blocked := self._for_now(members):
            message = f"waits whole, and one of its pods has to wait: {blocked.rejection.message}"
            return replace(blocked.rejection, message=message), blocked.remedy
        rules = wording.rules_between(members)
        if not self._obstacles or not rules or not proved:
            return wording.not_found(None), _SEARCH_ON
        message = (
            f"waits whole ({wording.needs(members)}): each of its pods has room, but no places suit"
            f" all of them: {rules}"
        )
        remedy = _PREFER if self._obstacles.free_without_its_own(members) else ""
        return Rejection(reason=Reason.GANG_DOES_NOT_FIT, message=message), remedy

    def _gang_remedy(self, members: Sequence[Pod], short: _Shortage) -> str:
        """Return what would help a gang, some of which have no room."""
        bound = self._rules.bind(members)
        said = "" if bound else self._found(members)
        if said:
            return said
        if short.ever:
            pod = members[short.told]
            return f"for {pod.key.name}: {wording.remedy_for(pod, short.why)}"
        lacking = wording.needs([members[i] for i in short.without])
        topology = members[0].gang_topology
        if topology is not None and topology.required:
            return f"free or add room for {lacking} in one {topology.required}"
        rest = " where rules between pods allow it" if bound else ""
        return f"free or add room for {lacking} at once{rest}"

    def _remedy(self, pod: Pod, why: Rejection) -> str:
        """Return what would help a pod that is refused."""
        # Where its gang must be is known to the search, other rules are not lifted by room.
        ruled_out = why.reason in _BETWEEN_PODS - {Reason.GANG_TOPOLOGY}
        said = "" if ruled_out else self._found([pod])
        if said:
            return said
        if why.reason in _UNASKED and (eased := self._search.relax(pod)):
            return f"{advice.relaxed(eased)}, or add a node that it accepts"
        bound = self._rules.bind([pod])
        rest = ", where rules between pods allow it" if bound and why.resolvable else ""
        return f"{wording.remedy_for(pod, why)}{'' if why.reason in _BETWEEN_PODS else rest}"

    def _found(self, pods: Sequence[Pod]) -> str:
        """Return the cheapest changes that make room for all of the pods; "" without any."""
        return advice.in_words(self._search.find(pods), pods, most=MAX_REMEDY)

    def _shortage(self, members: Sequence[Pod]) -> _Shortage | None:
        """Return where placing the members one by one ends; None if all have room."""
        rooms, empty, seen = self._rooms.near(members), self._empty.near(members), 0
        without: list[int] = []
        first: list[int] = []
        for _, alike in groupby(members, key=lambda pod: pod.kind):
            pods = list(alike)
            placed, rooms = fill(pods[0], len(pods), rooms)
            if placed < len(pods):
                first.append(seen + placed)
                without += range(seen + placed, seen + len(pods))
            seen += len(pods)
        if not without:
            return None
        finals = {i: self._over(members[i], empty) for i in first}
        told = next((i for i, final in finals.items() if final is not None), first[0])
        why = finals[told] or self._over(members[told], rooms)
        assert why is not None  # noqa: S101 - no room was found for the pod
        return _Shortage(
            members_with_room=len(members) - len(without),
            without=tuple(without),
            told=told,
            why=why,
            ever=finals[told] is not None,
        )


def _with_refusal(pod: Pod, why: Rejection, remedy: str) -> tuple[Rejection, str]:
    """Return the same with what kube-scheduler refused of its gang, if it did so."""
    refused = pod.constraints.refused
    if not refused or why.reason is Reason.REFUSED_ON_NODE:
        return why, remedy
    mend = wording.remedy_for(pod, replace(why, reason=Reason.REFUSED_ON_NODE))
    return replace(why, message=f"{why.message}; {refused}"), wording.either(remedy, mend)


def _beside(short: _Shortage) -> str:
    """Return beside whom a member finds no room that may be free now, as the start of a clause."""
    if short.ever or not short.members_with_room:
        return ""
    return f"beside {'it' if short.members_with_room == 1 else 'them'} "
