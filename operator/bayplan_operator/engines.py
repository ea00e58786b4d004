"""Asking the engines in pods how many requests they have, when it matters which one goes.

What listens on a pod's port may speak another protocol, answer byte by byte, send us elsewhere or
never end. All of that is no answer: each request has one deadline from its first byte to the last,
and waiting for it takes no thread of anybody else's.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from bayplan.inference.children import Child
from bayplan.inference.engines import requests_in

#: Seconds for an engine to answer, in all; one that serves does so at once.
_TIMEOUT_S: Final = 1.0

#: Bytes of metrics that are read; who says more has not answered.
_MOST: Final = 4 * 1024 * 1024

#: Engines that are asked at a time: what bounds memory, and the sockets of the operator.
_AT_ONCE: Final = 32

_OK: Final = 200


def loads(children: Iterable[Child]) -> Mapping[str, int | None]:
    """Return the requests of each pod that says where its metrics are, by uid.

    None for an engine that does not answer, or says nothing that we know. To be called where no
    event loop runs.
    """
    asked = [child for child in children if child.metrics_url and child.node and child.counts]
    if not asked:
        return {}
    answers = asyncio.run(_ask_all([child.metrics_url for child in asked]))
    return {child.uid: answer for child, answer in zip(asked, answers, strict=True)}


async def _ask_all(urls: Iterable[str]) -> Sequence[int | None]:
    turns = asyncio.Semaphore(_AT_ONCE)
    # Neither proxies from the environment nor compressed answers, which could be of any size.
    async with ClientSession(
        timeout=ClientTimeout(total=_TIMEOUT_S),
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    ) as session:
        return await asyncio.gather(*(_ask(session, turns, url) for url in urls))


async def _ask(session: ClientSession, turns: asyncio.Semaphore, url: str) -> int | None:
    async with turns:
        try:
            text = await _read(session, url)
        except (ClientError, OSError, ValueError):  # time-outs are an OSError
            return None
    return None if text is None else requests_in(text)


async def _read(session: ClientSession, url: str) -> str | None:
    """Return what the pod says; None where it is an error, too much, or to be had elsewhere."""
    async with session.get(url, allow_redirects=False) as reply:
        if reply.status != _OK:
            return None
        body = bytearray()
        async for chunk in reply.content.iter_any():
            body += chunk
            if len(body) > _MOST:
                return None
        return body.decode(errors="replace")
