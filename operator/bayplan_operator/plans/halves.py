"""Calling half a gang back for which the newest plan has no rest (`bayplan.halves` decides).

Gangs are looked at while the newest plan holds pods of them of which others may have nodes; for how
long one has been half is all that is remembered, and losing it only costs that time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog

from bayplan import halves
from bayplan.api import names
from bayplan.cluster.keys import GangKey
from bayplan.cluster.snapshot import Pod
from bayplan.codec import DecodeError, pod_of
from bayplan.codec.pods import bound_at_of, selector_of
from bayplan.halves import Member
from bayplan.plan import Hold
from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.evictions import evict
from bayplan_operator.cluster.kube import Kube, Raw, pods_path
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.memory import Plans

_log = structlog.get_logger()

#: Most gangs that are looked at in one pass: each is a request. The others come with the next.
_MOST: Final = 50


class Halves:
    """Looks at gangs of which the newest plan holds pods while others have nodes."""

    def __init__(
        self,
        kube: Kube,
        plans: Plans,
        events: Events,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._plans = plans
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._since: dict[GangKey, float] = {}

    def reconcile(self, unbound: Iterable[Pod]) -> None:
        """Call back who has been half a gang for long enough; `unbound` are all pods without."""
        newest = self._plans.newest()
        holds = {hold.uid: hold for hold in newest.published.plan.holds} if newest else {}
        if newest is None or not holds:
            self._since = {}
            return
        gangs = sorted(halves.suspects(unbound, holds.keys()), key=str)
        # Those that are half already come first, so that none waits for ever.
        gangs.sort(key=lambda gang: gang not in self._since)
        found = {gang: halves.half(self._members(gang), holds.keys()) for gang in gangs[:_MOST]}
        now = self._clock()
        self._since = {gang: self._since.get(gang, now) for gang, half in found.items() if half}
        for gang, since in self._since.items():
            if now - since >= halves.HALF_S and self._plans.is_newest(newest.published):
                self._call_back(gang, found[gang], holds)

    def _members(self, gang: GangKey) -> Sequence[Member]:
        """Return the pods of a gang; none where one cannot be read."""
        found = self._kube.items(pods_path(gang.namespace), labels=selector_of(gang))
        try:
            return [_member(raw) for raw in found]
        except DecodeError:
            return []

    def _call_back(self, gang: GangKey, half: Sequence[Pod], holds: Mapping[str, Hold]) -> None:
        said = (hold.rejection.message for hold in holds.values() if hold.gang == gang)
        why = next(said, "the newest plan has no place for it")
        note = f"the rest of its gang {gang.name} waits in vain, so it waits with it: {why}"
        for pod in half:
            refused = evict(self._kube, pod.key, pod.uid)
            if refused:
                _log.warning("half_gang_kept", gang=str(gang), pod=str(pod.key), error=refused)
            if refused != "":
                continue
            self._metrics.victims.labels("evicted").inc()
            self._events.tell(About.pod(pod.key, pod.uid), "Evicted", "Evict", note)
            _log.info("half_gang_called_back", gang=str(gang), pod=str(pod.key))


def _member(raw: Raw) -> Member:
    annotations = raw["metadata"].get("annotations") or {}
    return Member(
        pod=pod_of(raw), bound_at=bound_at_of(raw), planned=names.ANNOTATION_PLAN in annotations
    )
