"""PodDisruptionBudgets of a real API server, as the planner watches them."""

import json
from collections.abc import Iterator

import pytest
from kubernetes import client, config

from bayplan.snapshot import Budget, BudgetKey
from bayplan_extender.view import View
from e2e.cluster import Cluster, eventually


@pytest.fixture
def view(cluster: Cluster) -> Iterator[View]:
    """Return a view that watches PodDisruptionBudgets alone."""
    settings = client.Configuration()
    config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    seen = View(budgets=True)
    watches = seen.reflectors(client.ApiClient(settings))
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
