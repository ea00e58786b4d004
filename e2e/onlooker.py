"""Somebody who looks at the pods of an app all the time, whoever owns them."""

import sys
import threading
from typing import Any, Self

from kubernetes import client, config

from e2e.cluster import Cluster

#: Seconds between two looks.
_LOOK_EVERY_S = 0.05


class Onlooker:
    """Looks at the pods of an app all the time while the block lasts.

    Attributes:
        fewest: The fewest that were ready, and not leaving, at a time.
        left: Those that had to leave.
    """

    def __init__(self, cluster: Cluster, namespace: str, *, app: str) -> None:
        settings = client.Configuration()
        config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
        self._core = client.CoreV1Api(client.ApiClient(settings))
        self._namespace = namespace
        self._labels = f"app={app}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.fewest = sys.maxsize
        self.left: set[str] = set()

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        lasted = self._thread.is_alive()
        self._ended.set()
        self._thread.join()
        assert lasted, "nobody looked any more"

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            pods: list[Any] = self._core.list_namespaced_pod(
                self._namespace, label_selector=self._labels
            ).items
            leave = {pod.metadata.uid for pod in pods if pod.metadata.deletion_timestamp}
            ready = {pod.metadata.uid for pod in pods if _is_ready(pod)}
            self.left |= leave
            self.fewest = min(self.fewest, len(ready - leave))


def _is_ready(pod: Any) -> bool:  # noqa: ANN401 - the library's Pod
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())
