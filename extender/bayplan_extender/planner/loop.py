"""The planner's loop: wait for a change, let it settle, plan if one is due, publish.

A plan that is being carried out is left alone while it covers every waiting pod
(`bayplan.triggers`). Whatever fails is logged and tried again after the next change or a second.
"""

import threading
import time
from collections.abc import Iterator

import structlog
from kubernetes.client.exceptions import ApiException
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from bayplan.codec import PublishedPlan
from bayplan.plan import Result
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.snapshot import Snapshot
from bayplan.triggers import is_due, repeats
from bayplan_extender.planner.publisher import Publisher
from bayplan_extender.view import View

_log = structlog.get_logger()

#: Seconds without a change after which pods that arrive together count as all there.
SETTLE_S = 0.15

#: Seconds after which a plan is made even while changes keep coming.
PATIENCE_S = 1.0

#: Seconds from a plan's creation in which its failure is not answered with another one.
RETRY_FAILED_S = 3.0

#: Seconds after which everything is looked at again, change or not.
RESYNC_S = 30.0


class Metrics:
    """What the planner tells Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "bayplan_plan_duration_seconds", "Time to make a plan.", registry=registry
        )
        self.verdicts = Counter(
            "bayplan_plans_total", "Plans made, by verdict.", ["verdict"], registry=registry
        )
        self.waiting = Gauge(
            "bayplan_waiting_pods", "Pods that wait for a plan.", registry=registry
        )
        self.gap = Gauge(
            "bayplan_plan_gap_ratio", "Gap of the newest plan; 0 when proved.", registry=registry
        )


class Loop:
    """Plans whenever one is due, until stopped."""

    def __init__(self, view: View, publisher: Publisher, registry: CollectorRegistry) -> None:
        self._view = view
        self._publisher = publisher
        self._metrics = Metrics(registry)
        self._stop = threading.Event()
        self._last_digest = ""

    def stop(self) -> None:
        """End the loop after the pass it is in."""
        self._stop.set()
        self._view.changed.set()

    def run(self) -> None:
        """Plan until stopped."""
        for _ in self._changes():
            try:
                self._pass()
            except ApiException as error:
                _log.warning("plan_not_published", status=error.status, error=error.reason)
                self._last_digest = ""
                self._stop.wait(1.0)
                self._view.changed.set()

    def _changes(self) -> Iterator[None]:
        """Yield once for every batch of changes that has settled."""
        while not self._stop.is_set():
            self._view.changed.wait(RESYNC_S)
            patience = time.monotonic() + PATIENCE_S
            while self._view.changed.is_set() and time.monotonic() < patience:
                self._view.changed.clear()
                self._stop.wait(SETTLE_S)
            self._view.changed.clear()
            if self._view.synced and not self._stop.is_set():
                yield

    def _pass(self) -> None:
        # 1. See: one frozen snapshot, the newest plan, the policy.
        snapshot, newest, policy = self._read()
        waiting = len(snapshot.waiting())
        self._metrics.waiting.set(waiting)
        if not waiting or self._has_just_failed(newest):
            return
        # 2. Ask whether a plan is due.
        digest = snapshot.digest
        if not is_due(snapshot, newest, digest=digest, last_digest=self._last_digest):
            return
        # 3. Plan.
        result = plan(snapshot, policy, clock=time.monotonic)
        self._last_digest = digest
        # 4. Publish, unless it only says again what already stands there.
        name = "" if repeats(newest, result.plan) else self._publish(result)
        self._report(result, name)

    def _read(self) -> tuple[Snapshot, PublishedPlan | None, Policy]:
        with self._view.lock:
            seen = self._view.snapshot(time.time())
            return seen, self._view.newest_plan(), self._view.policy

    def _has_just_failed(self, newest: PublishedPlan | None) -> bool:
        """Return whether the newest plan failed a moment ago; then come back a moment later.

        What made it fail may need that moment to show in the watch, and plans that fail one
        after the other must not follow each other in a hot loop.
        """
        if newest is None or newest.phase != "Failed":
            return False
        if time.time() - newest.created_at >= RETRY_FAILED_S:
            return False
        self._stop.wait(SETTLE_S)
        self._view.changed.set()
        return True

    def _publish(self, result: Result) -> str:
        with self._view.lock:
            plans = tuple(self._view.plans.values())
        name = self._publisher.publish(result, plans)
        self._publisher.clear_away(plans)
        return name

    def _report(self, result: Result, name: str) -> None:
        plan, certificate = result.plan, result.plan.certificate
        seconds = dict(result.seconds).get("total", 0.0)
        self._metrics.seconds.observe(seconds)
        self._metrics.verdicts.labels(certificate.verdict.value).inc()
        self._metrics.gap.set(certificate.gap)
        _log.info(
            "plan_published" if name else "plan_repeats",
            plan=name,
            verdict=certificate.verdict.value,
            bound=len(plan.binds),
            moved=len(plan.moves),
            evicted=len(plan.evictions),
            held=len(plan.holds),
            gap=round(certificate.gap, 4),
            engine=result.engine,
            duration_s=round(seconds, 3),
        )
