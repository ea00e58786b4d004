"""The webhook behind a real port, as `process` serves it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from bayplan_extender.webhook import protocol
from e2e.cluster import eventually


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
