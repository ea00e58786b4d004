"""A kind cluster, made for one run and deleted after it.

Possible where a Docker engine answers and the node image is there or can be pulled: real kubelets
and in-cluster networking, at the price of a minute and of as many nodes as `e2e/kind.yaml` has.
A killed run leaves its containers behind: `kind get clusters` and `kind delete cluster` find
and remove them.
"""

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import binaries
from e2e.cluster.errors import CommandFailed
from e2e.cluster.handle import Cluster
from e2e.cluster.progress import Progress, to_stderr
from e2e.cluster.run_dir import new_run_dir

NODE_IMAGE = (
    "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
)
"""The default node image of the pinned kind."""

_CONFIG = Path(__file__).parents[1] / "kind.yaml"
_ASK_TIMEOUT_S = 10.0
_PULL_TIMEOUT_S = 600.0


def unavailable(*, progress: Progress = to_stderr) -> str | None:
    """Say why kind cannot run here, or None if it can; pulls the node image if need be."""
    docker = shutil.which("docker")
    if docker is None:
        return "kind needs a Docker engine, and there is no docker on PATH"
    if not _succeeds([docker, "info"], timeout_s=_ASK_TIMEOUT_S):
        return "kind needs a Docker engine, and none answers `docker info`"
    if _succeeds([docker, "image", "inspect", NODE_IMAGE], timeout_s=_ASK_TIMEOUT_S):
        return None
    progress(f"pulling {NODE_IMAGE.partition('@')[0]} for kind, once")
    if not _succeeds([docker, "pull", "--quiet", NODE_IMAGE], timeout_s=_PULL_TIMEOUT_S):
        return f"kind needs the image {NODE_IMAGE}, and `docker pull` cannot get it"
    return None


@contextmanager
def open_kind(*, progress: Progress = to_stderr) -> Iterator[Cluster]:
    """Create a kind cluster and delete it on leaving.

    Raises:
        CommandFailed: kind could not create it.
    """
    kind = binaries.path("kind", progress=progress)
    kubectl = binaries.path("kubectl", progress=progress)
    name = f"bayplan-{secrets.token_hex(3)}"
    with new_run_dir() as run_dir:
        (run_dir / "kind-name").write_text(name)
        kubeconfig = run_dir / "admin.kubeconfig"
        same = ["--name", name, "--kubeconfig", str(kubeconfig)]
        progress(f"creating the kind cluster {name}")
        try:
            _run([str(kind), "create", "cluster", *same, f"--config={_CONFIG}",
                  f"--image={NODE_IMAGE}", "--wait=180s"])  # fmt: skip
            yield Cluster(flavor="kind", kubeconfig=kubeconfig, kubectl=kubectl, run_dir=run_dir)
        finally:
            _run([str(kind), "delete", "cluster", *same])


def load_image(cluster: Cluster, image: str) -> None:
    """Give a locally built image to the nodes of a kind cluster.

    Raises:
        CommandFailed: kind could not load it.
    """
    name = (cluster.run_dir / "kind-name").read_text()
    _run([str(binaries.path("kind")), "load", "docker-image", image, "--name", name])


def _succeeds(command: list[str], *, timeout_s: float) -> bool:
    try:
        result = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise CommandFailed(f"{' '.join(command)}: {result.stderr.strip()}")
