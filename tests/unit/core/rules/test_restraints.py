"""Who must stay for now: under a PodDisruptionBudget, or just moved."""

import math
from dataclasses import replace

import pytest

from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.constraints import Requirement
from bayplan.cluster.keys import BudgetKey
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.rules.restraints import covers, next_end, restrained, shortage
from tests.builders import budget, node, pod

NOW = 1_000_000.0


def seen(of: Pod, *budgets: Budget, cooldown_s: float = 600) -> Pod:
    """Return the pod as a plan would see it."""
    snapshot = Snapshot.of([node("n")], [of], budgets)
    return restrained(snapshot, now=NOW, cooldown_s=cooldown_s).pods[0]


RUNNING = pod("a", on="n", labels={"app": "x"})
BOTH = "default/x and default/y"


def test_a_pod_knows_the_budget_that_limits_its_eviction() -> None:
    """More of them would be disturbed than the API server admits."""
    limited = seen(RUNNING, budget("x", allowed=1, app="x"))

    assert limited.budget == BudgetKey("default", "x")
    assert limited.disruption is Disruption.MOVABLE


@pytest.mark.parametrize(
    ("budgets", "why"),
    [
        (
            [budget("x", allowed=0, app="x")],
            "has PodDisruptionBudget default/x, which admits no eviction now",
        ),
        (
            [budget("x", allowed=5, app="x"), budget("y", allowed=5)],
            f"has more than one PodDisruptionBudget ({BOTH}), so nobody can evict it",
        ),
    ],
    ids=["nothing left", "two budgets"],
)
def test_who_cannot_be_evicted_stays(budgets: list[Budget], why: str) -> None:
    """A plan would wait for an eviction that is always refused."""
    stays = seen(RUNNING, *budgets)

    assert stays.disruption is Disruption.FIXED
    assert stays.fixed_by == why


@pytest.mark.parametrize(
    ("of", "health", "free"),
    [
        (budget("x", allowed=0, healthy=2, desired=2, app="x"), Health.UNREADY, True),
        (budget("x", allowed=0, healthy=1, desired=1, app="x"), Health.UNREADY, True),
        (budget("x", allowed=0, healthy=2, desired=2, app="x"), Health.READY, False),
        (budget("x", allowed=0, healthy=1, desired=2, app="x"), Health.UNREADY, False),
        (budget("x", allowed=0, healthy=1, desired=2, always=True, app="x"), Health.UNREADY, True),
        (budget("x", allowed=0, healthy=1, desired=2, always=True, app="x"), Health.READY, False),
        (budget("x", allowed=0, healthy=0, desired=0, app="x"), Health.UNREADY, False),
        (budget("x", allowed=0, healthy=1, desired=2, app="x"), Health.PENDING, True),
    ],
    ids=[
        *("enough are healthy", "one is enough", "it is one of them", "too few are healthy"),
        "AlwaysAllow",
        *("AlwaysAllow is not for ready ones", "none need be healthy", "has not begun"),
    ],
)
def test_who_costs_no_healthy_pod_may_go(of: Budget, health: Health, *, free: bool) -> None:
    """A pod out of service for a move would be kept by its budget, and its move given up."""
    found = seen(replace(RUNNING, health=health), of)

    assert (found.disruption is Disruption.MOVABLE) is free
    assert found.budget is None


@pytest.mark.parametrize(
    ("of", "budgets"),
    [
        (RUNNING, [budget("y", allowed=0, app="y")]),
        (replace(RUNNING, health=Health.PENDING), [budget("x", allowed=0), budget("y", allowed=0)]),
        (
            replace(RUNNING, disruption=Disruption.FIXED, fixed_by="its owner says so"),
            [budget("x", allowed=0)],
        ),
    ],
    ids=["it is for others", "two, before it has begun", "it stays in any case"],
)
def test_whom_no_budget_keeps(of: Pod, budgets: list[Budget]) -> None:
    """Nobody could be moved in a namespace with one budget, or a wrong reason would be told."""
    assert seen(of, *budgets) == of


def test_an_unready_pod_where_none_need_be_healthy_counts_like_a_ready_one() -> None:
    """The API server takes it off what the budget admits."""
    of = budget("x", allowed=1, healthy=1, desired=0, app="x")

    assert seen(replace(RUNNING, health=Health.UNREADY), of).budget == of.key


def test_why_an_unready_pod_must_stay_names_what_would_let_it_go() -> None:
    """Who reads it would look for a pod to save, and there is none."""
    of = budget("x", allowed=0, healthy=1, desired=2, app="x")

    assert seen(replace(RUNNING, health=Health.UNREADY), of).fixed_by == (
        "has PodDisruptionBudget default/x, which admits no eviction now, not even of a pod that is"
        " not ready (spec.unhealthyPodEvictionPolicy: AlwaysAllow would)"
    )


@pytest.mark.parametrize(
    ("line", "covered"),
    [
        (Requirement(key="app", operator="In", values=("x", "y")), True),
        (Requirement(key="app", operator="NotIn", values=("x",)), False),
        (Requirement(key="tier", operator="NotIn", values=("x",)), True),
        (Requirement(key="app", operator="Exists"), True),
        (Requirement(key="app", operator="DoesNotExist"), False),
    ],
    ids=["In", "NotIn", "NotIn without the label", "Exists", "DoesNotExist"],
)
def test_selectors_are_read_as_kubernetes_does(line: Requirement, *, covered: bool) -> None:
    """A pod would count against a budget that is not its own, or not against its own."""
    some = replace(budget("b", allowed=1), labels=(line,))

    assert covers(some, RUNNING) is covered


def test_a_budget_covers_its_own_namespace_only() -> None:
    """Another team's budget would hold our pods."""
    assert not covers(budget("b", allowed=1, namespace="other"), RUNNING)


@pytest.mark.parametrize(
    ("change", "cooldown_s", "stays"),
    [
        ({"replaces": "old", "started_at": int(NOW) - 599}, 600, True),
        ({"replaces": "old", "started_at": int(NOW) - 600}, 600, False),
        ({"replaces": "old"}, 600, True),
        ({"replaces": "old", "started_at": int(NOW)}, 0, False),
        ({"started_at": int(NOW) - 1}, 600, False),
    ],
    ids=["just moved", "long ago", "has not started", "no cooldown", "never moved"],
)
def test_a_moved_pod_stays_for_its_cooldown(
    change: dict[str, object], cooldown_s: float, *, stays: bool
) -> None:
    """A pod would be moved again and again, and never serve."""
    moved = seen(replace(RUNNING, **change), cooldown_s=cooldown_s)  # type: ignore[arg-type]

    assert (moved.disruption is Disruption.FIXED) is stays
    assert moved.fixed_by == (f"was moved less than {cooldown_s:g} seconds ago" if stays else "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"gives_way_by": 1}, "is being moved: its replacement is there already"),
        (
            {"move_failed_at": int(NOW) - 599},
            "was to be moved less than 600 seconds ago, which failed",
        ),
        ({"move_failed_at": int(NOW) - 600}, ""),
        (
            {"serves_by": 1, "replaces": "old", "started_at": 1, "health": Health.UNREADY},
            "starts in the place of a pod that is moved",
        ),
        ({"serves_by": 1, "replaces": "old", "started_at": 1}, ""),
    ],
    ids=["gives way", "a move has failed", "that was long ago", "starts slowly", "serves"],
)
def test_who_is_being_moved_stays_and_so_does_what_takes_its_place(
    change: dict[str, object], why: str
) -> None:
    """It would be moved twice, or tried again at once, or never come to serve."""
    moved = seen(replace(RUNNING, **change))  # type: ignore[arg-type]

    assert moved.fixed_by == why
    assert (moved.disruption is Disruption.FIXED) is bool(why)


def test_it_is_known_when_the_next_cooldown_ends() -> None:
    """Who waits for it would wait on until something else happens."""
    late = replace(RUNNING, replaces="old", started_at=int(NOW) - 100)
    fails = replace(pod("f", on="n1"), move_failed_at=int(NOW) - 200)
    unknown = replace(pod("u", on="n1"), replaces="older")
    there = Snapshot.of((), (late, fails, unknown, pod("x", on="n1")))

    known = restrained(there, now=NOW, cooldown_s=600)

    assert next_end(known, cooldown_s=600) == int(NOW) + 400
    over = restrained(there, now=NOW + 500, cooldown_s=600)
    assert next_end(over, cooldown_s=600) == math.inf


def test_waiting_pods_have_no_restraint() -> None:
    """A newcomer is not evicted, so no budget could be asked for it."""
    waiting = seen(pod("w", labels={"app": "x"}), budget("x", allowed=0, app="x"))

    assert (waiting.budget, waiting.fixed_by) == (None, "")


@pytest.mark.parametrize(
    ("of", "health", "short"),
    [
        (budget("x", allowed=2, app="x"), Health.READY, False),
        (budget("x", allowed=1, app="x"), Health.READY, True),
        (budget("x", allowed=1, healthy=3, desired=2, app="x"), Health.UNREADY, False),
        (budget("x", allowed=1, healthy=1, desired=0, app="x"), Health.UNREADY, True),
        (budget("x", allowed=0, always=True, app="x"), Health.UNREADY, False),
        (budget("x", allowed=0, app="x"), Health.PENDING, False),
        (budget("x", allowed=0, app="another"), Health.READY, False),
    ],
    ids=[
        *("enough for both", "enough for each alone", "unready ones cost nothing"),
        *("but where none need be healthy", "AlwaysAllow", "they have not begun", "of others"),
    ],
)
def test_what_is_short_for_all_to_leave_at_once(of: Budget, health: Health, *, short: bool) -> None:
    """One would go and the other stay, of use to nobody."""
    both = [replace(RUNNING, health=health), replace(pod("b", on="n"), labels=RUNNING.labels)]
    both[1] = replace(both[1], health=health)

    told = shortage([of], both)

    assert bool(told) is short
    assert not shortage([of], [replace(each, bound=False) for each in both])


def test_the_budget_that_is_short_is_named() -> None:
    """Nobody would know which one to look at."""
    both = [RUNNING, replace(pod("b", on="n"), labels=RUNNING.labels)]

    assert shortage([budget("x", allowed=1, app="x")], both) == (
        "PodDisruptionBudget default/x admits 1 eviction now, and 2 are needed"
    )
