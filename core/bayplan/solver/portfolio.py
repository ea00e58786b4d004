"""Which problem the engines are asked: with running gangs divided, given up, or told apart.

A fleet has thousands of running gangs, of few kinds. First they are taken as the pods that they
are made of, which is exact where none of them has to go. Where some have to, those that are least
in the way of the rest are given up and the rest is placed again. Where the search can help, it is
asked with every gang told apart; in small clusters it can prove all that is best. The best answer
counts.
"""

from collections.abc import Callable

from bayplan.cluster.snapshot import Snapshot
from bayplan.policy import Policy
from bayplan.solver import engine
from bayplan.solver.keepfill.found import Known
from bayplan.solver.problem import goals
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.instance import Instance
from bayplan.solver.solution import Progress, Solution, silent


def search(  # noqa: PLR0913 - a problem and its limits
    snapshot: Snapshot,
    instance: Instance,
    policy: Policy,
    *,
    clock: Callable[[], float],
    deadline_at: float,
    seed: int,
    progress: Progress = silent,
) -> tuple[Instance, Solution]:
    """Return the best solution found until `deadline_at`, with the instance that it is of.

    Args:
        snapshot: The cluster.
        instance: The same with running gangs divided.
        policy: What a plan may do.
        clock: The time in seconds.
        deadline_at: When to end, on `clock`.
        seed: Makes equal searches equal.
        progress: Is told what is done next.
    """

    def solve(of: Instance, known: Known | None = None) -> tuple[Instance, Solution]:
        found = engine.solve(
            of,
            policy,
            clock=clock,
            deadline_at=deadline_at,
            seed=seed,
            progress=progress,
            known=known,
        )
        return of, found

    best = first = solve(instance)
    known = first[1].known
    if known is not None and known.gangs:
        some_gone = build(snapshot, divided=True, must_go=known.gangs)
        best = _better(best, solve(some_gone, known), policy)
    if engine.is_worth_telling_gangs_apart(instance, best[1].stages):
        best = _better(best, solve(build(snapshot)), policy)
    return best


def _better(
    one: tuple[Instance, Solution], other: tuple[Instance, Solution], policy: Policy
) -> tuple[Instance, Solution]:
    """Return what reaches more; of equals the one of which more is proved, else the other."""

    def rank(found: tuple[Instance, Solution]) -> tuple[tuple[int, ...], int]:
        of, solution = found
        order = goals.in_order(of, policy.order)
        proved = sum(stage.proved for stage in solution.stages)
        return goals.values(of, order, solution.assignment), proved

    return other if rank(other) >= rank(one) else one
