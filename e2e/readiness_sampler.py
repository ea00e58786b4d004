"""Samples of the pods of an app, whoever owns them: how many were ready, and who left."""

import sys

from e2e.cluster import Cluster
from e2e.periodic import Periodic
from e2e.story import is_ready

#: Seconds between two samples.
_SAMPLE_EVERY_S = 0.05


class ReadinessSampler(Periodic):
    """Samples the pods of an app while the block lasts.

    Attributes:
        fewest: The fewest that were ready, and not leaving, at a time.
        left: Those that had to leave.
    """

    def __init__(self, cluster: Cluster, namespace: str, *, app: str) -> None:
        super().__init__(_SAMPLE_EVERY_S)
        self._cluster = cluster
        self._namespace = namespace
        self._labels = f"app={app}"
        self.fewest = sys.maxsize
        self.left: set[str] = set()
        self._seen: set[str] = set()

    def tick(self) -> None:
        """Note who is there, who is ready and who leaves."""
        found = self._cluster.read("pods", namespace=self._namespace, labels=self._labels)
        here = {pod["metadata"]["uid"]: pod for pod in found["items"]}
        leave = {uid for uid, pod in here.items() if "deletionTimestamp" in pod["metadata"]}
        ready = {uid for uid, pod in here.items() if is_ready(pod)}
        self._seen |= here.keys()
        self.left |= leave | (self._seen - here.keys())  # on a busy machine some go unseen
        self.fewest = min(self.fewest, len(ready - leave))
