"""Rules between pods, as the engines see them: counts of classes over domains of nodes.

A domain is a set of nodes that share a value of a label. Each rule says what must hold of the
classes in each of its domains, and only where somebody arrives: what runs against a rule already
may go on, as in Kubernetes. CP-SAT makes rows of the rules (`rows`); the greedy placement asks
`allowed` before each pod. Engines that know neither must not be asked, see `keepfill.supports`.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bayplan.cluster.nodes import Node

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Domains:
    """Nodes by the value of a label.

    Attributes:
        of_node: [node] index of its domain; -1 for a node in none.
        count: How many domains there are.
    """

    of_node: Counts = field(repr=False)
    count: int

    def sums(self, per_node: Counts) -> Counts:
        """Return [domain] the sum of [node] numbers."""
        inside = self.of_node >= 0
        found = np.bincount(self.of_node[inside], weights=per_node[inside], minlength=self.count)
        return found.astype(np.int64)

    def spread_out(self, per_domain: Mask, *, outside: bool) -> Mask:
        """Return [node] what holds of its domain; `outside` for a node in none."""
        if not self.count:
            return np.full(len(self.of_node), outside, dtype=np.bool_)
        return np.where(self.of_node >= 0, per_domain[self.of_node], outside)

    def members(self) -> list[list[int]]:
        """Return the nodes of each domain."""
        order = np.argsort(self.of_node, kind="stable")
        starts = np.searchsorted(self.of_node[order], np.arange(self.count + 1))
        return [order[a:b].tolist() for a, b in pairwise(starts)]

    @property
    def single(self) -> bool:
        """Whether no two nodes share a domain."""
        inside = self.of_node[self.of_node >= 0]
        return len(np.unique(inside)) == len(inside)


def by_label(nodes: tuple[Node, ...], *keys: str, only: Mask | None = None) -> Domains:
    """Return the domains of nodes that share the values of all `keys`, of nodes in `only`."""
    number: dict[tuple[str | None, ...], int] = {}
    of_node = np.full(len(nodes), -1, dtype=np.int64)
    for n, node in enumerate(nodes):
        labels = dict(node.labels)
        value = tuple(labels.get(key) for key in keys)
        if None not in value and (only is None or only[n]):
            of_node[n] = number.setdefault(value, len(number))
    return Domains(of_node, len(number))


def by_node(only: Mask) -> Domains:
    """Return a domain for each node in `only`."""
    of_node = np.where(only, np.cumsum(only) - 1, -1).astype(np.int64)
    return Domains(of_node, int(only.sum()))


class DomainRule(Protocol):
    """A rule between pods that spans nodes."""

    def allowed(self, index: int, final: Counts, running: Counts) -> Mask | None:
        """Return [node] whether one more pod of class `index` may come; None if it may anywhere.

        Args:
            index: The class.
            final: [class, node] pods so far.
            running: [class, node] pods before the plan.
        """

    def holds(self, final: Counts, running: Counts) -> bool:
        """Return whether the rule is kept wherever somebody came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Anti-affinity: who carries the term shares a domain with nobody that it means.

    A carrier that its own term means uses all the room of a domain, a pod that is only meant uses
    one of it. Carriers that their term does not mean get along with each other, but with nobody
    who uses room.

    Attributes:
        domains: By the term's label.
        weight: [class] room that one pod uses; 0 for one that is not meant.
        room: [domain] room beside what may not be touched.
        aloof: [class] carriers that are not meant.
        live: [domain] whether the rule holds there now; nobody concerned comes to another.
    """

    domains: Domains
    weight: Counts
    room: Counts = field(repr=False)
    aloof: Mask
    live: Mask = field(repr=False)

    def allowed(self, index: int, final: Counts, running: Counts) -> Mask | None:
        """Return where the pod keeps away, and is kept away, from nobody."""
        del running
        if not self.weight[index] and not self.aloof[index]:
            return None
        meant = self.domains.sums(self.weight @ final)
        aloof = self.domains.sums(self.aloof.astype(np.int64) @ final)
        fine = np.ones(self.domains.count, dtype=np.bool_)
        if self.weight[index]:
            fine &= (meant + self.weight[index] <= self.room) & (aloof == 0)
        if self.aloof[index]:
            fine &= meant == 0
        return self.domains.spread_out(fine | ~self.live, outside=True)

    def holds(self, final: Counts, running: Counts) -> bool:
        """Return whether no live domain is too full, nor shared by who must not meet."""
        del running
        meant = self.domains.sums(self.weight @ final)
        aloof = self.domains.sums(self.aloof.astype(np.int64) @ final)
        fine = (meant <= self.room) & ((meant == 0) | (aloof == 0))
        return bool((fine | ~self.live).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Even:
    """Topology spread: nobody comes to a domain that exceeds the emptiest one by too much.

    Attributes:
        domains: Of the nodes that count for the carriers.
        carriers: [class] whose pods are spread.
        counted: [class] whose pods are counted.
        base: [domain] counted pods that may not be touched.
        max_skew: By how much.
        from_zero: Whether the emptiest domain counts as empty.
    """

    domains: Domains
    carriers: Mask
    counted: Mask
    base: Counts = field(repr=False)
    max_skew: int
    from_zero: bool

    def allowed(self, index: int, final: Counts, running: Counts) -> Mask | None:
        """Return where one more keeps the skew, or matters to nobody who comes."""
        if not self.carriers[index] and not self.counted[index]:
            return None
        there = self.base + self.domains.sums(self.counted.astype(np.int64) @ final)
        least = 0 if self.from_zero or not self.domains.count else int(there.min())
        fine = there + int(self.counted[index]) - least <= self.max_skew
        if not self.carriers[index]:
            fine |= self.domains.sums(_arrived(self.carriers, final, running)) == 0
        return self.domains.spread_out(fine, outside=not self.carriers[index])

    def holds(self, final: Counts, running: Counts) -> bool:
        """Return whether the skew is kept in every domain that a carrier came to."""
        there = self.base + self.domains.sums(self.counted.astype(np.int64) @ final)
        least = 0 if self.from_zero or not self.domains.count else int(there.min())
        came = self.domains.sums(_arrived(self.carriers, final, running)) > 0
        return bool((there[came] - least <= self.max_skew).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Affinity: nobody comes to a domain without a pod that the term means.

    Attributes:
        domains: By the term's label.
        carriers: [class] who carry the term.
        meant: [class] whom it means.
        fixed: [domain] whether somebody is there who stays whatever the plan.
        founding: Whether nobody who is meant runs anywhere. Then carriers that their own term means
            may begin, all in one domain, as long as nobody else who is meant is placed: who of
            them kube-scheduler binds first is not known, and the first one decides where.
    """

    domains: Domains
    carriers: Mask
    meant: Mask
    fixed: Mask = field(repr=False)
    founding: bool

    def allowed(self, index: int, final: Counts, running: Counts) -> Mask | None:
        """Return the domains with company, or where a first one may begin."""
        carries = bool(self.carriers[index])
        if self._begins(final):
            if not carries and not self.meant[index]:
                return None
            fine = self._begun(final, running)
            if not fine.any():
                if not carries:
                    return None
                fine = np.full(self.domains.count, self.meant[index])
            return self.domains.spread_out(fine, outside=False)
        if not carries:
            return None
        return self.domains.spread_out(self._accompanied(final, running), outside=False)

    def holds(self, final: Counts, running: Counts) -> bool:
        """Return whether every carrier that came has company, or began with its likes."""
        came = self.domains.sums(_arrived(self.carriers, final, running)) > 0
        if self._begins(final):
            return int(came.sum()) <= 1 and bool((self._begun(final, running) | ~came).all())
        return bool((self._accompanied(final, running) | ~came).all())

    @property
    def others(self) -> Mask:
        """Return [class] whom the term means and who ask for nobody by it."""
        return self.meant & ~self.carriers

    def _begins(self, final: Counts) -> bool:
        """Return whether whoever comes has nobody to come to."""
        return self.founding and not final[self.others].any()

    def _begun(self, final: Counts, running: Counts) -> Mask:
        """Return [domain] where carriers have begun that the term means."""
        return self.domains.sums(_arrived(self.carriers & self.meant, final, running)) > 0

    def _accompanied(self, final: Counts, running: Counts) -> Mask:
        """Return [domain] where somebody is for whose company a carrier may come."""
        others = self.others.astype(np.int64) @ final
        stayed = (self.meant & self.carriers).astype(np.int64) @ np.minimum(final, running)
        return self.fixed | (self.domains.sums(others + stayed) > 0)


def _arrived(classes: Mask, final: Counts, running: Counts) -> Counts:
    """Return [node] how many pods of these classes came."""
    some = np.flatnonzero(classes)
    came = final[some] - np.minimum(final[some], running[some])
    return np.asarray(came.sum(axis=0), dtype=np.int64)
