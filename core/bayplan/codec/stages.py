"""The stages of a plan that an object has room for.

Each priority has stages of its own, so a cluster with hundreds of priorities has more of them than
the API takes, and would have no plan at all.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from bayplan.api.packing_plan import MAX_STAGES
from bayplan.plan import Stage

#: The last stages, which are about the plan as a whole, are told one by one.
_LAST: Final = 6

#: So many of the first are, too: beside the last, the first unproved, and two that tell of others.
_FIRST: Final = MAX_STAGES - _LAST - 3


def folded(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return at most `MAX_STAGES`: all, or some of them as one that counts the proved among them.

    The first that is not proved stays and stays the first, so the gap does too.
    """
    if len(stages) <= MAX_STAGES:
        return tuple(stages)
    unproved = next((at for at, stage in enumerate(stages) if not stage.proved), 0)
    kept = {*range(_FIRST), unproved, *range(len(stages) - _LAST, len(stages))}
    told: list[Stage] = []
    for is_kept, run in groupby(range(len(stages)), key=kept.__contains__):
        these = [stages[at] for at in run]
        told += these if is_kept else [_counted(these)]
    return tuple(told)


def _counted(stages: Sequence[Stage]) -> Stage:
    return Stage(
        name=f"{len(stages)} more stages: proved",
        value=sum(stage.proved for stage in stages),
        bound=len(stages),
        seconds=sum(stage.seconds for stage in stages),
    )
