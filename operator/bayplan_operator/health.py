"""What Kubernetes and Prometheus ask the operator: /healthz, /readyz, /metrics, over IPv4 and IPv6.

kopf's own endpoint listens on one family of addresses: in a cluster of IPv6 alone, or in one of
IPv4 alone, the kubelet would not reach it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, start_http_server


async def serve_health(port: int, unready: Callable[[], str]) -> None:
    """Answer from the event loop, which is healthy as long as it gets to that.

    It is ready when `unready` returns "", else that says why not.
    """

    async def readyz(_: web.Request) -> web.Response:
        why = unready()
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    routes = web.Application()
    routes.add_routes([web.get("/healthz", _answer), web.get("/readyz", readyz)])
    runner = web.AppRunner(routes, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listen(port)).start()
        await asyncio.Event().wait()
    finally:
        await asyncio.shield(runner.cleanup())


def serve_metrics(port: int, registry: CollectorRegistry) -> None:
    """Answer /metrics from a thread."""
    with listen(0) as probe:
        address = probe.getsockname()[0]
    start_http_server(port, addr=address, registry=registry)


def listen(port: int) -> socket.socket:
    """Return a socket that listens on all addresses, IPv6 as well unless that is switched off.

    Raises:
        OSError: The port is taken.
    """
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
            )
    return socket.create_server(("0.0.0.0", port), backlog=128)  # noqa: S104 - probes come from the kubelet


async def _answer(_: web.Request) -> web.Response:
    return web.json_response({})
