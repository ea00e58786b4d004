"""The ratio contract on a real control plane: watched all the time, whatever happens."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e import story
from e2e.cluster import Cluster, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.contract import watching
from e2e.stack import Stack, install

#: Seconds within which a deployment of a few units settles, on a busy machine too.
_SETTLED_S = 120.0


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Give two nodes, each with room for exactly one unit."""
    names = add_gpu_nodes(cluster, names=["ratio-1", "ratio-2"], gpus=story.GPUS_PER_NODE)
    yield names
    remove_gpu_nodes(cluster, names=names)


@pytest.fixture
def stack(cluster: Cluster) -> Iterator[Stack]:
    """Run Bayplan, all four programs."""
    with install(cluster) as running:
        yield running


def chat(version: str, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return units of one 4-GPU prefill and two 2-GPU decode pods."""
    pools = [
        {
            "role": role,
            "template": {
                "metadata": {"annotations": {"example.com/version": version}},
                "spec": story.pod_spec(gpus) | {"terminationGracePeriodSeconds": 1},
            },
        }
        for role, gpus in (("Prefill", 4), ("Decode", 2))
    ]
    return {
        "apiVersion": "bayplan.dev/v1alpha1",
        "kind": "InferenceDeployment",
        "metadata": {"name": "chat"},
        "spec": {"replicas": 2, "ratio": {"prefill": 1, "decode": 2}, "pools": pools, **spec},
    }


def test_a_rollout_on_a_full_cluster_completes_and_never_breaks_the_contract(
    stack: Stack, nodes: tuple[str, ...], namespace: str
) -> None:
    """No GPU is free for a surge, so that units go one by one; then the rollout is undone."""
    cluster = stack.cluster
    story.apply(cluster, chat("one"), namespace=namespace)
    first = _settled(cluster, namespace)
    assert set(story.free_gpus(cluster, nodes).values()) == {0}

    with watching(cluster, namespace=namespace, name="chat") as watch:
        watch.expect(serving=1, units=3)
        story.apply(cluster, chat("two"), namespace=namespace)
        second = _settled(cluster, namespace, besides=first)

        # Undone when half of it is done: the unit that still runs the second one is kept.
        story.apply(cluster, chat("three"), namespace=namespace)
        eventually(
            lambda: _units(cluster, namespace)["updated"] == 1,
            what="the first unit of the third revision is there",
            timeout_s=_SETTLED_S,
        )
        story.apply(cluster, chat("two"), namespace=namespace)
        again = _settled(cluster, namespace, besides=first)

    watch.assert_kept()
    assert watch.contract.fewest == 1
    assert second["revision"] != first["revision"]
    assert again["revision"] == second["revision"]


def _settled(
    cluster: Cluster, namespace: str, *, besides: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Wait until both units serve from the newest template; return the status."""

    def settled() -> dict[str, Any]:
        raw = story.get(cluster, "infd/chat", namespace=namespace)
        status: dict[str, Any] = raw.get("status", {})
        assert status.get("observedGeneration") == raw["metadata"]["generation"], status
        assert status["units"] == {"desired": 2, "scheduled": 2, "ready": 2, "updated": 2}, status
        assert status.get("revision") not in {None, (besides or {}).get("revision")}, status
        assert {c["type"]: c["reason"] for c in status["conditions"]}["Progressing"] == "RolledOut"
        return status

    return eventually(settled, what="both units serve", timeout_s=_SETTLED_S, interval_s=0.3)


def _units(cluster: Cluster, namespace: str) -> dict[str, int]:
    raw = story.get(cluster, "infd/chat", namespace=namespace)
    units: dict[str, int] = raw["status"]["units"]
    return units
