"""The webhook behind a real port, as `process` serves it, and what kube-scheduler asks of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from bayplan_extender.view import View
from bayplan_extender.webhook import protocol
from e2e.cluster import eventually
from tests.builders import GPU, node, pod

#: Nodes that are on offer.
NODES = ("n1", "n2")


def listed_view() -> View:
    """Return a view of these nodes and one waiting pod, all listed."""
    view = View()
    view.cache.replace_nodes([node(name) for name in NODES])
    view.cache.set_pod(pod("a"))
    for kind in view.missing:
        view.done(kind)
    return view


@contextmanager
def listening(app: FastAPI, **settings: Any) -> Iterator[int]:  # noqa: ANN401 - uvicorn's own
    """Serve an application; give the port, and end with the `with` block."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_level="critical",
        http=protocol.serving(app.state.endpoints, app.state.arriving),
        **settings,
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    eventually(lambda: running.started, what="the webhook listens")
    port: int = running.servers[0].sockets[0].getsockname()[1]
    yield port
    running.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def arguments(*, gpus: int = 1, names: tuple[str, ...] | None = NODES) -> dict[str, Any]:
    """Return what kube-scheduler sends, with the keys of Go's structs."""
    container = {"name": "c", "resources": {"requests": {GPU: str(gpus)}}}
    metadata = {"name": "a", "namespace": "default", "uid": "uid-a"}
    spec = {"schedulerName": "bayplan", "containers": [container]}
    sent = {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}
    return {"Pod": sent, "Nodes": None, "NodeNames": list(names) if names else None}
