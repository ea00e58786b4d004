"""Programs begin while nobody answers where the API server should be, and go on when it does."""

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import yaml

from e2e.cluster import Cluster, PortLease, Process, ProcessGroup, eventually, lease_port
from e2e.stack import answer_of

#: Seconds in which a program is there: what it imports takes seconds of a busy core.
_THERE_S: Final = 120.0

_HEALTH: Final = ("--health-port", "{health}")
_OPERATOR: Final = ("bayplan_operator", *_HEALTH, "--metrics-port", "{metrics}")
_PLANNER: Final = ("bayplan_extender", "planner", *_HEALTH)
_WEBHOOK: Final = ("bayplan_extender", "webhook", "--host", "127.0.0.1", "--port", "{health}")


@pytest.fixture
def ports() -> Iterator[dict[str, PortLease]]:
    """Lend ports: for the API server, for health, and for metrics or calls."""
    leases = {name: lease_port() for name in ("server", "health", "metrics")}
    yield leases
    for lease in leases.values():
        lease.release()


@pytest.fixture
def kubeconfig(cluster: Cluster, ports: dict[str, PortLease], tmp_path: Path) -> Path:
    """Return access to an API server at a port on which nobody listens yet."""
    told = yaml.safe_load(cluster.kubeconfig.read_text())
    told["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{ports['server'].number}"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(told))
    return path


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("program", "says"),
    [
        pytest.param(_OPERATOR, "cannot begin: ", id="operator"),
        pytest.param(_PLANNER, "not listed yet: nodes", id="planner"),
        pytest.param(_WEBHOOK, "not listed yet: nodes", id="webhook"),
    ],
)
def test_a_program_waits_for_the_api_server_and_says_so(
    cluster: Cluster,
    ports: dict[str, PortLease],
    kubeconfig: Path,
    program: tuple[str, ...],
    says: str,
) -> None:
    """The operator ended, and Kubernetes started it again minutes after the API server was back."""
    numbers = {name: lease.number for name, lease in ports.items()}
    words = (word.format(**numbers) for word in program)
    argv = [sys.executable, "-m", *words]
    env = cluster.env | {"KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": "default"}
    ready = f"http://127.0.0.1:{numbers['health']}/readyz"
    with ProcessGroup(cluster.logs) as group:
        process = group.start(f"start-{program[0]}", argv, env=env)
        told = partial(tells, process, ready)
        code, text = eventually(told, what="it answers", timeout_s=_THERE_S, retry_on=(OSError,))
        assert (code, text.startswith(says)) == (503, True), text
        assert "refused" in text, "why, too"
        assert process.log.read_text().count("refused") >= 1

        with answered(cluster, numbers["server"]):
            eventually(lambda: told()[0] == 200, what="it is ready", retry_on=(OSError,))


def tells(process: Process, url: str) -> tuple[int, str]:
    """Return what a program that runs answers."""
    process.check()
    return answer_of(url)


@contextmanager
def answered(cluster: Cluster, port: int) -> Iterator[None]:
    """Have the API server be reached at another port, too."""
    told = yaml.safe_load(cluster.kubeconfig.read_text())
    url = urlsplit(told["clusters"][0]["cluster"]["server"])
    there: Callable[[], socket.socket] = partial(
        socket.create_connection, (url.hostname or "", url.port or 443)
    )
    with socket.create_server(("127.0.0.1", port)) as listening:
        threading.Thread(target=_serve, args=(listening, there), daemon=True).start()
        yield
        listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, there: Callable[[], socket.socket]) -> None:
    """Pass on what comes until nobody listens any more."""
    with suppress(OSError):
        while True:
            near, _ = listening.accept()
            far = there()
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with source, suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
