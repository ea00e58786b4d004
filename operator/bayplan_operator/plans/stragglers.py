"""Who still leaves for plans before the one at work: they count to how many may leave at a time.

A plan that another one has overtaken asks nobody else to leave. So each of its victims is looked at
once, and from then on only those that were leaving; who overstays counts no more. Losing what was
seen costs one more look.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from datetime import datetime

import structlog

from bayplan.cluster.pods import Pod
from bayplan.codec import DecodeError, PublishedPlan, pod_of, stand_in_of
from bayplan.plan import Evict, Move
from bayplan.steps import State
from bayplan_operator.cluster.kube import Kube, Raw, pod_path
from bayplan_operator.plans.memory import Entry, Plans

_log = structlog.get_logger()


class Stragglers:
    """Looks at the victims of plans that have ended or were overtaken."""

    def __init__(
        self, kube: Kube, plans: Plans, *, pool: Executor, now: Callable[[], datetime]
    ) -> None:
        self._kube = kube
        self._plans = plans
        self._pool = pool
        self._now = now
        self._left: dict[str, tuple[Move | Evict, ...]] = {}

    def beside(self, published: PublishedPlan) -> int:
        """Return how many leave for plans before this one, if this one makes anybody leave."""
        own = {victim.uid for victim in published.plan.victims}
        if not own:
            return 0
        before = {entry.published.uid: entry for entry in self._plans.before(published)}
        asked = [
            (plan, victim)
            for plan, entry in before.items()
            for victim in self._left.get(plan, tuple(_not_done(entry)))
        ]
        leave = [*self._pool.map(self._leaves, (victim for _, victim in asked))]
        there = [each for each, leaves in zip(asked, leave, strict=True) if leaves]
        self._left = {plan: tuple(v for of, v in there if of == plan) for plan in before}
        return len({victim.uid for _, victim in there} - own)

    def _leaves(self, victim: Move | Evict) -> bool:
        raw = self._kube.get(pod_path(victim.pod))
        pod = _read(raw) if raw is not None and raw["metadata"]["uid"] == victim.uid else None
        return pod is not None and pod.leaves(self._now().timestamp())


def _not_done(entry: Entry) -> Iterator[Move | Evict]:
    """Yield the victims of an object that had not left when it was last at work, if it ever was."""
    steps = entry.status.get("steps", ())
    left = {(s["pod"], s["type"]) for s in steps if s["state"] != State.DONE}
    for victim in entry.published.plan.victims:
        if (str(victim.pod), type(victim).__name__) in left:
            yield victim


def _read(raw: Raw) -> Pod | None:
    try:
        return pod_of(raw)
    except DecodeError as error:
        _log.warning("pod_unreadable", error=str(error))
        return stand_in_of(raw)
