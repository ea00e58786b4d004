"""Talking to the API server: what goes over the wire, and what comes back."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ConflictException

from bayplan_operator.cluster.kube import NODES, PODS, Kube


class Server(ThreadingHTTPServer):
    """Answers every request alike, and keeps what it was asked.

    Attributes:
        asked: Method, path, headers and body of each request.
        answer: Status and body.
        behind_s: By how many seconds its clock is behind.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.answer = (200, "{}")
        self.behind_s = 0.0


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP for the server above."""

    server: Server
    protocol_version = "HTTP/1.1"

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        status, text = self.server.answer
        self.send_response(status, "OK" if status == 200 else "Refused")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the date of an answer, by the server's own clock."""
        return super().date_time_string((timestamp or time.time()) - self.server.behind_s)

    do_GET = do_PATCH = _do  # noqa: N815 - the base class looks for these

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server that runs."""
    with Server() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def kube(server: Server) -> Kube:
    """Return a client of it, which goes through a proxy's path with a token."""
    access = client.Configuration(host=f"http://127.0.0.1:{server.server_port}/clusters/c1/")
    access.api_key = {"BearerToken": "Bearer secret"}
    return Kube(client.ApiClient(access))


def test_a_patch_says_who_we_are_and_asks_for_metadata_alone(server: Server, kube: Kube) -> None:
    """The whole pod comes by the watch anyway."""
    patch = {"metadata": {"labels": {"a": "b"}}}

    kube.patch("/api/v1/namespaces/ns/pods/a", patch, manager="us")

    ((method, path, headers, body),) = server.asked
    assert (method, body) == ("PATCH", patch)
    assert path == "/clusters/c1/api/v1/namespaces/ns/pods/a?fieldManager=us"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/strategic-merge-patch+json"
    assert "as=PartialObjectMetadata" in headers["Accept"]


def test_a_refusal_is_raised_with_what_the_server_says(server: Server, kube: Kube) -> None:
    """Callers tell overtaken writes from refused ones by it."""
    server.answer = (409, '{"message": "the object has been modified"}')

    with pytest.raises(ConflictException) as caught:
        kube.merge("/api/v1/namespaces/ns/pods/a", {}, manager="us")

    assert caught.value.status == 409
    assert "has been modified" in (caught.value.body or "")


def test_what_is_not_there_is_none_and_a_list_is_its_items(server: Server, kube: Kube) -> None:
    """Selectors go as they are."""
    server.answer = (200, '{"items": [{"a": 1}]}')
    found = kube.items(PODS, labels="x=y", fields="spec.nodeName!=")
    server.answer = (404, "{}")

    assert found == [{"a": 1}]
    assert kube.get("/api/v1/nodes/n1") is None
    assert server.asked[0][1].endswith("?labelSelector=x%3Dy&fieldSelector=spec.nodeName%21%3D")


def test_each_object_is_handed_over_with_the_version_to_watch_from(
    server: Server, kube: Kube
) -> None:
    """What happened between a list and a watch would be told by neither."""
    server.answer = (200, '{"metadata": {"resourceVersion": "7"}, "items": [{"a": 1}, {"a": 2}]}')
    taken: list[object] = []

    assert kube.each(NODES, taken.append) == "7"
    assert taken == [{"a": 1}, {"a": 2}]


def test_connections_are_kept(server: Server, kube: Kube) -> None:
    """A handshake for each of hundreds of pods would cost more than all the rest."""
    server.answer = (200, '{"items": []}')
    for _ in range(3):
        kube.items(PODS)

    assert kube._pool.num_connections == 1  # noqa: SLF001 - the pool knows


def test_a_watch_yields_event_after_event(server: Server, kube: Kube) -> None:
    """And goes on from a version if it is given one."""
    server.answer = (200, '{"type": "ADDED"}\n{"type": "BOOKMARK"}\n')

    events = list(kube.watch(PODS, labels="a=b", version="7"))

    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
    assert "watch=1&labelSelector=a%3Db&resourceVersion=7" in server.asked[0][1]


@pytest.mark.parametrize("behind_s", [0.0, 3600.0, -3600.0])
def test_an_answer_tells_what_the_clocks_are_apart(
    server: Server, kube: Kube, behind_s: float
) -> None:
    """What the API server has dated seemed older or younger than it was."""
    assert kube.ahead_s == 0.0
    server.behind_s = behind_s

    kube.get("/api/v1/nodes/n1")

    assert kube.ahead_s == pytest.approx(behind_s, abs=30.0)
