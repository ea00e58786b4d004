"""One verb as an ASGI application: bytes in, JSON out, and nothing on the way that costs time.

The scheduler waits for us in its only thread. FastAPI's routing, validation and dependencies would
take longer than the answer (80 of 156 µs for a pinned pod), so `Shortcut` passes them by.
"""

from collections.abc import Callable, Mapping

import orjson
from fastapi.concurrency import run_in_threadpool
from prometheus_client import Histogram
from starlette.types import ASGIApp, Receive, Scope, Send

from bayplan_extender.webhook.body_limit import Arriving, Body
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
        body = Body(self._arriving)
        try:
            why = await _read(receive, body)
            if why is None:
                return
            payload = self.refuse(why) if why else await self._reply(body.whole())
        finally:
            body.drop()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(payload)).encode()),
        ]
        if why:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": payload})

    async def _reply(self, body: bytes) -> bytes:
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


async def _read(receive: Receive, body: Body) -> str | None:
    """Read the body; return why not all of it, "", or None when the caller has gone."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if why := body.add(message.get("body", b"")):
            return why
        if not message.get("more_body"):
            return ""
