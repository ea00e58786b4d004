"""The FastAPI application that kube-scheduler calls.

One handler a verb: read the arguments, ask `bayplan.answers`, write the reply. A pod that is told
one node is assumed there until the watch confirms it.
"""

import threading
import time
from collections.abc import Callable, Sequence

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Histogram

from bayplan.answers import Answer, answer, scores
from bayplan.codec import DecodeError
from bayplan_extender import health
from bayplan_extender.view import View
from bayplan_extender.webhook import wire

_log = structlog.get_logger()

#: Seconds for which a pod counts on the node it was told, unless the watch shows it sooner.
ASSUME_S = 30.0

#: Buckets around the reply times that matter: 10 ms and 25 ms (seconds).
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)


def create_app(
    view: View,
    *,
    watches: Sequence[threading.Thread] = (),
    clock: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """Return the application that answers from `view`, which `watches` keep up to date."""
    registry = CollectorRegistry()
    latency = Histogram(
        "bayplan_extender_request_duration_seconds",
        "Time to answer kube-scheduler, by verb.",
        ["verb"],
        registry=registry,
        buckets=_BUCKETS,
    )
    app = FastAPI(title="Bayplan scheduler extender", openapi_url=None)
    app.include_router(health.router(view, registry, watches))

    @app.post("/filter")
    async def filter_(request: Request) -> Response:
        with latency.labels("filter").time():
            return JSONResponse(_filter(view, await request.body(), clock()))

    @app.post("/prioritize")
    async def prioritize(request: Request) -> Response:
        with latency.labels("prioritize").time():
            return JSONResponse(_prioritize(view, await request.body()))

    return app


def _filter(view: View, body: bytes, now: float) -> dict[str, object]:
    if not view.synced:
        return wire.filter_error(f"the extender has not listed {', '.join(view.missing)} yet")
    try:
        arguments = wire.arguments_of(body)
    except DecodeError as error:
        _log.warning("request_unreadable", verb="filter", error=str(error))
        return wire.filter_error(str(error))
    with view.lock:
        view.cache.expire(now)
        reply = answer(arguments.pod, arguments.nodes, view.cache, view.reservations)
        if len(reply.nodes) == 1:
            view.cache.assume(arguments.pod.key, reply.nodes[0], until=now + ASSUME_S)
    _log_refusal(arguments, reply)
    return wire.filter_result(reply, arguments)


def _prioritize(view: View, body: bytes) -> list[dict[str, object]]:
    """Return scores; an unreadable call gets none, which the scheduler ignores."""
    try:
        arguments = wire.arguments_of(body)
    except DecodeError as error:
        _log.warning("request_unreadable", verb="prioritize", error=str(error))
        return []
    with view.lock:
        return wire.priorities(scores(arguments.pod, arguments.nodes, view.cache))


def _log_refusal(arguments: wire.Arguments, reply: Answer) -> None:
    if reply.nodes or not reply.refused:
        return
    _, why = reply.refused[0]
    _log.info(
        "pod_refused",
        pod=str(arguments.pod.key),
        nodes=len(reply.refused),
        reason=why.reason.value,
        first=why.message,
    )
