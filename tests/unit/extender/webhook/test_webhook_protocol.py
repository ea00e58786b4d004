"""Calls over real connections, as schedulers and others make them."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from fastapi import FastAPI

from bayplan_extender.header_limit import MAX_OVERHEAD
from bayplan_extender.webhook import body_limit, protocol
from bayplan_extender.webhook.app import create_app
from tests.builders import GPU
from tests.webhook_server import listed_view, listening

CONTAINER = {"name": "c", "resources": {"requests": {GPU: "1"}}}
POD = {
    "metadata": {"name": "a", "namespace": "default", "uid": "uid-a"},
    "spec": {"containers": [CONTAINER]},
}
BODY = json.dumps({"Pod": POD, "Nodes": None, "NodeNames": ["n1", "n2"]}).encode()
FILTER = b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Wire:
    """A connection, and the replies on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.replies = self.socket.makefile("rb")

    def send(self, *pieces: bytes) -> None:
        """Send the pieces one by one."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self.socket.sendall(piece)

    def reply(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next reply."""
        status = int(self.replies.readline().split()[1])
        lines = iter(self.replies.readline, b"\r\n")
        pairs = (line.decode().strip().split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        return status, headers, self.replies.read(int(headers["content-length"]))

    def told(self) -> Any:  # noqa: ANN401 - any JSON
        """Return what the next reply says."""
        status, _, body = self.reply()
        assert status == 200
        return json.loads(body)

    def close(self) -> None:
        """End the connection."""
        self.replies.close()
        self.socket.close()

    def is_closed(self) -> bool:
        """Wait for the end of the replies."""
        return self.replies.read() == b""


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Serve the webhook, which sees two nodes; give a connection to it.

    It ends with the connection open: a scheduler that keeps its own must not hold up the end.
    """
    with listening(application()) as port:
        made = Wire(port)
        yield made
    made.close()


def application() -> FastAPI:
    """Return the webhook, which sees two nodes."""
    return create_app(listed_view())


def test_calls_follow_each_other_on_one_connection(wire: Wire) -> None:
    """A scheduler would connect anew for each pod."""
    for _ in range(3):
        wire.send(FILTER)
        assert wire.told()["NodeNames"] == ["n1"]


def test_a_call_may_arrive_in_pieces(wire: Wire) -> None:
    """A body of 5,000 names comes in many packets."""
    for size in (50, 7):
        wire.send(*(FILTER[at : at + size] for at in range(0, len(FILTER), size)))
        assert wire.told()["NodeNames"] == ["n1"]


def test_a_body_without_a_length_is_read(wire: Wire) -> None:
    """A proxy in between may send chunks."""
    head = b"POST /filter HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire.send(head, b"%x\r\n%s\r\n" % (len(BODY), BODY), b"0\r\n\r\n")

    assert wire.told()["NodeNames"] == ["n1"]


def test_calls_that_come_at_once_are_answered_in_order(wire: Wire) -> None:
    """The second reply would be taken for the first."""
    wire.send(FILTER + FILTER.replace(b'"1"', b'"9"'))

    assert wire.told()["NodeNames"] == ["n1"]
    assert wire.told()["NodeNames"] == []


def test_whatever_is_no_verb_is_answered_by_the_application(wire: Wire) -> None:
    """Probes and Prometheus come to the same port, and so does a bind."""
    for path in ("/healthz", "/metrics"):
        wire.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        assert wire.reply()[0] == 200
    wire.send(b"GET /filter HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.reply()[0] == 404


def test_another_request_may_follow_a_call(wire: Wire) -> None:
    """A scheduler binds over the connection on which it asked for nodes."""
    wire.send(FILTER)
    assert wire.told()["NodeNames"] == ["n1"]

    wire.send(b"POST /bind HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    assert "bindVerb" in wire.told()["Error"]

    wire.send(FILTER)
    assert wire.told()["NodeNames"] == ["n1"]


def test_who_asks_for_the_end_of_the_connection_gets_it(wire: Wire) -> None:
    """It would wait for us to close."""
    wire.send(FILTER.replace(b"Host: x", b"Host: x\r\nConnection: close"))

    _, headers, body = wire.reply()

    assert json.loads(body)["NodeNames"] == ["n1"]
    assert headers["connection"] == "close"
    assert wire.is_closed()


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(b"\x00\x01 rubbish\r\n\r\n", id="rubbish"),
        pytest.param(b"GET /filter HTTP/1.1\r\nHost: x\r\n\r\n", id="another method"),
        pytest.param(FILTER.replace(b"/filter", b"/other"), id="another path"),
    ],
)
def test_what_comes_with_a_call_and_is_none_ends_the_connection(wire: Wire, second: bytes) -> None:
    """It would be answered as if it were a call."""
    wire.send(FILTER + second)

    assert wire.told()["NodeNames"] == ["n1"]
    assert wire.reply()[0] == 400
    assert wire.is_closed()


def test_a_body_without_end_is_not_read(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller could fill the memory, and the scheduler get no answers any more."""
    monkeypatch.setattr(body_limit, "MAX_BODY", len(BODY) - 1)
    wire.send(FILTER)

    _, headers, body = wire.reply()

    assert "larger than" in json.loads(body)["Error"]
    assert headers["connection"] == "close"
    assert wire.is_closed()


def test_who_asks_first_is_told_to_go_on(wire: Wire) -> None:
    """A command line that sends much would wait a second each time."""
    head, separator, body = FILTER.partition(b"\r\n\r\n")
    wire.send(head + b"\r\nExpect: 100-continue" + separator)
    assert wire.replies.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert wire.replies.readline() == b"\r\n"

    wire.send(body)

    assert wire.told()["NodeNames"] == ["n1"]


def test_a_connection_on_which_nothing_comes_is_closed(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that have gone without a word would fill the table of connections."""
    monkeypatch.setattr(protocol, "IDLE_S", 0.01)
    wire.send(FILTER[:40])

    assert wire.is_closed()


def test_a_call_that_never_arrives_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its pod would be killed, with all that goes on in it, or wait for two minutes."""
    monkeypatch.setattr(protocol, "LAST_CALL_S", 0.01)
    with listening(application()) as port:
        wire = Wire(port)
        wire.send(FILTER)
        assert wire.told()["NodeNames"] == ["n1"]
        wire.send(FILTER[:-9])

    wire.close()


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(FILTER.partition(b"\r\n\r\n")[0] + b"\r\nX: ", id="of a call"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nX: ", id="of what is none"),
        pytest.param(
            b"POST /filter HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: ",
            id="after a body",
        ),
    ],
)
def test_a_head_without_end_is_not_read(wire: Wire, begun: bytes) -> None:
    """One connection could fill the memory: a header is kept until it is whole."""
    wire.send(begun)
    with closing(wire), pytest.raises((ConnectionResetError, BrokenPipeError)):
        wire.send(*[b"a" * 2**20] * 64)


def test_many_calls_at_once_are_no_head(wire: Wire) -> None:
    """What comes before a call would count as its head."""
    many = 2 * MAX_OVERHEAD // len(FILTER)
    wire.send(FILTER * many)

    for _ in range(many):
        assert wire.told()["NodeNames"] == ["n1"]


def test_who_does_not_read_our_replies_is_left(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection, and what waits to be sent on it, would stay for as long as it does."""
    monkeypatch.setattr(protocol, "IDLE_S", 0.2)
    asked = json.dumps({"Pod": POD, "NodeNames": [f"other-{i}" for i in range(1000)]}).encode()
    call = b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(asked), asked)

    with closing(wire), pytest.raises((ConnectionResetError, BrokenPipeError)):
        wire.send(*[call] * 5000)
