"""One pass: from a snapshot to a plan, in numbered steps.

`plan` decides nothing itself: it calls the solver, the validator and the explainer in order and
puts the answer together. There is always an answer; what does not pass validation is never
returned. The caller brings the clock.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from bayplan import windows
from bayplan.aftermath import Aftermath
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Certificate, Plan, Result, Stage, Verdict
from bayplan.policy import Policy, defragmenting, undisturbing
from bayplan.solver import engine, portfolio
from bayplan.solver.problem import extract, goals
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.instance import Instance
from bayplan.solver.solution import Progress, Solution, silent, unchanged
from bayplan.validate import validate
from bayplan.why import holds

#: Share of the time limit the solver gets; the rest is for explaining and validating.
_SOLVER_SHARE: Final = 0.85

#: Share of the time limit in which reasons are looked for at least, however long all else took.
_REASONS_SHARE: Final = 0.15

#: Share of the time limit in which a place for everybody is looked for before anybody has left.
_AT_ONCE_SHARE: Final = 0.25

#: How often a plan that defragments is made with half the moves, while it is not worth them.
_HALVINGS: Final = 4


def plan(
    snapshot: Snapshot,
    policy: Policy,
    *,
    clock: Callable[[], float],
    seed: int = 0,
    progress: Progress = silent,
) -> Result:
    """Return the plan for `snapshot` within `policy.time_limit_s` seconds on `clock`.

    The same snapshot and seed give the same plan, in whatever order nodes and pods come, unless
    the wall clock ends a stage early. `progress` is told what is done next, for who waits.
    """
    watch = _Stopwatch(clock=clock)
    with _uncollected():
        return _pass(snapshot, policy, watch, seed, progress)


def at_once(
    snapshot: Snapshot,
    policy: Policy,
    *,
    clock: Callable[[], float],
    progress: Progress = silent,
) -> tuple[Policy, Result] | None:
    """Return a plan that places everybody and disturbs nobody, with its policy, or None.

    It is looked for in a part of the time limit: there is such room in plenty, or it is not worth
    the search.
    """
    gentle = replace(undisturbing(policy), time_limit_s=policy.time_limit_s * _AT_ONCE_SHARE)
    result = plan(snapshot, gentle, clock=clock, progress=progress)
    return (gentle, result) if result.plan.binds and not result.plan.holds else None


def defragment(
    snapshot: Snapshot,
    policy: Policy,
    *,
    max_moves: int,
    clock: Callable[[], float],
    progress: Progress = silent,
) -> tuple[Policy, Result] | None:
    """Return a plan of at most `max_moves` moves that is worth them, with its policy, or None.

    The first slots that are won tend to be the cheapest, so a plan that costs too much for what it
    wins is made again with half the moves. Each try has `policy.time_limit_s` seconds.
    """
    most = min(max_moves, policy.max_moves)
    for _ in range(_HALVINGS):
        allowed = defragmenting(policy, max_moves=most)
        result = plan(snapshot, allowed, clock=clock, progress=progress)
        if windows.is_worth_it(snapshot, result.plan, policy.defragmentation):
            return allowed, result
        most = min(most, len(result.plan.moves)) // 2
        if not most:
            break
    return None


def _pass(
    snapshot: Snapshot, policy: Policy, watch: "_Stopwatch", seed: int, progress: Progress
) -> Result:
    clock, deadline_at = watch.clock, watch.started_at + _SOLVER_SHARE * policy.time_limit_s
    # 1. and 2. Filter what cannot change, and count what is alike.
    progress("count what is alike")
    instance = build(snapshot, divided=True)
    watch.lap("prepare")
    # 3.-5. Incumbent, improvement, proof.
    instance, found = portfolio.search(
        snapshot,
        instance,
        policy,
        clock=clock,
        deadline_at=deadline_at,
        seed=seed,
        progress=progress,
    )
    watch.lap("solve")
    progress("explain and validate")
    # 6. Validate; an answer that fails gives way to a simpler one.
    answer, solution, refused = _first_valid(snapshot, policy, instance, found, watch)
    watch.lap("explain and validate")
    # 7. Put the result together.
    return Result(
        plan=answer,
        digest=snapshot.digest,
        engine=solution.engine,
        seconds=watch.seconds(),
        sizes=solution.sizes,
        refused=refused,
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the cycle collector away for one pass.

    What a pass makes would start the collector again and again, and each time it would look at
    every pod of the fleet: up to a third of a large pass. Models of CP-SAT are cycles: they are
    freed by the first collection afterwards, so they must not be made old.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@dataclass(slots=True, kw_only=True)
class _Stopwatch:
    """Times the steps of a pass."""

    clock: Callable[[], float]
    started_at: float = field(init=False)
    _last_at: float = field(init=False)
    _laps: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started_at = self._last_at = self.clock()

    def lap(self, name: str) -> None:
        """Note the seconds since the last lap under `name`."""
        now = self.clock()
        self._laps.append((name, now - self._last_at))
        self._last_at = now

    def seconds(self) -> tuple[tuple[str, float], ...]:
        """Return the laps and their sum, "total"."""
        return (*self._laps, ("total", self.clock() - self.started_at))


def _first_valid(
    snapshot: Snapshot, policy: Policy, instance: Instance, found: Solution, watch: _Stopwatch
) -> tuple[Plan, Solution, tuple[str, ...]]:
    """Return the first plan that validates: as found, else greedy, else one that only holds.

    With it comes what was wrong with those before, first of all.
    """
    refused: list[str] = []
    until = max(
        watch.started_at + policy.time_limit_s,
        watch.clock() + _REASONS_SHARE * policy.time_limit_s,
    )

    def compose(solution: Solution) -> Plan:
        return _compose(snapshot, policy, instance, solution, lambda: watch.clock() < until)

    for solution in _candidates(instance, policy, found):
        answer = compose(solution)
        wrong = validate(snapshot, policy, answer)
        if not wrong:
            return answer, solution, tuple(refused)
        refused.append(f"{wrong[0].code}: {wrong[0].message}")
    solution = unchanged(instance, policy)
    return compose(solution), solution, tuple(refused)


def _candidates(instance: Instance, policy: Policy, found: Solution) -> Iterator[Solution]:
    """Yield what was found, then the greedy placement, made only when it is asked for."""
    yield found
    yield engine.without_search(instance, policy)


def _compose(
    snapshot: Snapshot,
    policy: Policy,
    instance: Instance,
    solution: Solution,
    in_time: Callable[[], bool],
) -> Plan:
    """Return the solution as a plan of named pods, with reasons for what waits."""
    done = extract.actions(snapshot, instance, solution.assignment)
    held = holds.explain(
        Aftermath.of(snapshot, bound=done.bound, moved=done.moved, evicted=done.evicted),
        policy,
        outcomes=_outcomes(instance, snapshot, solution),
        in_time=in_time,
    )
    verdict = _verdict(
        solution.stages,
        waits=bool(snapshot.waiting()),
        places=bool(done.bound.actions),
        moves=bool(done.moved.actions),
    )
    return Plan(
        certificate=Certificate(order=policy.order, verdict=verdict, stages=solution.stages),
        binds=tuple(done.bound.actions),
        moves=tuple(done.moved.actions),
        evictions=tuple(done.evicted.actions),
        holds=held,
    )


def _verdict(stages: tuple[Stage, ...], *, waits: bool, places: bool, moves: bool) -> Verdict:
    """Return how good the plan is, claiming only what its stages prove."""
    names = [stage.name for stage in stages if stage.name.startswith("place ")]
    placing = not names or _proved_through(stages, names[-1])
    if waits and not places:
        return Verdict.INFEASIBLE if placing else Verdict.UNCHANGED
    if all(stage.proved for stage in stages):
        return Verdict.OPTIMAL
    return Verdict.IMPROVED if places or moves else Verdict.UNCHANGED


def _proved_through(stages: tuple[Stage, ...], name: str) -> bool:
    """Return whether the stage `name` and all before it are proved."""
    last = next(i for i, stage in enumerate(stages) if stage.name == name)
    return all(stage.proved for stage in stages[: last + 1])


def _outcomes(
    instance: Instance, snapshot: Snapshot, solution: Solution
) -> dict[str, holds.Outcome]:
    """Return by pod uid what is known about pods that could not be placed."""
    proved = {
        group: _proved_through(solution.stages, goals.Place(group).name)
        for group in {each.place for each in instance.classes if each.place is not None}
    }
    known: dict[str, holds.Outcome] = {}
    for i, each in enumerate(instance.classes):
        outcome = holds.Outcome(proved=each.place is not None and proved[each.place])
        left = extract.left_out(instance, solution.assignment, i)
        known |= {pod.uid: outcome for pod in left}
    lacking = {gang.key: (gang.existing, gang.min_count) for gang in instance.incomplete}
    for pod in snapshot.in_gangs if lacking else ():
        if pod.waiting and pod.gang in lacking:
            known[pod.uid] = holds.Outcome(proved=True, incomplete=lacking[pod.gang])
    return known
