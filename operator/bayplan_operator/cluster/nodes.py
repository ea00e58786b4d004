"""What is wrong with which node, in memory: read once, then kept by the watch.

Of a healthy node only its name is remembered. Used from several threads.
"""

import threading
from collections.abc import Collection

import structlog

from bayplan.cluster.keys import NodeName
from bayplan.codec import DecodeError, trouble_of
from bayplan.inference.units import Trouble
from bayplan_operator.cluster.kube import NODES, Kube, Raw, node_path

_log = structlog.get_logger()


class Nodes:
    """All nodes by name, with their troubles."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._lock = threading.Lock()
        self._troubles: dict[NodeName, Trouble] = {}

    def read(self) -> str:
        """Look at every node there is, and forget all others; return the list's resourceVersion.

        The first passes know then what the watch will tell, and go on from that version. Nothing is
        taken from a list that breaks off: of a node that goes before the next one nobody would
        tell.

        Raises:
            ApiException: The API server does not tell.
        """
        found: dict[NodeName, Trouble] = {}

        def take(raw: Raw) -> None:
            found[NodeName(raw["metadata"]["name"])] = _trouble_of(raw)

        version = self._kube.each(NODES, take)
        with self._lock:
            self._troubles = found
        return version

    def see(self, raw: Raw) -> bool:
        """Take a node that was added or changed; return whether its trouble is another one now."""
        name, trouble = NodeName(raw["metadata"]["name"]), _trouble_of(raw)
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


def _trouble_of(raw: Raw) -> Trouble:
    """Return a node's trouble; one that cannot be read is in none: nobody leaves it on a guess."""
    try:
        return trouble_of(raw)
    except DecodeError as error:
        _log.warning("node_unreadable", error=str(error))
        return Trouble.NONE
