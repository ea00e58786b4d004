"""The watch of nodes: that one got into trouble or out of it, or is gone.

A fleet has thousands of nodes, and each of them tells every few minutes that it is there.
"""

from collections.abc import Callable

from bayplan_operator.cluster.kube import NODES, Kube, Raw
from bayplan_operator.cluster.nodes import Nodes
from bayplan_operator.cluster.watches import watch

#: Takes it that a trouble is another one; which node's, nobody asks.
Tell = Callable[[None], None]


async def watch_nodes(
    kube: Kube, nodes: Nodes, listener: Callable[[], None], *, version: str
) -> None:
    """Keep what is known of nodes, and have the listener told on the event loop, until cancelled.

    The watch goes on from the resourceVersion at which `nodes` were read.

    Raises:
        Exception: The watch has ended, which no error of the API server makes it do.
    """
    await watch(kube, EveryNode(nodes), lambda _: listener(), version=version)


class EveryNode:
    """Keeps what is known of nodes, and tells of troubles."""

    path = NODES
    labels = ""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def begin(self, tell: Tell) -> str:
        """Read every node anew, for nobody tells of those that went meanwhile.

        Raises:
            ApiException: The API server does not tell.
        """
        version = self._nodes.read()
        tell(None)
        return version

    def see(self, event: Raw, tell: Tell) -> None:
        """Take an event, and tell if it is about a trouble."""
        raw = event["object"]
        if event["type"] == "DELETED":
            self._nodes.forget(raw["metadata"]["name"])
            tell(None)
        elif self._nodes.see(raw):
            tell(None)
