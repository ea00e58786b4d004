"""From what pods ask of each other to rules over classes and domains.

What cannot change is settled here: nodes that a rule forbids whatever the plan does are barred, and
an anti-affinity over single nodes becomes a column of room, which every engine knows already.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

import numpy as np

from bayplan.cluster.constraints import Constraints, Peers, PodSelector, PodTerm, Spread
from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.rules import peers
from bayplan.rules.peers import Meant
from bayplan.solver.problem import domains
from bayplan.solver.problem.domains import Apart, Beside, Counts, DomainRule, Domains, Even, Mask
from bayplan.solver.problem.instance import PodClass

Rule = TypeVar("Rule", Spread, PodTerm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """What the rules between pods come to.

    Attributes:
        columns: [class] what one pod uses of a further resource, and [node] how much there is.
        rules: Rules over domains of several nodes.
        barred: [class, node] where pods of a class may not come, whatever else a plan does.
    """

    columns: tuple[tuple[Counts, Counts], ...] = ()
    rules: tuple[DomainRule, ...] = ()
    barred: Mask | None = field(default=None, repr=False)


def between(
    snapshot: Snapshot,
    classes: "Sequence[PodClass]",
    running: Counts,
    meant: Meant,
) -> Between:
    """Return the rules between the pods of a snapshot."""
    if not meant.selectors:
        return Between()
    builder = _Builder(snapshot, classes, running, meant)
    builder.keep_apart()
    builder.spread()
    builder.keep_beside()
    return Between(
        columns=tuple(builder.columns), rules=tuple(builder.rules), barred=builder.barred
    )


class _Builder:
    """Collects columns, rules and bars, term by term."""

    def __init__(
        self,
        snapshot: Snapshot,
        classes: "Sequence[PodClass]",
        running: Counts,
        meant: Meant,
    ) -> None:
        self.columns: list[tuple[Counts, Counts]] = []
        self.rules: list[DomainRule] = []
        self.barred = np.zeros(running.shape, dtype=np.bool_)
        self._nodes = snapshot.nodes
        self._classes = classes
        self._running = running
        self._pods = np.array([len(c.running) + len(c.waiting) for c in classes], dtype=np.int64)
        self._movable = np.array([each.movable for each in classes], dtype=np.bool_)
        self._placed = [pod for pod in snapshot.pods if pod.node in snapshot.rows]
        self._fixed = [
            pod
            for pod in self._placed
            if pod.terminating or pod.kind.disruption is Disruption.FIXED
        ]
        self._rows = snapshot.rows
        self._index = {selector: k for k, selector in enumerate(meant.selectors)}
        self._meant = meant

    def keep_apart(self) -> None:
        """Add the anti-affinity of those who are placed and of those who may be."""
        found = {term for each in self._classes for term in _repels(each.constraints)}
        found |= {term for pod in self._fixed for term in _repels(pod.constraints)}
        for term in sorted(found):
            self._add_apart(term)

    def spread(self) -> None:
        """Add the topology spread of those who may come somewhere."""
        groups: dict[tuple[Spread, bytes], list[int]] = defaultdict(list)
        for i, spread in self._carried(lambda asked: asked.spreads):
            eligible = self._eligible(spread, self._classes[i].constraints)
            groups[spread, eligible.tobytes()].append(i)
        for (spread, mask), carriers in sorted(groups.items()):
            self._add_even(spread, np.frombuffer(mask, dtype=np.bool_), carriers)

    def keep_beside(self) -> None:
        """Add the affinity of those who may come somewhere."""
        groups: dict[PodTerm, list[int]] = defaultdict(list)
        for i, term in self._carried(lambda asked: asked.attracts):
            groups[term].append(i)
        for term, carriers in sorted(groups.items()):
            self._add_beside(term, carriers)

    def _add_apart(self, term: PodTerm) -> None:
        over = domains.by_label(self._nodes, term.key)
        carries = self._mask(lambda each: term in _repels(each.constraints))
        means = self._means(term.pods)
        others = means & ~carries
        whole = 1 + int(others @ self._pods) + len(self._fixed)
        weight = np.where(means, np.where(carries, whole, 1), 0)
        aloof = carries & ~means
        used, holds_off = self._fixed_use(term, over, whole)
        total = used + over.sums(weight @ self._running)
        apart = holds_off + over.sums(aloof.astype(np.int64) @ self._running)
        broken = (total > whole) | ((total > 0) & (apart > 0))
        room = whole - used
        for i in np.flatnonzero(weight):
            self._bar(int(i), over, broken | (holds_off > 0) | (room < weight[i]))
        for i in np.flatnonzero(aloof):
            self._bar(int(i), over, broken | (used > 0))
        if not carries.any() or not ((carries | means) & self._movable).any():
            return
        if over.single and not aloof.any():
            # A broken domain has the room that is used: nobody who uses it may come anyway.
            most = int(weight @ self._pods)
            there = np.maximum(room, total - used)
            inside = over.of_node >= 0
            column = np.full(len(self._nodes), most, dtype=np.int64)
            column[inside] = there[over.of_node[inside]]
            self.columns.append((weight, column))
            return
        rule = Apart(domains=over, weight=weight, room=room, aloof=aloof, live=~broken)
        self.rules.append(rule)

    def _fixed_use(self, term: PodTerm, over: Domains, whole: int) -> tuple[Counts, Counts]:
        """Return [domain] the room that fixed pods use, and how many of them hold off others."""
        used, aloof = np.zeros((2, len(self._nodes)), dtype=np.int64)
        for pod in self._fixed:
            carries, means = term in _repels(pod.constraints), self._is_meant(pod, term.pods)
            n = self._rows[cast("NodeName", pod.node)]
            used[n] += (whole if carries else 1) if means else 0
            aloof[n] += carries and not means
        return over.sums(used), over.sums(aloof)

    def _add_even(self, spread: Spread, eligible: Mask, carriers: list[int]) -> None:
        over = domains.by_label(self._nodes, spread.key, only=eligible)
        carries = np.zeros(len(self._classes), dtype=np.bool_)
        carries[carriers] = True
        for i in carriers:
            self.barred[i] |= over.of_node < 0
        few = over.count < spread.min_domains
        splits = [(over, few)]
        if spread.min_domains > 1 and spread.honours_affinity:
            # To kube-scheduler the node that a pod is pinned to is its only domain, which is too
            # few; so it counts the pods of that node against none.
            splits.append((domains.by_node(over.of_node >= 0), True))
        for split, from_zero in splits:
            rule = Even(
                domains=split,
                carriers=carries,
                counted=self._means(spread.pods),
                base=split.sums(self._counted_fixed(spread.pods)),
                max_skew=spread.max_skew,
                from_zero=from_zero,
            )
            self.rules.append(rule)

    def _add_beside(self, term: PodTerm, carriers: list[int]) -> None:
        over = domains.by_label(self._nodes, term.key)
        carries = np.zeros(len(self._classes), dtype=np.bool_)
        carries[carriers] = True
        for i in carriers:
            self.barred[i] |= over.of_node < 0
        means = self._means(term.pods)
        somebody = any(self._is_meant(pod, term.pods) for pod in self._placed)
        rule = Beside(
            domains=over,
            carriers=carries,
            meant=means,
            fixed=over.sums(self._counted_fixed(term.pods)) > 0,
            founding=not somebody,
        )
        self.rules.append(rule)

    def _counted_fixed(self, pods: PodSelector) -> Counts:
        """Return [node] the fixed pods that are meant and do not end."""
        found = np.zeros(len(self._nodes), dtype=np.int64)
        for pod in self._fixed:
            if not pod.terminating and self._is_meant(pod, pods):
                found[self._rows[cast("NodeName", pod.node)]] += 1
        return found

    def _eligible(self, spread: Spread, constraints: Constraints) -> Mask:
        fits = [peers.counts(spread, constraints, node) for node in self._nodes]
        return np.array(fits, dtype=np.bool_)

    def _carried(self, rules: Callable[[Peers], tuple[Rule, ...]]) -> Iterator[tuple[int, Rule]]:
        """Return the rules of the classes of which a pod may come somewhere."""
        for i, each in enumerate(self._classes):
            if each.movable and each.constraints.peers:
                for rule in rules(each.constraints.peers):
                    yield i, rule

    def _bar(self, index: int, over: Domains, where: Mask) -> None:
        self.barred[index] |= over.spread_out(where, outside=False)

    def _means(self, pods: PodSelector) -> Mask:
        return self._mask(lambda each: self._index[pods] in each.meant)

    def _is_meant(self, pod: Pod, pods: PodSelector) -> bool:
        return self._index[pods] in self._meant(pod)

    def _mask(self, holds: "Callable[[PodClass], bool]") -> Mask:
        return np.array([holds(each) for each in self._classes], dtype=np.bool_)


def _repels(constraints: Constraints) -> tuple[PodTerm, ...]:
    return constraints.peers.repels if constraints.peers else ()
