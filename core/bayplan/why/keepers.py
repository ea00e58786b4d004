"""What keeps others from making room for a pod: limits of the policy, budgets, cooldowns.

Asked only where room is short and it is proved that no plan of this pass has a place. What is found
are pods that would make enough room by leaving; so what is told keeps just these.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bayplan.aftermath import Aftermath
from bayplan.plan import Reason, Rejection
from bayplan.policy import Order, Policy
from bayplan.snapshot import Disruption, Pod, PodKind
from bayplan.why.leaving import Left, Rules, leaving
from bayplan.why.rooms import Census, Room, usable
from bayplan.why.victims import Victims

#: No pod or gang asks for more moves than these; where more are left, they keep nobody waiting.
_PLENTY: Final = 16

#: Most looks at a node of one pass; of pods that come later it is not known.
MOST_LOOKS: Final = 100_000

#: Most names of pods in one sentence.
_MOST_NAMES: Final = 3

#: What helps when somebody must stay for now.
_WAIT: Final = "wait until such a pod may be disturbed again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Why others do not make room.

    Attributes:
        rejection: The refusal.
        remedy: What of it can be changed, as the beginning of a sentence; "" if nothing.
    """

    rejection: Rejection
    remedy: str = ""


class Keepers:
    """Finds what keeps others from making room after a plan."""

    def __init__(self, after: Aftermath, census: Census, policy: Policy, rules: Rules) -> None:
        self._after, self._census, self._policy, self._rules = after, census, policy, rules
        self._rooms = census.by_guests()
        # Pods of these kinds wait for a budget or a cooldown.
        self._held = frozenset(kind for kind in census.kinds() if census.held(kind))
        self._free = frozenset(kind for kind in census.kinds() if census.lets_go(kind))
        self._victims: dict[tuple[frozenset[PodKind], bool], Victims] = {}
        self._emptied: dict[frozenset[PodKind], tuple[Room, ...]] = {}
        self._looks = 0

    def keep(self, pods: Sequence[Pod], why: Rejection) -> Kept | None:
        """Return what keeps others from making room for all of these; None if nothing is known.

        `why` is what they are short of.
        """
        if self._policy.order is Order.DEFRAGMENT:
            # It ends nobody, whatever the policy allows other passes.
            return None
        return self._no_eviction(pods, why) or self._no_move(pods, why) or self._for_now(pods, why)

    def _no_eviction(self, pods: Sequence[Pod], why: Rejection) -> Kept | None:
        """Return why pods of lower priority are not evicted though that would be enough."""
        left = self._evicting(pods, self._free)
        if left is None or not left.pods:
            return None
        most, done = self._policy.max_evictions, len(self._after.evicted.actions)
        if not _preempt(pods):
            return Kept(
                rejection=_more(why, f"its preemptionPolicy Never lets {_named(left.pods)} stay"),
            )
        if done + len(left.pods) > most:
            return self._limited("maxEvictions", most, done, left.pods, why)
        return None

    def _no_move(self, pods: Sequence[Pod], why: Rejection) -> Kept | None:
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
        return Kept(
            rejection=_more(why, f"PackingPolicy order ProtectFirst keeps {_named(above)} there"),
            remedy="set order: PlaceFirst in the PackingPolicy",
        )

    def _limited(
        self, limit: str, most: int, done: int, pods: Sequence[Pod], why: Rejection
    ) -> Kept:
        """Return that a limit of the policy keeps pods; another plan has all of it again."""
        used = f" ({done} of them used by this plan)" if done else ""
        rejection = _more(why, f"PackingPolicy {limit} {most}{used} keeps {_named(pods)} there")
        remedy = f"raise {limit} in the PackingPolicy"
        if len(pods) > most:
            return Kept(rejection=rejection, remedy=remedy)
        rejection = _more(rejection, "", reason=Reason.DISRUPTION_FORBIDDEN)
        return Kept(rejection=rejection, remedy=f"wait for the next plan, or {remedy}")

    def _for_now(self, pods: Sequence[Pod], why: Rejection) -> Kept | None:
        """Return what keeps pods for now that would make room: those that may go are not enough."""
        if not self._held:
            return None
        let_go = self._free | self._held
        left = self._evicting(pods, let_go) if _preempt(pods) else None
        left = left or self._moving(pods, let_go)
        kept = [pod for pod in left.pods if pod.kind in self._held] if left else []
        if not kept:
            return None
        reasons = Counter(self._census.held(pod.kind) for pod in kept)
        first = min(reasons, key=lambda reason: (-reasons[reason], reason))
        told = [pod for pod in kept if self._census.held(pod.kind) == first]
        others = len(reasons) - 1
        more = f" (and {others} other reason{'' if others == 1 else 's'})" if others else ""
        each = "it" if len(told) == 1 else "each"
        said = f"{_named(told)} might make room but must stay: {each} {first}{more}"
        return Kept(rejection=_more(why, said, reason=Reason.DISRUPTION_FORBIDDEN), remedy=_WAIT)

    def _evicting(self, pods: Sequence[Pod], kinds: frozenset[PodKind]) -> Left | None:
        """Return who of a lower priority would have to go, whole gangs included."""
        tier = _tier(pods)
        lower = frozenset(kind for kind in kinds if kind.priority < tier)
        return self._leaving(pods, lower, gangs=True)

    def _moving(self, pods: Sequence[Pod], kinds: frozenset[PodKind]) -> Left | None:
        """Return who would have to move, each to room that there is."""
        movable = frozenset(
            kind
            for kind in kinds
            if kind.disruption is Disruption.MOVABLE or kind.disruption is Disruption.FIXED
        )
        left = self._leaving(pods, movable, gangs=False)
        return left if left and left.settled() else None

    def _leaving(
        self, pods: Sequence[Pod], kinds: frozenset[PodKind], *, gangs: bool
    ) -> Left | None:
        if not kinds or self._looks >= MOST_LOOKS or not self._could(pods, kinds):
            return None
        self._looks += len(self._rooms) * len(pods)
        if (kinds, gangs) not in self._victims:
            self._victims[kinds, gangs] = Victims(self._after, kinds, gangs=gangs)
        return leaving(pods, self._rooms, self._victims[kinds, gangs], self._rules)

    def _could(self, pods: Sequence[Pod], kinds: frozenset[PodKind]) -> bool:
        """Return whether each of the pods by itself has room where all of the kinds are gone."""
        if kinds not in self._emptied:
            self._emptied[kinds] = self._census.rooms(lambda kind: kind not in kinds)
        rooms = self._emptied[kinds]
        return all(
            any(pod.requests.fits(room.free) for room in usable(pod, rooms))
            for pod in {pod.kind: pod for pod in pods}.values()
        )


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
