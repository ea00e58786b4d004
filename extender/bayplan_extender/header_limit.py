"""The limit of headers: how much of a request is taken in beside its body.

Parsers keep these as they come, and bodies have limits of their own (`webhook.body_limit`). Without
one here a single connection that sends headers for ever would have our memory, and so our end.
"""

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: The most bytes on end, beside the piece in which they begin. Those who call us send hundreds.
MAX_OVERHEAD: Final = 64 * 2**10

#: The answer to more.
TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class Overhead:
    """Counts the bytes on one connection since a request began, or something of a body came."""

    def __init__(self) -> None:
        self._size = 0
        self._is_new = False

    def begin(self) -> None:
        """Note that in this piece a request begins, or something of a body comes."""
        self._size, self._is_new = 0, True

    def add(self, size: int) -> bool:
        """Count a piece that the parser has read; return whether that is not too much."""
        if not self._is_new:
            self._size += size
        self._is_new = False
        return self._size <= MAX_OVERHEAD


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a limit to what comes beside bodies."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's own
        """Take what uvicorn makes its protocols with."""
        super().__init__(*arguments, **named)
        self._overhead = Overhead()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._overhead.begin()
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Take a part of its body."""
        self._overhead.begin()
        super().on_body(body)

    def data_received(self, data: bytes) -> None:
        """Read a piece, and no more if that was too much."""
        super().data_received(data)
        if not self._overhead.add(len(data)) and not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.transport.close()
