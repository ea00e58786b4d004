"""The FastAPI application that kube-scheduler calls: the verbs, and what people and probes ask."""

import threading
import time
from collections.abc import Callable, Sequence

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from bayplan_extender import health
from bayplan_extender.view import View
from bayplan_extender.webhook import explain, metrics, wire
from bayplan_extender.webhook.body_limit import Arriving
from bayplan_extender.webhook.endpoint import Endpoint, Shortcut
from bayplan_extender.webhook.verbs import Verbs, failing


def create_app(
    view: View,
    *,
    watches: Sequence[threading.Thread] = (),
    verbs: Verbs | None = None,
    registry: CollectorRegistry | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """Return the application that answers from `view`, which `watches` keep up to date.

    Without `verbs` it makes its own, which do not bind. Metrics go into `registry`, or one of its
    own. `app.state.endpoints` are the verbs by path, `app.state.arriving` counts what they read.
    """
    verbs, registry = verbs or Verbs(view, clock=clock), registry or CollectorRegistry()
    registry.register(metrics.ViewCollector(view, clock))
    registry.register(verbs.refusals)
    registry.register(health.Failing(view, clock))
    latency = metrics.latency(registry)
    app = FastAPI(title="Bayplan scheduler extender", openapi_url=None)
    app.include_router(health.router(view, registry, watches))
    app.include_router(explain.router(view, verbs))
    endpoints: dict[str, Endpoint] = {}
    arriving = Arriving()
    for name, act, fail in (
        ("filter", verbs.filter, wire.filter_error),
        ("prioritize", verbs.prioritize, wire.no_priorities),
        ("preempt", verbs.preempt, wire.no_preemption),
        ("bind", verbs.bind, wire.bind_result),
    ):
        answer = failing(name, act, fail)
        endpoints[f"/{name}"] = Endpoint(
            *(answer, fail, latency.labels(name), arriving), blocking=name == "bind"
        )
    app.state.endpoints, app.state.arriving = endpoints, arriving
    app.add_middleware(Shortcut, endpoints=endpoints)
    return app
