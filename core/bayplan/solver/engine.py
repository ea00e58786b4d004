"""Runs the engines: keep and fill first, then greedy and a search where that proves too little.

Where pods are of many kinds, a few steps from the greedy placement come before that.

What one engine found is only ever replaced by something better. Each stage of the result carries a
bound that holds whether or not it was reached: counted, from a linear relaxation, or from CP-SAT.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from bayplan.plan import Stage
from bayplan.policy import Order, Policy
from bayplan.solver import keepfill
from bayplan.solver.keepfill.found import Known
from bayplan.solver.keepfill.stages import countable
from bayplan.solver.local import greedy
from bayplan.solver.local.drain import drain
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import FreeSlots, Keep, Place
from bayplan.solver.problem.instance import Instance
from bayplan.solver.programs.budget import Budget
from bayplan.solver.search import EFFORT_PER_SECOND, MAX_VARIABLES, STAGE_SHARE, Search, stepped
from bayplan.solver.solution import Progress, Solution, only_counted, silent, sizes, unchanged

#: Smallest instance, in (class, node) pairs, for which node states are worth counting.
MIN_VARIABLES: Final = 40

#: Most request vectors that make few enough node states to be counted; the paper's clusters of 128
#: nodes have 400, and openb has 151.
_MAX_VECTORS: Final = 300

#: Most request vectors of a fleet that is counted at once; with more, a step here and there finds
#: in milliseconds what counting takes most of a second for.
_FEW_VECTORS: Final = 16

#: Share of the time that these steps may use.
_STEPS_SHARE: Final = 0.2

#: Largest instance of whole gangs that is searched, in pairs.
_MAX_SEARCHED: Final = 2_000_000

#: Instance, in pairs, beyond which a search changes little in the time there is, and the share of
#: it that keep and fill then gets.
_HARDLY_SEARCHED: Final = 1_000_000
_COUNTING_SHARE: Final = 0.85


def solve(  # noqa: PLR0913 - a problem, its limits, and what is known of it
    instance: Instance,
    policy: Policy,
    *,
    clock: Callable[[], float],
    deadline_at: float,
    seed: int,
    progress: Progress = silent,
    known: Known | None = None,
) -> Solution:
    """Return the best assignment found until `deadline_at` (on `clock`), and its bounds.

    `known` is what was learnt before some gangs were given up.
    """
    if not instance.wait_totals.sum() and policy.order is not Order.DEFRAGMENT:
        return _idle(instance, policy)
    after = partial(_after, clock, deadline_at)
    # 1. Where pods are of many kinds, a few steps from the greedy placement.
    first = None
    if _is_varied(instance):
        progress("chains and exchanges")
        first = _stepped(instance, policy, after)
    # 2. Keep and fill.
    hardly = instance.variables > _HARDLY_SEARCHED
    share = _COUNTING_SHARE if hardly else STAGE_SHARE
    budget = Budget(
        clock=clock,
        deadline_at=clock() + (deadline_at - clock()) * share,
        effort=policy.time_limit_s * EFFORT_PER_SECOND,
        seed=seed,
    )
    progress("keep and fill")
    counted = _by_states(instance, policy, budget, known, first)
    if counted is not None and _is_enough(counted, known):
        return counted
    # 3. Greedy, where it may find more.
    if counted is not None and hardly and _leaves_only_slots(instance, policy, counted.stages):
        incumbent = counted.assignment
    else:
        progress("greedy")
        found = first or _greedy(instance, policy, ended=after(STAGE_SHARE))
        incumbent = _better(instance, policy, found, counted)
    # 4. The search from there.
    told = () if counted is None else counted.stages
    simple = _marked(only_counted(instance, policy, incumbent, told), counted)
    if is_worth_telling_gangs_apart(instance, simple.stages):
        # The search is left to the instance that does.
        return simple
    search = Search(
        instance=instance,
        policy=policy,
        clock=clock,
        deadline_at=deadline_at,
        seed=seed,
        incumbent=incumbent,
        told=told,
        # What is counted is hardly ever better by a few nodes that are solved exactly.
        # Chains and windows see neither domains nor preferences.
        repairs=not instance.spans_nodes
        and (counted is None or counted.assignment is first or not _settled(instance, told)),
        progress=progress,
    )
    return _marked(search.run(), counted)


def _after(clock: Callable[[], float], deadline_at: float, share: float) -> Callable[[], bool]:
    """Return what says whether a share of the time that is left now has passed."""
    at = clock() + (deadline_at - clock()) * share
    return lambda: clock() >= at


def _stepped(
    instance: Instance, policy: Policy, after: Callable[[float], Callable[[], bool]]
) -> Assignment:
    """Return what chains and exchanges make of the greedy placement in a moment."""
    ended = after(_STEPS_SHARE)  # greedy's time counts, too
    order = goals.in_order(instance, policy.order)
    return stepped(
        instance,
        policy,
        _greedy(instance, policy, ended=after(STAGE_SHARE)),
        goals=tuple(goal for goal in order if isinstance(goal, Keep | Place)),
        ended=ended,
    )


def _is_enough(counted: Solution, known: Known | None) -> bool:
    """Return whether nothing else need be tried after keep and fill.

    Where gangs were given up, greedy, which gives up nobody, hardly finds more; what is left is
    asked of whole gangs.
    """
    if all(stage.proved for stage in counted.stages):
        return True
    return bool(known or counted.known) and bool(counted.assignment.placed.any())


def _is_varied(instance: Instance) -> bool:
    """Return whether steps from the greedy placement are to be tried before states are counted."""
    if instance.spans_nodes or instance.divided or instance.variables > MAX_VARIABLES:
        return False
    return _vectors(instance) > _FEW_VECTORS


def _vectors(instance: Instance) -> int:
    """Return how many different requests there are."""
    return len({asks.tobytes() for asks in instance.requests})


def _greedy(instance: Instance, policy: Policy, *, ended: Callable[[], bool]) -> Assignment:
    """Return the greedy placement, as good as there is time for."""
    found = greedy.fill(instance, policy.order, ended=ended)
    if policy.order is not Order.DEFRAGMENT:
        return found
    return drain(instance, policy, found, ended=ended)


def _better(
    instance: Instance, policy: Policy, found: Assignment, counted: Solution | None
) -> Assignment:
    """Return what was found if it is better than what keep and fill did, else that."""
    order = goals.in_order(instance, policy.order)
    if counted is None or goals.better(instance, order, found, counted.assignment):
        return found
    return counted.assignment


def is_worth_telling_gangs_apart(divided: Instance, stages: tuple[Stage, ...]) -> bool:
    """Return whether an instance of whole gangs may have a better answer that can be found.

    Only the search would look for it, so it must not be too large: the less so if all that is left
    to be proved is how little is disturbed.
    """
    if not divided.divided or all(stage.proved for stage in stages):
        return False
    must_stay = (each for each in divided.classes if each.must_stay)
    apart = {(pod.kind, pod.gang) for each in must_stay for pod in each.running}
    pairs = divided.variables + len(apart) * len(divided.nodes)
    return pairs <= (MAX_VARIABLES if _settled(divided, stages) else _MAX_SEARCHED)


def _settled(instance: Instance, stages: tuple[Stage, ...]) -> bool:
    """Return whether it is proved how many pods run."""
    names = {Keep(each.keep_tier).name for each in instance.classes}
    names |= {Place(each.place).name for each in instance.classes if each.place is not None}
    return all(stage.proved for stage in stages if stage.name in names)


def _leaves_only_slots(instance: Instance, policy: Policy, stages: tuple[Stage, ...]) -> bool:
    """Return whether all that comes before the free slots is proved.

    Greedy may at most leave more of these then, which is not worth the time on a large fleet.
    """
    told = zip(goals.in_order(instance, policy.order), stages, strict=True)
    sound = all(stage.proved or isinstance(goal, FreeSlots) for goal, stage in told)
    return sound and policy.order is not Order.DEFRAGMENT


def _by_states(
    instance: Instance,
    policy: Policy,
    budget: Budget,
    known: Known | None,
    start: Assignment | None,
) -> Solution | None:
    """Return what keep and fill finds; None where it is not asked or cannot tell."""
    if instance.variables < MIN_VARIABLES or _vectors(instance) > _MAX_VECTORS:
        return None
    found = keepfill.solve(instance, policy, budget, known, start)
    if found is None:
        return None
    told = dict(
        zip(
            countable(instance, policy.order),
            zip(found.bounds, found.seconds, strict=True),
            strict=True,
        )
    )
    stages = []
    for goal in goals.in_order(instance, policy.order):
        bound, seconds = told.get(goal, (goal.limit(instance), 0.0))
        value = goal.value(instance, found.assignment)
        stages.append(Stage(name=goal.name, value=value, bound=bound, seconds=seconds))
    return Solution(
        assignment=found.assignment,
        stages=tuple(stages),
        engine="repair" if found.assignment is start else "keep-and-fill",
        sizes=(*sizes(instance), *found.sizes),
        known=found.known,
    )


def _marked(found: Solution, counted: Solution | None) -> Solution:
    """Return what was found, with the engine that got as far first, and what it learnt."""
    if counted is None:
        return found
    same = all(a.value == b.value for a, b in zip(counted.stages, found.stages, strict=True))
    return replace(found, known=counted.known, engine=counted.engine if same else found.engine)


def without_search(instance: Instance, policy: Policy) -> Solution:
    """Return the greedy assignment, bounded by what can be counted."""
    return only_counted(instance, policy, greedy.fill(instance, policy.order))


def _idle(instance: Instance, policy: Policy) -> Solution:
    """Return the present placement as the optimum it is when nobody waits.

    All that runs is kept, and undisturbed: that leaves one placement, so its slots are the most.
    """
    still = unchanged(instance, policy)
    proved = (replace(stage, bound=stage.value) for stage in still.stages)
    return replace(still, stages=tuple(proved))
