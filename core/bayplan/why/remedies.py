"""What would make room for pods that wait: the cheapest changes that a person could make.

Three kinds are looked for, each of which is enough by itself in the room that the plan leaves:

    free    amounts on nodes that would otherwise take the pods: the fewest GPUs, then the rest
    evict   running pods, whatever their priority: the fewest (those that would come back first
            must not be made anew: `advice` says so)
    add     nodes like one that is there: the fewest, then the smallest

The members of a gang are looked after one by one, so that for them "fewest" holds for each in turn.
Every search is one look at each kind of node; pods that are alike share it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Final

from bayplan.aftermath import Aftermath
from bayplan.cluster.constraints import Constraints, Taint, Toleration
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.plan import Reason, Rejection
from bayplan.rules import filters
from bayplan.why.leaving import Rules, leaving
from bayplan.why.rooms import Census, Room, beside, changed, fill, usable
from bayplan.why.victims import Victims

#: Most pods without room for which it is said where to free room and whom to evict.
MOST_PODS: Final = 16

#: Most looks at a node of one pass; pods that come later get no remedy of their own.
MOST_LOOKS: Final = 100_000

#: What a pod need not ask for, or could bear: what is easiest to change first.
_EASED: Final = (
    Reason.TAINT_NOT_TOLERATED,
    Reason.SELECTOR_MISMATCH,
    Reason.AFFINITY_MISMATCH,
)

#: The label that carries a node's name.
_HOSTNAME: Final = "kubernetes.io/hostname"

#: Taints that say how a node is, not what it is.
_CONDITION: Final = "node.kubernetes.io/"

#: Those of a node that is not ready.
_SILENCE: Final = frozenset({f"{_CONDITION}not-ready", f"{_CONDITION}unreachable"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeing:
    """What must become free on a node, beyond what is.

    Attributes:
        node: The node.
        own: What the pods that wait would use there.
        lacking: The amounts.
        free: What is free on it before any of them comes.
    """

    node: Node
    own: Resources
    lacking: Resources
    free: Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """Nodes to add.

    Attributes:
        like: A node that is there, for what is to be added.
        count: How many.
    """

    like: Node
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """One thing that a pod need not ask for, or could bear.

    Attributes:
        what: What keeps it off the node: a taint, a label that it selects, or its node affinity.
        about: Which taint or label that is.
        node: A node with room that takes the pod then.
        constraints: What the pod asks for then.
    """

    what: Reason
    about: str
    node: NodeName
    constraints: Constraints


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedies:
    """Changes each of which makes room; empty where none was found.

    Attributes:
        free: Room to be made.
        evict: Pods that must go, gangs whole.
        uncordon: Cordoned nodes with room.
        recover: Nodes with room that are not ready.
        add: Nodes to be added.
    """

    free: tuple[Freeing, ...] = ()
    evict: tuple[Pod, ...] = ()
    uncordon: tuple[NodeName, ...] = ()
    recover: tuple[NodeName, ...] = ()
    add: Addition | None = None


class Search:
    """Looks for remedies in the room that a plan leaves."""

    def __init__(self, after: Aftermath, census: Census, rules: Rules) -> None:
        self._after, self._rooms, self._rules = after, census.by_guests(), rules
        self._victims = Victims(after, {kind for kind in census.kinds() if census.lets_go(kind)})
        self._known: dict[tuple[object, ...], Remedies] = {}
        self._looks = 0

    def find(self, pods: Sequence[Pod]) -> Remedies:
        """Return what would make room for all of these at once: one pod, or those of a gang."""
        looks = {self._rules.look(pod) for pod in pods}
        shape = (self._victims.running_gang(pods[0]), *looks, *map(_asks, pods))
        if shape not in self._known:
            self._known[shape] = self._searched(pods)
        return self._known[shape]

    def relax(self, pod: Pod) -> Relaxation | None:
        """Return which single demand less gives the pod a node that has room now; None if none."""
        found: list[tuple[tuple[int, int, NodeName], Relaxation]] = []
        for room in self._rooms.near([pod]):
            if not pod.requests.fits(room.free):
                continue
            refusal = filters.static_rejection(pod, room.node)
            constraints = _without(pod.constraints, refusal, room.node) if refusal else None
            if refusal is None or constraints is None:
                continue
            eased = replace(pod, constraints=constraints)
            if filters.static_rejection(eased, room.node) is not None:
                continue
            node = next((node for node in room.nodes if self._rules.takes(eased, node)), None)
            if node is not None:
                rank = (_EASED.index(refusal.reason), room.free.gpus, node.name)
                relaxation = Relaxation(
                    what=refusal.reason,
                    about=refusal.about,
                    node=node.name,
                    constraints=constraints,
                )
                found.append((rank, relaxation))
        return min(found, key=itemgetter(0))[1] if found else None

    def _searched(self, pods: Sequence[Pod]) -> Remedies:
        if self._looks >= MOST_LOOKS:
            return Remedies()
        rooms, unfit = self._rooms.near(pods), list[Pod]()
        if self._rules.bind(pods):
            unfit += pods
        for _, alike in () if unfit else groupby(pods, key=_asks):
            members = list(alike)
            placed, rooms = fill(members[0], len(members), rooms)
            unfit += members[placed:]
        few = len(unfit) <= MOST_PODS
        self._looks += len(rooms) * (3 + 2 * len(unfit) * few)
        cordoned = [_opened(room) for room in rooms if not room.node.schedulable]
        silent = [_recovered(room) for room in rooms if not room.node.ready]
        gone = leaving(unfit, rooms, self._victims, self._rules) if few else None
        return Remedies(
            free=self._freeing(unfit, rooms) if few else (),
            evict=gone.pods if gone else (),
            uncordon=self._opening(unfit, cordoned) if few else (),
            recover=self._opening(unfit, silent) if few else (),
            add=self._adding(unfit, rooms),
        )

    def _freeing(self, pods: Sequence[Pod], rooms: tuple[Room, ...]) -> tuple[Freeing, ...]:
        """Return where the least room must be made, pod by pod, beside who has room already."""
        found: dict[NodeName, Freeing] = {}
        for pod in pods:
            takers = sorted(self._takers(pod, rooms), key=lambda taker: _missing(pod, *taker))
            taker = next((taker for taker in takers if self._holds(pod, *taker, found)), None)
            if taker is None:
                return ()
            room, node = taker
            lacking = pod.requests.shortfall(room.free)
            own = self._own(room, node, found) + pod.requests
            before = self._free(node)
            found[node.name] = Freeing(
                node=node, own=own, lacking=own.shortfall(before), free=before
            )
            rooms = changed(rooms, room, node, room.free + lacking - pod.requests)
        return tuple(each for each in found.values() if each.lacking.items)

    def _takers(self, pod: Pod, rooms: Sequence[Room]) -> Iterable[tuple[Room, Node]]:
        """Return of the nodes that look alike and have the same to give the first that will do."""
        first: dict[tuple[int, int], tuple[Room, Node]] = {}
        for room in usable(pod, rooms):
            node = next((node for node in room.nodes if self._rules.takes(pod, node)), None)
            alike = (id(room.look), id(room.free))
            if node and (alike not in first or node.name < first[alike][1].name):
                first[alike] = (room, node)
        return first.values()

    def _holds(self, pod: Pod, room: Room, node: Node, found: Mapping[NodeName, Freeing]) -> bool:
        """Return whether the node could be emptied enough for the pod and its own."""
        stay = self._victims.staying(node.name, pod)
        return (self._own(room, node, found) + pod.requests).fits(node.allocatable - stay)

    def _own(self, room: Room, node: Node, found: Mapping[NodeName, Freeing]) -> Resources:
        """Return what pods of the same gang have been given so far on the node."""
        known = found.get(node.name)
        return known.own if known else self._free(node) - room.free

    def _free(self, node: Node) -> Resources:
        """Return what the plan leaves free on the node."""
        kinds, state = self._after.snapshot.kinds, self._after.state_at(node.name)
        return node.allocatable - sum((kinds[k].requests for k in state), Resources())

    def _opening(self, pods: Sequence[Pod], closed: Sequence[Room]) -> tuple[NodeName, ...]:
        """Return on which of the `closed`, given as they are once open, all the pods have room.

        Few, the emptiest first; empty if more is in the way.
        """
        opened: dict[NodeName, Room] = {}
        for pod in pods:
            able = usable(pod, (*opened.values(), *closed))
            found = (
                (room, node)
                for room in sorted(able, key=lambda room: _emptiest(room, opened))
                if pod.requests.fits(room.free)
                for node in room.nodes
                if (node.name not in opened or room is opened[node.name])
                and self._rules.takes(pod, node)
            )
            room, node = next(found, (None, None))
            if room is None or node is None:
                return ()
            left = beside(room.free, pod.requests)
            opened[node.name] = replace(room, nodes=(node,), free=left)
        return tuple(sorted(opened))

    def _adding(self, pods: Sequence[Pod], rooms: Iterable[Room]) -> Addition | None:
        """Return which existing type of node would take the pods, and how many of it."""
        found: dict[Resources, Addition] = {}
        looks: set[int] = set()
        for room in rooms:
            if id(room.look) in looks or room.node.allocatable in found:
                continue
            looks.add(id(room.look))
            fresh = _fresh(room.node)
            if any(filters.static_rejection(pod, fresh) for pod in pods):
                continue
            if not all(self._rules.takes(pod, fresh) for pod in pods):
                continue
            count = _count(pods, fresh, fresh.allocatable - self._victims.daemons(room.node.name))
            if count:
                found[room.node.allocatable] = Addition(like=room.node, count=count)
        return min(
            found.values(),
            key=lambda each: (each.count, each.like.allocatable.gpus, each.like.name),
            default=None,
        )


def _without(constraints: Constraints, refusal: Rejection, node: Node) -> Constraints | None:
    """Return the constraints without what the node refuses; None where that is no demand."""
    match refusal.reason:
        case Reason.TAINT_NOT_TOLERATED:
            taint = next(t for t in node.taints if filters.about(t) == refusal.about)
            borne = Toleration(key=taint.key, value=taint.value, effect=taint.effect)
            return replace(constraints, tolerations=(*constraints.tolerations, borne))
        case Reason.SELECTOR_MISMATCH:
            rest = (pair for pair in constraints.node_selector if "=".join(pair) != refusal.about)
            return replace(constraints, node_selector=tuple(rest))
        case Reason.AFFINITY_MISMATCH:
            return replace(constraints, affinity=())
        case _:
            return None


def _asks(pod: Pod) -> tuple[Resources, Constraints]:
    """Return what makes pods alike that look for room."""
    return (pod.requests, pod.constraints)


def _missing(pod: Pod, room: Room, node: Node) -> tuple[object, ...]:
    """Return what orders nodes by what they lack: GPUs first, then shares of the node."""
    lacking = pod.requests.shortfall(room.free)
    shares = sum(n / max(1, node.allocatable[name]) for name, n in lacking.items)
    return (lacking.gpus, shares, node.name)


def _opened(room: Room) -> Room:
    """Return the room after `kubectl uncordon`, which takes the taint away as well."""
    return _looking(room, replace(room.node, schedulable=True), without={filters.CORDON.key})


def _recovered(room: Room) -> Room:
    """Return the room once its nodes are ready again, which takes taints away as well."""
    return _looking(room, replace(room.node, ready=True), without=_SILENCE)


def _looking(room: Room, first: Node, *, without: Collection[str]) -> Room:
    """Return the room of a node that looks so by now, and has no taints with these keys."""
    first = replace(first, taints=tuple(t for t in first.taints if t.key not in without))
    return replace(room, look=first, nodes=(first, *room.nodes[1:]))


def _emptiest(room: Room, opened: Mapping[NodeName, Room]) -> tuple[bool, int, NodeName]:
    """Return what orders rooms: those that are opened anyway first, then the emptiest."""
    return (room.node.name not in opened, -room.free.gpus, room.node.name)


def _fresh(node: Node) -> Node:
    """Return a new node of the same type: healthy, and called otherwise."""
    name = f"{node.name}-another"
    return replace(
        node,
        name=NodeName(name),
        labels=tuple((key, name if key == _HOSTNAME else value) for key, value in node.labels),
        taints=_lasting(node),
        schedulable=True,
        ready=True,
    )


def _lasting(node: Node) -> tuple[Taint, ...]:
    return tuple(taint for taint in node.taints if not taint.key.startswith(_CONDITION))


def _count(pods: Sequence[Pod], node: Node, free: Resources) -> int:
    """Return how many such nodes the pods fill; 0 where even an empty one is too small."""
    opened: tuple[Room, ...] = ()
    for pod in pods:
        placed, opened = fill(pod, 1, opened)
        if placed:
            continue
        if not pod.requests.fits(free):
            return 0
        opened = (*opened, Room(look=node, nodes=(node,), free=beside(free, pod.requests)))
    return len(opened)
