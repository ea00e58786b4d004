"""Samples of the pods of a gang: for how long only a part of it had nodes."""

import time
from collections.abc import Mapping
from typing import Any

from bayplan.api import names
from e2e.cluster import Cluster
from e2e.periodic import Periodic

#: Seconds between two samples.
_SAMPLE_EVERY_S = 0.1

Raw = Mapping[str, Any]


class GangSampler(Periodic):
    """Samples the pods of a gang while the block lasts.

    Attributes:
        partial_s: The longest that a part of it had nodes, in seconds; that may go on.
    """

    def __init__(self, cluster: Cluster, namespace: str, *, gang: str, size: int) -> None:
        super().__init__(_SAMPLE_EVERY_S)
        self._cluster = cluster
        self._namespace = namespace
        self._labels = f"{names.LABEL_GANG}={gang}"
        self._size = size
        self._began_at = time.monotonic()
        self._partial_since: float | None = None
        self._seen: list[str] = []
        self._told = ""
        self.partial_s = 0.0

    def __exit__(self, *ended: object) -> None:
        """End, and show what was seen in case a test fails."""
        try:
            super().__exit__(*ended)
        finally:
            print("\n".join(self._seen), f"\npartial for {self.partial_s:.1f} s")

    def is_partial(self) -> bool:
        """Return whether a part of the gang has nodes now."""
        return self._partial_since is not None

    def tick(self) -> None:
        """Note who has a node, and for how long it was a part of the gang."""
        found = self._cluster.read("pods", namespace=self._namespace, labels=self._labels)
        at_s = time.monotonic() - self._began_at
        self._judge([pod for pod in found["items"] if _counts(pod)], at_s)
        words = ", ".join(sorted(map(_in_words, found["items"])))
        if words != self._told:
            self._seen.append(f"{at_s:.1f}: {words}")
            self._told = words

    def _judge(self, pods: list[Raw], at_s: float) -> None:
        placed = sum("nodeName" in pod["spec"] for pod in pods)
        if not 0 < placed < self._size:
            self._partial_since = None
            return
        if self._partial_since is None:
            self._partial_since = at_s
        self.partial_s = max(self.partial_s, at_s - self._partial_since)


def _counts(pod: Raw) -> bool:
    """Return whether a pod neither leaves nor has ended: its own grace is its owner's matter."""
    ended = pod["status"].get("phase") in {"Failed", "Succeeded"}
    return "deletionTimestamp" not in pod["metadata"] and not ended


def _in_words(pod: Raw) -> str:
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    gated = "gated" if pod["spec"].get("schedulingGates") else "pinned"
    where = pod["spec"].get("nodeName", gated)
    leaves = " leaves" if "deletionTimestamp" in pod["metadata"] else ""
    return f"{name}/{uid[:4]} {where} {pod['status'].get('phase')}{leaves}"
