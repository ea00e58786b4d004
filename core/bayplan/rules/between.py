"""Whether a placement keeps what pods ask of each other, counted pod by pod.

The validator asks here about the cluster as a plan leaves it. Only pods that arrive are judged, as
kube-scheduler does; nothing here knows classes, domains in numbers, or any solver.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from bayplan.aftermath import Aftermath
from bayplan.cluster.constraints import Constraints, GangTopology, PodTerm, Spread
from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod, newest_member
from bayplan.cluster.snapshot import Snapshot
from bayplan.rules import peers

#: A gang of fewer pods is no gang.
_SMALLEST_GANG: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where everybody is after a plan.

    Attributes:
        snapshot: The cluster before.
        final: Node of each pod that has one after.
        arrivals: Pods that the plan gives a node.
    """

    snapshot: Snapshot
    final: Mapping[PodKey, NodeName]
    arrivals: frozenset[PodKey]
    labels: Mapping[NodeName, Mapping[str, str]] = field(repr=False)
    nodes: Mapping[NodeName, Node] = field(repr=False)
    placed: Sequence[tuple[Pod, NodeName]] = field(repr=False)

    @classmethod
    def of(cls, after: Aftermath) -> "Placement | None":
        """Return the placement; None where no pod asks anything of others."""
        snapshot = after.snapshot
        asks = any(kind.constraints.peers for kind in snapshot.kinds)
        if not asks and not any(pod.gang_topology for pod in snapshot.in_gangs):
            return None
        goes = after.goes
        nodes = {node.name: node for node in snapshot.nodes}
        where = ((pod, goes.get(pod.key, pod.node)) for pod in snapshot.pods)
        placed = [(pod, node) for pod, node in where if node is not None and node in nodes]
        return cls(
            snapshot=snapshot,
            final={pod.key: node for pod, node in placed},
            arrivals=frozenset(key for key, node in goes.items() if node is not None),
            labels={name: dict(node.labels) for name, node in nodes.items()},
            nodes=nodes,
            placed=placed,
        )

    def came(self) -> Iterator[tuple[Pod, NodeName]]:
        """Yield the pods that arrive."""
        return ((pod, node) for pod, node in self.placed if pod.key in self.arrivals)


def broken(placement: Placement) -> Iterator[str]:
    """Yield, in words, each rule between pods that an arriving pod breaks or makes broken."""
    yield from _too_close(placement)
    yield from _uneven(placement)
    yield from _lonely(placement)


def _too_close(placement: Placement) -> Iterator[str]:
    """Check anti-affinity, of those who arrive and against those who do."""
    terms = {term for pod, _ in placement.placed for term in peers.asks(pod).repels}
    for term in sorted(terms):
        carriers: dict[str, list[Pod]] = defaultdict(list)
        meant: dict[str, list[Pod]] = defaultdict(list)
        for pod, node in placement.placed:
            value = placement.labels[node].get(term.key)
            if value is not None and term in peers.asks(pod).repels:
                carriers[value].append(pod)
            if value is not None and peers.selects(term.pods, pod):
                meant[value].append(pod)
        for value, here in carriers.items():
            for one, other in product(here, meant[value]):
                new = one.key in placement.arrivals or other.key in placement.arrivals
                if other.key != one.key and new:
                    yield f"{one.key} keeps {other.key} out of {term.key}={value}"


def _uneven(placement: Placement) -> Iterator[str]:
    """Check topology spread where a pod that asks for it arrives."""
    known: dict[tuple[Spread, Constraints], Counter[str]] = {}
    for pod, node in placement.came():
        for spread in peers.asks(pod).spreads:
            if (spread, pod.constraints) not in known:
                known[spread, pod.constraints] = _tally(placement, spread, pod.constraints)
            tally = known[spread, pod.constraints]
            value = placement.labels[node].get(spread.key)
            if value is None or value not in tally:
                yield f"{pod.key} is spread over {spread.key}, of which {node} is no part"
                continue
            least = min(tally.values()) if len(tally) >= spread.min_domains else 0
            if tally[value] - least > spread.max_skew:
                yield (
                    f"{pod.key}: {tally[value]} pods in {spread.key}={value}, {least} in the "
                    f"emptiest, at most {spread.max_skew} more allowed"
                )


def _tally(placement: Placement, spread: Spread, constraints: Constraints) -> Counter[str]:
    """Return the pods that count, by value of the label; 0 for an empty domain."""
    eligible = {
        name for name, node in placement.nodes.items() if peers.counts(spread, constraints, node)
    }
    tally = Counter({placement.labels[name][spread.key]: 0 for name in eligible})
    for pod, node in placement.placed:
        if node in eligible and not pod.terminating and peers.selects(spread.pods, pod):
            tally[placement.labels[node][spread.key]] += 1
    return tally


def _lonely(placement: Placement) -> Iterator[str]:
    """Check affinity: whoever arrives finds somebody who does not come for the same reason."""
    for pod, node in placement.came():
        for term in peers.asks(pod).attracts:
            value = placement.labels[node].get(term.key)
            if value is None:
                yield f"{pod.key} needs company by {term.key}, which {node} does not have"
            elif not _has_company(placement, term, value) and not _founds(placement, term, value):
                yield f"{pod.key} finds nobody whom its affinity means in {term.key}={value}"


def _has_company(placement: Placement, term: PodTerm, value: str) -> bool:
    return any(
        placement.labels[node].get(term.key) == value
        and not other.terminating
        and (other.key not in placement.arrivals or term not in peers.asks(other).attracts)
        and peers.selects(term.pods, other)
        for other, node in placement.placed
    )


def _founds(placement: Placement, term: PodTerm, value: str) -> bool:
    """Return whether nobody who is meant ran before, and all who have to do with it come here.

    Who asks for it and runs elsewhere without company does so already.
    """
    ran = any(
        each.node in placement.nodes and peers.selects(term.pods, each)
        for each in placement.snapshot.pods
    )
    members = [
        placement.labels[node].get(term.key)
        for each, node in placement.placed
        if peers.selects(term.pods, each)
        or (each.key in placement.arrivals and term in peers.asks(each).attracts)
    ]
    means_itself = any(
        peers.selects(term.pods, each) and term in peers.asks(each).attracts
        for each, _ in placement.came()
    )
    return not ran and means_itself and set(members) == {value}


def scattered(placement: Placement) -> Iterator[str]:
    """Yield the gangs of which pods arrive outside the one domain that they must share."""
    for gang in _gangs(placement):
        key = gang.topology.required
        if not key or not gang.came:
            continue
        stayed, ran, came = (
            {placement.labels[node].get(key) for node in nodes}
            for nodes in (gang.stayed, gang.ran, gang.came)
        )
        # Who runs scattered already is not the plan's fault: what arrives joins some of them, or
        # is moved within its domain.
        right = came <= ran if stayed else True
        if len(came) > 1 or None in came or not right:
            yield f"{gang.key} must be in one {key}, not in {_listed([*came, *stayed])}"


def gathered(placement: Placement) -> Counter[str]:
    """Return how many newly placed gangs share a domain that they prefer, by stage."""
    counted: Counter[str] = Counter()
    for gang in _gangs(placement):
        for rank, key in enumerate(gang.topology.preferred):
            values = {placement.labels[node].get(key) for node in gang.came}
            if gang.new and len(values) == 1 and None not in values:
                counted[f"topology {rank + 1}"] += 1
    return counted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gang:
    """A gang that says where its pods are to be.

    Attributes:
        key: The gang.
        topology: What it says.
        new: Whether none of it ran before.
        came: Nodes of the pods that arrive.
        stayed: Nodes of the pods that run on where they are.
        ran: Nodes where pods ran that have one after the plan, too.
    """

    key: GangKey
    topology: GangTopology
    new: bool
    came: Sequence[NodeName]
    stayed: Sequence[NodeName]
    ran: Sequence[NodeName]


def _gangs(placement: Placement) -> Iterator[_Gang]:
    members: dict[GangKey, list[Pod]] = defaultdict(list)
    for pod in placement.snapshot.in_gangs:
        here = pod.waiting or pod.node in placement.nodes
        if pod.gang is not None and not pod.terminating and here:
            members[pod.gang].append(pod)
    for key, pods in sorted(members.items()):
        newest = newest_member(pods)
        if newest.gang_topology is None or newest.gang_min_count < _SMALLEST_GANG:
            continue
        placed = [pod for pod in pods if pod.key in placement.final]
        yield _Gang(
            key=key,
            topology=newest.gang_topology,
            new=all(pod.waiting for pod in pods),
            came=[placement.final[p.key] for p in placed if p.key in placement.arrivals],
            stayed=[placement.final[p.key] for p in placed if p.key not in placement.arrivals],
            ran=[p.node for p in placed if p.node is not None],
        )


def _listed(values: Sequence[str | None]) -> str:
    return ", ".join(sorted({value or "none" for value in values}))
