"""Probes, Prometheus and the scheduler come over IPv4 or over IPv6, as the cluster has it."""

import asyncio
import errno
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread

import pytest
from fastapi import APIRouter, Depends, HTTPException, Request
from prometheus_client import CollectorRegistry

from bayplan_extender import health as extender_health
from bayplan_extender import listening
from bayplan_extender.loopback import from_loopback
from bayplan_extender.view import View
from bayplan_operator import health as operator_health
from e2e.cluster import eventually
from e2e.cluster.ports import lease_port


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


#: Where a pod is reached; a machine without IPv6 tells that the fall-back is one.
LOOPBACKS = ("127.0.0.1", "::1") if _has_ipv6() else ("127.0.0.1",)

Listen = Callable[[int], socket.socket]
LISTENS = {
    "extender": lambda port: listening.listen("", port),
    "operator": operator_health.listen,
}


@pytest.fixture(params=list(LISTENS))
def listen(request: pytest.FixtureRequest) -> Listen:
    """Return what a program listens with."""
    return LISTENS[request.param]


@pytest.fixture
def port() -> Iterator[int]:
    """Give a port that nobody listens on."""
    lease = lease_port()
    yield lease.number
    lease.release()


def reached(port: int) -> list[str]:
    """Return the addresses of this machine at which somebody listens."""
    found = []
    for address in LOOPBACKS:
        with suppress(OSError), socket.create_connection((address, port), timeout=5):
            found.append(address)
    return found


def get(address: str, port: int, path: str) -> str:
    """Ask a server, and wait for it to be up."""
    host = f"[{address}]" if ":" in address else address

    def ask() -> str:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as reply:
            return str(reply.status)

    return eventually(ask, what=f"{address} answers", retry_on=(OSError,))


def test_a_pod_is_reached_over_both(listen: Listen) -> None:
    """A kubelet of a cluster with IPv6 alone would restart a healthy program for ever."""
    with listen(0) as server:
        assert reached(server.getsockname()[1]) == list(LOOPBACKS)


def test_without_ipv6_it_is_reached_over_ipv4(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node may have it switched off, in its kernel or in the pod's network."""
    create = socket.create_server

    def refuse(address: tuple[str, int], **options: object) -> socket.socket:
        if options.get("family") == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return create(address, backlog=1)

    monkeypatch.setattr(socket, "create_server", refuse)
    with listen(0) as server:
        assert reached(server.getsockname()[1]) == ["127.0.0.1"]
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen(0) as server:
        assert reached(server.getsockname()[1]) == ["127.0.0.1"]


def test_a_port_that_is_taken_is_an_error(listen: Listen) -> None:
    """Half of a port would leave the probes to whoever has the other half."""
    with listen(0) as server, pytest.raises(OSError, match="in use"):
        listen(server.getsockname()[1])


@pytest.mark.parametrize("host", LOOPBACKS)
def test_a_host_that_is_named_is_the_only_one(host: str) -> None:
    """Who says where to listen means it."""
    with listening.listen(host, 0) as server:
        assert reached(server.getsockname()[1]) == [host]


def test_planner_and_webhook_answer_probes_over_both() -> None:
    """The server takes the socket as it is."""
    routes = extender_health.router(View(), CollectorRegistry(), [])
    server = listening.listen("", 0)
    extender_health.serve([routes], server)

    port = server.getsockname()[1]
    assert [get(address, port, "/healthz") for address in LOOPBACKS] == ["200"] * len(LOOPBACKS)


def test_the_pod_itself_is_known_over_both() -> None:
    """`kubectl port-forward` would be told to use `kubectl port-forward`."""
    routes = APIRouter()
    routes.add_api_route("/secret", lambda: "ok", dependencies=[Depends(from_loopback)])
    server = listening.listen("", 0)
    extender_health.serve([routes], server)

    port = server.getsockname()[1]
    assert [get(address, port, "/secret") for address in LOOPBACKS] == ["200"] * len(LOOPBACKS)


@pytest.mark.parametrize("host", ["::ffff:10.0.0.1", "10.0.0.1", "fd00::1", "nobody"])
def test_nobody_else_is_taken_for_the_pod_itself(host: str) -> None:
    """The pass shows names of all namespaces."""
    with pytest.raises(HTTPException, match="port-forward"):
        from_loopback(Request({"type": "http", "client": (host, 1)}))


def test_the_operator_answers_prometheus_over_both(port: int) -> None:
    """It has a server of its own for that."""
    operator_health.serve_metrics(port, CollectorRegistry())

    assert [get(address, port, "/metrics") for address in LOOPBACKS] == ["200"] * len(LOOPBACKS)


def test_the_operator_answers_probes_over_both_until_it_ends(port: int) -> None:
    """What answers is the event loop that does the work."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(operator_health.serve_health(port, lambda: "gates: 403 Forbidden"))

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = Thread(target=run)
    thread.start()
    try:
        answers = [get(address, port, "/healthz") for address in LOOPBACKS]
        with pytest.raises(urllib.error.HTTPError, match="503") as unready:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
        with unready.value as told:
            why = told.read().decode()
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        loop.close()

    assert answers == ["200"] * len(LOOPBACKS)
    assert why == "gates: 403 Forbidden\n"
    assert reached(port) == []
