"""The integer variables of the CP-SAT model, and what is read off them.

One number per class and node where the class can be at all, of the whole instance or of a window
of it: then all else stays as it is and enters sums as a number. Rules over the variables are in
`constraints`, what is optimised is in `cpsat`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ortools.sat.python import cp_model

from bayplan.cluster.keys import GangKey
from bayplan.solver.problem import assignment as assignments
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.instance import Counts, Instance

Expression = cp_model.LinearExpr


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A part of an instance that is decided anew.

    Attributes:
        base: What stays as it is, but for these classes on these nodes.
        nodes: Indices of nodes, ascending.
        classes: Indices of classes, ascending; all of a gang or none.
    """

    base: Assignment
    nodes: tuple[int, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """What is not decided.

    Attributes:
        totals: [class] pods after the plan that the variables do not count.
        survivors: [class] survivors of classes that have no variable for them.
        kept: [class] pods that stay where they are and that the variables do not count.
        slack: [class] most pods of a class by which its survivors can change.
        capacity: [node, resource] room for what the variables count.
    """

    totals: Counts
    survivors: Counts
    kept: Counts
    slack: Counts
    capacity: Counts = field(repr=False)

    @property
    def placed(self) -> Counts:
        """Waiting pods that get a node and that the variables do not count, by class."""
        return np.asarray(self.totals - self.survivors, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """What the model decides.

    Attributes:
        instance: The problem.
        classes: Classes that have variables.
        fixed: What is not decided.
        final: Pods of a class on a node after the plan, by (class, node).
        kept: Running pods of a class that stay on a node, where arrivals could replace them.
        survivors: Running pods of a class that go on running, by class.
        units: Gangs placed, by kind that is decided.
        alive: Whether a running gang goes on running.
        further: Variables that rules added, with what they are in an assignment.
        held: GPUs of a node that shares hold, where there may be some.
    """

    instance: Instance
    classes: tuple[int, ...]
    fixed: Fixed
    final: dict[tuple[int, int], cp_model.IntVar]
    kept: dict[tuple[int, int], cp_model.IntVar]
    survivors: dict[int, cp_model.IntVar]
    units: dict[int, cp_model.IntVar]
    alive: dict[GangKey, cp_model.IntVar]
    by_class: dict[int, list[cp_model.IntVar]] = field(repr=False)
    kept_of: dict[int, list[cp_model.IntVar]] = field(repr=False)
    by_node: dict[int, list[tuple[int, cp_model.IntVar]]] = field(repr=False)
    further: list[tuple[cp_model.IntVar, Callable[[Assignment], int]]] = field(
        default_factory=list, repr=False
    )

    held: dict[int, Expression] = field(default_factory=dict, repr=False)

    def total(self, index: int) -> Expression:
        """Return the number of pods of a class after the plan."""
        return summed(self.by_class.get(index, [])) + int(self.fixed.totals[index])

    def on(self, nodes: Iterable[int], weights: Counts) -> Expression:
        """Return the pods on `nodes` in sum, those of each class with its weight."""
        terms, factors = [], []
        for n in nodes:
            for i, variable in self.by_node.get(n, []):
                if weights[i]:
                    terms.append(variable)
                    factors.append(int(weights[i]))
        return weighted(terms, factors)

    def stayed(self, nodes: Iterable[int], weights: Counts) -> Expression:
        """Return the pods that keep their node, one of `nodes`, in sum."""
        here = [(i, n) for n in nodes for i, _ in self.by_node.get(n, []) if (i, n) in self.kept]
        here = [at for at in here if weights[at[0]]]
        return weighted([self.kept[at] for at in here], [int(weights[i]) for i, _ in here])

    def arrived(self, nodes: Sequence[int], weights: Counts) -> Expression:
        """Return the pods that come to one of `nodes`, in sum."""
        return self.on(nodes, weights) - self.stayed(nodes, weights)

    def surviving(self, index: int) -> Expression:
        """Return the number of running pods of a class that go on running."""
        here = [self.survivors[index]] if index in self.survivors else []
        return summed(here) + int(self.fixed.survivors[index])

    def placed(self, index: int) -> Expression:
        """Return the number of waiting pods of a class that get a node."""
        return self.total(index) - self.surviving(index)

    def staying(self, index: int) -> Expression:
        """Return the number of running pods of a class that keep their node."""
        return summed(self.kept_of.get(index, [])) + int(self.fixed.kept[index])

    def staying_in_all(self) -> Expression:
        """Return the number of running pods that keep their node."""
        return summed(list(self.kept.values())) + int(self.fixed.kept.sum())

    def surviving_in_all(self) -> Expression:
        """Return the number of running pods that go on running somewhere."""
        return summed(list(self.survivors.values())) + int(self.fixed.survivors.sum())


def summed(terms: Sequence[cp_model.LinearExpr], weights: Sequence[int] = ()) -> Expression:
    """Return the (weighted) sum of the terms as an expression, also when there are none."""
    if weights:
        return cp_model.LinearExpr.constant(0) + cp_model.LinearExpr.weighted_sum(terms, weights)
    return cp_model.LinearExpr.constant(0) + cp_model.LinearExpr.sum(terms)


def weighted(terms: Sequence[cp_model.LinearExpr], weights: Sequence[int]) -> Expression:
    """Return the weighted sum of the terms as an expression, also when there are none."""
    return summed(terms, weights) if terms else summed([])


def declare(model: cp_model.CpModel, instance: Instance, window: Window | None = None) -> Variables:
    """Add the variables of `instance`, or of a window of it, to the model."""
    classes = window.classes if window else tuple(range(len(instance.classes)))
    decided = frozenset(classes)
    fixed = _outside(instance, window) if window else _nothing(instance)
    final = {
        at: model.new_int_var(0, int(instance.upper[at]), f"final_{at[0]}_{at[1]}")
        for at in _cells(instance.upper, window)
    }
    by_class: dict[int, list[cp_model.IntVar]] = {}
    by_node: dict[int, list[tuple[int, cp_model.IntVar]]] = {}
    for (i, n), variable in final.items():
        by_class.setdefault(i, []).append(variable)
        by_node.setdefault(n, []).append((i, variable))
    kept = _kept(model, instance, window, final)
    kept_of: dict[int, list[cp_model.IntVar]] = {}
    for (i, _), variable in kept.items():
        kept_of.setdefault(i, []).append(variable)
    return Variables(
        instance=instance,
        classes=classes,
        fixed=fixed,
        final=final,
        kept=kept,
        survivors=_survivors(model, instance, window, fixed),
        units={
            k: model.new_int_var(0, len(kind.gangs), f"units_{k}")
            for k, kind in enumerate(instance.kinds)
            if kind.need[0][0] in decided
        },
        alive={
            gang.key: model.new_int_var(int(gang.pinned), 1, f"alive_{gang.key}")
            for gang in instance.gangs
            if gang.classes[0] in decided
        },
        by_class=by_class,
        kept_of=kept_of,
        by_node=by_node,
    )


def _nothing(instance: Instance) -> Fixed:
    none = np.zeros(len(instance.classes), dtype=np.int64)
    return Fixed(
        totals=none,
        survivors=none,
        kept=none,
        slack=instance.run_totals,
        capacity=instance.capacity,
    )


def _outside(instance: Instance, window: Window) -> Fixed:
    """Return what a window leaves as it is."""
    base, inside = window.base, np.ix_(window.classes, window.nodes)
    totals, survivors = base.totals.copy(), base.survivors.copy()
    slack = np.zeros_like(base.survivors)
    totals[list(window.classes)] -= base.final[inside].sum(axis=1)
    survivors[list(window.classes)] = 0
    slack[list(window.classes)] = instance.upper[inside].sum(axis=1)
    kept = assignments.kept(instance, base)
    stay = kept.sum(axis=1)
    stay[list(window.classes)] -= kept[inside].sum(axis=1)
    capacity = instance.capacity.copy()
    others = np.ones(len(instance.classes), dtype=np.bool_)
    others[list(window.classes)] = False
    nodes = list(window.nodes)
    capacity[nodes] -= base.final[others][:, nodes].T @ instance.requests[others]
    return Fixed(
        totals=totals,
        survivors=survivors,
        kept=stay,
        slack=slack,
        capacity=capacity,
    )


def _cells(counts: Counts, window: Window | None) -> list[tuple[int, int]]:
    """Return the (class, node) pairs that count something, in the window if there is one."""
    if window is None:
        return [(int(i), int(n)) for i, n in np.argwhere(counts > 0)]
    inside = counts[np.ix_(window.classes, window.nodes)]
    return [(window.classes[i], window.nodes[n]) for i, n in np.argwhere(inside > 0)]


def _survivors(
    model: cp_model.CpModel, instance: Instance, window: Window | None, fixed: Fixed
) -> dict[int, cp_model.IntVar]:
    """Return the survivors of each class that runs, in a window near what they are."""
    found = {}
    for i in window.classes if window else range(len(instance.classes)):
        running = len(instance.classes[i].running)
        if running:
            now, slack = int(window.base.survivors[i]) if window else 0, int(fixed.slack[i])
            ends = (max(0, now - slack), min(running, now + slack))
            found[i] = model.new_int_var(*ends, f"survivors_{i}")
    return found


def _kept(
    model: cp_model.CpModel,
    instance: Instance,
    window: Window | None,
    final: dict[tuple[int, int], cp_model.IntVar],
) -> dict[tuple[int, int], cp_model.IntVar]:
    """Return variables for what stays; where nothing can arrive, what is there is what stayed."""
    stays = {}
    for at in _cells(instance.running, window):
        now = int(instance.running[at])
        alone = int(instance.upper[at]) <= now
        stays[at] = final[at] if alone else model.new_int_var(0, now, f"kept_{at[0]}_{at[1]}")
    return stays


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
    for k, variable in v.units.items():
        model.add_hint(variable, int(assignment.units[k]))
    for variable, value in v.further:
        model.add_hint(variable, value(assignment))
    for gang in v.instance.gangs:
        if gang.key in v.alive:
            model.add_hint(v.alive[gang.key], int(assignment.survivors[gang.classes[0]] > 0))


def read(solver: cp_model.CpSolver, v: Variables, window: Window | None = None) -> Assignment:
    """Return the solution; a pod that can be read as staying is read so."""
    start = window.base if window else _empty(v.instance)
    final, survivors, units = start.final.copy(), start.survivors.copy(), start.units.copy()
    if window:
        final[np.ix_(window.classes, window.nodes)] = 0
    for at, variable in v.final.items():
        final[at] = solver.value(variable)
    for i, variable in v.survivors.items():
        survivors[i] = solver.value(variable)
    for k, variable in v.units.items():
        units[k] = solver.value(variable)
    stay = np.minimum(final, v.instance.running).sum(axis=1)
    return Assignment(final=final, survivors=np.maximum(survivors, stay), units=units)


def _empty(instance: Instance) -> Assignment:
    return Assignment(
        final=np.zeros_like(instance.running),
        survivors=np.zeros(len(instance.classes), dtype=np.int64),
        units=np.zeros(len(instance.kinds), dtype=np.int64),
    )
