"""What the scheduler is told about one pod: which node takes it, and whom it may make go.

The webhook asks here with what it holds in memory. A pod with a planned home, or with a pin, is
answered with that one node; any other pod with the node where it breaks the fewest free GPU slots,
outside the room that the plan reserves. One node is the answer in any case: the scheduler then
scores nothing, and what we assume is where the pod will be. Nothing is solved: an answer costs
O(nodes asked about), and nodes with equal room are looked at once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from bayplan import filters, units
from bayplan.cache import Cache
from bayplan.plan import Bind, Move, Plan, Reason, Rejection
from bayplan.snapshot import NodeName, Pod, Resources

#: GPU counts of the whole slots that a placement should not break, largest first.
SLOTS: Final = (8, 4, 2, 1)

#: The best score that the extender protocol knows.
MAX_SCORE: Final = 10

#: What breaking slots and filling up a node costs; less is better.
Cost = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Where a pod goes, or why it must wait.

    Attributes:
        node: The node that takes the pod; None when it must wait.
        refused: Why not, for each node asked about; empty when there is a node.
    """

    node: NodeName | None
    refused: tuple[tuple[NodeName, Rejection], ...] = ()


class Reservations:
    """Homes that the plan being carried out has promised and that are not taken yet."""

    def __init__(self, plan: Plan | None = None) -> None:
        self._homes = {bind.uid: bind.node for bind in plan.binds} if plan else {}
        self._binds: dict[NodeName, list[Bind]] = defaultdict(list)
        self._moves: dict[NodeName, list[Move]] = defaultdict(list)
        self._victims: dict[NodeName, set[str]] = defaultdict(set)
        self._asks: dict[str, Resources] = {}
        for bind in plan.binds if plan else ():
            self._binds[bind.node].append(bind)
        for move in plan.moves if plan else ():
            self._moves[move.target].append(move)
            self._victims[move.source].add(move.uid)
        for evict in plan.evictions if plan else ():
            self._victims[evict.node].add(evict.uid)

    def home(self, uid: str) -> NodeName | None:
        """Return the node that the plan gives to the pod with this uid, or None."""
        return self._homes.get(uid)

    def victims(self, node: NodeName) -> AbstractSet[str]:
        """Return the uids of the pods that the plan makes leave the node."""
        return self._victims.get(node, frozenset())

    def nodes(self) -> AbstractSet[NodeName]:
        """Return the nodes on which something was promised; it may have been kept already."""
        return self._binds.keys() | self._moves.keys()

    def promises(self, node: NodeName) -> bool:
        """Return whether anything was promised on the node; it may have been kept already."""
        return node in self._binds or node in self._moves

    def on(self, node: NodeName, cache: Cache, *, besides: str = "") -> Resources:
        """Return the room on `node` promised to pods other than the one with uid `besides`.

        A bind's room is held until the cache shows its pod on a node, or assumes it there; a
        move's until a pod has taken the victim's place. What a victim asked for is remembered
        once it was seen.
        """
        held = Resources()
        for bind in self._binds.get(node, ()):
            pod = cache.pod(bind.pod)
            waits = pod is not None and pod.uid == bind.uid and pod.node is None
            if pod and waits and bind.uid != besides and cache.assumed_node(bind.uid) is None:
                held = held + pod.requests
        for move in self._moves.get(node, ()):
            victim = cache.pod(move.pod)
            if victim and victim.uid == move.uid:
                self._asks[move.uid] = victim.requests
            if move.uid != besides and not cache.is_replaced(move.uid):
                held = held + self._asks.get(move.uid, Resources())
        return held


def answer(pod: Pod, asked: Sequence[NodeName], cache: Cache, reservations: Reservations) -> Answer:
    """Return which of the `asked` nodes takes the pod now."""
    home = pod.node or cache.seen_node(pod) or reservations.home(pod.uid)
    if home is not None:
        return _at_home(pod, home, asked, cache)
    again = cache.assumed_node(pod.uid)
    if again is not None and again in asked and _fits_beside(pod, again, cache, reservations):
        return Answer(node=again)  # asked twice, or the reply was lost: the same answer holds
    best = _best(pod, asked, cache, reservations)
    if best is not None:
        return Answer(node=best)
    return Answer(node=None, refused=tuple((name, _refusal(pod, name, cache)) for name in asked))


def scores(pod: Pod, asked: Sequence[NodeName], cache: Cache) -> Mapping[NodeName, int]:
    """Return 0 to 10 for each node: 10 where the pod breaks the least free GPU slots.

    Nodes that break equally little rank by how little they have left, fullest first.
    """
    costs = {name: _cost(pod, _room(pod, name, cache)) for name in asked}
    ranks = {cost: rank for rank, cost in enumerate(sorted(set(costs.values())))}
    worst = max(len(ranks) - 1, 1)
    return {name: MAX_SCORE - MAX_SCORE * ranks[cost] // worst for name, cost in costs.items()}


def agreed(
    uid: str, proposed: Mapping[NodeName, Sequence[str]], reservations: Reservations
) -> Mapping[NodeName, Sequence[str]]:
    """Return what of a proposed preemption the plan wants as well: one node, or none.

    Args:
        uid: The pod that room is made for.
        proposed: The uids of the victims by node, as the scheduler chose them.
        reservations: What the plan promises.

    A victim that the plan lets stay would be killed for nothing, and a pod without a plan makes
    nobody go: whom to disturb is the planner's to decide.
    """
    home = reservations.home(uid)
    if home is None or home not in proposed:
        return {}
    victims = proposed[home]
    if not victims or not reservations.victims(home) >= set(victims):
        return {}
    return {home: victims}


def _at_home(pod: Pod, home: NodeName, asked: Sequence[NodeName], cache: Cache) -> Answer:
    """Return the answer for a pod that can go nowhere but `home`.

    A pin counts for more than the newest plan: it may be of the plan before, and cannot change.
    A pod that was seen on a node is there, whatever the caller has yet to learn.
    """
    if home not in asked:
        message = f"the plan has a place for it on {home}, which the scheduler does not offer"
        elsewhere = Rejection(reason=Reason.PLANNED_ELSEWHERE, message=message)
        return Answer(node=None, refused=tuple((name, elsewhere) for name in asked))
    node = cache.node(home)
    refusal = filters.reject(pod, node, _room(pod, home, cache)) if node else _unknown(home)
    if refusal is None:
        return Answer(node=home)
    return Answer(node=None, refused=tuple((name, refusal) for name in asked))


def _best(
    pod: Pod, asked: Sequence[NodeName], cache: Cache, reservations: Reservations
) -> NodeName | None:
    """Return the node with room outside what is reserved where the pod costs least, or None.

    The scheduler's own filters have seen these nodes, so only the room is looked at, and rooms
    that are one value only once. A pod that is asked about anew is no longer where it was assumed,
    but its room there still counts as taken until it is assumed elsewhere.
    """
    rooms, known = cache.rooms(), set[int]()
    best: NodeName | None = None
    least: Cost | None = None
    for name in asked:
        room = rooms.get(name)
        if room is None:
            continue
        if reservations.promises(name):
            room = _room_beside(pod, name, cache, reservations)
        elif id(room) in known:
            continue  # an earlier node is as good, or as bad
        else:
            known.add(id(room))
        if pod.requests.fits(room):
            cost = _cost(pod, room)
            if least is None or cost < least:
                best, least = name, cost
    return best


def _fits_beside(pod: Pod, name: NodeName, cache: Cache, reservations: Reservations) -> bool:
    return pod.requests.fits(_room_beside(pod, name, cache, reservations))


def _room_beside(pod: Pod, name: NodeName, cache: Cache, reservations: Reservations) -> Resources:
    """Return the node's room for the pod beside what is promised to others."""
    promised = reservations.on(name, cache, besides=pod.replaces or pod.uid)
    return _room(pod, name, cache) - promised


def _refusal(pod: Pod, name: NodeName, cache: Cache) -> Rejection:
    """Return why a node that is not the answer is none."""
    node = cache.node(name)
    if node is None:
        return _unknown(name)
    return filters.reject(pod, node, _room(pod, name, cache)) or Rejection(
        reason=Reason.RESERVED, message="the room left on the node is reserved by the plan"
    )


def _unknown(name: NodeName) -> Rejection:
    return Rejection(reason=Reason.NO_NODES, message=f"{name} is not known yet")


def _room(pod: Pod, name: NodeName, cache: Cache) -> Resources:
    """Return the node's free room, what this very pod already holds there included."""
    return cache.free(name) + cache.held_by(pod, name)


def _cost(pod: Pod, room: Resources) -> Cost:
    """Return the slots of each size that the pod breaks, and the GPUs left."""
    before = sum(n for name, n in room.items if units.is_gpu(name))
    after = before - sum(n for name, n in pod.requests.items if units.is_gpu(name))
    return (*(before // size - after // size for size in SLOTS), after)
