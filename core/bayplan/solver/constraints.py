"""The rules of the CP-SAT model, one class each; `RULES` lists them all.

A rule adds itself to the model and knows nothing of the others, so that each can be tested alone.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from ortools.sat.python import cp_model

from bayplan.policy import Policy
from bayplan.solver.variables import Variables, summed


class Rule(Protocol):
    """Something that every plan must respect."""

    def add(self, model: cp_model.CpModel, v: Variables, policy: Policy) -> None:
        """Add the rule to the model."""


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """No node holds more than fits, resource by resource."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Add a row per node and resource that could be exceeded."""
        instance = v.instance
        for n, here in v.by_node.items():
            terms = [var for _, var in here]
            for k in range(len(instance.resources)):
                asks = [int(instance.requests[i, k]) for i, _ in here]
                most = sum(
                    ask * int(instance.upper[i, n]) for ask, (i, _) in zip(asks, here, strict=True)
                )
                if most > instance.capacity[n, k]:
                    model.add(summed(terms, asks) <= int(instance.capacity[n, k]))


@dataclass(frozen=True, slots=True)
class Headcount:
    """Nobody appears from nowhere: what is placed was waiting, what survives was running."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Bound the placed pods of each class by those that wait."""
        for i, each in enumerate(v.instance.classes):
            model.add_linear_constraint(v.placed(i), 0, len(each.waiting))


@dataclass(frozen=True, slots=True)
class Staying:
    """A pod stays only where it is after the plan, and only if it survives."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Bound what stays by what is there, and in sum by the survivors."""
        for at, variable in v.kept.items():
            if variable is not v.final[at]:
                model.add(variable <= v.final[at])
        for i in v.kept_of:
            model.add(v.staying(i) <= v.surviving(i))


@dataclass(frozen=True, slots=True)
class WholeGangs:
    """Waiting gangs are placed whole, and only beside their running part."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Tie the pods of each class of a kind to the number of gangs placed."""
        for kind, units in zip(v.instance.kinds, v.units, strict=True):
            for i, need in kind.need:
                model.add(v.placed(i) == need * units)
            if kind.running in v.alive:
                model.add(units <= v.alive[kind.running])


@dataclass(frozen=True, slots=True)
class RunningGangs:
    """A running gang is evicted whole or not at all; nobody joins one that is.

    Gangs that are not told apart are evicted all where they are given up, and else not at all.
    """

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Tie the survivors and the joining pods of each gang to its fate."""
        for i in np.flatnonzero(v.instance.loyal).tolist():
            model.add(v.surviving(i) == len(v.instance.classes[i].running))
        for i in np.flatnonzero(v.instance.doomed).tolist():
            model.add(v.surviving(i) == 0)
        for gang in v.instance.gangs:
            for i in gang.classes:
                running = len(v.instance.classes[i].running)
                model.add(v.surviving(i) == running * v.alive[gang.key])
        for i, each in enumerate(v.instance.classes):
            if each.waiting and each.kind is None and each.gang in v.alive:
                model.add(v.placed(i) <= len(each.waiting) * v.alive[each.gang])


@dataclass(frozen=True, slots=True)
class Budgets:
    """No more moves and evictions than the policy allows."""

    def add(self, model: cp_model.CpModel, v: Variables, policy: Policy) -> None:
        """Bound moves and evictions in sum."""
        running = int(v.instance.run_totals.sum())
        model.add(v.surviving_in_all() - v.staying_in_all() <= policy.max_moves)
        model.add(v.surviving_in_all() >= running - policy.max_evictions)


@dataclass(frozen=True, slots=True)
class DisruptionBudgets:
    """No more pods of a PodDisruptionBudget lose their node than it admits."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Bound what is disturbed of each budget, moved or evicted."""
        for each in v.instance.allowances:
            running = sum(len(v.instance.classes[i].running) for i in each.classes)
            model.add(summed([v.staying(i) for i in each.classes]) >= running - each.most)


#: Every rule of the model.
RULES: Final[tuple[Rule, ...]] = (
    NodeCapacity(),
    Headcount(),
    Staying(),
    WholeGangs(),
    RunningGangs(),
    Budgets(),
    DisruptionBudgets(),
)
