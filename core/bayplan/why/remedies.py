"""What would make room for pods that wait: the cheapest changes that a person could make.

Three kinds are looked for, each of which is enough by itself in the room that the plan leaves:

    free    amounts on nodes that would otherwise take the pods: the fewest GPUs, then the rest
    evict   running pods, whatever their priority: the fewest
    add     nodes like one that is there: the fewest, then the smallest

The members of a gang are looked after one by one, so that for them "fewest" holds for each in turn.
Every search is one look at each kind of node; pods that are alike share it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Final

from bayplan import filters, shares, units
from bayplan.aftermath import Aftermath
from bayplan.constraints import Constraints, Taint
from bayplan.keys import GangKey, NodeName, PodKey
from bayplan.plan import Evict, Move
from bayplan.resources import Resources
from bayplan.snapshot import Node, Pod
from bayplan.why.rooms import Census, Room, beside, fill, usable

#: Most pods without room for which it is said where to free room and whom to evict.
MOST_PODS: Final = 16

#: Most looks at a node of one pass; pods that come later get no remedy of their own.
MOST_LOOKS: Final = 100_000

#: Largest sets of victims that are tried in full, and among how many pods of a node.
_EXACT: Final = 3
_AMONG: Final = 16

#: More pods than anybody evicts.
_NEVER: Final = 2**30

#: The label that carries a node's name.
_HOSTNAME: Final = "kubernetes.io/hostname"

#: Taints that say how a node is, not what it is.
_CONDITION: Final = "node.kubernetes.io/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeing:
    """What must become free on a node, beyond what is.

    Attributes:
        node: The node.
        lacking: The amounts.
        free: What is free on it before.
    """

    node: Node
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
class Remedies:
    """Changes each of which makes room; empty where none was found.

    Attributes:
        free: Room to be made.
        evict: Pods to be evicted, gangs whole.
        uncordon: A cordoned node with room.
        add: Nodes to be added.
    """

    free: tuple[Freeing, ...] = ()
    evict: tuple[Pod, ...] = ()
    uncordon: NodeName | None = None
    add: Addition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Party:
    """Pods that go together: one pod, or a gang.

    Attributes:
        pods: All of them, on whatever node.
        gain: What becomes free on the node in question.
        harm: How many pods go, and the highest of their priorities.
    """

    pods: tuple[Pod, ...]
    gain: Resources
    harm: tuple[int, int]

    @property
    def rank(self) -> tuple[object, ...]:
        """What orders parties: few pods, low priorities, then names."""
        return (*self.harm, self.pods[0].key)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leavers:
    """Who could leave a node.

    Attributes:
        parties: The pods, least harm first.
        likeness: Equal where the same would become free for the same harm.
    """

    parties: tuple[_Party, ...]
    likeness: int


class Search:
    """Looks for remedies in the room that a plan leaves."""

    def __init__(self, after: Aftermath, census: Census) -> None:
        self._rooms = census.by_guests()
        self._cluster = _Cluster(after, census)
        self._known: dict[tuple[object, ...], Remedies] = {}
        self._looks = 0

    def find(self, pods: Sequence[Pod]) -> Remedies:
        """Return what would make room for all of these at once: one pod, or those of a gang."""
        shape = (self._cluster.running_gang(pods[0]), *map(_asks, pods))
        if shape not in self._known:
            self._known[shape] = self._searched(pods)
        return self._known[shape]

    def _searched(self, pods: Sequence[Pod]) -> Remedies:
        if self._looks >= MOST_LOOKS:
            return Remedies()
        rooms, unfit = self._rooms, list[Pod]()
        for _, alike in groupby(pods, key=_asks):
            members = list(alike)
            placed, rooms = fill(members[0], len(members), rooms)
            unfit += members[placed:]
        few = len(unfit) <= MOST_PODS
        self._looks += len(rooms) * (3 + 2 * len(unfit) * few)
        return Remedies(
            free=self._freeing(unfit, rooms) if few else (),
            evict=self._evicting(unfit, rooms) if few else (),
            uncordon=_uncordoning(unfit, rooms),
            add=self._adding(unfit, rooms),
        )

    def _freeing(self, pods: Sequence[Pod], rooms: tuple[Room, ...]) -> tuple[Freeing, ...]:
        """Return where the least room must be made, pod by pod."""
        found: dict[NodeName, Freeing] = {}
        for pod in pods:
            takers = usable(pod, rooms)
            if not takers:
                return ()
            room = min(_apart(takers), key=lambda room: _missing(pod, room))
            lacking, node = pod.requests.shortfall(room.free), room.node
            before = found.get(node.name, Freeing(node=node, lacking=Resources(), free=room.free))
            if lacking.items:
                found[node.name] = replace(before, lacking=before.lacking + lacking)
            rooms = _changed(rooms, room, node, room.free + lacking - pod.requests)
        return tuple(found.values())

    def _evicting(self, pods: Sequence[Pod], rooms: tuple[Room, ...]) -> tuple[Pod, ...]:
        """Return the pods that must go, found pod by pod."""
        gone: dict[PodKey, Pod] = {}
        for pod in pods:
            found = self._least_harm(pod, rooms, gone)
            if found is None:
                return ()
            room, node, chosen = found
            gone |= {victim.key: victim for party in chosen for victim in party.pods}
            free = room.free
            for party in chosen:
                free += party.gain
            rooms = _changed(rooms, room, node, beside(free, pod.requests))
        return tuple(gone[key] for key in sorted(gone))

    def _least_harm(
        self, pod: Pod, rooms: Sequence[Room], gone: Mapping[PodKey, Pod]
    ) -> tuple[Room, Node, list[_Party]] | None:
        """Return the node on which the fewest have to go for the pod, and who they are."""
        best: tuple[tuple[object, ...], tuple[Room, Node, list[_Party]]] | None = None
        most = _NEVER - 1
        shorts: dict[int, Resources] = {}
        for room in usable(pod, rooms):
            # Many rooms have the same to give.
            if id(room.free) not in shorts:
                shorts[id(room.free)] = pod.requests.shortfall(room.free)
            short = shorts[id(room.free)]
            in_parts = shares.concerned(short.items, room.free.items)
            for node, leavers in self._different(pod, room, gone):
                # Whoever goes, it is no less harm than the first of the parties.
                least = leavers.parties[0].harm if short.items and leavers.parties else (0, 0)
                if best is not None and best[0] <= (*least, node.name):
                    continue
                if in_parts:
                    chosen = _sharing(leavers.parties, pod.requests, room.free, most)
                else:
                    chosen = _fewest(leavers.parties, short, most)
                if chosen is None:
                    continue
                rank = (*_harm_of(chosen), node.name)
                if best is None or rank < best[0]:
                    best, most = (rank, (room, node, chosen)), _harm_of(chosen)[0]
            if best is not None and _harm_of(best[1][2]) <= (1, self._cluster.lowest):
                break
        return best[1] if best else None

    def _different(
        self, pod: Pod, room: Room, gone: Mapping[PodKey, Pod]
    ) -> Iterator[tuple[Node, _Leavers]]:
        """Yield the nodes of a room that differ in who could leave, and who that is."""
        seen: set[int] = set()
        for node in room.nodes:
            leavers = self._cluster.leavers(node.name, pod, gone)
            if leavers.likeness not in seen:
                seen.add(leavers.likeness)
                yield node, leavers

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
            count = _count(pods, fresh, fresh.allocatable - self._cluster.daemons(room.node.name))
            if count:
                found[room.node.allocatable] = Addition(like=room.node, count=count)
        return min(
            found.values(),
            key=lambda each: (each.count, each.like.allocatable.gpus, each.like.name),
            default=None,
        )


class _Cluster:
    """Who is where after the plan, as far as somebody could be evicted.

    No pod that could be evicted is of a lower priority than `lowest`.
    """

    def __init__(self, after: Aftermath, census: Census) -> None:
        snapshot = after.snapshot
        victims: tuple[Move | Evict, ...] = (*after.moved.actions, *after.evicted.actions)
        self._disturbed = {victim.pod for victim in victims}
        self._leave = {kind for kind in census.kinds() if census.lets_go(kind)}
        self._here = after.here
        self._gangs: dict[GangKey, list[Pod]] = defaultdict(list)
        self._leavers: dict[NodeName, _Leavers] = {}
        self._likes: dict[tuple[object, ...], int] = {}
        self.lowest = min((kind.priority for kind in self._leave), default=0)
        for pod in snapshot.in_gangs:
            if pod.gang is None or pod.gang_min_count <= 1:
                continue
            if after.goes.get(pod.key, pod.node) is not None:
                self._gangs[pod.gang].append(pod)

    def running_gang(self, pod: Pod) -> GangKey | None:
        """Return the gang of the pod if some of it runs."""
        return pod.gang if pod.gang in self._gangs else None

    def leavers(self, node: NodeName, pod: Pod, gone: Mapping[PodKey, Pod]) -> _Leavers:
        """Return who could leave the node for the pod, but for who is `gone`."""
        if node not in self._leavers:
            parties = sorted(self._on(node), key=lambda party: party.rank)
            self._leavers[node] = self._leaving(parties)
        known, own = self._leavers[node], self.running_gang(pod)
        if own is None and not gone:
            return known
        return self._leaving(
            party
            for party in known.parties
            if (own is None or party.pods[0].gang != own)
            and not any(each.key in gone for each in party.pods)
        )

    def _leaving(self, parties: Iterable[_Party]) -> _Leavers:
        listed = tuple(parties)
        alike = tuple((party.harm, party.gain.items) for party in listed)
        likeness = self._likes.setdefault(alike, len(self._likes))
        return _Leavers(parties=listed, likeness=likeness)

    def daemons(self, node: NodeName) -> Resources:
        """Return what the pods use that come with every node of the kind."""
        used = Resources()
        for pod in self._here(node):
            if pod.owner is not None and pod.owner.kind == "DaemonSet":
                used += pod.requests
        return used

    def _on(self, node: NodeName) -> Iterator[_Party]:
        together: dict[GangKey | PodKey, tuple[Pod, ...]] = {}
        for pod in self._here(node):
            gang = self._gangs.get(pod.gang) if pod.gang else None
            together[pod.gang if gang and pod.gang else pod.key] = tuple(gang or (pod,))
        for pods in together.values():
            if all(map(self._may_go, pods)):
                here = [pod.requests for pod in pods if pod.node == node]
                gain = here[0] if len(here) == 1 else sum(here, Resources())
                yield _Party(pods=pods, gain=gain, harm=_harm(pods))

    def _may_go(self, pod: Pod) -> bool:
        decided = pod.key in self._disturbed or pod.terminating or pod.node is None
        return pod.kind in self._leave and not decided


def _asks(pod: Pod) -> tuple[Resources, Constraints]:
    """Return what makes pods alike that look for room."""
    return (pod.requests, pod.constraints)


def _apart(rooms: Iterable[Room]) -> Iterable[Room]:
    """Return of the rooms that have the same to give the one with the first node."""
    first: dict[tuple[int, int], Room] = {}
    for room in rooms:
        alike = (id(room.look), id(room.free))
        if alike not in first or room.node.name < first[alike].node.name:
            first[alike] = room
    return first.values()


def _missing(pod: Pod, room: Room) -> tuple[object, ...]:
    """Return what orders rooms by what they lack: GPUs first, then shares of the node."""
    lacking = pod.requests.shortfall(room.free)
    shares = sum(n / max(1, room.node.allocatable[name]) for name, n in lacking.items)
    return (lacking.gpus, shares, room.node.name)


def _changed(rooms: Iterable[Room], room: Room, node: Node, free: Resources) -> tuple[Room, ...]:
    """Return the rooms with one node of one of them changed."""
    others = [each for each in rooms if each is not room]
    rest = tuple(each for each in room.nodes if each is not node)
    return (
        *others,
        *([replace(room, nodes=rest)] if rest else []),
        replace(room, nodes=(node,), free=free),
    )


def _harm(pods: Collection[Pod]) -> tuple[int, int]:
    """Return how many pods go, and the highest of their priorities."""
    return (len(pods), max([pod.priority for pod in pods], default=0))


def _harm_of(chosen: Collection[_Party]) -> tuple[int, int]:
    """Return the same for all of some parties."""
    harms = [party.harm for party in chosen]
    return (sum(count for count, _ in harms), max([tier for _, tier in harms], default=0))


def _fewest(parties: Sequence[_Party], short: Resources, most: int) -> list[_Party] | None:
    """Return parties that cover what is short with the fewest pods; None if it takes over `most`.

    Small sets are tried in full; beyond them the largest gain for each pod goes first.
    """
    least = max((_least(parties, name, n) for name, n in short.items), default=0)
    if least > most:
        return None
    best: list[_Party] | None = None
    for size in range(least, min(most, _EXACT) + 1):
        if best is not None and size > _harm_of(best)[0]:
            break
        for chosen in combinations(parties[:_AMONG], size):
            if _covers(chosen, short) and (best is None or _harm_of(chosen) < _harm_of(best)):
                best = list(chosen)
    if best is None or len(parties) > _AMONG or _harm_of(best)[0] > _EXACT + 1:
        many = _greedily(parties, short)
        best = many if best is None or _harm_of(many) < _harm_of(best) else best
    return best if _harm_of(best)[0] <= most else None


def _sharing(
    parties: Sequence[_Party], asks: Resources, free: Resources, most: int
) -> list[_Party] | None:
    """Return the same where shares of GPUs matter: what is free is no sum then."""
    best: list[_Party] | None = None
    able = [party for party in parties if any(map(_is_about_gpus, party.gain))]
    for size in range(1, min(_EXACT, most) + 1):
        for chosen in combinations(able[:_AMONG], size):
            freed = free
            for party in chosen:
                freed += party.gain
            if (best is None or _harm_of(chosen) < _harm_of(best)) and asks.fits(freed):
                best = list(chosen)
        if best is not None:
            break
    return best if best is not None and _harm_of(best)[0] <= most else None


def _is_about_gpus(resource: str) -> bool:
    return units.is_gpu(resource) or units.is_part(resource)


def _least(parties: Iterable[_Party], name: str, amount: int) -> int:
    """Return the fewest parties that free so much of one resource; very many if all do not."""
    freed = 0
    for number, gain in enumerate(sorted(-p.gain[name] for p in parties), start=1):
        freed -= gain
        if freed >= amount:
            return number
    return _NEVER


def _greedily(parties: Sequence[_Party], short: Resources) -> list[_Party]:
    """Return parties that cover what is short, none of which could be left out."""
    left, rest, chosen = short, list(parties), list[_Party]()
    while left.items:
        best = max(rest, key=lambda party: _worth(party, left))
        rest.remove(best)
        chosen.append(best)
        left = left.shortfall(best.gain)
    for party in tuple(chosen):
        others = [each for each in chosen if each is not party]
        chosen = others if _covers(others, short) else chosen
    return chosen


def _worth(party: _Party, short: Resources) -> float:
    """Return how much of what is short a party frees, for each of its pods."""
    shares = (min(party.gain[name], n) / n for name, n in short.items)
    return sum(shares) / len(party.pods)


def _covers(parties: Sequence[_Party], short: Resources) -> bool:
    return all(sum(party.gain[name] for party in parties) >= n for name, n in short.items)


def _uncordoning(pods: Sequence[Pod], rooms: Iterable[Room]) -> NodeName | None:
    """Return the first cordoned node on which a pod has room."""
    if len(pods) != 1:
        return None
    for room in rooms:
        if room.node.schedulable or not pods[0].requests.fits(room.free):
            continue
        usual = replace(room.node, schedulable=True, taints=_lasting(room.node))
        if filters.static_rejection(pods[0], usual) is None:
            return room.node.name
    return None


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


def in_words(remedies: Remedies, *, most: int) -> str:
    """Return the remedies as one sentence of at most `most` characters; empty without any."""
    said = ""
    for part in _parts(remedies):
        longer = f"{said}, or {part}" if said else part
        said = longer if len(longer) <= most else said
    return said


def _parts(remedies: Remedies) -> Iterator[str]:
    if remedies.uncordon is not None:
        yield f"uncordon {remedies.uncordon}"
    if remedies.free:
        yield "free " + _listed([_freed(each) for each in remedies.free])
    if remedies.evict:
        yield "evict " + _evicted(remedies.evict)
    if remedies.add is not None:
        count, like = remedies.add.count, remedies.add.like
        yield f"add {count} node{'' if count == 1 else 's'} like {like.name} ({_size(like)})"


def _freed(freeing: Freeing) -> str:
    """Return e.g. "3 more GPUs on node-4 (5 of 8 are free)"."""
    told = _gpus_first(freeing.lacking)
    more = _listed([_more(name, n) for name, n in told])
    name, node = told[0][0], freeing.node
    if units.is_host_port(name):
        return f"{more} on {node.name}"
    have = units.text(name, max(0, filters.free_of(name, freeing.free)))
    size = node.allocatable[name]
    if units.is_share(name):
        most = filters.free_of(name, freeing.free) / units.WHOLE_MILLI
        return f"{more} on {node.name} (at most {most:g} of one is free)"
    in_all = units.text(name, size) if len(told) == 1 else units.words(name, size)
    return f"{more} on {node.name} ({have} of {in_all} are free)"


def _more(name: str, n: int) -> str:
    """Return e.g. "3 more GPUs", "8 more CPU", "16 GiB more memory"."""
    if units.is_host_port(name):
        return name
    if units.is_share(name):
        return units.words(name, n)
    amount, _, what = units.words(name, n).rpartition(" ")
    return f"{amount} more {what}"


def _size(node: Node) -> str:
    """Return how many GPUs a node has, or all it has where that is none."""
    all_of_it = [(name, n) for name, n in _gpus_first(node.allocatable) if name != "pods"]
    whole = [item for item in all_of_it if units.is_gpu(item[0])]
    return ", ".join(units.words(name, n) for name, n in whole or all_of_it)


def _gpus_first(amounts: Resources) -> list[tuple[str, int]]:
    return sorted(amounts.items, key=lambda item: (not filters.is_about_gpus(item[0]), item[0]))


def _evicted(pods: Sequence[Pod]) -> str:
    gangs: dict[GangKey, int] = defaultdict(int)
    names = []
    for pod in pods:
        if pod.gang is not None and pod.gang_min_count > 1:
            gangs[pod.gang] += 1
        else:
            names.append(str(pod.key))
    names += [f"gang {key} ({n} pods)" for key, n in sorted(gangs.items())]
    tiers = sorted({pod.priority for pod in pods})
    said = f"priority {tiers[0]}" if len(tiers) == 1 else f"priorities {tiers[0]} to {tiers[-1]}"
    return f"{_listed(names)} ({said})"


def _listed(parts: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
