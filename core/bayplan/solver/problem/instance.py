"""The problem as arrays: pod classes times nodes, with gangs.

Pods that are alike (same requests, constraints, priority, and what may be done to them) form one
class, of which only the number per node matters. What a plan may not touch is subtracted from
the room of its node, so that the engines only see what they decide. `counting` makes an instance
from a snapshot.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np

from bayplan.cluster.constraints import Constraints
from bayplan.cluster.keys import BudgetKey, GangKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.solver.problem import domains
from bayplan.solver.problem.arrays import sealed
from bayplan.solver.problem.devices import Devices
from bayplan.solver.problem.domains import DomainRule, Domains

Counts = domains.Counts
Mask = domains.Mask


class Home(NamedTuple):
    """A domain: a label of nodes and a value of it; no value where none will do."""

    label: str
    value: str | None


class PlaceGroup(NamedTuple):
    """Waiting pods that one placing stage counts.

    Attributes:
        tier: Their priority, or the lowest of their gang.
        preempts: Whether somebody may be made to go for them.
        needed: Whether their deployment has fewer units than it needs without them.
    """

    tier: int
    preempts: bool
    needed: bool = False

    @property
    def rank(self) -> "Rank":
        """Who goes without for whom."""
        return Rank(self.tier, self.needed)


class Rank(NamedTuple):
    """Who goes without for whom: the lower for the higher.

    Attributes:
        tier: The priority.
        precious: Whether they run, or are needed: others of their tier go without first.
    """

    tier: int
    precious: bool


@dataclass(frozen=True, slots=True)
class Picked(Sequence[Pod]):
    """Some of many pods, in an order of their own; they are looked up when they are asked for.

    Most pods of a fleet are only counted. `where` says where in `Snapshot.pods` each of them is.
    """

    _all: Sequence[Pod] = field(repr=False)
    where: Counts = field(repr=False)

    def __len__(self) -> int:
        return len(self.where)

    @overload
    def __getitem__(self, at: int) -> Pod: ...
    @overload
    def __getitem__(self, at: slice) -> "Picked": ...
    def __getitem__(self, at: int | slice) -> "Pod | Picked":
        if isinstance(at, slice):
            return Picked(self._all, self.where[at])
        return self._all[int(self.where[at])]

    def __iter__(self) -> Iterator[Pod]:
        return map(self._all.__getitem__, self.where.tolist())

    def without(self, others: Counts) -> "Picked":
        """Return them without those that are at these indices in `Snapshot.pods`."""
        return Picked(self._all, self.where[~np.isin(self.where, others)])


@dataclass(frozen=True, slots=True, kw_only=True)
class PodClass:
    """Pods that are alike.

    Attributes:
        requests: What each uses.
        constraints: What each asks of its node.
        keep_tier: Priority of the running ones.
        place: Stage that counts the waiting ones; None without any.
        running: Running pods that a plan may disturb, oldest first.
        rows: [running pod] index of its node.
        waiting: Waiting pods, oldest first.
        movable: Whether a running one may get another node.
        move_cost: What a move of a running one costs.
        budget: The PodDisruptionBudget of the running ones, if any.
        gang: The running gang whose fate these pods share.
        must_stay: Whether the running ones are of gangs that are not told apart: all go on running.
        must_go: Whether the running ones are of gangs that are given up: none goes on running.
        kind: Index of the gang kind the waiting ones are placed with.
        meant: Indices of the selectors of other pods' rules that mean these pods.
        home: The domain that these pods must not leave, and others of their gang must join.
    """

    requests: Resources
    constraints: Constraints
    keep_tier: int
    place: PlaceGroup | None
    running: Picked
    rows: Counts = field(repr=False, compare=False)
    waiting: Picked
    movable: bool
    move_cost: int
    budget: BudgetKey | None
    gang: GangKey | None
    must_stay: bool
    must_go: bool
    kind: int | None
    meant: tuple[int, ...] = ()
    home: Home | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a PodDisruptionBudget still admits.

    Attributes:
        classes: Indices of the classes it covers.
        most: Most of their running pods that may lose their node; fewer than there are.
    """

    classes: tuple[int, ...]
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GangKind:
    """Waiting gangs that are alike: the same number of pods of the same classes.

    Attributes:
        place: Stage that counts their pods.
        gangs: The gangs as their waiting pods, oldest gang first.
        need: Class index and number of pods, for each class of one gang.
        running: The running part the gang needs, if it has one.
        required: Domains of which all pods of a gang must be in one; None where it is the same,
            or where the running part decides it (then `arrivals` says so).
        preferred: Domains of which they had better be in one, dearest first.
    """

    place: PlaceGroup
    gangs: tuple[tuple[Pod, ...], ...]
    need: tuple[tuple[int, int], ...]
    running: GangKey | None
    required: Domains | None = field(default=None, repr=False, compare=False)
    preferred: tuple[Domains, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGang:
    """A gang with running pods: evicted whole, or not at all.

    Attributes:
        key: The gang.
        classes: Indices of the classes of its running pods.
        pinned: Whether one of its pods must not be evicted, and so none.
    """

    key: GangKey
    classes: tuple[int, ...]
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Running gangs that are alike, in an instance that does not tell them apart.

    Attributes:
        gangs: The gangs, youngest first.
        need: Class index and number of running pods, for each class of one gang.
        pinned: Whether a pod of each must not be evicted, and so none.
        partial: Whether further pods of each wait.
    """

    gangs: tuple[GangKey, ...]
    need: tuple[tuple[int, int], ...]
    pinned: bool
    partial: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomplete:
    """A gang that cannot be placed yet because pods of it do not exist."""

    key: GangKey
    existing: int
    min_count: int


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What the engines decide on; arrays are read-only.

    Attributes:
        nodes: All nodes, by name.
        classes: Classes of pods, highest tier first.
        kinds: Kinds of waiting gangs.
        gangs: Running gangs that a plan may disturb, where they are told apart.
        teams: The same where they are not.
        allowances: What the PodDisruptionBudgets that could matter admit.
        incomplete: Gangs that wait for pods to be created.
        resources: Names of the columns of `requests`, `room` and `capacity`.
        requests: [class, resource] what one pod uses.
        room: [node, resource] allocatable less what may not be touched; may be negative.
        capacity: [node, resource] as `room`, but at least what runs there now.
        running: [class, node] number of pods now.
        arrivals: [class, node] whether a pod of the class may come to the node.
        rules: What pods ask of each other across nodes.
        wishes: [class, node] weight of the preferences that the node fulfils; None without any.
        devices: What shares of GPUs need of each node's; None where nobody has or wants one.
    """

    nodes: tuple[Node, ...]
    classes: tuple[PodClass, ...]
    kinds: tuple[GangKind, ...]
    gangs: tuple[RunningGang, ...]
    teams: tuple[Team, ...]
    allowances: tuple[Allowance, ...]
    incomplete: tuple[Incomplete, ...]
    resources: tuple[str, ...]
    requests: Counts = field(repr=False)
    room: Counts = field(repr=False)
    capacity: Counts = field(repr=False)
    running: Counts = field(repr=False)
    arrivals: Mask = field(repr=False)
    rules: tuple[DomainRule, ...] = field(default=(), repr=False, compare=False)
    wishes: Counts | None = field(default=None, repr=False)
    devices: Devices | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Seal the arrays: all engines ask the same instance."""
        for array in (self.requests, self.room, self.capacity, self.running, self.arrivals):
            sealed(array)

    @property
    def spans_nodes(self) -> bool:
        """Whether it matters for some pod where others are, or which of alike nodes it gets."""
        near = any(kind.required is not None or kind.preferred for kind in self.kinds)
        return bool(self.rules) or near or self.wishes is not None

    @cached_property
    def run_totals(self) -> Counts:
        """Number of running pods by class."""
        return sealed(np.array([len(c.running) for c in self.classes], dtype=np.int64))

    @cached_property
    def wait_totals(self) -> Counts:
        """Number of waiting pods by class."""
        return sealed(np.array([len(c.waiting) for c in self.classes], dtype=np.int64))

    @cached_property
    def move_costs(self) -> Counts:
        """What a move costs by class."""
        return sealed(np.array([c.move_cost for c in self.classes], dtype=np.int64))

    @cached_property
    def upper(self) -> Counts:
        """[class, node] most pods of the class the node can end up with."""
        return sealed(_upper(self))

    @cached_property
    def open_nodes(self) -> Counts:
        """Indices of the nodes whose free slots count: ready and not cordoned."""
        takes = [node.ready and node.schedulable for node in self.nodes]
        return sealed(np.flatnonzero(np.array(takes, dtype=np.bool_)).astype(np.int64))

    @cached_property
    def must_stay(self) -> Mask:
        """[class] whether every running pod must go on running, for the sake of its gang."""
        return sealed(np.array([c.must_stay for c in self.classes], dtype=np.bool_))

    @cached_property
    def must_go(self) -> Mask:
        """[class] whether no running pod may go on running, for its gang is given up."""
        return sealed(np.array([c.must_go for c in self.classes], dtype=np.bool_))

    def left(self, final: Counts) -> Counts:
        """Return [node, resource] room beside [class, node] pods; GPUs with shares are taken."""
        return self.left_of(np.arange(len(self.resources)), final)

    def left_of(self, columns: Counts, final: Counts) -> Counts:
        """Return the same of some resources."""
        left = self.room[:, columns] - final.T @ self.requests[:, columns]
        if self.devices is not None:
            held = self.devices.all_held(final)
            left[:, columns == self.devices.column] -= held[:, None]
        return np.asarray(left, dtype=np.int64)

    def spare(self, final: Counts) -> tuple[Counts, Counts]:
        """Return [node, resource] capacity beside the pods, and [node] the GPUs with shares.

        The former is without the latter.
        """
        spare = self.capacity - final.T @ self.requests
        held = np.zeros(len(self.nodes), dtype=np.int64)
        if self.devices is not None:
            held = self.devices.all_held(final)
            spare[:, self.devices.column] -= held
        return spare, held

    @property
    def divided(self) -> bool:
        """Whether running gangs are not told apart, so that no part of them can be evicted."""
        return bool((self.must_stay | self.must_go).any())

    @property
    def variables(self) -> int:
        """Number of (class, node) pairs that a plan may decide, room aside.

        Where GPUs are shared, pairs of a GPU and a size are decided as well.
        """
        pairs = int(np.count_nonzero(self.arrivals | (self.running > 0)))
        return pairs if self.devices is None else pairs + self._shared_pairs(self.devices)

    def _shared_pairs(self, devices: Devices) -> int:
        sizes = len({*devices.sizes[devices.sizes > 0].tolist()})
        return sizes * int(np.maximum(self.room[:, devices.column], 0).sum())


def _upper(instance: Instance) -> Counts:
    """Return the most pods of a class a node can hold; without arrivals, what runs there."""
    running, capacity = instance.running, np.maximum(instance.capacity, 0)
    upper = running.copy()
    for i, each in enumerate(instance.classes):
        asks = instance.requests[i]
        uses = asks > 0
        copies = np.full(len(capacity), len(each.running) + len(each.waiting), dtype=np.int64)
        if uses.any():
            copies = np.minimum(copies, (capacity[:, uses] // asks[uses]).min(axis=1))
        upper[i] = np.where(instance.arrivals[i], np.maximum(copies, running[i]), running[i])
    return upper
