"""The six nodes of the story, empty for each test, and what is asked of them in the end."""

from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from e2e import story
from e2e.cluster import Cluster, eventually, remove_gpu_nodes

#: Seconds in which everything must have settled.
SETTLED_S: Final = 180.0


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Give the six nodes of the story."""
    story.make_priority_classes(cluster)
    names = story.add_nodes(cluster)
    yield names
    remove_gpu_nodes(cluster, names=names)


@pytest.fixture
def empty(cluster: Cluster, nodes: Sequence[str]) -> tuple[str, ...]:
    """Wait until the pods of earlier tests have gone; give the nodes."""

    def free() -> bool:
        return set(story.free_gpus(cluster, nodes).values()) == {story.GPUS_PER_NODE}

    eventually(free, what="the nodes are empty", timeout_s=SETTLED_S)
    return tuple(nodes)


def assert_no_node_is_over_full(cluster: Cluster, nodes: Sequence[str]) -> None:
    """No node has given away more GPUs than it has."""
    free = story.free_gpus(cluster, nodes)
    assert all(gpus >= 0 for gpus in free.values()), free


def condition_of(
    cluster: Cluster, namespace: str, type_: str, *, name: str = "chat"
) -> dict[str, str]:
    """Return a condition of an InferenceDeployment, or an empty one."""
    raw = story.get(cluster, f"infd/{name}", namespace=namespace)
    conditions = raw.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == type_), {})
