"""Engines are asked on their pod, and nowhere else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from bayplan.inference.children import Child
from bayplan.snapshot import NodeName
from bayplan_operator.engines import loads


@pytest.fixture
def port() -> Iterator[int]:
    """Run a pod's web server; `/elsewhere` redirects to its metrics."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if self.path == "/elsewhere" else 200)
            self.send_header("Location", "/metrics")
            self.end_headers()
            self.wfile.write(b"tgi_queue_size 3\n" if self.path == "/metrics" else b"up 1\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def child(name: str, url: str, node: str | None = "n1") -> Child:
    """Return a pod that tells its metrics at `url`."""
    return Child(name=name, uid=name, metrics_url=url, node=NodeName(node) if node else None)


def test_engines_tell_their_requests(port: int) -> None:
    """Silence, other words and redirects are no answer; who says nothing is not asked."""
    base = f"http://127.0.0.1:{port}"
    pods = [
        child("metrics", f"{base}/metrics"),
        child("other", f"{base}/other"),
        child("redirect", f"{base}/elsewhere"),
        child("silent", "http://127.0.0.1:1/metrics"),
        child("none", ""),
        child("waiting", f"{base}/metrics", node=None),
    ]

    with ThreadPoolExecutor(2) as pool:
        found = loads(pods, pool)

    assert found == {"metrics": 3, "other": None, "redirect": None, "silent": None}
