"""PodDisruptionBudgets of a real API server: as the planner watches them, and as they are kept."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from bayplan.cluster.budgets import Budget
from bayplan.cluster.keys import BudgetKey
from bayplan.cluster.pods import Disruption
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import budget_of, pod_of
from bayplan.rules.restraints import restrained
from bayplan_extender.sinks import reflectors
from bayplan_extender.view import View
from e2e.cluster import Cluster, eventually


@pytest.fixture
def view(cluster: Cluster) -> Iterator[View]:
    """Return a view that watches PodDisruptionBudgets alone."""
    settings = client.Configuration()
    config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    seen = View(planning=True)
    watches = reflectors(seen, client.ApiClient(settings))
    (watch,) = [each for each in watches if each.name.endswith("poddisruptionbudgets")]
    watch.start()
    yield seen
    watch.stop()


def test_budgets_are_listed_watched_and_forgotten(
    cluster: Cluster, namespace: str, view: View
) -> None:
    """Plans would be made with budgets that nobody has seen, or that are gone."""
    key = BudgetKey(namespace, "web")
    made = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }

    def seen() -> Budget | None:
        with view.lock:
            return view.budgets.get(key)

    eventually(lambda: "poddisruptionbudgets" not in view.missing, what="budgets are listed")
    cluster.kubectl_run("apply", "-f", "-", input=json.dumps(made))
    eventually(lambda: seen() is not None, what="the budget is seen")
    cluster.kubectl_run("delete", "pdb", "web", "-n", namespace)
    eventually(lambda: seen() is None, what="the budget is forgotten")


#: Pods by name, as their kubelet would have them: one of each health.
PODS = {
    "ready": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    "unready": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]},
    "pending": {"phase": "Pending"},
}


@pytest.fixture
def running(cluster: Cluster, namespace: str, nowhere: str) -> None:
    """Have a pod of each health on a node that nobody looks at."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "controller": True}
    kept = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}
    cluster.kubectl_run("apply", "-n", namespace, "-f", "-", input=json.dumps(kept))
    uid = cluster.kubectl_run("get", "-n", namespace, "cm/owner", "-o", "jsonpath={.metadata.uid}")
    for name, status in PODS.items():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {"app": "web"},
                "ownerReferences": [{**owner, "uid": uid}],
            },
            "spec": {"nodeName": nowhere, "containers": [{"name": "c", "image": "none"}]},
        }
        cluster.kubectl_run("apply", "-n", namespace, "-f", "-", input=json.dumps(pod))
        patch = json.dumps({"status": status})
        cluster.kubectl_run(
            "patch", "-n", namespace, "pod", name, "--subresource=status", "-p", patch
        )


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("policy", ["IfHealthyBudget", "AlwaysAllow", None])
@pytest.mark.parametrize("least", [0, 1, 2])
def test_who_may_go_is_judged_as_the_api_server_does(
    cluster: Cluster, namespace: str, api: client.ApiClient, least: int, policy: str | None
) -> None:
    """A plan would wait for an eviction that is refused, or keep a pod that may go."""
    said = {"unhealthyPodEvictionPolicy": policy} if policy else {}
    made = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}, **said},
    }
    cluster.kubectl_run("apply", "-n", namespace, "-f", "-", input=json.dumps(made))
    counted = eventually(lambda: _counted(cluster, namespace), what="the budget is counted")

    admitted = {name: _may_go(api, namespace, name) for name in PODS}

    assert admitted == _may_be_planned(cluster, namespace, counted)


def _counted(cluster: Cluster, namespace: str) -> dict[str, Any]:
    raw: dict[str, Any] = cluster.read("pdb/web", namespace=namespace)
    assert raw["status"]["observedGeneration"] == raw["metadata"]["generation"]
    assert raw["status"]["currentHealthy"] == 1
    return raw


def _may_go(api: client.ApiClient, namespace: str, name: str) -> bool:
    """Ask for an eviction as a dry run."""
    options = client.V1DeleteOptions(dry_run=["All"])
    wanted = client.V1Eviction(
        metadata=client.V1ObjectMeta(name=name, namespace=namespace), delete_options=options
    )
    try:
        client.CoreV1Api(api).create_namespaced_pod_eviction(name, namespace, wanted)
    except ApiException as error:
        assert error.status == 429  # noqa: PT017 - what a budget says
        return False
    return True


def _may_be_planned(cluster: Cluster, namespace: str, counted: dict[str, Any]) -> dict[str, bool]:
    """Return which pods a plan may disturb, by name."""
    raws = cluster.read("pods", namespace=namespace)["items"]
    pods, budget = [pod_of(raw) for raw in raws], budget_of(counted)
    assert budget is not None
    seen = Snapshot.of([], [pod for pod in pods if pod], [budget])
    found = restrained(seen, now=0, cooldown_s=0).pods
    return {pod.key.name: pod.disruption is not Disruption.FIXED for pod in found}
