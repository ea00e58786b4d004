"""Calls that arrive on many connections and never end take a bounded part of our memory."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from bayplan_extender.webhook import metrics, protocol, wire
from bayplan_extender.webhook.body_limit import TOO_MANY, Arriving
from bayplan_extender.webhook.endpoint import Endpoint

BODY = b'{"a": 1}'


class Sent:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written += data

    def close(self) -> None:
        """Note it."""
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        """Return whether it was closed."""
        return self.closed


def endpoint(arriving: Arriving) -> Endpoint:
    """Return a verb that agrees to everything."""
    latency = metrics.latency(CollectorRegistry()).labels("filter")
    return Endpoint(lambda _: {"Error": ""}, wire.bind_result, latency, arriving)


def connecting(arriving: Arriving) -> Callable[[], tuple[Any, Sent]]:
    """Return what opens connections to one server."""
    make: Any = protocol.serving({"/filter": endpoint(arriving)}, arriving)
    state = SimpleNamespace(connections=set())

    def connect() -> tuple[Any, Sent]:
        made = make(server_state=state)
        transport = Sent()
        made.connection_made(transport)
        return made, transport

    return connect


def head(size: int) -> bytes:
    """Return how a call of so many bytes begins."""
    return f"POST /filter HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode()


def test_the_connections_share_one_limit() -> None:
    """About fifteen of them reached the container's limit, and the webhook was killed."""

    async def scene() -> None:
        arriving = Arriving(100)
        connect = connecting(arriving)
        (one, _), (other, refused), (small, served) = connect(), connect(), connect()
        one.data_received(head(1000) + bytes(60))
        other.data_received(head(1000) + bytes(60))
        small.data_received(head(len(BODY)) + BODY)

        assert TOO_MANY.encode() in refused.written
        assert refused.closed
        assert b"200 OK" in served.written
        assert arriving.held == 60
        one.connection_lost(None)
        assert arriving.held == 0

    asyncio.run(scene())


def test_what_was_answered_counts_no_more() -> None:
    """A connection that is kept would fill the limit call by call."""

    async def scene() -> None:
        arriving = Arriving(10)
        one, sent = connecting(arriving)()
        for _ in range(5):
            one.data_received(head(len(BODY)) + BODY)
        assert sent.written.count(b"200 OK") == 5
        assert (sent.closed, arriving.held) == (False, 0)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        pytest.param([(BODY, False)], b'{"Error":""}', id="a whole body"),
        pytest.param([(bytes(60), True), (bytes(60), True)], None, id="one that is too much"),
        pytest.param([(bytes(60), True), None], b"", id="a caller that goes"),
    ],
)
def test_so_do_those_that_uvicorn_reads(
    messages: list[tuple[bytes, bool] | None], told: bytes | None
) -> None:
    """Each connection may be handed over to it."""
    arriving, replies = Arriving(100), list[dict[str, Any]]()
    left = [
        {"type": "http.disconnect"}
        if message is None
        else {"type": "http.request", "body": message[0], "more_body": message[1]}
        for message in messages
    ]

    async def receive() -> Any:  # noqa: ANN401 - ASGI's
        return left.pop(0)

    async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's
        replies.append(message)

    asyncio.run(endpoint(arriving)({}, receive, send))

    expected = orjson.dumps(wire.bind_result(TOO_MANY)) if told is None else told
    assert b"".join(reply.get("body", b"") for reply in replies) == expected
    assert arriving.held == 0
