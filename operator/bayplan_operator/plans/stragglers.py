"""Who still leaves for plans before the one at work: they count to how many may leave at a time.

A plan that another one has overtaken asks nobody else to leave. So each of its victims is looked at
once, and from then on only those that were leaving; who overstays counts no more. Losing what was
seen costs one more look.
"""

from collections.abc import Callable, Sequence
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
        self._left: dict[str, Sequence[Move | Evict]] = {}

    def beside(self, published: PublishedPlan) -> Sequence[int]:
        """Return by when each pod is gone that leaves for plans before this one.

        In seconds since the epoch; nothing if this one makes nobody leave.
        """
        own = {victim.uid for victim in published.plan.victims}
        if not own:
            return ()
        left = {entry.published.uid: self._of(entry) for entry in self._plans.before(published)}
        asked = {victim.uid: victim for victims in left.values() for victim in victims}
        ends = self._pool.map(self._gone_by, asked.values())
        there = {uid: by for uid, by in zip(asked, ends, strict=True) if by}
        self._left = {plan: [v for v in some if v.uid in there] for plan, some in left.items()}
        return [by for uid, by in there.items() if uid not in own]

    def _of(self, entry: Entry) -> Sequence[Move | Evict]:
        known = self._left.get(entry.published.uid)
        return _not_done(entry) if known is None else known

    def _gone_by(self, victim: Move | Evict) -> int:
        """Return by when a victim that leaves is gone; 0 if it does not."""
        raw = self._kube.get(pod_path(victim.pod))
        pod = _read(raw) if raw is not None and raw["metadata"]["uid"] == victim.uid else None
        leaves = pod is not None and pod.leaves(self._now().timestamp())
        return pod.gone_by if pod is not None and leaves else 0


def _not_done(entry: Entry) -> Sequence[Move | Evict]:
    """Return the victims of an object that had not left when it was last told how far they are.

    If that was never told, it may have been at work all the same.
    """
    victims, steps = entry.published.plan.victims, entry.status.get("steps")
    if steps is None:
        return victims
    left = {(s["pod"], s["type"]) for s in steps if s["state"] != State.DONE}
    return [v for v in victims if (str(v.pod), type(v).__name__) in left]


def _read(raw: Raw) -> Pod | None:
    try:
        return pod_of(raw)
    except DecodeError as error:
        _log.warning("pod_unreadable", error=str(error))
        return stand_in_of(raw)
