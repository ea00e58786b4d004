"""What keeps others from making room for who waits."""

from dataclasses import replace

import pytest

from bayplan.cluster.budgets import Budget
from bayplan.cluster.constraints import GangTopology
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.plan import Hold, Reason
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from tests.builders import budget, node, pod, snapshot

LOW = pod("low", gpus=8, on="n0", disruption=Disruption.EVICTABLE)
HIGH = pod("high", gpus=8, priority=10)
GANG = tuple(pod(f"g{i}", gpus=4, priority=10, gang="g", min_count=2) for i in range(2))
PARTS = (pod("r0", gpus=4, on="n0"), pod("r1", gpus=4, on="n1"))


def just_moved(running: Pod) -> Pod:
    """Return the same pod in its cooldown."""
    why = "was moved less than 600 seconds ago"
    return replace(running, disruption=Disruption.FIXED, fixed_by=why)


def held(*things: Node | Pod | Budget, policy: Policy) -> Hold:
    """Return what is said of the first pod that waits."""
    result = plan(snapshot(*things), policy, clock=lambda: 0.0)
    return result.plan.holds[0]


@pytest.mark.parametrize(
    ("things", "policy", "said", "remedy"),
    [
        pytest.param(
            (node("n0"), LOW, HIGH),
            Policy(max_evictions=0),
            "PackingPolicy maxEvictions 0 keeps default/low there",
            "raise maxEvictions in the PackingPolicy to 1 or more",
            id="no evictions",
        ),
        pytest.param(
            (node("n0"), LOW, *GANG),
            Policy(max_evictions=0),
            "PackingPolicy maxEvictions 0 keeps default/low there",
            "raise maxEvictions in the PackingPolicy to 1 or more",
            id="no evictions for a gang",
        ),
        pytest.param(
            (node("n0"), node("n1"), *PARTS, pod("w", gpus=8)),
            Policy(max_moves=0),
            "PackingPolicy maxMoves 0 keeps default/r0 there",
            "raise maxMoves in the PackingPolicy to 1 or more",
            id="no moves",
        ),
        pytest.param(
            (node("n0"), node("n1"), *[replace(p, priority=5) for p in PARTS], pod("w", gpus=8)),
            Policy(order=Order.PROTECT_FIRST),
            "PackingPolicy order ProtectFirst keeps default/r0 there",
            "set order: PlaceFirst in the PackingPolicy",
            id="higher priorities are protected",
        ),
        pytest.param(
            (node("n0"), LOW, replace(HIGH, preempts=False)),
            Policy(),
            "its preemptionPolicy Never lets default/low stay",
            "free 8 more GPUs on n0",
            id="makes nobody go",
        ),
    ],
)
def test_a_limit_that_keeps_a_pod_waiting_is_named(
    things: tuple[Node | Pod, ...], policy: Policy, said: str, remedy: str
) -> None:
    """People would look for room, while the one line that keeps the pod waiting is theirs."""
    hold = held(*things, policy=policy)

    assert said in hold.rejection.message
    assert hold.rejection.reason is not Reason.DISRUPTION_FORBIDDEN, "a new node helps"
    assert hold.remedy.startswith(remedy)


def test_a_limit_that_this_plan_uses_up_is_there_again_in_the_next_one() -> None:
    """People would raise a limit that only had to be waited for."""
    other = pod("other", gpus=8, on="n1", disruption=Disruption.EVICTABLE)
    more = pod("more", gpus=8, priority=10)

    hold = held(node("n0"), node("n1"), LOW, other, HIGH, more, policy=Policy(max_evictions=1))

    assert hold.rejection.reason is Reason.DISRUPTION_FORBIDDEN
    assert "maxEvictions 1 (1 of them used by this plan) keeps" in hold.rejection.message
    wait = "wait for the next plan, or raise maxEvictions in the PackingPolicy to 2 or more"
    assert hold.remedy.startswith(wait)


@pytest.mark.parametrize("waiting", [(replace(HIGH, priority=0),), GANG], ids=["pod", "gang"])
def test_nobody_waits_for_who_outranks_it(waiting: tuple[Pod, ...]) -> None:
    """People would wait for a cooldown, and for nothing."""
    hold = held(node("n0"), just_moved(replace(LOW, priority=20)), *waiting, policy=Policy())

    assert hold.rejection.reason is not Reason.DISRUPTION_FORBIDDEN
    assert "wait until" not in hold.remedy


def test_who_could_move_elsewhere_is_waited_for_whatever_its_priority() -> None:
    """A pod would be called outranked that has room in ten minutes."""
    running = [just_moved(PARTS[0]), replace(PARTS[1], disruption=Disruption.FIXED)]

    hold = held(node("n0"), node("n1"), *running, pod("w", gpus=8), policy=Policy())

    assert hold.rejection.reason is Reason.DISRUPTION_FORBIDDEN
    assert "default/r0 might make room but must stay: it was moved" in hold.rejection.message


def fixed(name: str, gpus: int, on: str) -> Pod:
    """Return a pod that stays for good."""
    return pod(name, gpus=gpus, on=on, priority=30, disruption=Disruption.FIXED)


OF_GANG = pod("r0", gpus=4, on="n0", gang="u", min_count=2)
LOWER = pod("lo", gpus=4, on="n0", disruption=Disruption.EVICTABLE)
UPPER = pod("hi", gpus=4, on="n0", priority=20)


@pytest.mark.parametrize(
    ("priority", "running", "kept"),
    [
        pytest.param(
            0,
            (just_moved(OF_GANG), replace(fixed("r1", 4, "n1"), gang=OF_GANG.gang)),
            "r0",
            id="a pod of a gang that could move alone",
        ),
        pytest.param(
            10,
            (LOWER, just_moved(UPPER), fixed("f", 4, "n1")),
            "hi",
            id="beside one that would end",
        ),
        pytest.param(
            10,
            (just_moved(LOWER), UPPER, fixed("f", 4, "n1")),
            "lo",
            id="beside one that would move",
        ),
        pytest.param(
            0,
            (pod("a", gpus=6, on="n0"), just_moved(pod("b", gpus=4, on="n1")), fixed("f", 4, "n2")),
            "b",
            id="another one that could leave has no other place",
        ),
    ],
)
def test_who_is_in_its_cooldown_outranks_nobody(
    priority: int, running: tuple[Pod, ...], kept: str
) -> None:
    """Seen: a pod was called outranked, and people would give it a higher priority for nothing."""
    waits = pod("w", gpus=8, priority=priority)
    nodes = [node(name) for name in sorted({p.node for p in running if p.node})]

    hold = held(*nodes, *running, waits, policy=Policy())

    assert hold.rejection.reason is Reason.DISRUPTION_FORBIDDEN
    assert f"default/{kept} might make room but must stay: it was moved" in hold.rejection.message
    assert hold.remedy.startswith("wait until")


def test_a_pod_of_a_gang_that_would_move_asks_for_a_move() -> None:
    """People would raise maxEvictions after the cooldown, for a pod that no plan evicts."""
    one = just_moved(OF_GANG)
    other = replace(fixed("r1", 4, "n1"), gang=OF_GANG.gang, gang_min_count=2)

    hold = held(
        *(node("n0"), node("n1"), one, LOWER, other, pod("w", gpus=8, priority=10)),
        policy=Policy(max_evictions=1, max_moves=0),
    )

    assert "default/r0 might make room but must stay: it was moved" in hold.rejection.message
    assert hold.remedy.startswith(
        "wait until such a pod may be disturbed again, with a maxMoves of 1 or more, or free"
    )


def test_of_a_gang_that_must_stay_near_each_other_nobody_moves_alone() -> None:
    """People would wait for a cooldown after which it stays where it is."""
    near = replace(OF_GANG, gang_topology=GangTopology(required="zone"))

    hold = held(
        *(node("n0"), node("n1"), just_moved(near), fixed("r1", 4, "n1")),
        pod("w", gpus=8),
        policy=Policy(),
    )

    assert hold.rejection.reason is Reason.OUTRANKED


def test_the_reason_is_that_of_the_pods_in_the_way() -> None:
    """People would change a budget of pods on nodes that are too small anyhow."""
    team = [pod(f"p{i}", gpus=2, on=f"s{i}", labels={"app": "x"}) for i in range(3)]
    small = [node(f"s{i}", gpus=2) for i in range(3)]

    hold = held(
        node("n0"),
        just_moved(LOW),
        *small,
        *team,
        budget("x", allowed=0, app="x"),
        HIGH,
        policy=Policy(),
    )

    assert "default/low might make room but must stay: it was moved" in hold.rejection.message
    assert "PodDisruptionBudget" not in hold.rejection.message


@pytest.mark.parametrize("waiting", [(HIGH,), GANG], ids=["pod", "gang"])
def test_a_budget_that_admits_too_few_at_once_is_named(waiting: tuple[Pod, ...]) -> None:
    """Seen: people were told to evict four pods, and not why the plan does not do it itself."""
    team = [pod(f"p{i}", gpus=4, on="n0", labels={"app": "x"}) for i in range(2)]

    hold = held(node("n0"), *team, budget("x", allowed=1, app="x"), *waiting, policy=Policy())

    assert hold.rejection.reason is Reason.DISRUPTION_FORBIDDEN
    assert hold.rejection.message.endswith(
        "; making room takes 2 evictions under PodDisruptionBudget default/x, which admits 1"
    )
    assert hold.remedy.startswith(
        "let PodDisruptionBudget default/x admit 2 evictions at once, or free 8 more GPUs on n0"
    )


def test_what_a_plan_takes_of_a_budget_counts() -> None:
    """With what it says that it needs the budget would still admit too few."""
    team = [pod(f"p{i}", gpus=4, on=f"n{i // 2}", labels={"app": "x"}) for i in range(4)]
    one = pod("one", gpus=4, priority=20)

    hold = held(
        node("n0"),
        node("n1"),
        *team,
        budget("x", allowed=2, app="x"),
        one,
        HIGH,
        policy=Policy(),
    )

    assert "which admits 2 (1 of them used by this plan)" in hold.rejection.message
    assert hold.remedy.startswith("let PodDisruptionBudget default/x admit 3 evictions at once")


def test_a_budget_that_admits_enough_keeps_nobody() -> None:
    """People would raise it, while it is room that is short."""
    member = pod("p", gpus=4, on="n0", labels={"app": "x"})
    stays = pod("stays", gpus=4, on="n0", disruption=Disruption.FIXED)

    hold = held(node("n0"), member, stays, budget("x", allowed=1, app="x"), HIGH, policy=Policy())

    assert "PodDisruptionBudget" not in hold.rejection.message


def test_a_limit_is_told_beside_what_is_waited_for() -> None:
    """The pod would wait on after the cooldown, for a limit that nobody has heard of."""
    hold = held(node("n0"), just_moved(LOW), HIGH, policy=Policy(max_evictions=0))

    assert hold.remedy.startswith(
        "wait until such a pod may be disturbed again, with a maxEvictions of 1 or more, or free 8"
    )


def test_a_budget_that_never_admits_anybody_can_be_changed() -> None:
    """With minAvailable 100 % people would wait for ever for such a pod to be disturbed."""
    low = replace(LOW, labels=(("app", "x"),))

    hold = held(node("n0"), low, HIGH, budget("x", allowed=0, app="x"), policy=Policy())

    assert "default/low might make room but must stay: it has PodDisruptionBudget default/x" in (
        hold.rejection.message
    )
    assert hold.remedy.startswith(
        "wait until such a pod may be disturbed again, or let its PodDisruptionBudget admit 1"
        " eviction, or free 8"
    )


def test_the_time_at_which_a_cooldown_ends_is_named() -> None:
    """People would not know whether to wait or to act."""
    moved = just_moved(replace(LOW, started_at=1_795_365_635))

    hold = held(node("n0"), moved, HIGH, policy=Policy())

    assert hold.remedy.startswith(
        "wait until 2026-11-22T16:50:35Z, or lower cooldownSeconds in the PackingPolicy, or "
    )


def test_who_makes_nobody_go_hears_what_else_keeps_the_pods_in_its_way() -> None:
    """Seen: a pod was called outranked by pods of a lower priority."""
    low = replace(LOW, labels=(("app", "x"),))
    polite = replace(HIGH, preempts=False)

    hold = held(node("n0"), low, budget("x", allowed=0, app="x"), polite, policy=Policy())

    assert hold.rejection.reason is Reason.INSUFFICIENT_ROOM
    assert (
        "its preemptionPolicy Never lets default/low stay; default/low: it has"
        " PodDisruptionBudget default/x, which admits no eviction now"
    ) in hold.rejection.message
    assert hold.remedy.startswith("free 8 more GPUs on n0")
