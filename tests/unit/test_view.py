"""What the planner sees of PodDisruptionBudgets."""

from typing import Any

import pytest
from kubernetes import client

from bayplan.snapshot import BudgetKey, NodeName
from bayplan_extender import view as views
from bayplan_extender.view import View
from tests.builders import node, pod


def raw(allowed: int, name: str = "web") -> dict[str, Any]:
    """Return a PodDisruptionBudget over all pods of the namespace."""
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {}},
        "status": {"disruptionsAllowed": allowed},
    }


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> tuple[View, dict[str, Any]]:
    """Return a view and what its watches feed, by collection."""
    monkeypatch.setattr(views, "Reflector", lambda name, _, sink: (name, sink))
    seen = View(budgets=True)
    watches: Any = seen.reflectors(client.ApiClient())
    return seen, dict(watches)


def test_budgets_are_watched_where_plans_are_made(sinks: tuple[View, dict[str, Any]]) -> None:
    """A plan would be made before the budgets are known, or with those that are gone."""
    view, of = sinks
    budgets = of["poddisruptionbudgets"]
    assert "poddisruptionbudgets" in view.missing

    budgets.replace([raw(1), raw(2, "other")])
    budgets.change("MODIFIED", raw(0))
    budgets.change("DELETED", raw(2, "other"))

    assert "poddisruptionbudgets" not in view.missing
    assert {key: each.allowed for key, each in view.budgets.items()} == {
        BudgetKey("default", "web"): 0
    }


def test_a_budget_that_cannot_be_read_is_left_out(sinks: tuple[View, dict[str, Any]]) -> None:
    """One bad object would stop every plan; the eviction is rehearsed anyway."""
    view, of = sinks

    of["poddisruptionbudgets"].replace([raw(-1), raw(2, "other")])

    assert [key.name for key in view.budgets] == ["other"]


def test_a_snapshot_to_plan_on_knows_who_must_stay(sinks: tuple[View, dict[str, Any]]) -> None:
    """Evictions would be planned that are refused."""
    view, of = sinks
    view.cache.set_node(node("n"))
    view.cache.set_pod(pod("a", on="n"))
    of["poddisruptionbudgets"].replace([raw(0)])

    (seen,) = view.snapshot(now=0).pods

    assert "default/web" in seen.fixed_by


def test_the_webhook_watches_no_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no right to, and would never be ready."""
    monkeypatch.setattr(views, "Reflector", lambda name, *_: name)
    seen = View()
    watches: Any = seen.reflectors(client.ApiClient())

    assert "pods" in watches
    assert "poddisruptionbudgets" not in watches
    assert "poddisruptionbudgets" not in seen.missing


def test_a_pod_on_a_node_that_cannot_be_read_keeps_its_room(
    sinks: tuple[View, dict[str, Any]],
) -> None:
    """Its node would look empty, and others be planned and bound there."""
    view, of = sinks
    view.cache.set_node(node("n"))
    container = {"name": "c", "resources": {"requests": {"cpu": "9E"}}}
    unreadable = {
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"nodeName": "n", "containers": [container]},
    }

    of["pods"].replace([unreadable])
    assert not pod("new").requests.fits(view.snapshot(now=0).free()[NodeName("n")])

    of["pods"].change("MODIFIED", unreadable)
    assert not pod("new").requests.fits(view.cache.free(NodeName("n")))

    of["pods"].change("DELETED", unreadable)
    assert pod("new").requests.fits(view.cache.free(NodeName("n")))
