"""Somebody who works on an InferenceDeployment under Bayplan, and who lends the nodes for it."""

import secrets
from collections.abc import Callable, Iterator

import pytest

from e2e import story
from e2e.cluster import Cluster, add_gpu_nodes, remove_gpu_nodes
from e2e.serving import User
from e2e.stack import Stack, install

#: Adds so many nodes, each with room for exactly one unit.
AddNodes = Callable[[int], tuple[str, ...]]


@pytest.fixture(scope="module")
def stack(cluster: Cluster) -> Iterator[Stack]:
    """Run Bayplan, all four programs."""
    story.make_priority_classes(cluster)
    with install(cluster) as running:
        yield running


@pytest.fixture
def add_nodes(cluster: Cluster) -> Iterator[AddNodes]:
    """Lend empty nodes."""
    made: list[str] = []

    def add(count: int) -> tuple[str, ...]:
        wanted = [f"ratio-{secrets.token_hex(3)}" for _ in range(count)]
        found = add_gpu_nodes(cluster, names=wanted, gpus=story.GPUS_PER_NODE)
        made.extend(found)
        return found

    yield add
    remove_gpu_nodes(cluster, names=made)


@pytest.fixture
def user(stack: Stack, add_nodes: AddNodes, namespace: str) -> Iterator[User]:
    """Return somebody who works in a namespace of their own; its pods go before the nodes."""
    _ = add_nodes
    user = User(cluster=stack.cluster, namespace=namespace)
    yield user
    user.kubectl("delete", "infd", "--all", "--wait=false")
    user.await_no_pod()
