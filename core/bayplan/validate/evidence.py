"""What the checks look at, gathered once for all of them.

Everything is counted anew from the snapshot and the plan. Pods and nodes are columns of numbers
here: most checks are of all of them, and find nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bayplan.aftermath import Aftermath, Numbers
from bayplan.cluster.keys import GangKey, PodKey
from bayplan.cluster.pods import Pod, PodKind
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Bind, Evict, Hold, Move, Plan
from bayplan.policy import Policy
from bayplan.rules.between import Placement
from bayplan.validate.minimums import lacking
from bayplan.validate.placing import Gang, Placing, gangs_of, placing_of

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What is there and what is in use after the plan, by resource.

    Attributes:
        names: The resources.
        asked: [kind, resource] what pods of each of `Snapshot.kinds` ask for.
        there: [kind of node, resource] what nodes of each of `Snapshot.node_kinds` have.
        used: [state, resource] what is in use on nodes of each of `Aftermath.state_of`.
    """

    names: tuple[str, ...]
    asked: Numbers = field(repr=False)
    there: Numbers = field(repr=False)
    used: Numbers = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the checks look at, gathered once.

    Attributes:
        snapshot: What the plan was made from.
        policy: What it may do.
        plan: The plan.
        after: The cluster as the plan leaves it.
        held: Where the pods that it holds are in the snapshot; -1 for unknown ones.
        leaving: [pod] whether it is being deleted.
        arrivals: Pods that get a node, by where they are in the snapshot; unknown ones left out.
        targets: Where these nodes are in the snapshot; -1 for unknown ones.
        coming: The kinds of these pods.
        gone: Keys of the pods that lose their node.
        gangs: Gangs of two pods and more, by key.
        placing: What decides on pods that wait.
        placement: The same as far as pods ask something of each other; None if none does.
        amounts: What is there and in use.
        node_kind, state: [node] row of `amounts`.
        shared: What shares use of the GPUs of a node after the plan, by where the node is; nodes
            without any are absent.
    """

    snapshot: Snapshot
    policy: Policy
    plan: Plan
    after: Aftermath = field(repr=False)
    held: Numbers = field(repr=False)
    leaving: Mask = field(repr=False)
    arrivals: Numbers = field(repr=False)
    targets: Numbers = field(repr=False)
    coming: tuple[PodKind, ...] = field(repr=False)
    gone: frozenset[PodKey] = field(repr=False)
    gangs: Mapping[GangKey, Gang] = field(repr=False)
    placing: Placing = field(repr=False)
    placement: Placement | None = field(repr=False)
    amounts: Amounts = field(repr=False)
    node_kind: Numbers = field(repr=False)
    state: Numbers = field(repr=False)
    shared: Mapping[int, "Shared"] = field(repr=False)

    @property
    def waiting(self) -> Mask:
        """[pod] whether it waits and is not being deleted."""
        return np.frombuffer(self.snapshot.waits, dtype=np.bool_) & ~self.leaving

    @property
    def takers(self) -> Mask:
        """[node] whether it takes pods."""
        takes = [node.ready and node.schedulable for node in self.snapshot.node_kinds.values]
        return np.asarray(np.array(takes, dtype=np.bool_)[self.node_kind])

    @property
    def bound(self) -> Iterator[tuple[Bind, Pod]]:
        """Who is bound, with the pod; here and below those that are not there are left out."""
        return self._with_pods(self.plan.binds, self.after.bound.pods)

    @property
    def moved(self) -> Iterator[tuple[Move, Pod]]:
        """Who is moved, with the pod."""
        return self._with_pods(self.plan.moves, self.after.moved.pods)

    @property
    def evicted(self) -> Iterator[tuple[Evict, Pod]]:
        """Who is evicted, with the pod."""
        return self._with_pods(self.plan.evictions, self.after.evicted.pods)

    def _with_pods(
        self, actions: Sequence["_Action"], where: Numbers
    ) -> Iterator[tuple["_Action", Pod]]:
        pods = self.snapshot.pods
        return ((a, pods[i]) for a, i in zip(actions, where.tolist(), strict=True) if i >= 0)

    def gang_of(self, pod: Pod) -> Gang | None:
        """Return the gang of a pod, if it has one of two pods and more."""
        return None if pod.gang is None else self.gangs.get(pod.gang)

    def has_node(self, pod: Pod) -> bool:
        """Return whether the pod has a node after the plan."""
        return self.after.goes.get(pod.key, pod.node) is not None

    def kinds_at(self, pods: Numbers) -> Mapping[PodKind, int]:
        """Return how many of the pods are of each kind, of those that are there."""
        kinds = self.snapshot.kinds
        counts = np.bincount(self.after.kind_of[pods[pods >= 0]], minlength=len(kinds))
        return {kinds[k]: int(counts[k]) for k in np.flatnonzero(counts)}

    def in_use(self, resource: str) -> Numbers:
        """Return [node] what is in use of a resource after the plan."""
        if resource not in self.amounts.names:
            return np.zeros_like(self.state)
        return np.asarray(self.amounts.used[self.state, self.amounts.names.index(resource)])

    def there(self, resource: str) -> Numbers:
        """Return [node] what pods may use of a resource in sum."""
        if resource not in self.amounts.names:
            return np.zeros_like(self.state)
        return np.asarray(self.amounts.there[self.node_kind, self.amounts.names.index(resource)])


_Action = TypeVar("_Action", Bind, Move, Evict, Hold)


def gather(snapshot: Snapshot, policy: Policy, plan: Plan) -> Evidence:
    """Return what the checks of a plan look at."""
    after = Aftermath.of_plan(snapshot, plan)
    arrivals = np.concatenate([after.bound.pods, after.moved.pods])
    targets = np.concatenate([after.bound.rows, after.moved.rows])
    arrivals, targets = arrivals[arrivals >= 0], targets[arrivals >= 0]
    kinds, gangs = snapshot.kinds, gangs_of(snapshot)
    return Evidence(
        snapshot=snapshot,
        policy=policy,
        plan=plan,
        after=after,
        held=np.array(snapshot.indices(map(attrgetter("pod"), plan.holds)), dtype=np.int64),
        leaving=_leaving(snapshot),
        arrivals=arrivals,
        targets=targets,
        coming=tuple(kinds[k] for k in np.unique(after.kind_of[arrivals])),
        gone=frozenset(evict.pod for evict in plan.evictions),
        gangs=gangs,
        placing=placing_of(snapshot, gangs, lacking(snapshot)),
        placement=Placement.of(after),
        amounts=_amounts(after),
        node_kind=np.asarray(snapshot.node_kinds.numbers),
        state=np.asarray(after.state_of.numbers),
        shared=_shared(after),
    )


def _leaving(snapshot: Snapshot) -> Mask:
    if not snapshot.leaving:
        return np.zeros(len(snapshot.pods), dtype=np.bool_)
    return np.fromiter(map(attrgetter("terminating"), snapshot.pods), dtype=np.bool_)


def _amounts(after: Aftermath) -> Amounts:
    """Return what is there and in use; nodes with equal guests share one sum."""
    requests = [kind.requests for kind in after.snapshot.kinds]
    sizes = [node.allocatable for node in after.snapshot.node_kinds.values]
    names = tuple(sorted({name for each in (*requests, *sizes) for name in each}))
    asked, states = _table(requests, names), after.state_of.values
    guests = np.array([k for state in states for k in state], dtype=np.int64)
    sums = np.zeros((len(guests) + 1, len(names)), dtype=np.int64)
    np.cumsum(asked[guests], axis=0, out=sums[1:])
    ends = np.cumsum([0, *map(len, states)])
    used = sums[ends[1:]] - sums[ends[:-1]]
    return Amounts(names=names, asked=asked, there=_table(sizes, names), used=used)


def _table(rows: Sequence[Resources], names: Sequence[str]) -> Numbers:
    """Return [row, resource] the amounts."""
    amounts = [dict(row.items) for row in rows]
    table = [[have.get(name, 0) for name in names] for have in amounts]
    return np.array(table, dtype=np.int64).reshape(len(rows), len(names))


@dataclass(slots=True)
class Shared:
    """What shares use of the GPUs of one node.

    Attributes:
        loads: Thousandths in use, by number of the GPU.
        homeless: Shares of which nobody knows the GPU; each may have one for itself.
    """

    loads: Counter[int] = field(default_factory=Counter)
    homeless: int = 0

    @property
    def gpus(self) -> int:
        """GPUs that nobody can have whole."""
        return len(self.loads) + self.homeless


def _shared(after: Aftermath) -> Mapping[int, Shared]:
    """Return what shares use, added up pod by pod."""
    found: dict[int, Shared] = defaultdict(Shared)
    sharing = np.array([bool(k.requests.share_milli) for k in after.snapshot.kinds], dtype=np.bool_)
    if not sharing.any():
        return found
    homes: tuple[Bind | Move, ...] = (*after.bound.actions, *after.moved.actions)
    devices = {action.pod: action.device for action in homes}
    for i in np.flatnonzero(sharing[after.kind_of] & (after.rows >= 0)).tolist():
        pod, here = after.snapshot.pods[i], found[int(after.rows[i])]
        device = devices.get(pod.key, pod.requests.device)
        if device is None:
            here.homeless += 1
        else:
            here.loads[device] += pod.requests.share_milli
    return found
