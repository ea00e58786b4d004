"""The endpoints that Kubernetes and Prometheus ask: /healthz, /readyz and /metrics.

A program whose watch has died would answer from an old picture for ever, so it is unhealthy: its
pod is restarted. One whose watch lives but hears nothing any more (the API server is away, or
refuses) is not ready: a restart would not help.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from socket import socket
from threading import Thread

import uvicorn
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bayplan_extender.header_limit import BoundedProtocol
from bayplan_extender.view import View


def router(view: View, registry: CollectorRegistry, watches: Sequence[Thread]) -> APIRouter:
    """Return the three endpoints.

    Healthy means that every one of `watches` runs, ready that every collection has been listed and
    is not stale.
    """
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> Response:
        dead = [watch.name for watch in watches if not watch.is_alive()]
        text = f"ended: {', '.join(dead)}\n" if dead else "ok\n"
        return Response(text, status_code=503 if dead else 200, media_type="text/plain")

    @routes.get("/readyz")
    async def readyz() -> Response:
        if not view.synced:
            text = f"not listed yet: {', '.join(view.missing)}\n"
        elif stale := view.stale():
            text = f"stale: {'; '.join(stale)}\n"
        else:
            return Response("ok\n", media_type="text/plain")
        return Response(text, status_code=503, media_type="text/plain")

    @routes.get("/metrics")
    def metrics() -> Response:  # in a thread: what is gathered may take a while
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes


class Failing(Collector):
    """For how long nothing is heard of a collection, computed when somebody asks."""

    def __init__(self, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        self._view = view
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield the gauge."""
        text = "Time since which listing and watching a collection fails; 0 while it works."
        family = GaugeMetricFamily("bayplan_watch_failing_seconds", text, labels=["kind"])
        failing, now = dict(self._view.failing), self._clock()
        for kind in sorted({*self._view.listed, *failing}):
            since, _ = failing.get(kind, (now, ""))
            family.add_metric([kind], max(0.0, now - since))
        yield family


def serve(routers: Sequence[APIRouter], listening: socket) -> None:
    """Serve endpoints from a thread of their own, for as long as the process lives."""
    app = FastAPI(title="Bayplan health", openapi_url=None)
    for routes in routers:
        app.include_router(routes)
    server = uvicorn.Server(uvicorn.Config(app, http=BoundedProtocol, log_level="warning"))
    Thread(target=server.run, args=([listening],), name="health", daemon=True).start()
