"""An API server that is away for long, and what kopf makes of it with our settings.

A real server on this machine answers in the place of a load balancer that has nobody behind it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import islice, pairwise
from typing import Final, cast

import kopf
import pytest
from aiohttp import web
from kopf._cogs.clients import api, auth
from kubernetes import client

from bayplan.api import names
from bayplan_operator import __main__ as program
from bayplan_operator.cluster import connection
from bayplan_operator.dispatcher import Dispatcher
from bayplan_operator.handlers import settings

#: More tries than kopf makes by itself, which takes it a minute.
_TIMES = 30

_LOG = logging.getLogger(__name__)


@asynccontextmanager
async def served(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Answer every GET on a port of this machine; yield where."""
    routes = web.Application()
    routes.add_routes([web.get("/{path:.*}", answer)])
    runner = web.AppRunner(routes, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def answering(statuses: list[int]) -> AsyncIterator[str]:
    """Serve these statuses one after the other, then objects; yield where."""
    left = iter(statuses)

    async def answer(_: web.Request) -> web.Response:
        status = next(left, 200)
        return web.json_response({"items": []} if status == 200 else {}, status=status)

    async with served(answer) as server:
        yield server


@pytest.mark.parametrize("status", [503, 500, 429, 403])
def test_the_watches_outlast_a_server_that_is_away_for_long(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The operator ended each minute, and was started again five minutes late at most."""
    monkeypatch.setattr(connection, "_PAUSES_S", (0.0,))

    async def ask() -> object:
        async with answering([status] * _TIMES) as server:
            context = auth.APIContext(kopf.ConnectionInfo(server=server))
            try:
                answer = await api.request(
                    "get", "/x", settings=settings(), logger=_LOG, context=context
                )
                return await answer.json()
            finally:
                await context.close()

    assert asyncio.run(asyncio.wait_for(ask(), 30)) == {"items": []}


def test_a_server_that_is_back_is_found_within_two_seconds() -> None:
    """Plans and deployments were not seen for twenty seconds more."""
    pauses = settings().networking.error_backoffs
    assert not isinstance(pauses, int | float)

    tries = [*islice(pauses, _TIMES)]

    assert len(tries) == _TIMES
    assert max(tries) <= 2
    assert all(later >= earlier for earlier, later in pairwise(tries))


def test_nothing_of_kopf_waits_for_minutes_without_an_answer() -> None:
    """A connection into nowhere held a watch for five minutes, and the list after it as long."""
    chosen = settings()

    assert chosen.networking.connect_timeout == 5
    assert chosen.networking.request_timeout == 30
    assert chosen.watching.connect_timeout in {None, 5}


def test_an_error_in_the_middle_of_a_watch_ends_the_program_as_a_failure() -> None:
    """It ended as if it had been told to, with code 0: kopf ends our tasks first, then itself."""

    async def run() -> None:
        async with watched() as (server, asked):
            access = client.Configuration(host=server)
            await program._run(cast(Dispatcher, _Busy(asked)), access, health_port=0)  # noqa: SLF001

    with pytest.raises(Exception, match="etcdserver: no leader"):
        asyncio.run(asyncio.wait_for(run(), 60))


class _Busy:
    """A dispatcher that begins to work once kopf does; something else takes longer to end."""

    def __init__(self, begins: asyncio.Event) -> None:
        self._begins = begins
        self._ended = asyncio.Event()

    async def run(self) -> None:
        await self._begins.wait()
        straggler = asyncio.create_task(self._straggle())
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
        self._ended.set()
        assert not straggler.done()

    def unready(self) -> str:
        return ""

    async def _straggle(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self._ended.wait()
            for _ in range(9):  # turns of the event loop
                await asyncio.sleep(0)


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Serve collections whose watches end in an error; yield where, and what is set by a call."""
    asked = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        asked.set()
        if "watch" in request.query:
            status = {"kind": "Status", "code": 500, "message": "etcdserver: no leader"}
            return web.json_response({"type": "ERROR", "object": status})
        return web.json_response(_DISCOVERY.get(request.path, {"metadata": {}, "items": []}))

    async with served(answer) as server:
        yield server, asked


def _resource(plural: str, kind: str) -> dict[str, object]:
    verbs = ["list", "watch", "get"]
    return {"name": plural, "kind": kind, "singularName": "", "namespaced": False, "verbs": verbs}


def _group(name: str, version: str) -> dict[str, object]:
    served = {"version": version}
    return {"name": name, "preferredVersion": served, "versions": [served]}


#: What kopf looks for before it watches.
_DISCOVERY: Final[Mapping[str, object]] = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {"resources": [_resource("nodes", "Node"), _resource("namespaces", "Namespace")]},
    "/apis": {"groups": [_group("apiextensions.k8s.io", "v1"), _group(names.GROUP, names.VERSION)]},
    "/apis/apiextensions.k8s.io/v1": {
        "resources": [_resource("customresourcedefinitions", "CustomResourceDefinition")]
    },
    f"/apis/{names.API_VERSION}": {
        "resources": [
            _resource("inferencedeployments", "InferenceDeployment"),
            _resource("packingplans", "PackingPlan"),
        ]
    },
}
