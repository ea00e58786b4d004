"""The operator logs in as a pod does, on a real API server."""

import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes import client
from kubernetes.config import incluster_config

from bayplan_operator.cluster.connection import configuration, kopf_login
from bayplan_operator.cluster.kube import Kube
from e2e.cluster import Cluster, eventually


@pytest.fixture
def in_pod(
    cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have what a container of a pod has: the server's address, its certificate, a token."""
    told = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    if "certificate-authority" not in told:
        pytest.skip("the kubeconfig has the certificate within")
    eventually(
        lambda: cluster.kubectl_run("get", "serviceaccount", "default", "-n", namespace),
        what="the namespace has its account",
    )
    token = cluster.kubectl_run("create", "token", "default", "-n", namespace)
    (tmp_path / "token").write_text(token.strip())
    url = urlsplit(told["server"])
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", url.hostname or "")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(url.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", told["certificate-authority"])


@pytest.mark.usefixtures("in_pod")
def test_kopf_is_let_in_with_the_token_of_a_pod() -> None:
    """Its watches were refused with 401, so the operator ran nowhere but beside a kubeconfig."""
    login = kopf_login(configuration())
    url = f"{login.server}/api"
    request = urllib.request.Request(url, headers=login.as_http_headers())  # noqa: S310 - https
    with urllib.request.urlopen(request, context=login.as_ssl_context()) as answer:  # noqa: S310 - https
        assert answer.status == 200


@pytest.mark.usefixtures("in_pod")
def test_our_own_client_is_let_in_with_the_token_of_a_pod() -> None:
    """It is the same token."""
    assert Kube(client.ApiClient(configuration())).get("/api") is not None
