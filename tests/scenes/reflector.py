"""An API server that gives what it is told to, and a sink that remembers what it is told."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from urllib3 import HTTPConnectionPool

from bayplan_extender.reflector import Raw, Reflector

#: What a time-out is made of.
LOST = (HTTPConnectionPool("nowhere"), "/", "Read timed out.")


class Response:
    """What the client library returns: a whole body, or pieces that end with an error perhaps."""

    def __init__(self, *pieces: bytes, status: int = 200, error: Exception | None = None) -> None:
        self.status = status
        self.reason = "because"
        self.data = b"".join(pieces)
        self.is_closed = False
        self._pieces = pieces
        self._error = error

    def stream(self, **_: object) -> Iterator[bytes]:
        """Yield the pieces."""
        yield from self._pieces
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Note that it was closed."""
        self.is_closed = True

    def release_conn(self) -> None:
        """Do nothing: there is no connection."""


class Server:
    """Gives the responses one after the other, then stops who asks; remembers what was asked."""

    def __init__(self, *responses: Response) -> None:
        self.asked: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.failed: list[tuple[float, str]] = []
        self._responses = responses
        self._reflector = Reflector("things", self._answer, self)

    def run(self) -> Sequence[str]:
        """Return what the sink was told."""
        self._reflector.run()
        assert all(each.is_closed for each in self._responses if not each.data.startswith(b'{"it'))
        return self.seen

    def _answer(self, **arguments: Any) -> Response:  # noqa: ANN401 - the library's arguments
        self.asked.append(arguments)
        if len(self.asked) == len(self._responses):
            self._reflector.stop()
        return self._responses[len(self.asked) - 1]

    def replace(self, objects: Iterable[Raw]) -> None:
        """Take a list."""
        self.seen.append("list " + " ".join(each["metadata"]["name"] for each in objects))

    def change(self, event: str, raw: Raw) -> None:
        """Take an event."""
        self.seen.append(f"{event} {raw['metadata']['name']}")

    def is_current(self, at: float) -> None:
        """Know that time passes."""

    def is_failing(self, since: float, why: str) -> None:
        """Take why nothing comes."""
        self.failed.append((since, why))


def listed(*names: str, version: int = 1, rest: str = "") -> Response:
    """Return a whole collection, or a page of one that goes on."""
    items = [{"metadata": {"name": name}} for name in names]
    body = {"items": items, "metadata": {"resourceVersion": str(version), "continue": rest}}
    return Response(json.dumps(body).encode())


def line(event: str, name: str, version: int) -> bytes:
    """Return an event as it comes over the wire."""
    metadata = {"name": name, "resourceVersion": str(version)}
    return json.dumps({"type": event, "object": {"metadata": metadata}}).encode() + b"\n"


def error(code: int) -> bytes:
    """Return what a watch ends with."""
    return json.dumps({"type": "ERROR", "object": {"code": code, "message": "no"}}).encode() + b"\n"
