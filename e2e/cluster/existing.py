"""A cluster that somebody else runs.

It is used only when asked for in so many words, since tests make and delete things in it:
`BAYPLAN_USE_EXISTING_CLUSTER=1` and an explicit `KUBECONFIG`. Its current context is copied when
we start, so that switching contexts elsewhere does not move a running test.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from e2e.cluster import binaries
from e2e.cluster.errors import CommandFailed, NoCluster
from e2e.cluster.handle import Cluster
from e2e.cluster.progress import Progress, to_stderr
from e2e.cluster.run_dir import new_run_dir

_ASK = "BAYPLAN_USE_EXISTING_CLUSTER"


def unavailable() -> str | None:
    """Say why no existing cluster is used, or None if one is asked for."""
    if os.environ.get(_ASK) != "1":
        return f"no existing cluster is asked for (set {_ASK}=1 and KUBECONFIG)"
    return None


@contextmanager
def open_existing(*, progress: Progress = to_stderr) -> Iterator[Cluster]:
    """Lend the cluster of `KUBECONFIG`; nothing is done to it on leaving.

    Raises:
        NoCluster: `KUBECONFIG` is not set, or no API server answers there.
    """
    given = os.environ.get("KUBECONFIG")
    if not given:
        raise NoCluster(f"{_ASK}=1, but KUBECONFIG does not say which cluster: set KUBECONFIG")
    with new_run_dir() as run_dir:
        asked = Cluster(
            flavor="existing",
            kubeconfig=Path(given),
            kubectl=binaries.path("kubectl", progress=progress),
            run_dir=run_dir,
        )
        cluster = replace(asked, kubeconfig=run_dir / "admin.kubeconfig")
        try:
            current = asked.kubectl_run("config", "view", "--raw", "--flatten", "--minify")
            _write(cluster.kubeconfig, current)
            cluster.kubectl_run("get", "--raw=/readyz", "--request-timeout=10s")
        except CommandFailed as error:
            raise NoCluster(
                f"the cluster of KUBECONFIG={given} does not answer: {error}"
            ) from error
        progress(f"using the existing cluster of KUBECONFIG={given}")
        yield cluster


def _write(kubeconfig: Path, text: str) -> None:
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(text)
