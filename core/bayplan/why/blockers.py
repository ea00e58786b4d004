"""What keeps others from making room for a pod: limits of the policy, budgets, cooldowns.

Asked only where room is short and it is proved that no plan of this pass has a place. What is found
are pods that would make enough room by leaving; so what is told keeps just these.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import nsmallest
from itertools import chain, islice
from typing import Final

from bayplan.aftermath import Aftermath
from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import Disruption, Pod, PodKind
from bayplan.plan import Reason, Rejection
from bayplan.policy import Order, Policy
from bayplan.rules.restraints import cools_until, is_refused
from bayplan.why.leaving import Left, Rules, leaving
from bayplan.why.rooms import Census, Room, Rooms, fill, told_apart, usable
from bayplan.why.victims import Victims

#: No pod or gang asks for more moves than these; where more are left, they keep nobody waiting.
_PLENTY: Final = 16

#: In how many rooms it is looked for each pod who could leave.
_NEAR: Final = 64

#: How often it is looked for others where somebody who would leave has no other place.
_TRIES: Final = 4

#: Most looks at a node of one pass; of pods that come later it is not known.
MOST_LOOKS: Final = 20_000

#: Most names of pods in one sentence.
_MOST_NAMES: Final = 3

#: What helps when somebody must stay for now.
_WAIT: Final = "wait until such a pod may be disturbed again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Why others do not make room.

    Attributes:
        rejection: The refusal.
        remedy: What of it can be changed, as the beginning of a sentence; "" if nothing.
        alone: Whether nothing else would help.
    """

    rejection: Rejection
    remedy: str = ""
    alone: bool = False


class Blockers:
    """Finds what keeps others from making room after a plan."""

    def __init__(self, after: Aftermath, census: Census, policy: Policy, rules: Rules) -> None:
        self._after, self._census, self._policy, self._rules = after, census, policy, rules
        self._rooms = census.by_guests()
        # Pods of these kinds wait for a budget or a cooldown.
        self._held = frozenset(kind for kind in census.kinds() if census.held(kind))
        self._free = frozenset(kind for kind in census.kinds() if census.lets_go(kind))
        self._victims: dict[tuple[frozenset[PodKind], bool], Victims] = {}
        self._emptied: dict[frozenset[PodKind], Rooms] = {}
        self._known: dict[tuple[object, ...], Left | None] = {}
        self._nearest: dict[tuple[object, ...], Sequence[Room]] = {}
        self._open: dict[tuple[object, ...], Sequence[Room]] = {}
        self._looks = 0

    def find(self, pods: Sequence[Pod], why: Rejection) -> Blocked | None:
        """Return what keeps others from making room for all of these; None if nothing is known.

        `why` is what they are short of.
        """
        if self._policy.order is Order.DEFRAGMENT:
            # It ends nobody, whatever the policy allows other passes.
            return None
        return (
            self._no_eviction(pods, why)
            or self._no_move(pods, why)
            or self._for_now(pods, why)
            or self._too_few_at_once(pods, why)
        )

    def _no_eviction(self, pods: Sequence[Pod], why: Rejection) -> Blocked | None:
        """Return why pods of lower priority are not evicted though that would be enough."""
        left = self._evicting(pods, self._free)
        if left is None or not left.pods:
            return None
        most, done = self._policy.max_evictions, len(self._after.evicted.actions)
        if not _preempt(pods):
            return Blocked(
                rejection=_more(why, f"its preemptionPolicy Never lets {_named(left.pods)} stay"),
            )
        if done + len(left.pods) > most:
            return self._limited("maxEvictions", most, done, left.pods, why)
        return None

    def _no_move(self, pods: Sequence[Pod], why: Rejection) -> Blocked | None:
        """Return why pods are not moved though that would be enough."""
        most, done = self._policy.max_moves, len(self._after.moved.actions)
        protects = self._policy.order is Order.PROTECT_FIRST
        if most - done >= _PLENTY and not protects:
            return None
        left = self._moving(pods, self._free)
        if left is None or not left.pods:
            return None
        if done + len(left.pods) > most:
            return self._limited("maxMoves", most, done, left.pods, why)
        above = [pod for pod in left.pods if pod.priority > _tier(pods)]
        if not protects or not above:
            return None
        return Blocked(
            rejection=_more(why, f"PackingPolicy order ProtectFirst keeps {_named(above)} there"),
            remedy="set order: PlaceFirst in the PackingPolicy",
        )

    def _limited(
        self, limit: str, most: int, done: int, pods: Sequence[Pod], why: Rejection
    ) -> Blocked:
        """Return that a limit of the policy keeps pods; another plan has all of it again."""
        rejection = _more(
            why, f"PackingPolicy {limit} {most}{_used(done)} keeps {_named(pods)} there"
        )
        if len(pods) > most:
            return Blocked(rejection=rejection, remedy=_raised(limit, len(pods)))
        rejection = _more(rejection, "", reason=Reason.DISRUPTION_FORBIDDEN)
        remedy = f"wait for the next plan, or {_raised(limit, done + len(pods))}"
        return Blocked(rejection=rejection, remedy=remedy)

    def _for_now(self, pods: Sequence[Pod], why: Rejection) -> Blocked | None:
        """Return what keeps pods for now that would make room: those that may go are not enough."""
        if not self._held:
            return None
        let_go = self._free | self._held
        left = self._evicting(pods, let_go) if _preempt(pods) else None
        ends_below = math.inf if left else -math.inf
        if left is None:
            left = self._moving(pods, let_go)
            if left is None and _preempt(pods):
                ends_below = _tier(pods)
                left = self._doing_both(pods, let_go)
            protects = self._policy.order is Order.PROTECT_FIRST
            if left and protects and any(pod.priority > _tier(pods) for pod in left.pods):
                return None
        if left is None and not _preempt(pods):
            return self._never_preempting(pods, let_go, why)
        if left is None or not any(pod.kind in self._held for pod in left.pods):
            return None
        told, first, others = self._held_among(left.pods)
        said = f"{_named(told)} might make room but must stay: {_each(told, first, others)}"
        rejection = _more(why, said, reason=Reason.DISRUPTION_FORBIDDEN)
        wait = _WAIT
        if is_refused(first) and not others:
            n = len(told)
            admit = f"{n} eviction{'' if n == 1 else 's'}"
            wait += f", or let {'its' if n == 1 else 'that'} PodDisruptionBudget admit {admit}"
        until = [cools_until(pod, cooldown_s=self._policy.cooldown_s) for pod in told]
        if all(until) and not others:
            at = datetime.fromtimestamp(max(until), UTC)
            wait = (
                f"wait until {at:%Y-%m-%dT%H:%M:%SZ}, or lower cooldownSeconds in the PackingPolicy"
            )
        whole = ends_below == math.inf
        ended = [pod for pod in left.pods if _ends(pod, ends_below, gangs=whole)]
        besides = self._besides("maxEvictions", len(ended))
        besides += self._besides("maxMoves", len(left.pods) - len(ended))
        return Blocked(rejection=rejection, remedy=f"{wait}{besides}")

    def _never_preempting(
        self, pods: Sequence[Pod], let_go: frozenset[PodKind], why: Rejection
    ) -> Blocked | None:
        """Return who stays for two reasons: the pods make nobody go, and it may not leave now."""
        left = self._evicting(pods, let_go)
        if left is None or not any(pod.kind in self._held for pod in left.pods):
            return None
        told, first, others = self._held_among(left.pods)
        stay = f"its preemptionPolicy Never lets {_named(left.pods)} stay"
        return Blocked(
            rejection=_more(why, f"{stay}; {_named(told)}: {_each(told, first, others)}"),
        )

    def _held_among(self, pods: Sequence[Pod]) -> tuple[Sequence[Pod], str, int]:
        """Return who of the pods must stay for the commonest reason, it, and how many others."""
        held = [pod for pod in pods if pod.kind in self._held]
        reasons = Counter(self._census.held(pod.kind) for pod in held)
        first = min(reasons, key=lambda reason: (-reasons[reason], reason))
        told = [pod for pod in held if self._census.held(pod.kind) == first]
        return told, first, len(reasons) - 1

    def _too_few_at_once(self, pods: Sequence[Pod], why: Rejection) -> Blocked | None:
        """Return which PodDisruptionBudget admits some of the evictions that it takes, not all."""
        if not any(kind.budget for kind in self._free):
            return None
        left = self._evicting(pods, self._free) if _preempt(pods) else None
        left = left or self._moving(pods, self._free)
        asked = Counter(pod.budget for pod in left.pods if pod.budget) if left else Counter()
        over = {key: n for key, n in asked.items() if n > self._census.admits(key)}
        if not over:
            return None
        first = min(over, key=lambda key: (-over[key], key))
        most = next(b.allowed for b in self._after.snapshot.budgets if b.key == first)
        done = most - self._census.admits(first)
        said = f"making room takes {over[first]} evictions under PodDisruptionBudget {first}"
        rejection = _more(
            why, f"{said}, which admits {most}{_used(done)}", reason=Reason.DISRUPTION_FORBIDDEN
        )
        remedy = f"let PodDisruptionBudget {first} admit {done + over[first]} evictions at once"
        return Blocked(rejection=rejection, remedy=remedy)

    def _besides(self, limit: str, needed: int) -> str:
        """Return which limit of the policy would have to be raised as well."""
        limits = {"maxEvictions": self._policy.max_evictions, "maxMoves": self._policy.max_moves}
        return f", with a {limit} of {needed} or more" if needed > limits[limit] else ""

    def _evicting(self, pods: Sequence[Pod], kinds: frozenset[PodKind]) -> Left | None:
        """Return who of a lower priority would have to go, whole gangs included."""
        tier = _tier(pods)
        lower = frozenset(kind for kind in kinds if kind.priority < tier)
        return self._leaving(pods, lower, gangs=True, ends_below=math.inf)

    def _moving(self, pods: Sequence[Pod], kinds: frozenset[PodKind]) -> Left | None:
        """Return who would have to move, each to room that there is."""
        movable = frozenset(kind for kind in kinds if kind.disruption is not Disruption.EVICTABLE)
        return self._leaving(pods, movable, gangs=False, ends_below=-math.inf)

    def _doing_both(self, pods: Sequence[Pod], kinds: frozenset[PodKind]) -> Left | None:
        """Return who would have to go where some of a lower priority end, and others move."""
        tier = _tier(pods)
        able = (k for k in kinds if k.priority < tier or k.disruption is not Disruption.EVICTABLE)
        return self._leaving(pods, frozenset(able), gangs=False, ends_below=tier)

    def _leaving(
        self, pods: Sequence[Pod], kinds: frozenset[PodKind], *, gangs: bool, ends_below: float
    ) -> Left | None:
        """Return who of these kinds would have to leave; pods that are alike share the answer.

        Those of a priority below `ends_below` end, as far as gangs stay whole; others have another
        place. Where one has none, it is looked for others.
        """
        looks = tuple((pod.kind, self._rules.look(pod)) for pod in pods)
        own = self._party(kinds, gangs=gangs).running_gang(pods[0]) if kinds else None
        key = (looks, own, kinds, gangs, ends_below)
        if key not in self._known:
            self._known[key] = None
            for _ in range(_TRIES if kinds else 0):
                left = self._looked_for(pods, kinds, self._party(kinds, gangs=gangs))
                moves = (
                    [p for p in left.pods if not _ends(p, ends_below, gangs=gangs)] if left else []
                )
                stuck = self._without_place(left, moves) if left else None
                if stuck is None:
                    self._known[key] = left
                    break
                kinds -= {stuck.kind}
        return self._known[key]

    def _party(self, kinds: frozenset[PodKind], *, gangs: bool) -> Victims:
        """Return who of these kinds could leave."""
        if (kinds, gangs) not in self._victims:
            self._victims[kinds, gangs] = Victims(self._after, kinds, gangs=gangs)
        return self._victims[kinds, gangs]

    def _looked_for(
        self, pods: Sequence[Pod], kinds: frozenset[PodKind], victims: Victims
    ) -> Left | None:
        if self._looks >= MOST_LOOKS:
            return None
        near: dict[NodeName, Room] = {}
        for pod in {pod.kind: pod for pod in pods}.values():
            able = self._able(pod, kinds, among=pods)
            if not able:
                return None
            near |= {room.node.name: room for room in able}
        self._looks += len(near) * len(pods)
        return leaving(pods, tuple(near.values()), victims, self._rules)

    def _without_place(self, left: Left, moves: Sequence[Pod]) -> Pod | None:
        """Return the first of those who moved that has no room elsewhere; None if all have."""
        looked_at = {node.name for room in left.rooms for node in room.nodes}
        rooms = left.rooms
        for pod in {pod.kind: pod for pod in moves}.values():
            hosts = tuple(_others(self._hosts(pod), looked_at))
            looked_at |= {node.name for room in hosts for node in room.nodes}
            rooms += hosts
        rooms = told_apart(rooms, moves)
        for pod in sorted(moves, key=lambda pod: (-pod.requests.gpus, pod.key)):
            placed, rooms = fill(pod, 1, rooms)
            if not placed:
                return pod
        return None

    def _hosts(self, pod: Pod) -> Sequence[Room]:
        """Return the first rooms that have room for the pod now."""
        key = (pod.requests, pod.constraints)
        if key not in self._open:
            rooms = usable(pod, told_apart(self._rooms.near([pod]), [pod]))
            able = (room for room in rooms if pod.requests.fits(room.free))
            self._open[key] = list(islice(able, _NEAR))
        return self._open[key]

    def _able(self, pod: Pod, kinds: frozenset[PodKind], *, among: Sequence[Pod]) -> Sequence[Room]:
        """Return rooms that could take the pod without pods of these kinds.

        Of many rooms those that lack the least now; they are those of the pods `among` which it is.
        """
        volumes = frozenset(each.constraints.volumes for each in among)
        key = (pod.requests, pod.constraints, volumes, kinds)
        if key not in self._nearest:
            if kinds not in self._emptied:
                self._emptied[kinds] = self._census.rooms(lambda kind: kind not in kinds)
            rooms = usable(pod, self._emptied[kinds].near(among))
            able = [room.nodes for room in rooms if pod.requests.fits(room.free)]
            names = {node.name for node in chain.from_iterable(able)}
            here = self._rooms.near(among) if names else ()
            there = (room for room in here if room.node.name in names)
            self._nearest[key] = nsmallest(_NEAR, there, key=_lacking(pod))
        return self._nearest[key]


def _ends(pod: Pod, below: float, *, gangs: bool) -> bool:
    """Return whether a pod that leaves may end; without `gangs` no part of a gang does."""
    return pod.priority < below and (gangs or pod.gang is None)


def _others(rooms: Iterable[Room], looked_at: Collection[NodeName]) -> Iterator[Room]:
    """Yield the rooms without the nodes that were looked at before."""
    for room in rooms:
        nodes = tuple(node for node in room.nodes if node.name not in looked_at)
        if nodes:
            yield replace(room, nodes=nodes)


def _raised(limit: str, needed: int) -> str:
    """Return how far a limit would have to be raised, in words."""
    return f"raise {limit} in the PackingPolicy to {needed} or more"


def _used(done: int) -> str:
    """Return how much of a limit the plan uses, in words to stand after it."""
    return f" ({done} of them used by this plan)" if done else ""


def _each(told: Sequence[Pod], why: str, others: int) -> str:
    """Return why pods must stay, in words to stand after their names."""
    more = f" (and {others} other reason{'' if others == 1 else 's'})" if others else ""
    return f"{'it' if len(told) == 1 else 'each'} {why}{more}"


def _lacking(pod: Pod) -> Callable[[Room], tuple[int, NodeName]]:
    """Return what orders rooms by the GPUs that the pod lacks there."""
    asks = pod.requests.gpus
    lacks: dict[int, int] = {}

    def rank(room: Room) -> tuple[int, NodeName]:
        free = id(room.free)
        if free not in lacks:
            lacks[free] = max(0, asks - room.free.gpus)
        return (lacks[free], room.node.name)

    return rank


def _tier(pods: Sequence[Pod]) -> int:
    return min(pod.priority for pod in pods)


def _preempt(pods: Sequence[Pod]) -> bool:
    """Return whether the pods may make others go: each has to."""
    return all(pod.preempts for pod in pods)


def _more(why: Rejection, said: str, reason: Reason | None = None) -> Rejection:
    message = f"{why.message}; {said}" if said else why.message
    return Rejection(reason=reason or why.reason, message=message, resolvable=True)


def _named(pods: Sequence[Pod]) -> str:
    """Return e.g. "default/a and default/b", or the first few of many."""
    names = [str(pod.key) for pod in pods]
    if len(names) > _MOST_NAMES:
        names = [*names[:_MOST_NAMES], f"{len(names) - _MOST_NAMES} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
