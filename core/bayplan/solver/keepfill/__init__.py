"""The engine for fleets made of few kinds of pods: exact at any number of nodes.

First it believes the linear bound of every stage and looks for one integer point that meets them
all (`simultaneous`). When there is none nearby it goes stage by stage, proving each value before
the next (`sequential`). Moves are free in the tier stages, so these hardly need the present
placement; only the least disruption and the free slots do. `ProtectFirst` asks for the least
disruption after each tier, so there everyone is seen where they run from the start.
"""

from dataclasses import replace

from bayplan.policy import Order, Policy
from bayplan.solver.keepfill import teams
from bayplan.solver.keepfill.found import Found, Known
from bayplan.solver.keepfill.sequential import Sequential
from bayplan.solver.keepfill.simultaneous import Simultaneous
from bayplan.solver.keepfill.stages import countable, placement_is_free, reaches
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment, present
from bayplan.solver.problem.instance import Instance
from bayplan.solver.programs.budget import Budget


def supports(instance: Instance) -> bool:
    """Return whether the engine can say something about the instance, its size apart.

    Running gangs are whole or gone, which a sum over nodes does not see: the engine takes them
    divided. Nor does it see domains, over which rules between pods span, nor how shares of GPUs
    are packed. A node's slots are counted of one kind of GPU.
    """
    if instance.devices is not None:
        return False
    gpus = instance.room[:, goals.gpu_columns(instance)] > 0
    spans = instance.rules or any(kind.required is not None for kind in instance.kinds)
    return not instance.gangs and not spans and bool((gpus.sum(axis=1) <= 1).all())


def solve(
    instance: Instance,
    policy: Policy,
    budget: Budget,
    known: Known | None = None,
    start: Assignment | None = None,
) -> Found | None:
    """Return the best placement found within the budget; None when there is none.

    Where running gangs are divided, their pods may first go one by one. If that is no use to
    anybody, the placement is as good as any with whole gangs; else they are all kept, and the
    result says what to give up instead.
    `known` is that, of the same fleet, for an instance in which these gangs are given up.
    `start` is a placement of undivided gangs that is there already: where none is found, it comes
    back with what could be proved of it.
    """
    if not supports(instance):
        return None
    order = countable(instance, policy.order)
    if known is not None:
        found = _search(instance, policy, budget, gangs_stay=True)
        if found is None:
            return None
        return replace(found, bounds=tuple(known.limits(order, instance, found.assignment)))
    ideal = _search(instance, policy, budget, gangs_stay=False, start=start)
    if ideal is None or _loses_none(instance, ideal.assignment):
        return ideal
    known = Known(
        gangs=teams.given_up(instance, ideal.assignment, ideal.alive),
        values=tuple(goal.value(instance, ideal.assignment) for goal in order),
        bounds=ideal.bounds,
    )
    found = _search(instance, policy, budget, gangs_stay=True)
    assignment = present(instance) if found is None else found.assignment
    bounds = tuple(known.limits(order, instance, assignment))
    return replace(ideal, assignment=assignment, bounds=bounds, known=known)


def _loses_none(instance: Instance, assignment: Assignment) -> bool:
    """Return whether all pods of divided gangs go on running."""
    lost = instance.run_totals - assignment.survivors
    return not lost[instance.must_stay].any()


def _search(
    instance: Instance,
    policy: Policy,
    budget: Budget,
    *,
    gangs_stay: bool,
    start: Assignment | None = None,
) -> Found | None:
    """Return the best of what three ways find; with `gangs_stay`, no pod of a gang is lost."""

    def simultaneous() -> Simultaneous:
        return Simultaneous(instance=instance, policy=policy, budget=budget, gangs_stay=gangs_stay)

    order = countable(instance, policy.order)
    found, tiers = None, simultaneous()
    if policy.order is Order.PLACE_FIRST:
        # Nothing among the tiers' stages asks for the present placement.
        found = tiers.by_tiers()
    if policy.order is Order.DEFRAGMENT:
        found = simultaneous().by_slots()
    elif found is None and not placement_is_free(instance, policy):
        # Where everyone runs matters from the first stage on.
        found = simultaneous().by_states()
    if found is not None and (
        budget.spent or reaches(instance, order, found.assignment, found.bounds)
    ):
        return found
    proved = Sequential(
        instance=instance, policy=policy, budget=budget, gangs_stay=gangs_stay
    ).run()
    if found is None and proved is None and start is not None:
        return tiers.bounded(start)
    if found is None or proved is None:
        return found or proved
    if goals.better(instance, order, found.assignment, proved.assignment):
        return found
    if goals.better(instance, order, proved.assignment, found.assignment):
        return proved
    tighter = (
        min(pair) if goal.maximise else max(pair)
        for goal, *pair in zip(order, found.bounds, proved.bounds, strict=True)
    )
    return replace(proved, bounds=tuple(tighter))
