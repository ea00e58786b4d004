"""What pods ask of the pods around them: who is meant, and why a node will not do for that.

Solver and validator ask here whom a selector means and which nodes count for a spread. `Neighbours`
tells in words which rule keeps a pod off a node, for those who wait.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from bayplan.cluster.constraints import Constraints, Peers, PodSelector, PodTerm, Spread
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Reason, Rejection
from bayplan.rules import filters

#: Where a rule between pods applies: a label of nodes and its value.
Domain = tuple[str, str]

_NOTHING: Final = Peers()


def selects(selector: PodSelector, pod: Pod) -> bool:
    """Return whether the selector means the pod."""
    if selector.nobody or (selector.namespaces and pod.key.namespace not in selector.namespaces):
        return False
    return filters.selects(selector.labels, pod.labels)


def asks(pod: Pod) -> Peers:
    """Return what a pod asks of others; nothing for most."""
    return pod.constraints.peers or _NOTHING


def counts(spread: Spread, constraints: Constraints, node: Node) -> bool:
    """Return whether the node is one over which a pod with these constraints is spread.

    It must have the labels of all the pod's spreads, as kube-scheduler wants it.
    """
    peers = constraints.peers or _NOTHING
    labels = dict(node.labels)
    return (
        all(each.key in labels for each in peers.spreads)
        and (not spread.honours_affinity or filters.wants(constraints, node))
        and (not spread.honours_taints or filters.tolerates_taints(constraints, node))
    )


class Meant:
    """Tells which selectors of a snapshot mean a pod; () for every pod where there are none."""

    def __init__(self, snapshot: Snapshot) -> None:
        asked = {kind.constraints.peers for kind in snapshot.kinds} - {None}
        found: set[PodSelector] = set()
        for each in asked:
            assert each is not None  # noqa: S101 - taken out above
            found |= {term.pods for term in (*each.repels, *each.attracts)}
            found |= {spread.pods for spread in each.spreads}
        self.selectors = tuple(sorted(found))
        self._keys = frozenset(r.key for selector in found for r in selector.labels)
        self._known: dict[object, tuple[int, ...]] = {}

    def __call__(self, pod: Pod) -> tuple[int, ...]:
        """Return the indices of the selectors that mean the pod."""
        if not self.selectors:
            return ()
        seen = (pod.key.namespace, *(pair for pair in pod.labels if pair[0] in self._keys))
        if seen not in self._known:
            found = (k for k, each in enumerate(self.selectors) if selects(each, pod))
            self._known[seen] = tuple(found)
        return self._known[seen]


class Neighbours:
    """The placed pods of a snapshot, by the domains they are in."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._nodes = snapshot.nodes
        self._labels = {node.name: dict(node.labels) for node in snapshot.nodes}
        self._placed = [pod for pod in snapshot.placed() if pod.node in self._labels]
        self._tallies: dict[tuple[Spread, Constraints], Mapping[str, int]] = {}
        self._members: dict[PodTerm, dict[str, Pod]] = {}
        self._repelling: dict[PodTerm, dict[str, Pod]] = defaultdict(dict)
        for pod in self._placed:
            for term in asks(pod).repels:
                self._add(self._repelling[term], term.key, pod)

    def refusal(self, pod: Pod, node: Node) -> Rejection | None:
        """Return which rule between pods keeps the pod off the node now; None if none does."""
        if pod.constraints.peers is None and not self._repelling:
            return None
        return self.repulsion(pod, node) or self._crowded(pod, node) or self._alone(pod, node)

    def repulsion(self, pod: Pod, node: Node) -> Rejection | None:
        """Return whose anti-affinity, its own or another's, keeps the pod off the node, if any."""
        if pod.constraints.peers is None and not self._repelling:
            return None
        return self._repelled(pod, node) or self._keeps_away(pod, node)

    def is_repelled(self, pod: Pod) -> bool:
        """Return whether some placed pod keeps the pod away from it."""
        return any(selects(term.pods, pod) for term in self._repelling)

    def over_nodes(self, pod: Pod, nodes: Iterable[Node]) -> Rejection | None:
        """Return why rules between pods keep the pod off all of `nodes`; None if one will do."""
        refusals = [(node, self.refusal(pod, node)) for node in nodes]
        told = [(node, refusal) for node, refusal in refusals if refusal is not None]
        if not told or len(told) < len(refusals):
            return None
        reason, _ = max(
            Counter(refusal.reason for _, refusal in told).items(),
            key=lambda item: (item[1], item[0]),
        )
        node, first = next((n, r) for n, r in told if r.reason is reason)
        rest = f"; likewise on all {len(told)} nodes with room" if len(told) > 1 else ""
        return Rejection(
            reason=reason, message=f"{first.message} (on {node.name}){rest}", resolvable=True
        )

    def _add(self, found: dict[str, Pod], key: str, pod: Pod) -> None:
        assert pod.node is not None  # noqa: S101 - placed
        value = self._labels[pod.node].get(key)
        if value is not None:
            found.setdefault(value, pod)

    def _meant(self, term: PodTerm) -> Mapping[str, Pod]:
        """Return one pod that the term means for each domain that has any."""
        if term not in self._members:
            found: dict[str, Pod] = {}
            for pod in self._placed:
                if selects(term.pods, pod):
                    self._add(found, term.key, pod)
            self._members[term] = found
        return self._members[term]

    def _labels_of(self, node: Node) -> Mapping[str, str]:
        """Return the labels of a node, which may be one that is not there yet."""
        known = self._labels.get(node.name)
        return dict(node.labels) if known is None else known

    def _repelled(self, pod: Pod, node: Node) -> Rejection | None:
        for term in asks(pod).repels:
            value = self._labels_of(node).get(term.key)
            other = self._meant(term).get(value) if value is not None else None
            if other is not None and other.uid != pod.uid:
                message = f"its anti-affinity keeps it away from {other.key} in {term.key}={value}"
                return Rejection(reason=Reason.POD_ANTI_AFFINITY, message=message, resolvable=True)
        return None

    def _keeps_away(self, pod: Pod, node: Node) -> Rejection | None:
        for term, carriers in self._repelling.items():
            value = self._labels_of(node).get(term.key)
            other = carriers.get(value) if value is not None else None
            if other is not None and other.uid != pod.uid and selects(term.pods, pod):
                message = f"the anti-affinity of {other.key} keeps it out of {term.key}={value}"
                return Rejection(reason=Reason.POD_ANTI_AFFINITY, message=message, resolvable=True)
        return None

    def _crowded(self, pod: Pod, node: Node) -> Rejection | None:
        for spread in asks(pod).spreads:
            value = self._labels_of(node).get(spread.key)
            if value is None:
                message = f"is spread over {spread.key}; {node.name} has no such label"
                return Rejection(reason=Reason.TOPOLOGY_SPREAD, message=message)
            tally = self._tally(spread, pod)
            there = tally.get(value, 0) + selects(spread.pods, pod)
            least, elsewhere = _emptiest(spread, tally)
            if there - least > spread.max_skew:
                message = (
                    f"spread over {spread.key} with a skew of at most {spread.max_skew}: "
                    f"{value} would have {there}, {elsewhere}"
                )
                return Rejection(reason=Reason.TOPOLOGY_SPREAD, message=message, resolvable=True)
        return None

    def exceeds(self, pod: Pod, node: Node, arrivals: Iterable[Pod]) -> Rejection | None:
        """Return whose spread would be exceeded if the pod came to the node, of those who arrive.

        A spread holds for whoever arrives, and not for who runs: it is in the way for one plan.
        """
        for other in arrivals:
            for spread in asks(other).spreads:
                if not selects(spread.pods, pod) or not counts(spread, other.constraints, node):
                    continue
                assert other.node is not None  # noqa: S101 - the plan places it
                home = self._labels[other.node][spread.key]
                tally = Counter(self._tally(spread, other))
                tally[self._labels[node.name][spread.key]] += 1
                least, elsewhere = _emptiest(spread, tally)
                if tally[home] - least > spread.max_skew:
                    message = (
                        f"{other.key}, which this plan places, is spread over {spread.key} with a"
                        f" skew of at most {spread.max_skew}: beside it {home} would have"
                        f" {tally[home]}, {elsewhere}"
                    )
                    return Rejection(
                        reason=Reason.TOPOLOGY_SPREAD, message=message, resolvable=True
                    )
        return None

    def _tally(self, spread: Spread, pod: Pod) -> Mapping[str, int]:
        """Return the pods that a spread counts, by value of its label."""
        # Volumes do not say which nodes count, and tell apart pods that are alike otherwise.
        asked = replace(pod.constraints, volumes=())
        known = self._tallies.get((spread, asked))
        if known is not None:
            return known
        eligible = {n.name for n in self._nodes if counts(spread, pod.constraints, n)}
        tally = dict.fromkeys((self._labels[name][spread.key] for name in eligible), 0)
        for other in self._placed:
            if other.node in eligible and not other.terminating and selects(spread.pods, other):
                tally[self._labels[other.node][spread.key]] += 1
        self._tallies[spread, asked] = tally
        return tally

    def _alone(self, pod: Pod, node: Node) -> Rejection | None:
        for term in asks(pod).attracts:
            value, near = self._labels_of(node).get(term.key), self._meant(term)
            if value is not None and value in near:
                continue
            if value is not None and selects(term.pods, pod) and not self._anyone(term):
                continue
            wanted = " and ".join(
                f"{r.key} {r.operator} {', '.join(r.values)}".rstrip() for r in term.pods.labels
            )
            message = f"its pod affinity asks for a pod with {wanted or 'any labels'} in its "
            message += f"{term.key}; {node.name} has none there"
            return Rejection(reason=Reason.POD_AFFINITY, message=message, resolvable=True)
        return None

    def _anyone(self, term: PodTerm) -> bool:
        return any(selects(term.pods, pod) for pod in self._placed)


def _emptiest(spread: Spread, tally: Mapping[str, int]) -> tuple[int, str]:
    """Return how many pods the emptiest domain counts, and that in words."""
    if len(tally) < spread.min_domains:
        return 0, f"and with fewer than {spread.min_domains} domains the emptiest counts as empty"
    least, value = min(((n, value) for value, n in tally.items()), default=(0, ""))
    return least, f"{value} has {least}"
