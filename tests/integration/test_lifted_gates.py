"""The patches that release a pod, on a real API server."""

import json
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.codec.releases import offer_patch, release_patch, ungate_patch
from bayplan_operator.cluster.kube import Kube, Raw, pod_path
from e2e.cluster import Cluster

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
PIN = {"key": "metadata.name", "operator": "In", "values": ["n1"]}


def zone(name: str) -> Raw:
    """Return the requirement of a zone."""
    return {"key": "zone", "operator": "In", "values": [name]}


#: Two terms of which one has to hold, and a wish beside them.
AFFINITY: Raw = {
    "nodeAffinity": {
        REQUIRED: {
            "nodeSelectorTerms": [
                {"matchExpressions": [zone("a")]},
                {"matchExpressions": [zone("b")]},
            ]
        },
        PREFERRED: [{"weight": 1, "preference": {"matchExpressions": [zone("a")]}}],
    }
}


@pytest.fixture
def kube(cluster: Cluster) -> Kube:
    """Return the operator's connection, with all rights."""
    access: Any = client.Configuration()
    config.load_kube_config(str(cluster.kubeconfig), client_configuration=access)
    return Kube(client.ApiClient(access))


def gated(cluster: Cluster, namespace: str, **spec: Any) -> Raw:  # noqa: ANN401 - raw
    """Make a pod behind our gate and another one, with an annotation of its own."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace, "annotations": {"theirs": "1"}},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{"name": "c", "image": "registry.example/c"}],
            "schedulingGates": [{"name": "example.com/other"}, {"name": names.GATE}],
            **spec,
        },
    }
    arguments = ("create", "-f", "-", "-o", "json")
    raw: Raw = json.loads(cluster.kubectl_run(*arguments, input=json.dumps(pod)))
    return raw


def patched(kube: Kube, raw: Raw, patch: Raw) -> Raw:
    """Return the pod after a patch."""
    path = pod_path(PodKey(namespace=raw["metadata"]["namespace"], name="p"))
    kube.patch(path, patch, manager=names.MANAGER_PODS)
    found = kube.get(path)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "affinity", [None, AFFINITY], ids=["a pod that may go anywhere", "a pod that may not"]
)
def test_a_release_opens_our_gate_alone_and_narrows_each_term(
    cluster: Cluster, namespace: str, kube: Kube, affinity: Raw | None
) -> None:
    """What the pod asks for beside that stays, or the API server refuses it."""
    raw = gated(cluster, namespace, **({"affinity": affinity} if affinity else {}))

    found = patched(kube, raw, release_patch(raw, NodeName("n1"), {"ours": "2"}))

    before = (affinity or {}).get("nodeAffinity", {})
    terms = before.get(REQUIRED, {}).get("nodeSelectorTerms", [{}])
    narrowed = {REQUIRED: {"nodeSelectorTerms": [{**t, "matchFields": [PIN]} for t in terms]}}
    assert found["spec"]["affinity"] == {"nodeAffinity": {**before, **narrowed}}
    assert found["spec"]["schedulingGates"] == [{"name": "example.com/other"}]
    assert found["metadata"]["annotations"] == {"theirs": "1", "ours": "2"}


def test_an_offer_and_what_takes_it_back(cluster: Cluster, namespace: str, kube: Kube) -> None:
    """A home that is empty is told, and one that is none any more goes."""
    raw = gated(cluster, namespace, schedulingGates=[{"name": names.GATE}])

    offered = patched(kube, raw, offer_patch(raw, {}))
    released = patched(kube, offered, ungate_patch(offered, {"why": "no planner"}))

    assert "schedulingGates" not in offered["spec"]
    assert offered["metadata"]["annotations"] == {"theirs": "1", names.ANNOTATION_HOME: ""}
    assert released["metadata"]["annotations"] == {"theirs": "1", "why": "no planner"}


def test_a_pod_that_has_changed_is_not_released(
    cluster: Cluster, namespace: str, kube: Kube
) -> None:
    """What was decided on is not what is there."""
    raw = gated(cluster, namespace)
    cluster.kubectl_run("label", "pod", "p", "-n", namespace, "changed=yes")

    with pytest.raises(ApiException) as refused:
        patched(kube, raw, release_patch(raw, NodeName("n1"), {}))

    assert refused.value.status == 409
