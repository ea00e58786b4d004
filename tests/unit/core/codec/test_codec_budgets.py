"""PodDisruptionBudgets are read into values."""

from typing import Any

import pytest

from bayplan.cluster.budgets import Budget
from bayplan.cluster.constraints import Requirement
from bayplan.cluster.keys import BudgetKey
from bayplan.codec import (
    DecodeError,
    budget_of,
    snapshot_of,
)


def raw_budget(**spec: object) -> dict[str, Any]:
    """Return a PodDisruptionBudget that its controller has looked at."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "team", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "web"}}} | spec,
        "status": {"disruptionsAllowed": 3, "observedGeneration": 2},
    }


def test_a_budget_is_read() -> None:
    """A plan would ask for evictions that are refused."""
    lines = [
        {"key": "tier", "operator": "NotIn", "values": ["test"]},
        {"key": "a", "operator": "Exists"},
    ]
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": lines}

    assert budget_of(raw_budget(selector=selector)) == Budget(
        key=BudgetKey("team", "web"),
        allowed=3,
        labels=(
            Requirement(key="a", operator="Exists"),
            Requirement(key="app", operator="In", values=("web",)),
            Requirement(key="tier", operator="NotIn", values=("test",)),
        ),
    )


def test_what_a_budget_makes_of_unready_pods_is_read() -> None:
    """A pod that is out of service for a move could not be moved any more."""
    status = {"disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2}
    raw = raw_budget(unhealthyPodEvictionPolicy="AlwaysAllow")

    always, by_default = budget_of(raw | {"status": status}), budget_of(raw_budget())

    assert always is not None
    assert (always.healthy, always.desired, always.always) == (2, 2, True)
    assert by_default is not None
    assert not by_default.always


def test_an_empty_selector_covers_all_and_none_covers_nobody() -> None:
    """The two differ by one line of YAML and mean the opposite."""
    everyone = budget_of(raw_budget(selector={}))

    assert everyone is not None
    assert everyone.labels == ()
    assert budget_of(raw_budget(selector=None)) is None


@pytest.mark.parametrize(
    "status", [{}, {"disruptionsAllowed": 3, "observedGeneration": 1}], ids=["no status", "stale"]
)
def test_a_budget_that_was_not_looked_at_admits_nothing(status: dict[str, int]) -> None:
    """The API server refuses evictions until its status is that of its spec."""
    found = budget_of(raw_budget() | {"status": status})

    assert found is not None
    assert found.allowed == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"status": {"disruptionsAllowed": -1}},
            "PodDisruptionBudget team/web: status.disruptionsAllowed: should be 0 or more, is -1",
        ),
        (
            {"status": {"disruptionsAllowed": "1"}},
            (
                "PodDisruptionBudget team/web: status.disruptionsAllowed: should be an integer,"
                " is a string"
            ),
        ),
        (
            {"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}},
            (
                "PodDisruptionBudget team/web: spec.selector.matchExpressions[0].operator: should"
                " be one of In, NotIn, Exists, DoesNotExist, is 'Gt'"
            ),
        ),
        (
            {"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}},
            (
                "PodDisruptionBudget team/web: spec.selector.matchExpressions[0].values: should"
                " list at least one value"
            ),
        ),
    ],
    ids=["negative", "text", "operator", "no values"],
)
def test_a_bad_field_of_a_budget_is_named(change: dict[str, object], complaint: str) -> None:
    """Nobody would know which budget is left out, and why."""
    with pytest.raises(DecodeError) as caught:
        budget_of(raw_budget() | change)

    assert str(caught.value) == complaint


def test_budgets_among_documents_reach_the_snapshot() -> None:
    """`bayplan plan -f` would plan evictions that a cluster refuses."""
    assert [each.allowed for each in snapshot_of([raw_budget()]).budgets] == [3]
