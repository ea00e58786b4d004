"""PodDisruptionBudgets over the victims of a plan: counted together before anybody is disturbed."""

from dataclasses import replace

import pytest

from bayplan import steps
from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.keys import GangKey
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.inference.drains import DrainState
from bayplan.policy import Policy
from bayplan.steps import EvictPod, Progress
from tests.builders import budget, node, pod
from tests.scenes.steps import BUSY, IDLE, SERVES, bind, done, evict, move, plan, told

#: Two pods of one application leave for a newcomer.
MADE = plan(bind("a", "n1"), evict("u", "n1"), evict("v", "n1"))
U, V = (pod(name, gpus=4, on="n1", labels={"app": "x"}) for name in "uv")

#: A budget over both that needs two healthy pods.
ONE = budget("x", allowed=1, healthy=3, desired=2, app="x")
TWO = replace(ONE, allowed=2, healthy=4)
NONE = replace(ONE, allowed=0, healthy=2)

COUNTED = replace(BUSY, counted=True)
SHORT = "PodDisruptionBudget default/x admits 1 eviction now, and the plan needs 2"


def look(
    *pods: Pod,
    of: Budget,
    u: DrainState,
    v: DrainState,
    max_parallel: int = 10,
    idle_s: float = 0,
) -> Progress:
    """Return how far the plan is; `u` and `v` are how far these are with their requests."""
    seen = Snapshot.of([node("n1")], [pod("a", gpus=8), *pods], [of])
    policy = Policy(max_parallel_moves=max_parallel)
    return steps.advance(MADE, seen, policy, idle_s=idle_s, drains={"uid-u": u, "uid-v": v})


def unready(of: Pod) -> Pod:
    """Return the pod as it is some time after it was taken out of service."""
    return replace(of, health=Health.UNREADY)


def test_a_plan_tells_first_of_a_budget_that_is_too_small() -> None:
    """Seen: the plan told of a place that waits, and one victim of many said for what."""
    made = plan(bind("a", "n1"), move("u", "n1", "n2"), move("v", "n1", "n2"))
    seen = Snapshot.of([node("n1"), node("n2")], [pod("a", gpus=8), U, V], [ONE])

    found = steps.advance(made, seen, Policy(), idle_s=0)

    assert found.message == f"0 of 3 steps done: default/u waits: {SHORT}"


@pytest.mark.parametrize("drain", [SERVES, DrainState(over=True)], ids=["drains", "goes at once"])
@pytest.mark.parametrize("max_parallel", [1, 10])
def test_a_budget_that_admits_one_lets_nobody_go_where_two_must(
    drain: DrainState, max_parallel: int
) -> None:
    """One would be taken out of service in vain: without the other nobody gets its room."""
    found = look(U, V, of=ONE, u=drain, v=drain, max_parallel=max_parallel)

    assert done(found) == []
    assert told(found)[:2] == [f"Evict {name} Waiting: waits: {SHORT}" for name in "uv"]


def test_a_plan_that_a_budget_kept_from_going_on_names_it_in_the_end() -> None:
    """Somebody asks why the plan has failed, and what to change."""
    found = look(U, V, of=ONE, u=SERVES, v=SERVES, idle_s=steps.STALL_S)

    assert found.phase is steps.Phase.FAILED
    assert found.message == f"stopped: default/u does not leave n1: {SHORT}; a new plan follows"


def test_a_budget_that_admits_both_lets_both_drain() -> None:
    """Nothing is in the way."""
    assert done(look(U, V, of=TWO, u=SERVES, v=SERVES)) == ["drain u", "drain v"]


@pytest.mark.parametrize(
    ("drains", "of", "steps_due"),
    [
        (U, ONE, []),
        (U, TWO, ["drain v"]),
        (unready(U), ONE, []),
        (unready(U), TWO, ["drain v"]),
    ],
    ids=["still ready", "still ready, both admitted", "not counted yet", "both admitted"],
)
def test_who_drains_already_counts_until_its_budget_has_counted_it(
    drains: Pod, of: Budget, steps_due: list[str]
) -> None:
    """What a budget admits is some moments old: the same eviction would be given away twice."""
    assert done(look(drains, V, of=of, u=BUSY, v=SERVES)) == steps_due


def test_who_was_counted_does_not_count_again() -> None:
    """The second of two moves would wait for a budget that admits it."""
    assert done(look(unready(U), V, of=ONE, u=COUNTED, v=SERVES)) == ["drain v"]


@pytest.mark.parametrize(
    ("u", "drain", "steps_due"),
    [
        (unready(U), COUNTED, []),
        (replace(U, terminating=True), IDLE, ["evict v from n1"]),
    ],
    ids=["it drains", "it is leaving"],
)
def test_the_rest_of_a_gang_waits_for_its_budget_until_one_has_begun_to_leave(
    u: Pod, drain: DrainState, steps_due: list[str]
) -> None:
    """Half of it would be out of service in vain, or half of it run on, of use to nobody."""
    made = plan(bind("a", "n1"), *(evict(name, "n1", "g") for name in "uv"))
    gang = [replace(each, gang=GangKey(namespace="default", name="g")) for each in (u, V)]
    seen = Snapshot.of([node("n1")], [pod("a", gpus=8), *gang], [NONE])
    rest = SERVES if drain is COUNTED else DrainState(over=True)
    drains = {"uid-u": drain, "uid-v": rest}

    found = steps.advance(made, seen, Policy(), idle_s=0, drains=drains)

    assert done(found) == steps_due


def test_who_has_drained_leaves_though_its_budget_admits_nobody_else() -> None:
    """It is not ready, and costs no healthy pod."""
    found = look(unready(U), V, of=NONE, u=replace(IDLE, counted=True), v=SERVES)

    assert done(found) == ["evict u from n1"]


def test_pods_that_are_not_ready_need_nothing_of_a_budget_that_has_enough() -> None:
    """A pod in a crash loop would keep its node for ever."""
    over = DrainState(over=True, counted=True)

    assert len(done(look(unready(U), unready(V), of=NONE, u=over, v=over))) == 2


def test_pods_of_no_budget_wait_with_the_others() -> None:
    """Half of the room helps nobody."""
    other = replace(U, labels=())

    assert done(look(other, V, of=NONE, u=SERVES, v=SERVES)) == []


@pytest.mark.parametrize(
    ("u", "of", "steps_due"),
    [
        (COUNTED, 2, ["drain v"]),
        (BUSY, 3, ["drain v"]),
        (BUSY, 2, []),
        (COUNTED, 1, ["evict v from n1"]),
    ],
    ids=["counted", "enough others", "not counted yet", "no other"],
)
def test_a_serving_pod_drains_while_others_stay_healthy_beside_it(
    u: DrainState, of: int, steps_due: list[str]
) -> None:
    """Its requests would be cut off, because who is out of service already counts twice."""
    none_needed = budget("x", allowed=of, healthy=of, desired=0, app="x")

    assert done(look(unready(U), V, of=none_needed, u=u, v=SERVES)) == steps_due


def test_whoever_could_not_be_evicted_once_out_of_service_goes_undrained_and_says_so() -> None:
    """`maxUnavailable: 1` over one pod needs none healthy: drained, it would stay for ever."""
    of = budget("x", allowed=1, healthy=1, desired=0, app="x")

    found = look(V, of=of, u=SERVES, v=SERVES)

    (step,) = [step for step in found.todo if isinstance(step, EvictPod)]
    assert step.because == (
        "it makes room for default/a; it is not drained first, for PodDisruptionBudget default/x"
        " would keep it once it is not ready: to have it drained, set"
        " spec.unhealthyPodEvictionPolicy to AlwaysAllow there"
    )


@pytest.mark.parametrize(
    "of",
    [
        budget("x", allowed=2, healthy=2, desired=0, app="x"),
        budget("x", allowed=1, healthy=1, desired=0, always=True, app="x"),
        budget("x", allowed=1, healthy=2, desired=1, app="x"),
    ],
    ids=["one is left", "AlwaysAllow", "the other one is needed"],
)
def test_whoever_can_be_evicted_once_out_of_service_is_drained(of: Budget) -> None:
    """Its requests would be cut off without need."""
    assert done(look(V, of=of, u=SERVES, v=SERVES)) == ["drain v"]
