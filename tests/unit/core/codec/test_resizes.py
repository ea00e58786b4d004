"""Pods whose requests are changed while they run count with what they have on their node."""

from typing import Any

import pytest

from bayplan.codec import pod_of


def running(asked: str, told: dict[str, Any], **status: Any) -> int:  # noqa: ANN401 - JSON
    """Return the CPU, in cores, of a pod that asks for so much and whose status says that."""
    containers = [{"name": "c", "resources": {"requests": {"cpu": asked}}}]
    raw = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"nodeName": "n1", "containers": containers},
        "status": {"phase": "Running", "containerStatuses": [{"name": "c", **told}], **status},
    }
    return cpu_milli_of(raw) // 1000


def cpu_milli_of(raw: dict[str, Any]) -> int:
    """Return the thousandths of a core that a pod counts with."""
    pod = pod_of(raw)
    assert pod is not None
    return pod.requests["cpu"]


def has(cpu: str) -> dict[str, Any]:
    """Return what is told of a container that has so much."""
    return {"allocatedResources": {"cpu": cpu}, "resources": {"requests": {"cpu": cpu}}}


INFEASIBLE = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]
DEFERRED = [{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]


@pytest.mark.parametrize(
    ("asked", "told", "conditions", "cores"),
    [
        pytest.param("2", {}, [], 2, id="nothing is told"),
        pytest.param("2", has("2"), [], 2, id="nothing was changed"),
        pytest.param("2", has("60"), [], 60, id="it has not shrunk yet"),
        pytest.param("60", has("2"), [], 60, id="it has not grown yet"),
        pytest.param("60", has("2"), DEFERRED, 60, id="it may grow later"),
        pytest.param("60", has("2"), INFEASIBLE, 2, id="it will never grow"),
        pytest.param("2", {"allocatedResources": {"cpu": "60"}}, [], 60, id="granted only"),
        pytest.param("2", {"resources": {"requests": {"cpu": "60"}}}, [], 60, id="used only"),
    ],
)
def test_the_larger_counts(
    asked: str, told: dict[str, Any], conditions: list[dict[str, str]], cores: int
) -> None:
    """A plan would send pods to room that is not there, and kube-scheduler refuse them."""
    assert running(asked, told, conditions=conditions) == cores


def test_other_containers_count_as_before() -> None:
    """Sidecars may be resized too, and are summed up with the rest."""
    one = {"resources": {"requests": {"cpu": "1"}}}
    raw = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "nodeName": "n1",
            "initContainers": [{"name": "side", "restartPolicy": "Always", **one}],
            "containers": [{"name": "a", **one}, {"name": "b", **one}],
        },
        "status": {
            "initContainerStatuses": [{"name": "side", **has("4")}],
            "containerStatuses": [{"name": "a", **has("8")}, {"name": "b", **has("1")}],
        },
    }

    assert cpu_milli_of(raw) == 13_000


def test_one_without_a_node_goes_by_what_it_asks_for() -> None:
    """Nothing was given to it."""
    raw = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]},
        "status": {"containerStatuses": [{"name": "c", **has("60")}]},
    }

    assert cpu_milli_of(raw) == 2000
