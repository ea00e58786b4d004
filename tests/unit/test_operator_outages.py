"""An API server that is away for long, and what kopf makes of it with our settings.

A real server on this machine answers in the place of a load balancer that has nobody behind it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice, pairwise

import kopf
import pytest
from aiohttp import web
from kopf._cogs.clients import api, auth

from bayplan_operator import handlers
from bayplan_operator.handlers import settings

#: More tries than kopf makes by itself, which takes it a minute.
_TIMES = 30

_LOG = logging.getLogger(__name__)


@asynccontextmanager
async def answering(statuses: list[int]) -> AsyncIterator[str]:
    """Serve these statuses one after the other, then objects; yield where."""
    left = iter(statuses)

    async def answer(_: web.Request) -> web.Response:
        status = next(left, 200)
        return web.json_response({"items": []} if status == 200 else {}, status=status)

    routes = web.Application()
    routes.add_routes([web.get("/{path:.*}", answer)])
    runner = web.AppRunner(routes, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield str(site.name)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [503, 500, 429, 403])
def test_the_watches_outlast_a_server_that_is_away_for_long(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The operator ended each minute, and was started again five minutes late at most."""
    monkeypatch.setattr(handlers, "_PAUSES_S", (0.0,))

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
