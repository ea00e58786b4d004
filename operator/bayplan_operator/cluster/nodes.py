"""What is wrong with which node, in memory: read once, then kept by the watch.

Of a healthy node only its name is remembered. Used from several threads.
"""

import threading
from collections.abc import Collection

import structlog

from bayplan.cluster.keys import NodeName
from bayplan.codec import DecodeError, trouble_of
from bayplan.inference.parts import Trouble
from bayplan_operator.cluster.kube import NODES, Kube, Raw, node_path

_log = structlog.get_logger()


class Nodes:
    """All nodes by name, with their troubles."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._lock = threading.Lock()
        self._troubles: dict[NodeName, Trouble] = {}

    def read(self) -> None:
        """Look at every node there is, so that the first passes know what the watch will tell."""
        for raw in self._kube.pages(NODES):
            self.see(raw)

    def see(self, raw: Raw) -> bool:
        """Take a node that was added or changed; return whether it is in new trouble, or in none.

        One that cannot be read counts as healthy: nobody leaves it on a guess.
        """
        name = NodeName(raw["metadata"]["name"])
        try:
            trouble = trouble_of(raw)
        except DecodeError as error:
            _log.warning("node_unreadable", error=str(error))
            trouble = Trouble.NONE
        with self._lock:
            before = self._troubles.get(name, Trouble.NONE)
            self._troubles[name] = trouble
        return trouble is not before

    def forget(self, name: str) -> None:
        """Take it that a node is gone."""
        with self._lock:
            self._troubles.pop(NodeName(name), None)

    def among(self, names: Collection[NodeName], trouble: Trouble) -> frozenset[NodeName]:
        """Return which of some nodes are in a trouble."""
        with self._lock:
            return frozenset(name for name in names if self._troubles.get(name) is trouble)

    def lost(self, names: Collection[NodeName]) -> frozenset[NodeName]:
        """Return which of some nodes no longer exist, on a fresh look at each we do not know."""
        with self._lock:
            unknown = [name for name in names if name not in self._troubles]
        return frozenset(name for name in unknown if self._kube.get(node_path(name)) is None)
