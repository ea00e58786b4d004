"""Clusters as the paper "Priority Matters" draws them, filled by an emulated default scheduler.

The family is that of arXiv:2511.08373: ReplicaSets of one to four equal pods with random CPU,
memory and priority, on identical nodes that are sized so that the pods ask for a given share of
them. The paper fills each cluster with kube-scheduler on KWOK. Here its decisions are emulated:
pods come one by one in the order of their ReplicaSets; each goes where the mean free share of CPU
and memory is largest once it is there (`LeastAllocated`), the first node winning ties; a pod that
fits nowhere makes pods of lower priority go from the one node where the highest victim is lowest,
then the sum of the victims' priorities, then their number (`DefaultPreemption`). Victims come
back as new pods, and what waits is tried again, highest priority first, until nothing changes.
"""

import math
from dataclasses import dataclass, field
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayplan.cluster.keys import NodeName, Owner, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot

#: Largest ReplicaSet.
LARGEST_SET: Final = 4

#: Millicores of a pod, from and to.
CPU: Final = (100, 1_000)

#: Bytes of a pod, from and to; counted in MiB, rounded up, as the codec does.
MEMORY: Final = (100_000_000, 1_000_000_000)

#: Pods a node may hold: more than ever come together.
_PODS: Final = 1_000

#: The node of a pod that has none.
NOWHERE: Final = -1

Amounts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One kind of clusters in the grid."""

    nodes: int
    ppn: int
    priorities: int
    util: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Pods and identical nodes.

    Attributes:
        asks: [pod, 2] millicores and MiB, in order of arrival.
        priorities: [pod] from 1, higher goes first.
        sets: [pod] index of its ReplicaSet.
        room: [2] millicores and MiB of each node.
        nodes: How many nodes there are.
    """

    asks: Amounts = field(repr=False)
    priorities: Amounts = field(repr=False)
    sets: Amounts = field(repr=False)
    room: Amounts
    nodes: int


def cluster(cell: Cell, seed: int) -> Cluster:
    """Return the cluster of a seed."""
    sizes = _sizes(_stream(seed, "rs-sizes"), cell.nodes * cell.ppn)
    cpu, memory, base = (_stream(seed, label) for label in ("rs-cpu", "rs-mem", "base"))
    rows = [
        (cpu.randint(*CPU), math.ceil(memory.randint(*MEMORY) / 2**20), base.randint(1, most))
        for most in [cell.priorities] * len(sizes)
    ]
    sets = np.repeat(np.arange(len(sizes)), sizes)
    table = np.array(rows, dtype=np.int64)[sets]
    asks = table[:, :2]
    per_node = np.ceil(np.ceil(asks.sum(axis=0) / cell.util) / cell.nodes).astype(np.int64)
    return Cluster(
        asks=asks,
        priorities=table[:, 2],
        sets=sets,
        room=np.maximum(asks.max(axis=0), per_node),
        nodes=cell.nodes,
    )


def _stream(seed: int, label: str) -> Random:
    return Random(f"{seed}/{label}")  # noqa: S311 - an example, not a secret


def _sizes(random: Random, pods: int) -> list[int]:
    sizes: list[int] = []
    while pods:
        sizes.append(random.randint(1, min(LARGEST_SET, pods)))
        pods -= sizes[-1]
    return sizes


def scheduled(what: Cluster) -> Amounts:
    """Return [pod] the node the emulated default scheduler ends up with, -1 for none."""
    state = _Scheduler(what)
    queue = list(range(len(what.asks)))
    while sum(state.schedule(pod) for pod in queue):
        waiting = np.flatnonzero(state.homes == NOWHERE)
        queue = sorted(waiting, key=lambda pod: (-int(what.priorities[pod]), int(pod)))
    return state.homes


class _Scheduler:
    """Where pods are while they are scheduled one by one."""

    def __init__(self, what: Cluster) -> None:
        self._what = what
        self.homes: Amounts = np.full(len(what.asks), NOWHERE, dtype=np.int64)
        self._free: Amounts = np.tile(what.room, (what.nodes, 1))

    def schedule(self, pod: int) -> bool:
        """Give the pod a node, its own by preemption if need be; return whether it got one."""
        left = self._free - self._what.asks[pod]
        fits = (left >= 0).all(axis=1)
        if fits.any():
            score = np.where(fits, (left / self._what.room).mean(axis=1), -1.0)
            self._put(pod, int(score.argmax()))
            return True
        options = [option for n in range(self._what.nodes) if (option := self._victims(pod, n))]
        if not options:
            return False
        _, n, victims = min(options)
        for victim in victims:
            self._free[n] += self._what.asks[victim]
            self.homes[victim] = NOWHERE
        self._put(pod, n)
        return True

    def _put(self, pod: int, n: int) -> None:
        self.homes[pod] = n
        self._free[n] -= self._what.asks[pod]

    def _victims(self, pod: int, n: int) -> tuple[tuple[int, int, int], int, list[int]] | None:
        """Return cost, node and victims of a preemption there; None if it does not help."""
        asks, priorities = self._what.asks, self._what.priorities
        lower = [
            int(other)
            for other in np.flatnonzero(self.homes == n)
            if priorities[other] < priorities[pod]
        ]
        left = self._free[n] + asks[lower].sum(axis=0) - asks[pod]
        if not lower or (left < 0).any():
            return None
        victims = []
        # Whoever still fits beside the newcomer is spared, the most important first.
        for other in sorted(lower, key=lambda each: (-int(priorities[each]), each)):
            if (left >= asks[other]).all():
                left = left - asks[other]
            else:
                victims.append(other)
        ranks = [int(priorities[other]) for other in victims]
        return (max(ranks), sum(ranks), len(ranks)), n, victims


def snapshot(what: Cluster, homes: Amounts) -> Snapshot:
    """Return the cluster as the planner sees it; pods without a node wait for a plan."""
    cpu, memory = (int(amount) for amount in what.room)
    room = Resources.of({"cpu": cpu, "memory": memory, "pods": _PODS})
    nodes = [Node(name=_node(n), allocatable=room) for n in range(what.nodes)]
    return Snapshot.of(nodes, [_pod(what, pod, int(home)) for pod, home in enumerate(homes)])


def _node(n: int) -> NodeName:
    return NodeName(f"node-{n:03}")


def _pod(what: Cluster, index: int, home: int) -> Pod:
    cpu, memory = (int(amount) for amount in what.asks[index])
    owner = f"rs-{what.sets[index]:04}"
    return Pod(
        key=PodKey(namespace="test", name=f"pod-{index:04}"),
        uid=str(index),
        requests=Resources.of({"cpu": cpu, "memory": memory, "pods": 1}),
        priority=int(what.priorities[index]),
        node=None if home == NOWHERE else _node(home),
        waiting=home == NOWHERE,
        disruption=Disruption.MOVABLE,
        owner=Owner(kind="ReplicaSet", namespace="test", name=owner, uid=owner),
        created_at=index,
    )
