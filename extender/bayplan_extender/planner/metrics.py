"""What the planner tells Prometheus.

The state of the cluster is counted when it is asked for: the planner looks at it ten times a second
while pods come, and nobody reads the figures so often.
"""

import time
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from bayplan import slots
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan
from bayplan.plan import Result
from bayplan.triggers import is_at_work

#: Buckets of the time to make a plan (seconds): milliseconds to the longest time limit.
_BUCKETS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 600.0)


class Metrics:
    """The planner's figures. The cluster's are those of the last look when they are asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "bayplan_plan_duration_seconds",
            "Time to make a plan.",
            registry=registry,
            buckets=_BUCKETS,
        )
        self.verdicts = Counter(
            "bayplan_plans_total", "Plans made, by verdict.", ["verdict"], registry=registry
        )
        self.broken_off = Counter(
            "bayplan_plans_broken_off_total",
            "Passes that were broken off because what they were made for had changed.",
            registry=registry,
        )
        self.refused = Counter(
            "bayplan_answers_refused_total",
            "Answers of the solver that the validator refused: a defect; a simpler plan was made.",
            registry=registry,
        )
        self.actions = Counter(
            "bayplan_planned_actions_total",
            "Actions of published plans, by type.",
            ["type"],
            registry=registry,
        )
        self.gap = Gauge(
            "bayplan_plan_gap_ratio", "Gap of the newest plan; 0 when proved.", registry=registry
        )
        self._snapshot = Snapshot.of((), ())
        self._newest: PublishedPlan | None = None
        self._show_state(registry)

    def _show_state(self, registry: CollectorRegistry) -> None:
        """Count the state of the cluster when it is asked for."""
        Gauge("bayplan_waiting_pods", "Pods that wait for a plan.", registry=registry).set_function(
            lambda: len(self._snapshot.waiting())
        )
        Gauge(
            "bayplan_oldest_waiting_pod_age_seconds",
            "Age of the pod that has waited longest for a plan; 0 with none.",
            registry=registry,
        ).set_function(self._oldest_age_s)
        Gauge(
            "bayplan_plan_age_seconds",
            "Age of the plan that is being carried out; 0 with none.",
            registry=registry,
        ).set_function(self._plan_age_s)
        free = Gauge(
            "bayplan_free_slots",
            "Whole free slots of so many GPUs on one node.",
            ["gpus"],
            registry=registry,
        )
        for size in slots.SIZES:
            free.labels(str(size)).set_function(partial(self._free_slots, size))
        Gauge(
            "bayplan_reserved_gpus",
            "GPUs that the plan at work has promised and that are not taken yet.",
            registry=registry,
        ).set_function(self._promised_gpus)

    def see(self, snapshot: Snapshot, newest: PublishedPlan | None) -> None:
        """Take the state of the cluster."""
        self._snapshot, self._newest = snapshot, newest

    def _free_slots(self, size: int) -> int:
        return slots.free_slots(self._snapshot)[size]

    def _oldest_age_s(self) -> float:
        return _age_s(min((pod.created_at for pod in self._snapshot.waiting()), default=0))

    def _plan_age_s(self) -> float:
        newest = self._newest
        return _age_s(newest.created_at) if newest is not None and is_at_work(newest) else 0.0

    def _promised_gpus(self) -> int:
        newest = self._newest
        if newest is None or not is_at_work(newest):
            return 0
        return slots.promised_gpus(self._snapshot, newest.plan)

    def made(self, result: Result, *, published: bool) -> None:
        """Take a plan that was made."""
        plan, certificate = result.plan, result.plan.certificate
        self.seconds.observe(dict(result.seconds).get("total", 0.0))
        self.verdicts.labels(certificate.verdict.value).inc()
        self.gap.set(certificate.gap)
        self.refused.inc(len(result.refused))
        if published:
            counts = {"Bind": plan.binds, "Move": plan.moves, "Evict": plan.evictions}
            for kind, actions in counts.items():
                self.actions.labels(kind).inc(len(actions))


def _age_s(since: float) -> float:
    return max(0.0, time.time() - since) if since else 0.0
