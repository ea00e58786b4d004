"""Lend the integration tests a cluster, and our kinds on it."""

import json
from collections.abc import Iterator

import pytest
from kubernetes import client, config

from bayplan.api.crd import crds
from e2e.cluster import Cluster, CommandFailed, eventually
from e2e.cluster.pytest_plugin import cluster, namespace

__all__ = ["api", "cluster", "namespace", "nowhere", "served"]


@pytest.fixture(scope="module")
def served(cluster: Cluster) -> Iterator[None]:
    """Have the API server serve our kinds, and remove all of them in the end.

    A cluster that is made for the tests keeps the CRDs, as after an installation.
    """
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": crds()})
    # As helm does, which else takes them for somebody else's when the chart is installed later.
    as_helm = ("--server-side", "--field-manager=helm", "--force-conflicts")
    cluster.kubectl_run("apply", *as_helm, "-f", "-", input=text)
    kinds = "infd,pplan,ppolicy"
    eventually(
        lambda: cluster.kubectl_run("get", kinds, "-A", "-o", "name") is not None,
        what="our kinds are served",
        retry_on=(CommandFailed,),
    )
    yield
    cluster.kubectl_run("delete", kinds, "--all", "-A")
    if cluster.flavor == "existing":
        cluster.kubectl_run("delete", "--wait", "-f", "-", input=text)


@pytest.fixture
def api(cluster: Cluster) -> client.ApiClient:
    """Return a connection."""
    settings = client.Configuration()
    config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    return client.ApiClient(settings)


@pytest.fixture
def nowhere(namespace: str) -> str:
    """Return the name of a node that is not there: nobody else writes to the pods that are on it.

    No other test has it: Kubernetes deletes all pods of a node that it has missed for 40 s, those
    that came a moment ago as well.
    """
    return f"nowhere-{namespace}"
