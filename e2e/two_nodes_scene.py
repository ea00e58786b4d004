"""Bayplan and two 8-GPU nodes that a test has for itself, to break them or take them away."""

from collections.abc import Iterator

import pytest

from e2e.cluster import Cluster, add_gpu_nodes, remove_gpu_nodes
from e2e.stack import Stack, install


@pytest.fixture(scope="module")
def stack(cluster: Cluster) -> Iterator[Stack]:
    """Run Bayplan, all four programs, for all tests of a file."""
    with install(cluster) as running:
        yield running


@pytest.fixture
def nodes(cluster: Cluster, namespace: str) -> Iterator[tuple[str, ...]]:
    """Lend two nodes, whose names no pod of an earlier test is still bound to."""
    made = add_gpu_nodes(cluster, names=[f"{namespace}-1", f"{namespace}-2"])
    yield made
    remove_gpu_nodes(cluster, names=made)
