"""The endpoints that Kubernetes and Prometheus ask: /healthz, /readyz and /metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from bayplan_extender.view import View


def router(view: View, registry: CollectorRegistry) -> APIRouter:
    """Return the three endpoints; ready means that every collection has been listed."""
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @routes.get("/readyz")
    async def readyz() -> Response:
        if view.synced:
            return Response("ok\n", media_type="text/plain")
        text = f"not listed yet: {', '.join(view.missing)}\n"
        return Response(text, status_code=503, media_type="text/plain")

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes
