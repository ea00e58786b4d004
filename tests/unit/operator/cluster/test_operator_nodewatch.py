"""The watch of nodes: what is known of them, and when that is told."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from bayplan.cluster.keys import NodeName
from bayplan.inference.units import Trouble
from bayplan_operator.cluster import watches
from bayplan_operator.cluster.kube import NODES, node_path
from bayplan_operator.cluster.nodes import Nodes
from bayplan_operator.cluster.nodewatch import EveryNode, watch_nodes
from bayplan_operator.cluster.watches import Watch
from tests.scenes.watch import Watched, too_old

ONE, TWO = NodeName("n1"), NodeName("n2")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "_RETRY_S", 0.0)


def node(name: str, version: str = "1", **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a node as the API server shows it."""
    return {"metadata": {"name": name, "resourceVersion": version}, "spec": spec}


def followed(kube: Watched) -> tuple[Nodes, int]:
    """Return what is known of nodes when the script ends, and how often something was told."""
    nodes, told = Nodes(kube), list[None]()
    Watch(kube, EveryNode(nodes), told.append, kube.stopped, version=nodes.read()).run()
    return nodes, len(told)


def test_a_node_is_told_of_when_its_trouble_changes_or_it_goes() -> None:
    """Kubelets tell every few minutes that all is well, which is no reason to look at anything."""
    well, cordoned = node("n1", "102"), node("n1", "103", unschedulable=True)
    events = [("MODIFIED", well), ("MODIFIED", cordoned), ("ADDED", node("n2", "104"))]
    kube = Watched([[{"type": kind, "object": raw} for kind, raw in events]])
    kube.objects[node_path("n1")] = node("n1")

    nodes, told = followed(kube)

    assert told == 1
    assert nodes.among({ONE, TWO}, Trouble.CORDONED) == {ONE}

    kube = Watched([[{"type": "DELETED", "object": node("n1", "105")}]])
    kube.objects[node_path("n1")] = node("n1")
    _, told = followed(kube)

    assert told == 1


def test_a_node_that_goes_while_nobody_watches_is_known_no_more() -> None:
    """Its pods were never buried: of a node that is known nobody asks whether it is there."""
    kube = Watched([too_old()])
    kube.objects[node_path("n1")] = node("n1")
    nodes = Nodes(kube)
    version = nodes.read()
    del kube.objects[node_path("n1")]
    kube.version += 1
    told: list[None] = []

    Watch(kube, EveryNode(nodes), told.append, kube.stopped, version=version).run()

    assert kube.asked == [(NODES, "", "100"), (NODES, "", "101")], "goes on from what was read"
    assert nodes.lost([ONE]) == {ONE}
    assert told, "and their deployments are looked at"


def test_the_listener_hears_of_a_trouble_once_it_is_known() -> None:
    """A pass that knew of no cordon would leave units where they are."""
    kube = Watched([[{"type": "MODIFIED", "object": node("n1", "101", unschedulable=True)}]])
    nodes, told = Nodes(kube), list[frozenset[NodeName]]()

    async def listen() -> None:
        heard = asyncio.Event()

        def hear() -> None:
            told.append(nodes.among([ONE], Trouble.CORDONED))
            heard.set()

        watching = asyncio.create_task(watch_nodes(kube, nodes, hear, version="100"))
        await asyncio.wait_for(heard.wait(), 30)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    asyncio.run(listen())

    assert told == [{ONE}]
    assert kube.asked[0] == (NODES, "", "100")
