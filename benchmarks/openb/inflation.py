"""FGD's Monte-Carlo inflation: pods arrive one by one until the cluster has been asked too much.

A seed shuffles the list; pods are then drawn from it with replacement until one GPU of the next
would be more than 130 % of the cluster, or taken out at random where the list asks for more.
Nothing leaves; a pod that does not fit is dropped. What counts is the part of the cluster's GPUs
that nobody got, averaged, as in the published table, over the arrivals that round to 100 % and to
130 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from bayplan.online.kinds import Kind
from benchmarks.openb.trace import Trace, Unallocated

#: Demand of all arrivals, as a multiple of the cluster.
INFLATION: Final = 1.3


class Policy(Protocol):
    """A way to place pods as they come."""

    def arrive(self, kind: Kind) -> bool:
        """Place a pod; return whether it fitted."""


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float:
        return self.total / self.count


def arrivals(trace: Trace, seed: int) -> list[Kind]:
    """Return the pods in the order in which they come."""
    random = Random(seed)  # noqa: S311 - an experiment, not a secret
    pods = list(trace.pods)
    random.shuffle(pods)
    demand = sum(pod.total_milli for pod in pods)
    goal = INFLATION * trace.total_milli
    while demand > goal:
        demand -= pods.pop(random.randrange(len(pods))).total_milli
    while True:
        pod = random.choice(trace.pods)
        if demand + bool(pod.gpus) * pod.gpu_milli > goal:
            return pods
        demand += pod.total_milli
        pods.append(pod)


def inflate(trace: Trace, pods: Sequence[Kind], policy: Policy) -> Unallocated:
    """Return what is left of the cluster when `policy` places `pods`."""
    means = {100: _Mean(), 130: _Mean()}
    arrived = used = 0
    for pod in pods:
        arrived += pod.total_milli
        used += pod.total_milli if policy.arrive(pod) else 0
        mean = means.get(round(100 * arrived / trace.total_milli))
        if mean:
            mean.add(100 * (1 - used / trace.total_milli))
    return Unallocated(means[100].value, means[130].value)
