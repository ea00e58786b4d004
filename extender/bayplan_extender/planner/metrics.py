"""What the planner tells Prometheus."""

import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from bayplan import slots
from bayplan.codec import PublishedPlan
from bayplan.plan import Result
from bayplan.snapshot import Snapshot
from bayplan.triggers import is_at_work

#: Buckets of the time to make a plan (seconds): milliseconds to the longest time limit.
_BUCKETS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 600.0)


class Metrics:
    """The planner's figures. Ages are those at the moment they are asked for."""

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
        self.actions = Counter(
            "bayplan_planned_actions_total",
            "Actions of published plans, by type.",
            ["type"],
            registry=registry,
        )
        self.waiting = Gauge(
            "bayplan_waiting_pods", "Pods that wait for a plan.", registry=registry
        )
        self.gap = Gauge(
            "bayplan_plan_gap_ratio", "Gap of the newest plan; 0 when proved.", registry=registry
        )
        self.free_slots = Gauge(
            "bayplan_free_slots",
            "Whole free slots of so many GPUs on one node.",
            ["gpus"],
            registry=registry,
        )
        self.reserved = Gauge(
            "bayplan_reserved_gpus",
            "GPUs that the plan at work has promised and that are not taken yet.",
            registry=registry,
        )
        self._oldest_at = 0.0
        self._plan_at = 0.0
        Gauge(
            "bayplan_oldest_waiting_pod_age_seconds",
            "Age of the pod that has waited longest for a plan; 0 with none.",
            registry=registry,
        ).set_function(lambda: _age_s(self._oldest_at))
        Gauge(
            "bayplan_plan_age_seconds",
            "Age of the plan that is being carried out; 0 with none.",
            registry=registry,
        ).set_function(lambda: _age_s(self._plan_at))

    def see(self, snapshot: Snapshot, newest: PublishedPlan | None) -> None:
        """Take the state of the cluster."""
        waiting = snapshot.waiting()
        at_work = newest if newest is not None and is_at_work(newest) else None
        self.waiting.set(len(waiting))
        self._oldest_at = min((pod.created_at for pod in waiting), default=0)
        self._plan_at = at_work.created_at if at_work else 0
        for size, count in slots.free_slots(snapshot).items():
            self.free_slots.labels(str(size)).set(count)
        self.reserved.set(slots.promised_gpus(snapshot, at_work.plan) if at_work else 0)

    def made(self, result: Result, *, published: bool) -> None:
        """Take a plan that was made."""
        plan, certificate = result.plan, result.plan.certificate
        self.seconds.observe(dict(result.seconds).get("total", 0.0))
        self.verdicts.labels(certificate.verdict.value).inc()
        self.gap.set(certificate.gap)
        if published:
            counts = {"Bind": plan.binds, "Move": plan.moves, "Evict": plan.evictions}
            for kind, actions in counts.items():
                self.actions.labels(kind).inc(len(actions))


def _age_s(since: float) -> float:
    return max(0.0, time.time() - since) if since else 0.0
