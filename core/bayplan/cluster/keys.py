"""Names of objects of a cluster, by which plans speak of them."""

from dataclasses import dataclass
from typing import NamedTuple, NewType

NodeName = NewType("NodeName", str)


class PodKey(NamedTuple):
    """Where a pod is found: namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class GangKey(NamedTuple):
    """A set of pods that is placed whole or not at all; `name` is unique in its namespace."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class BudgetKey(NamedTuple):
    """Where a PodDisruptionBudget is found: namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ClaimKey(NamedTuple):
    """Where a PersistentVolumeClaim is found: namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Owner:
    """The controller that makes a pod again when it is gone."""

    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"
