"""Rights that are taken away from a program that runs, on a real API server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from kubernetes import client
from prometheus_client import CollectorRegistry

from bayplan_extender import health, reflector
from bayplan_extender import view as views
from bayplan_extender.sinks import reflectors
from bayplan_extender.view import View
from e2e.cluster import Cluster, eventually

#: What is taken away.
RIGHTS = "bayplan-test-volumes"


def bound_role(namespace: str) -> list[dict[str, Any]]:
    """Return the right to read volumes, and who has it."""
    group = "rbac.authorization.k8s.io"
    rule = {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["list", "watch"]}
    account = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    head = {"apiVersion": f"{group}/v1", "metadata": {"name": RIGHTS}}
    return [
        {**head, "kind": "ClusterRole", "rules": [rule]},
        {
            **head,
            "kind": "ClusterRoleBinding",
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": RIGHTS},
            "subjects": [account],
        },
    ]


@pytest.fixture
def view(
    cluster: Cluster, namespace: str, api: client.ApiClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[View]:
    """Return a view that watches volumes alone, with rights of its own, and is soon stale."""
    monkeypatch.setattr(reflector, "_WATCH_S", 1)
    monkeypatch.setattr(reflector, "_RETRY_S", 0.1)
    for module in (reflector, views):
        monkeypatch.setattr(module, "STALE_S", 2.0)
    grant(cluster, namespace)
    token = eventually(
        lambda: cluster.kubectl_run("create", "token", "default", "-n", namespace),
        what="the namespace has its account",
    )
    settings = client.Configuration()
    settings.host, settings.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
    settings.api_key = {"authorization": f"Bearer {token.strip()}"}
    seen = View(planning=True)
    watches = reflectors(seen, client.ApiClient(settings))
    (watch,) = [each for each in watches if each.name.endswith("persistentvolumes")]
    for kind in seen.missing:
        if kind != "persistentvolumes":
            seen.done(kind)
    watch.start()
    yield seen
    watch.stop()
    cluster.kubectl_run("delete", "clusterrole,clusterrolebinding", RIGHTS, "--ignore-not-found")


def grant(cluster: Cluster, namespace: str) -> None:
    """Give the right."""
    items = {"apiVersion": "v1", "kind": "List", "items": bound_role(namespace)}
    cluster.kubectl_run("apply", "-f", "-", input=json.dumps(items))


def test_rights_that_are_taken_away_are_noticed(
    cluster: Cluster, namespace: str, view: View
) -> None:
    """Plans were made from an old picture, and nothing but a line a second in the log said so."""
    registry = CollectorRegistry()
    registry.register(health.Failing(view))
    app = FastAPI()
    app.include_router(health.router(view, registry, ()))
    asked = TestClient(app)
    eventually(lambda: asked.get("/readyz").status_code == 200, what="it is ready")

    cluster.kubectl_run("delete", "clusterrolebinding", RIGHTS)

    def noticed() -> bool:
        answer = asked.get("/readyz")
        assert answer.status_code == 503
        assert answer.text.startswith("stale: persistentvolumes for ")
        assert "403" in answer.text  # before, it may have been silent for other reasons
        return "cannot list resource" in answer.text

    eventually(noticed, what="it is noticed")
    labels = {"kind": "persistentvolumes"}
    assert (registry.get_sample_value("bayplan_watch_failing_seconds", labels) or 0) >= 2.0

    grant(cluster, namespace)
    eventually(lambda: asked.get("/readyz").status_code == 200, what="it is ready")
    assert registry.get_sample_value("bayplan_watch_failing_seconds", labels) == 0.0
