"""Engines are asked on their pod, and nowhere else."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from bayplan.cluster.keys import NodeName
from bayplan.inference.children import Child
from bayplan_operator import engines
from bayplan_operator.engines import loads


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give engines, which are threads of a busy process here, more than the second they have."""
    monkeypatch.setattr(engines, "_TIMEOUT_S", 30.0)


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


OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def speaking(parts: Iterable[bytes]) -> Iterator[str]:
    """Yield the address of a server that says these bytes to the first who asks."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):  # the asker may have gone
            connection.recv(10_000)
            for part in parts:
                connection.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/metrics"
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

    found = loads(pods)

    assert found == {"metrics": 3, "other": None, "redirect": None, "silent": None}


def test_a_path_with_a_space_is_a_path(port: int) -> None:
    """Whoever annotates a pod must not stop the passes of its deployment."""
    assert loads([child("spaced", f"http://127.0.0.1:{port}/met rics")]) == {"spaced": None}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x50", id="TLS"),
        pytest.param(b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64", id="HTTP/2, as gRPC speaks it"),
        pytest.param(OK + b"Content-Length: 99\r\n\r\ntgi_queue_size 3\n", id="cut off"),
        pytest.param(OK + b"Content-Encoding: gzip\r\n\r\ntgi", id="not what it says"),
        pytest.param(OK + b"\r\ntgi_queue_size +Inf\n", id="infinitely many requests"),
        pytest.param(b"HTTP/1.1 500 no\r\n\r\ntgi_queue_size 3\n", id="an error"),
    ],
)
def test_whatever_else_listens_there_does_not_answer(answer: bytes) -> None:
    """An exception would end each pass of the deployment before anything is done."""
    with speaking([answer]) as url:
        assert loads([child("odd", url)]) == {"odd": None}


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 O", OK + b"\r\n"], ids=["head", "body"])
def test_an_answer_that_never_ends_is_given_up(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time; some such pods would keep every thread."""
    monkeypatch.setattr(engines, "_TIMEOUT_S", 0.2)
    pace = Event()

    def drip() -> Iterator[bytes]:
        yield head
        while not pace.wait(0.02):
            yield b"x"

    with speaking(drip()) as url:
        assert loads([child("slow", url)]) == {"slow": None}


def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's memory is bounded."""
    monkeypatch.setattr(engines, "_MOST", 1000)
    with speaking([OK + b"\r\ntgi_queue_size 3\n", b"#" * 1000]) as url:
        assert loads([child("long", url)]) == {"long": None}
