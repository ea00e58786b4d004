"""How many objects there are, as a real API server tells it."""

import json

import pytest
from kubernetes import client

from bayplan_operator.cluster.connection import configuration
from bayplan_operator.cluster.kube import Kube
from e2e.cluster import Cluster


def test_a_collection_is_counted_by_its_first_object(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the rest not told, every large plan would be looked at by lists of everything."""
    services = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"s{number}"},
            "spec": {"ports": [{"port": 80}]},
        }
        for number in range(3)
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": services})
    cluster.kubectl_run("create", "-n", namespace, "-f", "-", input=text)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    kube = Kube(client.ApiClient(configuration()))

    assert kube.count(f"/api/v1/namespaces/{namespace}/services") == len(services)
