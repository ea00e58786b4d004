"""One verb as an ASGI application: bytes in, JSON out, and nothing on the way that costs time.

The scheduler waits for us in its only thread. FastAPI's routing, validation and dependencies would
take longer than the answer (80 of 156 µs for a pinned pod), so `Shortcut` passes them by.
"""

from collections.abc import Callable, Mapping

import orjson
from fastapi.concurrency import run_in_threadpool
from prometheus_client import Histogram
from starlette.types import ASGIApp, Receive, Scope, Send

from bayplan_extender.webhook.arriving import MAX_BODY, TOO_LARGE, TOO_MANY, Arriving
from bayplan_extender.webhook.wire import Reply


class Endpoint:
    """Answers one verb.

    Attributes:
        act: Returns the reply to a body; never raises.
        fail: Returns the reply that carries a problem.
        latency: Where the time from the whole body to the reply is noted.
        arriving: What counts the bytes of bodies, the same for all verbs.
        blocking: Whether `act` waits for others, so that it must not hold up the event loop.
    """

    def __init__(
        self,
        act: Callable[[bytes], Reply],
        fail: Callable[[str], Reply],
        latency: Histogram,
        arriving: Arriving,
        *,
        blocking: bool = False,
    ) -> None:
        self.blocking = blocking
        self._act = act
        self._fail = fail
        self._latency = latency
        self._arriving = arriving

    def answer(self, body: bytes) -> bytes:
        """Return the reply to a whole body."""
        with self._latency.time():
            return orjson.dumps(self._act(body))

    def refuse(self, why: str) -> bytes:
        """Return the reply to a body of which we do not want to read more."""
        return orjson.dumps(self._fail(why))

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Read the request, answer it with status 200."""
        parts: list[bytes] = []
        try:
            why = await self._read(receive, parts)
            if why is None:
                return
            payload = self.refuse(why) if why else await self._reply(parts)
        finally:
            self._arriving.give(sum(map(len, parts)))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(payload)).encode()),
        ]
        if why:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": payload})

    async def _read(self, receive: Receive, parts: list[bytes]) -> str | None:
        """Add the body's parts; return why not all of it, "", or None when the caller has gone."""
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > MAX_BODY:
                return TOO_LARGE
            if not self._arriving.take(len(part)):
                return TOO_MANY
            parts.append(part)
            if not message.get("more_body"):
                return ""

    async def _reply(self, parts: list[bytes]) -> bytes:
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if self.blocking:
            return await run_in_threadpool(self.answer, body)
        return self.answer(body)


class Shortcut:
    """Middleware that hands a POST to one of the endpoints directly, and all else to the app."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        endpoint = self._endpoints.get(scope.get("path", ""))
        is_ours = endpoint is not None and scope["type"] == "http" and scope["method"] == "POST"
        await (endpoint if endpoint and is_ours else self._app)(scope, receive, send)
