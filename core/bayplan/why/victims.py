"""Who could leave a node, and which of them make room for a pod with the least harm.

Pods go in parties: one by itself, or a whole gang. The least harm is the fewest pods, then the
lowest of the highest priorities.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from bayplan.aftermath import Aftermath
from bayplan.cluster import units
from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.cluster.pods import Pod, PodKind
from bayplan.cluster.resources import Resources
from bayplan.plan import Evict, Move
from bayplan.why.promise import Promise

#: Largest sets of victims that are tried in full, and among how many pods of a node.
_EXACT: Final = 3
_AMONG: Final = 16

#: Owners whose pods come with every node: a static pod belongs to its node.
_WITH_EVERY_NODE: Final = frozenset({"DaemonSet", "Node"})

#: More pods than anybody evicts.
NEVER: Final = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
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
class Leavers:
    """Who could leave a node.

    Attributes:
        parties: The pods, least harm first.
        likeness: Equal where the same would become free for the same harm.
    """

    parties: tuple[Party, ...]
    likeness: int


class Victims:
    """Who is where after the plan, as far as pods of the kinds that may `leave` are concerned.

    Without `gangs`, gangs stay. `promise` tells at once of many nodes how little harm is enough.
    """

    def __init__(self, after: Aftermath, leave: Collection[PodKind], *, gangs: bool = True) -> None:
        snapshot = after.snapshot
        victims: tuple[Move | Evict, ...] = (*after.moved.actions, *after.evicted.actions)
        self._disturbed = {victim.pod for victim in victims}
        self._leave, self._gangs_leave = leave, gangs
        self._after = after
        self._gangs: dict[GangKey, list[Pod]] = defaultdict(list)
        self._leavers: dict[NodeName, Leavers] = {}
        self._likes: dict[tuple[object, ...], int] = {}
        self.promise = Promise(after, self._leave)
        for pod in snapshot.in_gangs:
            if pod.gang is None or pod.gang_min_count <= 1:
                continue
            if after.goes.get(pod.key, pod.node) is not None:
                self._gangs[pod.gang].append(pod)

    def running_gang(self, pod: Pod) -> GangKey | None:
        """Return the gang of the pod if some of it runs."""
        return pod.gang if pod.gang in self._gangs else None

    def leavers(self, node: NodeName, pod: Pod, gone: Mapping[PodKey, Pod]) -> Leavers:
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

    def _leaving(self, parties: Iterable[Party]) -> Leavers:
        listed = tuple(parties)
        alike = tuple((party.harm, party.gain.items) for party in listed)
        likeness = self._likes.setdefault(alike, len(self._likes))
        return Leavers(parties=listed, likeness=likeness)

    def daemons(self, node: NodeName) -> Resources:
        """Return what the pods use that come with every node of the kind."""
        used = Resources()
        for pod in self._after.here(node):
            if pod.owner is not None and pod.owner.kind in _WITH_EVERY_NODE:
                used += pod.requests
        return used

    def staying(self, node: NodeName, pod: Pod) -> Resources:
        """Return what is used by who cannot make room for the pod: those, and its own gang."""
        used = self.daemons(node)
        for member in self._gangs.get(pod.gang, ()) if pod.gang else ():
            if self._after.goes.get(member.key, member.node) == node:
                used += member.requests
        return used

    def _on(self, node: NodeName) -> Iterator[Party]:
        together: dict[GangKey | PodKey, tuple[Pod, ...]] = {}
        for pod in self._after.here(node):
            gang = self._gangs.get(pod.gang) if pod.gang else None
            together[pod.gang if gang and pod.gang else pod.key] = tuple(gang or (pod,))
        for pods in together.values():
            if all(map(self._may_go, pods)) and (self._gangs_leave or len(pods) == 1):
                here = [pod.requests for pod in pods if pod.node == node]
                gain = here[0] if len(here) == 1 else sum(here, Resources())
                yield Party(pods=pods, gain=gain, harm=_harm(pods))

    def _may_go(self, pod: Pod) -> bool:
        decided = pod.key in self._disturbed or pod.terminating or pod.node is None
        return pod.kind in self._leave and not decided


def _harm(pods: Collection[Pod]) -> tuple[int, int]:
    """Return how many pods go, and the highest of their priorities."""
    return (len(pods), max([pod.priority for pod in pods], default=0))


def harm_of(chosen: Collection[Party]) -> tuple[int, int]:
    """Return the same for all of some parties."""
    harms = [party.harm for party in chosen]
    return (sum(count for count, _ in harms), max([tier for _, tier in harms], default=0))


def fewest(parties: Sequence[Party], short: Resources, most: int) -> list[Party] | None:
    """Return parties that cover what is short with the fewest pods; None if it takes over `most`.

    Small sets are tried in full; beyond them the largest gain for each pod goes first.
    """
    least = max((_least(parties, name, n) for name, n in short.items), default=0)
    if least > most:
        return None
    best: list[Party] | None = None
    for size in range(least, min(most, _EXACT) + 1):
        if best is not None and size > harm_of(best)[0]:
            break
        for chosen in combinations(parties[:_AMONG], size):
            if _covers(chosen, short) and (best is None or harm_of(chosen) < harm_of(best)):
                best = list(chosen)
    if best is None or len(parties) > _AMONG or harm_of(best)[0] > _EXACT + 1:
        many = _greedily(parties, short)
        best = many if best is None or harm_of(many) < harm_of(best) else best
    return best if harm_of(best)[0] <= most else None


def sharing(
    parties: Sequence[Party], asks: Resources, free: Resources, most: int
) -> list[Party] | None:
    """Return the same where shares of GPUs matter: what is free is no sum then."""
    best: list[Party] | None = None
    able = [party for party in parties if any(map(_is_about_gpus, party.gain))]
    for size in range(1, min(_EXACT, most) + 1):
        for chosen in combinations(able[:_AMONG], size):
            freed = free
            for party in chosen:
                freed += party.gain
            if (best is None or harm_of(chosen) < harm_of(best)) and asks.fits(freed):
                best = list(chosen)
        if best is not None:
            break
    return best if best is not None and harm_of(best)[0] <= most else None


def _is_about_gpus(resource: str) -> bool:
    return units.is_gpu(resource) or units.is_part(resource)


def _least(parties: Iterable[Party], name: str, amount: int) -> int:
    """Return the fewest parties that free so much of one resource; very many if all do not."""
    freed = 0
    for number, gain in enumerate(sorted(-p.gain[name] for p in parties), start=1):
        freed -= gain
        if freed >= amount:
            return number
    return NEVER


def _greedily(parties: Sequence[Party], short: Resources) -> list[Party]:
    """Return parties that cover what is short, none of which could be left out."""
    left, rest, chosen = short, list(parties), list[Party]()
    while left.items:
        best = max(rest, key=lambda party: _worth(party, left))
        rest.remove(best)
        chosen.append(best)
        left = left.shortfall(best.gain)
    for party in tuple(chosen):
        others = [each for each in chosen if each is not party]
        chosen = others if _covers(others, short) else chosen
    return chosen


def _worth(party: Party, short: Resources) -> float:
    """Return how much of what is short a party frees, for each of its pods."""
    shares = (min(party.gain[name], n) / n for name, n in short.items)
    return sum(shares) / len(party.pods)


def _covers(parties: Sequence[Party], short: Resources) -> bool:
    return all(sum(party.gain[name] for party in parties) >= n for name, n in short.items)
