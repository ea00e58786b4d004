"""The verbs at the level of HTTP: from the bytes of a connection to the bytes of a reply, at once.

The scheduler waits for us in its only thread, on one connection that it keeps. Through uvicorn's
own protocol every call is a task, a dozen objects and two writes, which take longer than the
answer. So a connection that begins with a call of a verb is served here; any other is handed to
uvicorn's protocol as it is, with all that it has sent, and so is one on which something else
follows: a `bind`, which waits for the API server.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import httptools

from bayplan_extender.header_limit import TOO_LARGE, BoundedProtocol, Overhead
from bayplan_extender.webhook.body_limit import Arriving, Body
from bayplan_extender.webhook.endpoint import Endpoint

#: Seconds without a call after which a connection is closed. Longer than a scheduler keeps an idle
#: one (90 s), so that none of its calls meets a connection that we are closing.
IDLE_S: Final = 120.0

#: Seconds for which a server that is told to stop waits for a call that is arriving.
LAST_CALL_S: Final = 5.0

_REPLY: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s"
)
_CLOSE: Final = b"connection: close\r\n"
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class VerbProtocol(asyncio.Protocol):
    """One connection; `served` are the endpoints by path that answer at once.

    `arriving` counts what has come of bodies, on all connections.
    """

    served: ClassVar[Mapping[str, Endpoint]] = {}
    arriving: ClassVar[Arriving]

    def __init__(self, **uvicorns: Any) -> None:  # noqa: ANN401 - uvicorn's own, passed on to it
        """Take what uvicorn makes its protocols with."""
        self._uvicorns = uvicorns
        self._connections: set[Any] = uvicorns["server_state"].connections
        self._parser: Any = None
        self._transport: Any = None
        self._idle: asyncio.TimerHandle | None = None
        self._begun = tuple(f"POST {path} HTTP/1.1\r\n".encode() for path in self.served)
        self._url = b""
        self._body = Body(self.arriving)
        self._overhead = Overhead()
        self._refusal = ""
        self._is_within = False
        self._is_last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first bytes."""
        self._transport = transport
        self._connections.add(self)
        self._wait()

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the connection."""
        self._connections.discard(self)
        self._rest()
        self._body.drop()

    def data_received(self, data: bytes) -> None:
        """Answer the calls that are whole by now, or leave the connection to uvicorn."""
        self._rest()
        if not self._is_within and not data.startswith(self._begun):
            self._hand_over(data)
            return
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._transport.is_closing():
                self._end(_BAD_REQUEST)
        if not self._overhead.add(len(data)) and not self._transport.is_closing():
            self._end(TOO_LARGE)
        if not self._transport.is_closing():
            self._wait()

    def shutdown(self) -> None:
        """Close the connection, after the reply to a call that is arriving soon."""
        self._is_last = True
        if self._is_within:
            asyncio.get_running_loop().call_later(LAST_CALL_S, self._transport.close)
        else:
            self._transport.close()

    def pause_writing(self) -> None:
        """Take no more calls from a client that does not read our replies."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on when it does."""
        self._transport.resume_reading()

    # What the parser finds.

    def on_message_begin(self) -> None:
        """Begin a call."""
        self._body.drop()
        self._overhead.begin()
        self._url, self._refusal, self._is_within = b"", "", True

    def on_url(self, url: bytes) -> None:
        """Take a part of the path."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Say that the body may come, where somebody waits for that."""
        if name.lower() == b"expect" and value.lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, while there is room for it."""
        self._overhead.begin()
        if self._refusal:
            return
        self._refusal = self._body.add(body)
        if self._refusal and not self._transport.is_closing():
            self._reply(last=True)

    def on_message_complete(self) -> None:
        """Answer."""
        self._is_within = False
        if self._parser.should_upgrade():
            self._end(_BAD_REQUEST)  # what follows is in another protocol, the body of the call too
        elif not self._transport.is_closing():
            self._reply(last=self._is_last or not self._parser.should_keep_alive())

    def _reply(self, *, last: bool) -> None:
        endpoint = self.served.get(self._url.decode("latin-1"))
        if endpoint is None or self._parser.get_method() != b"POST":
            self._end(_BAD_REQUEST)  # sent before the reply to the call before, which nobody does
            return
        body = self._body.whole()
        self._body.drop()
        payload = endpoint.refuse(self._refusal) if self._refusal else endpoint.answer(body)
        reply = _REPLY % (len(payload), _CLOSE if last else b"", payload)
        if last:
            self._end(reply)
        else:
            self._transport.write(reply)

    def _end(self, reply: bytes) -> None:
        self._transport.write(reply)
        self._transport.close()

    def _hand_over(self, data: bytes) -> None:
        """Let uvicorn's protocol have the connection, as if it had just been made."""
        self._connections.discard(self)
        theirs = BoundedProtocol(**self._uvicorns)
        self._transport.set_protocol(theirs)
        theirs.connection_made(self._transport)
        theirs.data_received(data)

    def _wait(self) -> None:
        """End the connection if nothing comes for long, be it that our replies are not read.

        To close it would be to wait for that.
        """
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(IDLE_S, self._transport.abort)

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


def serving(endpoints: Mapping[str, Endpoint], arriving: Arriving) -> type[asyncio.Protocol]:
    """Return the protocol that serves all endpoints that answer at once."""
    served = {path: each for path, each in endpoints.items() if not each.blocking}
    return type("ServingProtocol", (VerbProtocol,), {"served": served, "arriving": arriving})
