"""PodDisruptionBudgets: who may be evicted, as the API server would decide."""

from dataclasses import dataclass, field
from enum import StrEnum

from bayplan.cluster.constraints import Requirement
from bayplan.cluster.keys import BudgetKey


class Health(StrEnum):
    """How a pod with a node does, as far as PodDisruptionBudgets look at it."""

    READY = "Ready"  #: its condition Ready is True, or nobody has said anything of it
    UNREADY = "Unready"  #: it is not: it costs nobody a healthy pod
    PENDING = "Pending"  #: its containers have not begun: the API server asks no budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A PodDisruptionBudget: how many of the pods that it covers may be disturbed now.

    Attributes:
        key: Namespace and name; it covers pods of its namespace.
        allowed: How many evictions it admits now.
        labels: What must hold of a pod's labels; nothing means that it covers every pod.
        healthy: How many of its pods are ready, as its controller has counted them.
        desired: How many of them must be.
        always: Whether pods that are not ready may always be evicted
            (`unhealthyPodEvictionPolicy: AlwaysAllow`).
    """

    key: BudgetKey
    allowed: int
    labels: tuple[Requirement, ...] = ()
    # What they mean for a pod is in its kind, so they are no part of a snapshot's fingerprint.
    healthy: int = field(default=0, repr=False)
    desired: int = field(default=0, repr=False)
    always: bool = field(default=False, repr=False)

    @property
    def frees_unready(self) -> bool:
        """Whether a pod that is not ready may be evicted, and nothing is taken off `allowed`.

        As the API server's eviction subresource has it: where none need be healthy, an unready pod
        is counted like a ready one.
        """
        return self.always or self.healthy >= self.desired > 0

    def costs(self, health: "Health") -> bool:
        """Return whether the eviction of a pod of that health takes one off `allowed`."""
        if health is Health.UNREADY:
            return not self.frees_unready
        return health is Health.READY

    def in_words(self) -> str:
        """Return how many evictions it admits now."""
        evictions = f"{self.allowed or 'no'} {'evictions' if self.allowed > 1 else 'eviction'}"
        return f"PodDisruptionBudget {self.key} admits {evictions} now"
