"""What the scheduler is told about one pod: which nodes take it, and how well.

The webhook asks here with what it holds in memory. A pod with a planned home is answered with that
one node; any other pod with the nodes that have room left beside what the plan reserves. Nothing
is solved: an answer costs O(nodes asked about).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bayplan import filters, units
from bayplan.cache import Cache
from bayplan.plan import Bind, Move, Plan, Reason, Rejection
from bayplan.snapshot import NodeName, Pod, Resources

#: GPU counts of the whole slots that a placement should not break, largest first.
SLOTS = (8, 4, 2, 1)

#: What keeps a pod without a home off every node that would take it alone.
_NO_HOME = "it waits until a plan has room for all that is placed with it"

#: The best score that the extender protocol knows.
MAX_SCORE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The nodes that take a pod, in the order asked, and why each other one does not."""

    nodes: tuple[NodeName, ...]
    refused: tuple[tuple[NodeName, Rejection], ...]


class Reservations:
    """Homes that the plan being carried out has promised and that are not taken yet."""

    def __init__(self, plan: Plan | None = None) -> None:
        self._homes = {bind.uid: bind.node for bind in plan.binds} if plan else {}
        self._binds: dict[NodeName, list[Bind]] = defaultdict(list)
        self._moves: dict[NodeName, list[Move]] = defaultdict(list)
        self._asks: dict[str, Resources] = {}
        for bind in plan.binds if plan else ():
            self._binds[bind.node].append(bind)
        for move in plan.moves if plan else ():
            self._moves[move.target].append(move)

    def home(self, uid: str) -> NodeName | None:
        """Return the node that the plan gives to the pod with this uid, or None."""
        return self._homes.get(uid)

    def on(self, node: NodeName, cache: Cache, *, besides: str) -> Resources:
        """Return the room on `node` promised to pods other than the one with uid `besides`.

        A bind's room is held until the cache shows its pod on a node; a move's until a pod has
        taken the victim's place there. What a victim asked for is remembered once it was seen.
        """
        held = Resources()
        for bind in self._binds.get(node, ()):
            pod = cache.pod(bind.pod)
            if bind.uid != besides and pod and pod.uid == bind.uid and pod.node is None:
                held = held + pod.requests.on_device(bind.device)
        for move in self._moves.get(node, ()):
            victim = cache.pod(move.pod)
            if victim and victim.uid == move.uid:
                self._asks[move.uid] = victim.requests.on_device(move.device)
            if move.uid != besides and not cache.is_replaced(move.uid):
                held = held + self._asks.get(move.uid, Resources())
        return held


def answer(pod: Pod, asked: Iterable[NodeName], cache: Cache, reservations: Reservations) -> Answer:
    """Return which of the `asked` nodes take the pod now."""
    home = reservations.home(pod.uid)
    nodes: list[NodeName] = []
    refused: list[tuple[NodeName, Rejection]] = []
    for name in asked:
        rejection = _elsewhere(pod, name) or _refusal(pod, name, home, cache, reservations)
        if rejection is None:
            nodes.append(name)
        else:
            refused.append((name, rejection))
    return Answer(nodes=tuple(nodes), refused=tuple(refused))


def scores(pod: Pod, asked: Iterable[NodeName], cache: Cache) -> Mapping[NodeName, int]:
    """Return 0 to 10 for each node: 10 where the pod breaks the least free GPU slots.

    Nodes that break equally little rank by how little they have left, fullest first.
    """
    costs = {name: _cost(pod, _room(pod, name, cache)) for name in asked}
    ranks = {cost: rank for rank, cost in enumerate(sorted(set(costs.values())))}
    worst = max(len(ranks) - 1, 1)
    return {name: MAX_SCORE - MAX_SCORE * ranks[cost] // worst for name, cost in costs.items()}


def _elsewhere(pod: Pod, name: NodeName) -> Rejection | None:
    """Return the refusal of a node that is not the home of a pod which autoscalers were shown."""
    if not pod.offered or pod.node == name:
        return None
    message = f"the plan has a place for it on {pod.node}" if pod.node else _NO_HOME
    return Rejection(reason=Reason.PLANNED_ELSEWHERE, message=message)


def _refusal(
    pod: Pod, name: NodeName, home: NodeName | None, cache: Cache, reservations: Reservations
) -> Rejection | None:
    node = cache.node(name)
    if node is None:
        return Rejection(reason=Reason.NO_NODES, message=f"{name} is not known yet")
    if pod.node == name:
        # It is pinned here, perhaps by the plan before this one, and can go nowhere else.
        return filters.reject(pod, node, _room(pod, name, cache))
    if home is not None and name != home:
        message = f"the plan has a place for it on {home}"
        return Rejection(reason=Reason.PLANNED_ELSEWHERE, message=message)
    room = _room(pod, name, cache)
    rejection = filters.reject(pod, node, room)
    if rejection is not None or home is not None:
        return rejection
    promised = reservations.on(name, cache, besides=pod.replaces or pod.uid)
    if pod.requests.fits(room - promised):
        return None
    message = f"the room left on {name} is reserved by the plan"
    return Rejection(reason=Reason.RESERVED, message=message)


def _room(pod: Pod, name: NodeName, cache: Cache) -> Resources:
    """Return the node's free room, what this very pod already holds there included."""
    free = cache.free(name)
    seen = cache.pod(pod.key)
    if seen is None or seen.uid != pod.uid:
        return free
    there = seen.node == name or cache.assumed_node(pod.key) == name
    return free + seen.requests if there else free


def _cost(pod: Pod, room: Resources) -> tuple[int, ...]:
    """Return the slots of each size that the pod breaks, and the GPUs left."""
    before = sum(n for name, n in room.items if units.is_gpu(name))
    after = before - sum(n for name, n in pod.requests.items if units.is_gpu(name))
    return (*(before // size - after // size for size in SLOTS), after)
