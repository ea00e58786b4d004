"""Plans of any size: divided over several PackingPlan objects, and put together again.

An object is only a page. The planner writes all pages of a plan, `plan_manifests`; everybody else
reads `decisions`, which are whole plans, so that nothing past the border knows of pages. A plan of
which a page is missing is being written, or its writer has died: it is none yet.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from bayplan.api.packing_plan import MAX_ACTIONS
from bayplan.bounding import Limits, bounded, divided
from bayplan.codec.actions import action_manifest
from bayplan.codec.plans import PublishedPlan, plan_manifest
from bayplan.plan import Action, Hold, Plan, Result, actions_of, by_pod, plan_of

#: Most bytes of what an object lists, with how far each step is; etcd takes 1.5 MiB for all of it.
MAX_BYTES: Final = 1_200_000

#: Most objects of a plan: a pass may follow the other within seconds, and etcd keeps what all of
#: them wrote for minutes.
MAX_PARTS: Final = 8

#: Bytes in which the operator says how far a step is, without the names of its pod.
_REPORT_BYTES: Final = 300


def plan_manifests(result: Result, *, sequence: int) -> tuple[dict[str, Any], ...]:
    """Return the PackingPlan objects that publish `result`; one, unless it is large.

    They list what `listed` keeps. How many pods are held beside that, the last one counts.
    """
    decided, (kept, pages) = result.plan, _paged(result.plan)
    unlisted = len(decided.holds) - len(kept.holds) + len(decided.binds) - len(kept.binds)
    return tuple(
        plan_manifest(
            replace(result, plan=page),
            sequence=sequence,
            part=number,
            parts=len(pages),
            unlisted=unlisted if number == len(pages) else 0,
        )
        for number, page in enumerate(pages, start=1)
    )


def listed(plan: Plan) -> Plan:
    """Return what of a plan its objects list: as much as goes into `MAX_PARTS`.

    What would help is left out first, then actions as `bounded` chooses them.
    """
    return _paged(plan)[0]


def decisions(published: Iterable[PublishedPlan]) -> tuple[tuple[PublishedPlan, ...], ...]:
    """Return the objects of each plan of which all are there, in order; the oldest plan first."""
    by_sequence: dict[int, dict[int, PublishedPlan]] = defaultdict(dict)
    for each in published:
        by_sequence[each.sequence][each.part] = each
    pages = (tuple(found[n] for n in sorted(found)) for _, found in sorted(by_sequence.items()))
    return tuple(each for each in pages if _is_whole(each))


def joined(pages: Sequence[PublishedPlan]) -> PublishedPlan:
    """Return the plan that all its objects hold, under the name and phase of the first."""
    first = pages[0]
    if len(pages) == 1:
        return first
    actions = by_pod(action for page in pages for action in actions_of(page.plan))
    return replace(
        first,
        plan=plan_of(first.plan.certificate, actions),
        steps=tuple(step for page in pages for step in page.steps),
        truncated=any(page.truncated for page in pages),
    )


def _is_whole(pages: Sequence[PublishedPlan]) -> bool:
    """Return whether all objects of a plan are there, and agree how many they are."""
    numbers = [page.part for page in pages]
    return numbers == [*range(1, pages[0].parts + 1)] and len({p.parts for p in pages}) == 1


def _paged(plan: Plan) -> tuple[Plan, tuple[Plan, ...]]:
    """Return what is listed of a plan, and the same page by page."""
    kept = bounded(plan, MAX_PARTS * MAX_ACTIONS)
    pages = _pages(kept)
    if len(pages) > MAX_PARTS:
        kept = replace(kept, holds=tuple(replace(hold, remedy="") for hold in kept.holds))
        pages = _pages(kept)
    while len(pages) > MAX_PARTS:
        kept = bounded(kept, _fewer(kept))
        pages = _pages(kept)
    return kept, pages


def _fewer(plan: Plan) -> int:
    """Return how many actions to try next: all steps before fewer of them."""
    actions = len(actions_of(plan))
    steps = actions - len(plan.holds)
    return max(actions * 9 // 10, steps if plan.holds else 0)


def _pages(plan: Plan) -> tuple[Plan, ...]:
    limits = Limits(actions=MAX_ACTIONS, size=MAX_BYTES, size_of=_bytes)
    return divided(plan, limits)


def _bytes(action: Action) -> int:
    """Return about how much room an action takes in its object, once it is carried out."""
    report = 0 if isinstance(action, Hold) else len(str(action.pod)) + _REPORT_BYTES
    return len(json.dumps(action_manifest(action), ensure_ascii=False).encode()) + report
