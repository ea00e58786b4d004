"""Names of objects of a cluster, by which plans speak of them."""

from dataclasses import dataclass
from typing import NamedTuple, NewType

NodeName = NewType("NodeName", str)


class _Key(NamedTuple):
    """Where an object is found: namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class PodKey(_Key):
    """Where a pod is found."""

    __slots__ = ()


class GangKey(_Key):
    """A set of pods that is placed whole or not at all; `name` is unique in its namespace."""

    __slots__ = ()


class BudgetKey(_Key):
    """Where a PodDisruptionBudget is found."""

    __slots__ = ()


class ClaimKey(_Key):
    """Where a PersistentVolumeClaim is found."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Owner:
    """The controller that makes a pod again when it is gone."""

    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"
