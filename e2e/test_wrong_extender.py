"""The unmodified kube-scheduler, and an extender in our place whose every answer is wrong."""

from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from e2e import extender_scene
from e2e.cluster import Cluster
from e2e.extender_scene import binds, node_of
from e2e.stack import install

nodes = extender_scene.nodes

#: Status and text of wrong answers.
ANSWERS = {
    "status 500": (500, '{"NodeNames": ["nowhere"], "Error": ""}'),
    "no JSON": (200, "<html>"),
    "a node that it was not asked about": (200, '{"NodeNames": ["nowhere"], "Error": ""}'),
}


class Wrong(BaseHTTPRequestHandler):
    """Answers as it is told to."""

    status: ClassVar[int]
    text: ClassVar[str]
    asked: ClassVar[int]

    def do_POST(self) -> None:
        """Read what is asked, and do not mind it."""
        type(self).asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.status)
        self.send_header("content-length", str(len(self.text)))
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def extender(cluster: Cluster, nodes: Sequence[str]) -> Iterator[type[Wrong]]:
    """Have the scheduler ask a wrong extender; give what says how wrong."""
    assert nodes
    if cluster.flavor != "local":
        pytest.skip("the scheduler must reach this process")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Wrong)
    Thread(target=server.serve_forever, daemon=True).start()
    values = [f"scheduler.extender.urlPrefix=http://127.0.0.1:{server.server_port}"]
    with install(cluster, programs=("scheduler",), values=values):
        yield Wrong
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("wrong", ANSWERS)
def test_an_extender_that_is_wrong_stops_nobody(
    extender: type[Wrong], cluster: Cluster, nodes: Sequence[str], namespace: str, wrong: str
) -> None:
    """Something else may answer in our place: a proxy's error page, an old version."""
    extender.status, extender.text = ANSWERS[wrong]
    extender.asked = 0

    binds(cluster, namespace, "a")

    assert extender.asked > 0
    assert node_of(cluster, namespace, "a") in nodes
