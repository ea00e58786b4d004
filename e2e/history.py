"""What became of pods and plans while a test went on, kept beside the programs' logs if it fails.

What fails once in ten runs on a busy machine is understood from these, or not at all.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from e2e.cluster import Cluster, ProcessGroup

#: What is written down, and where the API server has it.
_PATHS: Final = {
    "pods": "/api/v1/namespaces/{namespace}/pods",
    "events": "/api/v1/namespaces/{namespace}/events",
    "deployments": "/apis/bayplan.dev/v1alpha1/namespaces/{namespace}/inferencedeployments",
    "plans": "/apis/bayplan.dev/v1alpha1/packingplans",
    "nodes": "/api/v1/nodes",
}


@contextmanager
def recorded(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Write down each state of pods and plans within the block; forget them if it does not fail.

    The folder of logs outlives its cluster by a day. Its files `NAMESPACE-pods.log` and so on have
    one event of a watch a line; `managedFields` and conditions tell the time.
    """
    with ProcessGroup(cluster.logs) as group:
        files = []
        for kind, path in _PATHS.items():
            url = f"{path.format(namespace=namespace)}?watch=true"
            command: list[str | Path] = [cluster.kubectl, "get", "--raw", url]
            files.append(group.start(f"{namespace}-{kind}", command, env=cluster.env).log)
        print(f"logs and history: {cluster.logs}; {time.monotonic():.1f} was {datetime.now(UTC)}")
        yield
    for file in files:
        file.unlink()
