"""Pods that are made to go as they were seen, on a real API server, while others write to them."""

import json
from collections.abc import Callable

import pytest
from kubernetes import client, config

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan.codec.deployments import child_of
from bayplan_operator.cluster.kube import Kube, Raw, pod_path
from bayplan_operator.cluster.removals import delete_as_seen, evict_as_seen
from e2e.cluster import Cluster

#: How a pod is made to go.
Removal = Callable[[Kube, PodKey, Raw], object]


def _delete(kube: Kube, pod: PodKey, seen: Raw) -> None:
    delete_as_seen(kube, pod, child_of(seen))


@pytest.fixture
def kube(cluster: Cluster) -> Kube:
    """Return the operator's client, as an administrator."""
    settings = client.Configuration()
    config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    return Kube(client.ApiClient(settings))


@pytest.fixture
def drained(cluster: Cluster, kube: Kube, namespace: str, nowhere: str) -> Raw:
    """Return a pod that runs and is out of service."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "chat"},
        "spec": {
            "nodeName": nowhere,
            "readinessGates": [{"conditionType": names.CONDITION_IN_SERVICE}],
            "containers": [{"name": "c", "image": "none"}],
        },
    }
    cluster.kubectl_run("apply", "-n", namespace, "-f", "-", input=json.dumps(pod))
    write(cluster, namespace, "False", ready="False")
    found = kube.get(pod_path(PodKey(namespace, "chat")))
    assert found is not None
    return found


def write(cluster: Cluster, namespace: str, in_service: str, *, ready: str) -> None:
    """Write a pod's status as its kubelet and the operator do."""
    since = "2026-05-01T12:00:00Z"
    conditions = [
        {"type": names.CONDITION_IN_SERVICE, "status": in_service, "lastTransitionTime": since},
        {"type": "Ready", "status": ready},
    ]
    status = {"status": {"phase": "Running", "conditions": conditions, "podIP": "10.0.0.1"}}
    cluster.kubectl_run(
        *("patch", "-n", namespace, "pod", "chat", "--subresource=status"),
        *("-p", json.dumps(status)),
    )


REMOVALS = pytest.mark.parametrize("remove", [_delete, evict_as_seen], ids=["delete", "evict"])


@REMOVALS
def test_a_pod_goes_although_its_kubelet_has_written_meanwhile(
    cluster: Cluster, kube: Kube, namespace: str, drained: Raw, remove: Removal
) -> None:
    """It would wait for another pass, and lose to the kubelet again."""
    annotate = ("patch", "-n", namespace, "pod", "chat", "--subresource=status", "-p")
    cluster.kubectl_run(*annotate, '{"status": {"message": "its probe has failed"}}')

    remove(kube, PodKey(namespace, "chat"), drained)

    assert _is_going(kube, namespace)


@REMOVALS
def test_a_pod_that_serves_again_stays(
    cluster: Cluster, kube: Kube, namespace: str, drained: Raw, remove: Removal
) -> None:
    """Its requests would be cut off."""
    write(cluster, namespace, "True", ready="True")

    remove(kube, PodKey(namespace, "chat"), drained)

    assert not _is_going(kube, namespace)


def _is_going(kube: Kube, namespace: str) -> bool:
    found = kube.get(pod_path(PodKey(namespace, "chat")))
    return found is None or "deletionTimestamp" in found["metadata"]
