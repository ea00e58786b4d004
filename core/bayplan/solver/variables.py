"""The integer variables of the CP-SAT model, and what is read off them.

One number per class and node where the class can be at all. Rules over them are in `constraints`,
what is optimised is in `cpsat`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ortools.sat.python import cp_model

from bayplan.snapshot import GangKey
from bayplan.solver import assignment as assignments
from bayplan.solver.assignment import Assignment
from bayplan.solver.instance import Instance

Expression = cp_model.LinearExpr


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """What the model decides.

    Attributes:
        instance: The problem.
        final: Pods of a class on a node after the plan, by (class, node).
        kept: Running pods of a class that stay on a node, where arrivals could replace them.
        survivors: Running pods of a class that go on running, by class.
        units: Gangs placed, by kind.
        alive: Whether a running gang goes on running.
    """

    instance: Instance
    final: dict[tuple[int, int], cp_model.IntVar]
    kept: dict[tuple[int, int], cp_model.IntVar]
    survivors: dict[int, cp_model.IntVar]
    units: tuple[cp_model.IntVar, ...]
    alive: dict[GangKey, cp_model.IntVar]
    by_class: dict[int, list[cp_model.IntVar]] = field(repr=False)
    kept_of: dict[int, list[cp_model.IntVar]] = field(repr=False)
    by_node: dict[int, list[tuple[int, cp_model.IntVar]]] = field(repr=False)

    def total(self, index: int) -> Expression:
        """Return the number of pods of a class after the plan."""
        return summed(self.by_class.get(index, []))

    def surviving(self, index: int) -> Expression:
        """Return the number of running pods of a class that go on running."""
        return summed([self.survivors[index]] if index in self.survivors else [])

    def placed(self, index: int) -> Expression:
        """Return the number of waiting pods of a class that get a node."""
        return self.total(index) - self.surviving(index)

    def staying(self, index: int) -> Expression:
        """Return the number of running pods of a class that keep their node."""
        return summed(self.kept_of.get(index, []))

    def staying_in_all(self) -> Expression:
        """Return the number of running pods that keep their node."""
        return summed(list(self.kept.values()))

    def surviving_in_all(self) -> Expression:
        """Return the number of running pods that go on running somewhere."""
        return summed(list(self.survivors.values()))


def summed(terms: Sequence[cp_model.LinearExpr], weights: Sequence[int] = ()) -> Expression:
    """Return the (weighted) sum of the terms as an expression, also when there are none."""
    if weights:
        return cp_model.LinearExpr.constant(0) + cp_model.LinearExpr.weighted_sum(terms, weights)
    return cp_model.LinearExpr.constant(0) + cp_model.LinearExpr.sum(terms)


def declare(model: cp_model.CpModel, instance: Instance) -> Variables:
    """Add the variables of `instance` to the model."""
    final = {
        (int(i), int(n)): model.new_int_var(0, int(instance.upper[i, n]), f"final_{i}_{n}")
        for i, n in np.argwhere(instance.upper > 0)
    }
    by_class: dict[int, list[cp_model.IntVar]] = {}
    by_node: dict[int, list[tuple[int, cp_model.IntVar]]] = {}
    for (i, n), variable in final.items():
        by_class.setdefault(i, []).append(variable)
        by_node.setdefault(n, []).append((i, variable))
    kept = _kept(model, instance, final)
    kept_of: dict[int, list[cp_model.IntVar]] = {}
    for (i, _), variable in kept.items():
        kept_of.setdefault(i, []).append(variable)
    return Variables(
        instance=instance,
        final=final,
        kept=kept,
        survivors={
            i: model.new_int_var(0, len(each.running), f"survivors_{i}")
            for i, each in enumerate(instance.classes)
            if each.running
        },
        units=tuple(
            model.new_int_var(0, len(kind.gangs), f"units_{k}")
            for k, kind in enumerate(instance.kinds)
        ),
        alive={
            gang.key: model.new_int_var(int(gang.pinned), 1, f"alive_{gang.key}")
            for gang in instance.gangs
        },
        by_class=by_class,
        kept_of=kept_of,
        by_node=by_node,
    )


def _kept(
    model: cp_model.CpModel,
    instance: Instance,
    final: dict[tuple[int, int], cp_model.IntVar],
) -> dict[tuple[int, int], cp_model.IntVar]:
    """Return variables for what stays; where nothing can arrive, what is there is what stayed."""
    kept = {}
    for i, n in np.argwhere(instance.running > 0):
        at, now = (int(i), int(n)), int(instance.running[i, n])
        alone = int(instance.upper[i, n]) <= now
        kept[at] = final[at] if alone else model.new_int_var(0, now, f"kept_{i}_{n}")
    return kept


def hint(model: cp_model.CpModel, v: Variables, assignment: Assignment) -> None:
    """Hint every variable with its value in `assignment`."""
    model.clear_hints()  # type: ignore[no-untyped-call]  # all else is typed
    stay = assignments.kept(v.instance, assignment)
    for at, variable in v.final.items():
        model.add_hint(variable, int(assignment.final[at]))
    for at, variable in v.kept.items():
        if variable is not v.final[at]:
            model.add_hint(variable, int(stay[at]))
    for i, variable in v.survivors.items():
        model.add_hint(variable, int(assignment.survivors[i]))
    for k, variable in enumerate(v.units):
        model.add_hint(variable, int(assignment.units[k]))
    for gang in v.instance.gangs:
        model.add_hint(v.alive[gang.key], int(assignment.survivors[gang.classes[0]] > 0))


def read(solver: cp_model.CpSolver, v: Variables) -> Assignment:
    """Return the solution; a pod that can be read as staying is read so."""
    instance = v.instance
    final = np.zeros_like(instance.running)
    for at, variable in v.final.items():
        final[at] = solver.value(variable)
    survivors = np.zeros(len(instance.classes), dtype=np.int64)
    for i, variable in v.survivors.items():
        survivors[i] = solver.value(variable)
    stay = np.minimum(final, instance.running).sum(axis=1)
    return Assignment(
        final=final,
        survivors=np.maximum(survivors, stay),
        units=np.array([solver.value(unit) for unit in v.units], dtype=np.int64),
    )
