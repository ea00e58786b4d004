"""The rules of every plan, one class each; `RULES` lists them all.

A rule adds itself to the CP-SAT model, can tell whether an assignment respects it, and knows
nothing of the others, so that each can be tested alone.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from ortools.sat.python import cp_model

from bayplan.policy import Policy
from bayplan.solver.exact import packing, rows
from bayplan.solver.exact.variables import Variables, summed
from bayplan.solver.problem.assignment import Assignment, disturbed, evicted, kept, moves
from bayplan.solver.problem.instance import Instance


class Rule(Protocol):
    """Something that every plan must respect."""

    def add(self, model: cp_model.CpModel, v: Variables, policy: Policy) -> None:
        """Add the rule to the model."""

    def holds(self, instance: Instance, policy: Policy, assignment: Assignment) -> bool:
        """Return whether the assignment respects the rule."""


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
                if most > v.fixed.capacity[n, k]:
                    model.add(summed(terms, asks) <= int(v.fixed.capacity[n, k]))

    def holds(self, instance: Instance, _: Policy, assignment: Assignment) -> bool:
        """Return whether nothing is where it may not be, and every node has room."""
        used = assignment.final.T @ instance.requests
        return bool(
            (assignment.final >= 0).all()
            and (assignment.final <= instance.upper).all()
            and (used <= instance.capacity).all()
        )


@dataclass(frozen=True, slots=True)
class Headcount:
    """Nobody appears from nowhere: what is placed was waiting, what survives was running."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Bound the placed pods of each class by those that wait."""
        for i in v.classes:
            model.add_linear_constraint(v.placed(i), 0, len(v.instance.classes[i].waiting))

    def holds(self, instance: Instance, _: Policy, assignment: Assignment) -> bool:
        """Return whether nobody appears from nowhere."""
        placed, alive = assignment.placed, assignment.survivors
        return bool(
            (placed >= 0).all()
            and (placed <= instance.wait_totals).all()
            and (alive >= 0).all()
            and (alive <= instance.run_totals).all()
        )


@dataclass(frozen=True, slots=True)
class Staying:
    """A pod stays only where it is after the plan, and only if it survives."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Bound what stays by what is there, and in sum by the survivors."""
        for at, variable in v.kept.items():
            if variable is not v.final[at]:
                model.add(variable <= v.final[at])
        for i in v.survivors:
            model.add(v.staying(i) <= v.surviving(i))

    def holds(self, instance: Instance, _: Policy, assignment: Assignment) -> bool:
        """Return whether those who stay are among the survivors."""
        return bool((kept(instance, assignment).sum(axis=1) <= assignment.survivors).all())


@dataclass(frozen=True, slots=True)
class WholeGangs:
    """Waiting gangs are placed whole, and only beside their running part."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Tie the pods of each class of a kind to the number of gangs placed."""
        for k, units in v.units.items():
            kind = v.instance.kinds[k]
            for i, need in kind.need:
                model.add(v.placed(i) == need * units)
            if kind.running in v.alive:
                model.add(units <= v.alive[kind.running])

    def holds(self, instance: Instance, _: Policy, assignment: Assignment) -> bool:
        """Return whether every gang came whole, to a running part that is still there."""
        placed = assignment.placed
        alive = assignment.survivors
        dead = {gang.key for gang in instance.gangs if not alive[gang.classes[0]]}
        return all(
            all(placed[i] == need * units for i, need in kind.need)
            and not (units and kind.running in dead)
            for kind, units in zip(instance.kinds, assignment.units, strict=True)
        )


@dataclass(frozen=True, slots=True)
class RunningGangs:
    """A running gang is evicted whole or not at all; nobody joins one that is.

    Gangs that are not told apart are evicted all where they are given up, and else not at all.
    """

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Tie the survivors and the joining pods of each gang to its fate."""
        for i in v.survivors:
            if v.instance.must_stay[i]:
                model.add(v.surviving(i) == len(v.instance.classes[i].running))
            if v.instance.must_go[i]:
                model.add(v.surviving(i) == 0)
        for gang in v.instance.gangs:
            for i in gang.classes if gang.key in v.alive else ():
                running = len(v.instance.classes[i].running)
                model.add(v.surviving(i) == running * v.alive[gang.key])
        for i in v.classes:
            each = v.instance.classes[i]
            if each.waiting and each.kind is None and each.gang in v.alive:
                model.add(v.placed(i) <= len(each.waiting) * v.alive[each.gang])

    def holds(self, instance: Instance, _: Policy, assignment: Assignment) -> bool:
        """Return whether no gang lost a part, and none that must not lost all."""
        placed, alive = assignment.placed, assignment.survivors
        if (alive < instance.run_totals)[instance.must_stay].any() or alive[instance.must_go].any():
            return False
        for gang in instance.gangs:
            lost = {int(alive[i]) == 0 for i in gang.classes}
            whole = all(alive[i] in {0, len(instance.classes[i].running)} for i in gang.classes)
            if len(lost) > 1 or not whole or (gang.pinned and True in lost):
                return False
        dead = {gang.key for gang in instance.gangs if not alive[gang.classes[0]]}
        return not any(
            each.gang in dead and placed[i] > 0 for i, each in enumerate(instance.classes) if dead
        )


@dataclass(frozen=True, slots=True)
class Budgets:
    """No more moves and evictions than the policy allows."""

    def add(self, model: cp_model.CpModel, v: Variables, policy: Policy) -> None:
        """Bound moves and evictions in sum."""
        running = int(v.instance.run_totals.sum())
        model.add(v.surviving_in_all() - v.staying_in_all() <= policy.max_moves)
        model.add(v.surviving_in_all() >= running - policy.max_evictions)

    def holds(self, instance: Instance, policy: Policy, assignment: Assignment) -> bool:
        """Return whether both budgets are kept."""
        return (
            moves(instance, assignment) <= policy.max_moves
            and int(evicted(instance, assignment).sum()) <= policy.max_evictions
        )


@dataclass(frozen=True, slots=True)
class BetweenPods:
    """What pods ask of each other across nodes holds where somebody arrives."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Add the rows of every rule over domains."""
        for rule in v.instance.rules:
            rows.add(model, v, rule)

    def holds(self, instance: Instance, policy: Policy, assignment: Assignment) -> bool:
        """Return whether every rule over domains is kept."""
        del policy
        return all(rule.holds(assignment.final, instance.running) for rule in instance.rules)


@dataclass(frozen=True, slots=True)
class GangsTogether:
    """The pods of a gang are in one domain, where it must be so."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Count the gangs of each kind domain by domain."""
        for k, units in v.units.items():
            required = v.instance.kinds[k].required
            if required is not None:
                whole = rows.gangs_inside(model, v, k, required, exactly=True)
                model.add(summed(whole) == units)

    def holds(self, instance: Instance, policy: Policy, assignment: Assignment) -> bool:
        """Return whether the gangs of each kind are whole inside single domains."""
        del policy
        for kind, units in zip(instance.kinds, assignment.units, strict=True):
            if kind.required is not None:
                here = [kind.required.sums(assignment.final[i]) for i, _ in kind.need]
                whole = here[0] // kind.need[0][1]
                needs = [need for _, need in kind.need]
                even = all((h == n * whole).all() for h, n in zip(here, needs, strict=True))
                if not even or whole.sum() != units:
                    return False
        return True


@dataclass(frozen=True, slots=True)
class DisruptionBudgets:
    """No more pods of a PodDisruptionBudget lose their node than it admits."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Bound what is disturbed of each budget, moved or evicted."""
        for each in v.instance.allowances:
            running = sum(len(v.instance.classes[i].running) for i in each.classes)
            model.add(summed([v.staying(i) for i in each.classes]) >= running - each.most)

    def holds(self, instance: Instance, _: Policy, assignment: Assignment) -> bool:
        """Return whether every budget admits what is disturbed of it."""
        gone = disturbed(instance, assignment)
        return all(gone[list(each.classes)].sum() <= each.most for each in instance.allowances)


@dataclass(frozen=True, slots=True)
class SharedGpus:
    """Each share fits on one GPU, and whole GPUs are nobody else's."""

    def add(self, model: cp_model.CpModel, v: Variables, _: Policy) -> None:
        """Pack the shares of every node on which there may be some."""
        if v.instance.devices is not None:
            packing.add(model, v, v.instance.devices)

    def holds(self, instance: Instance, policy: Policy, assignment: Assignment) -> bool:
        """Return whether the shares fit wherever somebody arrived."""
        del policy
        if instance.devices is None:
            return True
        spare, _ = instance.spare(assignment.final)
        came = (assignment.final > instance.running).any(axis=0)
        return bool((spare[came, instance.devices.column] >= 0).all())


#: Every rule of the model.
RULES: Final[tuple[Rule, ...]] = (
    NodeCapacity(),
    Headcount(),
    Staying(),
    WholeGangs(),
    RunningGangs(),
    Budgets(),
    BetweenPods(),
    GangsTogether(),
    DisruptionBudgets(),
    SharedGpus(),
)


def allowed(instance: Instance, policy: Policy, assignment: Assignment) -> bool:
    """Return whether the assignment respects every rule."""
    return all(rule.holds(instance, policy, assignment) for rule in RULES)
