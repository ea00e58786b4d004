"""Which victims of a plan finish their requests first, and how far they are.

`bayplan.inference.drains` decides. Engines and deployments are asked every few seconds only; what
they said is remembered in between, and losing it costs one more question.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import structlog

from bayplan.codec import DecodeError
from bayplan.codec.deployments import child_of, drain_s_of
from bayplan.inference.children import Child
from bayplan.inference.drains import LOOK_S, DrainState, drain_state
from bayplan.plan import Plan
from bayplan_operator.cluster.kube import Kube, Raw, deployment_path
from bayplan_operator.engines import loads
from bayplan_operator.keys import owner_of

_log = structlog.get_logger()


class Drains:
    """Looks at the pods that the plan at work makes leave."""

    def __init__(
        self,
        kube: Kube,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._now = now
        self._clock = clock
        self._looked_at = 0.0
        self._limits: dict[str, int] = {}
        self._asked: frozenset[str] = frozenset()
        self._loads: Mapping[str, int | None] = {}

    def of(self, plan: Plan, raws: Mapping[str, Raw]) -> Mapping[str, DrainState]:
        """Return how far the victims are that can be taken out of service, by uid."""
        found = _switched(raws[v.uid] for v in plan.victims if v.uid in raws)
        if not found:
            return {}
        self._look_again({child.uid: child for _, child in found if child.drains_since})
        now = self._now().timestamp()
        return {
            child.uid: drain_state(child, self._loads, drain_s=self._limit(path, child), now=now)
            for path, child in found
        }

    def _look_again(self, draining: Mapping[str, Child]) -> None:
        """Ask the engines of those that drain, and forget limits, when it is time for that."""
        if self._clock() < self._looked_at + LOOK_S and draining.keys() <= self._asked:
            return
        self._looked_at, self._asked = self._clock(), frozenset(draining)
        self._limits = {}
        self._loads = loads(draining.values())

    def _limit(self, path: str, child: Child) -> int:
        """Return the seconds that the deployment of a pod allows; none if it is gone."""
        if child.owner_uid not in self._limits:
            raw = self._kube.get(path)
            there = raw is not None and raw["metadata"]["uid"] == child.owner_uid
            self._limits[child.owner_uid] = drain_s_of(raw) if raw and there else 0
        return self._limits[child.owner_uid]


def _switched(raws: Iterable[Raw]) -> list[tuple[str, Child]]:
    """Return the pods of deployments that are not being deleted, with the paths of these."""
    found = []
    for raw in raws:
        owner = owner_of(raw)
        if owner is None:
            continue
        try:
            child = child_of(raw)
        except DecodeError as error:  # it leaves with its grace period, or the plan would stand
            _log.warning("pod_unreadable", error=str(error))
            continue
        if child.switched and not child.terminating:
            found.append((deployment_path(owner.namespace, owner.name), child))
    return found
