"""A candidate answer as arrays, and what it is worth.

Engines hand assignments to each other and `extract` turns the last one into named pods; how good
one is depends on the goals in `goals`.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bayplan.solver.problem.arrays import sealed
from bayplan.solver.problem.instance import Counts, Instance


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """How many pods of each class end up where; arrays are read-only.

    Attributes:
        final: [class, node] pods after the plan.
        survivors: [class] running pods that go on running somewhere.
        units: [kind] gangs that are placed.
    """

    final: Counts = field(repr=False)
    survivors: Counts
    units: Counts

    def __post_init__(self) -> None:
        """Seal the arrays: engines share them, and one that wrote to them would spoil the rest."""
        for array in (self.final, self.survivors, self.units):
            sealed(array)

    @cached_property
    def totals(self) -> Counts:
        """Pods after the plan, by class."""
        return sealed(np.asarray(self.final.sum(axis=1), dtype=np.int64))

    @cached_property
    def placed(self) -> Counts:
        """Waiting pods that get a node, by class."""
        return sealed(np.asarray(self.totals - self.survivors, dtype=np.int64))


def present(instance: Instance) -> Assignment:
    """Return the placement as it is: all that runs stays, all that waits goes on waiting."""
    return Assignment(
        final=instance.running.copy(),
        survivors=instance.run_totals,
        units=np.zeros(len(instance.kinds), dtype=np.int64),
    )


def kept(instance: Instance, assignment: Assignment) -> Counts:
    """Return [class, node] running pods that stay where they are."""
    return np.minimum(assignment.final, instance.running)


def disturbed(instance: Instance, assignment: Assignment) -> Counts:
    """Return [class] running pods that lose their node, with another one or without."""
    stay = kept(instance, assignment).sum(axis=1)
    return np.asarray(instance.run_totals - stay, dtype=np.int64)


def evicted(instance: Instance, assignment: Assignment) -> Counts:
    """Return [class] running pods that lose their node without another."""
    return np.asarray(instance.run_totals - assignment.survivors, dtype=np.int64)


def moves(instance: Instance, assignment: Assignment) -> int:
    """Return how many running pods get another node."""
    gone = disturbed(instance, assignment) - evicted(instance, assignment)
    return int(gone.sum())
