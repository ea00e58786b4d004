"""Asking the engines in pods how many requests they have, when it matters which one goes."""

import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import Final

from bayplan.inference.children import Child
from bayplan.inference.engines import requests_in

#: Seconds for an engine to answer; one that serves does so at once.
_TIMEOUT_S: Final = 1.0

#: Bytes of metrics that are read.
_MOST: Final = 4 * 1024 * 1024


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a pod must not send the operator elsewhere."""

    def redirect_request(self, *_: object) -> None:
        """Return no further request."""


#: Straight to the pod, never by way of a proxy.
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())


def loads(children: Iterable[Child], pool: Executor) -> Mapping[str, int | None]:
    """Return the requests of each pod that says where its metrics are, by uid.

    None for an engine that does not answer, or says nothing that we know.
    """
    asked = [child for child in children if child.metrics_url and child.node and not child.ended]
    answers = pool.map(lambda child: _ask(child.metrics_url), asked)
    return {child.uid: answer for child, answer in zip(asked, answers, strict=True)}


def _ask(url: str) -> int | None:
    try:
        with _DIRECT.open(url, timeout=_TIMEOUT_S) as reply:
            return requests_in(reply.read(_MOST).decode(errors="replace"))
    except (OSError, ValueError):  # not reachable, or no URL
        return None
