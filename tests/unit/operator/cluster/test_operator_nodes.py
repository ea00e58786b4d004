"""What the operator remembers of nodes."""

from typing import Any

from bayplan.cluster.keys import NodeName
from bayplan.inference.units import Trouble
from bayplan_operator.cluster.kube import node_path
from bayplan_operator.cluster.nodes import Nodes
from tests.fake_kube import FakeKube

ONE, TWO, THREE = NodeName("n1"), NodeName("n2"), NodeName("n3")
ALL = {ONE, TWO, THREE}


def node(name: str, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a node as the API server shows it."""
    return {"metadata": {"name": name}, "spec": spec}


def test_nodes_are_known_from_the_start_and_followed() -> None:
    """A first pass that knew of no cordon would undo what was begun before a restart."""
    kube = FakeKube({node_path("n1"): node("n1", unschedulable=True), node_path("n2"): node("n2")})
    nodes = Nodes(kube)

    nodes.read()
    assert nodes.among(ALL, Trouble.CORDONED) == {ONE}

    assert nodes.see(node("n2", unschedulable=True))
    assert not nodes.see(node("n2", unschedulable=True))
    assert nodes.see(node("n1"))
    assert nodes.among(ALL, Trouble.CORDONED) == {TWO}


def test_a_node_is_lost_only_if_a_fresh_look_finds_none() -> None:
    """The watch may be behind: a node of which it has told nothing yet is no lost one."""
    kube = FakeKube({node_path("n1"): node("n1"), node_path("n2"): node("n2")})
    nodes = Nodes(kube)
    nodes.see(node("n1"))
    nodes.see(node("n3"))
    assert nodes.lost(ALL) == frozenset()

    nodes.forget("n3")
    assert nodes.lost(ALL) == {THREE}


def test_a_node_that_cannot_be_read_counts_as_healthy() -> None:
    """Nobody leaves a node on a guess."""
    nodes = Nodes(FakeKube())
    nodes.see(node("n1", unschedulable=True))

    assert nodes.see(node("n1", unschedulable="yes"))
    assert not nodes.among(ALL, Trouble.CORDONED)
