"""What the webhook tells Prometheus: how fast it answers, and what it sees.

What it sees is read when somebody asks, from the same view that answers the scheduler; the lock
is held only to copy references.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bayplan.cluster.resources import Resources
from bayplan.slots import SIZES, whole_gpus
from bayplan_extender.view import View

#: Buckets around the reply times that matter: 10 ms and 25 ms (seconds).
_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 5.0)


def latency(registry: CollectorRegistry) -> Histogram:
    """Return the histogram of reply times by verb."""
    return Histogram(
        "bayplan_extender_request_duration_seconds",
        "Time to answer kube-scheduler, by verb.",
        ["verb"],
        registry=registry,
        buckets=_BUCKETS,
    )


def refusals() -> Counter:
    """Return the counter of refused calls by reason, in no registry yet."""
    return Counter(
        "bayplan_extender_refusals",
        "Calls of filter that left a pod without a node, by reason; pods are asked about again.",
        ["reason"],
        registry=None,
    )


class ViewCollector(Collector):
    """Gauges of what a view shows, computed when they are asked for."""

    def __init__(self, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        self._view = view
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        view, now = self._view, self._clock()
        with view.lock:
            rooms = list(view.cache.rooms().values())
            waiting = sum(pod.waiting for pod in view.cache.pods().values())
            assumed = len({each.pod.uid for each in view.cache.assumptions()})
            reservations = view.reservations(now)
            held = [reservations.on(node, view.cache) for node in reservations.nodes()]
            newest = view.newest_page()
            current, listed = dict(view.current), dict(view.listed)
        yield _gauge("bayplan_extender_waiting_pods", "Pods that wait behind our gate.", waiting)
        yield _gauge("bayplan_extender_assumed_pods", "Pods assumed on a node.", assumed)
        yield _gauge(
            "bayplan_extender_reserved_gpus",
            "GPUs that the plan being carried out holds for pods that have not arrived.",
            sum(room.gpus for room in held),
        )
        if newest is not None:
            age = max(0.0, time.time() - newest.created_at)
            yield _gauge("bayplan_extender_plan_age_seconds", "Age of the newest plan.", age)
        yield _free_slots(rooms)
        yield _ages(
            "bayplan_extender_cache_lag_seconds",
            "Time since the watch last said that we are up to date (about a minute when quiet).",
            current,
            now,
        )
        yield _ages(
            "bayplan_extender_cache_listed_seconds",
            "Time since the collection was last listed as a whole.",
            listed,
            now,
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _free_slots(rooms: list[Resources]) -> Metric:
    text = "Whole free slots of this many GPUs on one node."
    family = GaugeMetricFamily("bayplan_extender_free_slots", text, labels=["gpus"])
    gpus = [n for room in rooms for n in whole_gpus(room)]
    for size in SIZES:
        family.add_metric([str(size)], sum(max(0, n) // size for n in gpus))
    return family


def _ages(name: str, text: str, instants: dict[str, float], now: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["kind"])
    for kind, at in sorted(instants.items()):
        family.add_metric([kind], max(0.0, now - at))
    return family
