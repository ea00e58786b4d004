"""What would happen if some pods came: whether they fit, after which moves, and how many more.

Nothing is changed: newcomers are added to a snapshot, and passes are made over it as the planner
would make them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bayplan.cluster.keys import PodKey
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Result
from bayplan.planner import plan
from bayplan.policy import Policy, undisturbing
from bayplan.solver.solution import Progress, silent

#: Most further copies that are counted, and pods that they may come to.
_MAX_COPIES: Final = 1000
_MAX_PODS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What would happen.

    Attributes:
        result: The plan that would follow, the least disturbing one that was found.
        placed: How many of the newcomers get a node in it.
        newcomers: How many there are.
        copies: How many more times all of them fit beside that without disturbing anybody; None
            when that was not asked, for they disturb somebody, do not fit, or are too many.
        asked: The most that were asked for; so many may be fewer than fit.
    """

    result: Result
    placed: int
    newcomers: int
    copies: int | None
    asked: int

    @property
    def fits(self) -> bool:
        """Whether every newcomer gets a node."""
        return self.placed == self.newcomers

    @property
    def quiet(self) -> bool:
        """Whether nobody is disturbed."""
        return not self.result.plan.moves and not self.result.plan.evictions


def forecast(
    snapshot: Snapshot,
    newcomers: Sequence[Pod],
    policy: Policy,
    *,
    clock: Callable[[], float],
    progress: Progress = silent,
) -> Forecast:
    """Return what would happen if `newcomers` came to the cluster of `snapshot`.

    Each pass that this takes may take `policy.time_limit_s` seconds; there are at most twenty.
    """
    quietly = undisturbing(policy)

    def result_of(pods: Sequence[Pod], allowed: Policy) -> tuple[Result, int]:
        world = replace(snapshot, pods=(*snapshot.pods, *pods))
        made = plan(world, allowed, clock=clock, progress=progress)
        return made, len({b.uid for b in made.plan.binds} & {pod.uid for pod in pods})

    def fit(copies: int) -> bool:
        progress(f"{copies} more")
        pods = [pod for n in range(copies + 1) for pod in _copy(newcomers, n)]
        return result_of(pods, quietly)[1] == len(pods)

    asked = min(_MAX_COPIES, _MAX_PODS // max(1, len(newcomers)) - 1)
    result, placed = result_of(newcomers, quietly)
    if placed < len(newcomers) or _keeps_waiting(snapshot, result, newcomers):
        result, placed = result_of(newcomers, policy)
    disturbs = result.plan.moves or result.plan.evictions
    counted = placed == len(newcomers) and not disturbs and asked > 0
    return Forecast(
        result=result,
        placed=placed,
        newcomers=len(newcomers),
        copies=_most(fit, asked) if counted else None,
        asked=max(0, asked),
    )


def _keeps_waiting(snapshot: Snapshot, result: Result, newcomers: Sequence[Pod]) -> bool:
    """Return whether somebody as urgent waits, for whom others might be moved or evicted."""
    least = min((pod.priority for pod in newcomers), default=0)
    urgent = {pod.uid for pod in snapshot.waiting() if pod.priority >= least}
    return any(hold.uid in urgent for hold in result.plan.holds)


def _copy(pods: Sequence[Pod], number: int) -> list[Pod]:
    """Return the pods under other names, in gangs of their own; copy 0 is what they are."""
    if not number:
        return list(pods)
    suffix = f"-copy-{number}"
    return [
        replace(
            pod,
            key=PodKey(namespace=pod.key.namespace, name=pod.key.name + suffix),
            uid=pod.uid + suffix,
            gang=pod.gang._replace(name=pod.gang.name + suffix) if pod.gang else None,
        )
        for pod in pods
    ]


def _most(fit: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to `most` that fits; 0 does, and nothing beyond a misfit."""
    low, high = 0, 1
    while high <= most and fit(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fit(middle) else (low, middle)
    return low
