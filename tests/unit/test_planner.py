"""The planner on cases that a person can check on paper."""

import gc
import time
import weakref
from dataclasses import replace

import pytest
from ortools.sat.python import cp_model

from bayplan.budgets import Budget
from bayplan.constraints import Constraints
from bayplan.plan import Hold, Move, Plan, Reason, Result, Stage, Verdict
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.restraints import restrained
from bayplan.snapshot import (
    GOODBYE_S,
    MAX_MOVE_COST,
    OVERSTAY_S,
    UNKNOWN_COUNT,
    Disruption,
    Node,
    Pod,
    Snapshot,
)
from bayplan.solver import engine
from bayplan.solver.counting import build
from bayplan.solver.solution import Solution
from bayplan.validate import Code, Violation, validate
from tests.builders import budget, node, pod, snapshot

POLICY = Policy()


def made(*things: Node | Pod | Budget, policy: Policy = POLICY) -> Plan:
    """Return the plan for these things, which must be valid."""
    return result_of(snapshot(*things), policy).plan


def result_of(of: Snapshot, policy: Policy = POLICY) -> Result:
    """Return the result for a snapshot; the plan must be valid."""
    result = plan(of, policy, clock=lambda: 0.0)
    assert validate(of, policy, result.plan) == ()
    return result


def placed(plan: Plan) -> dict[str, str]:
    """Return the node of each bound pod, by name."""
    return {bind.pod.name: str(bind.node) for bind in plan.binds}


def moved(plan: Plan) -> list[str]:
    """Return the names of the moved pods."""
    return [move.pod.name for move in plan.moves]


def evicted(plan: Plan) -> list[str]:
    """Return the names of the evicted pods."""
    return [evict.pod.name for evict in plan.evictions]


def hold_of(plan: Plan, name: str) -> Hold:
    """Return why the pod is held."""
    return next(hold for hold in plan.holds if hold.pod.name == name)


def spread() -> list[Node | Pod]:
    """Return six 8-GPU nodes with 16 GPUs in use, so spread that no node has 8 free."""
    low = [(1, 2), (1, 2), (1, 2), (1, 2), (2,), (1, 1)]
    nodes: list[Node | Pod] = [node(f"n{i}") for i in range(6)]
    return nodes + [
        pod(f"low-{i}-{j}", gpus=gpus, on=f"n{i}", owner="batch")
        for i, row in enumerate(low)
        for j, gpus in enumerate(row)
    ]


def unit(name: str, *gpus: int, priority: int = 1000) -> list[Pod]:
    """Return a gang of one waiting pod per number of GPUs."""
    return [
        pod(f"{name}-{i}", gpus=n, priority=priority, gang=name, min_count=len(gpus))
        for i, n in enumerate(gpus)
    ]


def test_two_units_come_in_by_moves_alone() -> None:
    """Free GPUs in pieces would stay useless, or running pods would be evicted for them."""
    result = result_of(snapshot(*spread(), *unit("chat-0", 8, 4, 4), *unit("chat-1", 8, 4, 4)))

    assert result.plan.certificate.verdict == Verdict.OPTIMAL
    assert len(result.plan.binds) == 6
    assert result.plan.evictions == ()
    assert result.plan.holds == ()
    assert len(result.plan.moves) == 4


def test_the_story_takes_less_than_two_seconds() -> None:
    """The demo would stall; in practice it takes about a tenth of that."""
    of = snapshot(*spread(), *unit("chat-0", 8, 4, 4), *unit("chat-1", 8, 4, 4))

    result = plan(of, POLICY, clock=time.monotonic)

    assert result.plan.certificate.verdict == Verdict.OPTIMAL
    assert dict(result.seconds)["total"] < 2


def test_an_equal_is_never_evicted_to_count_more_pods() -> None:
    """Two small pods would push out one large pod of their own priority (arXiv 2511.08373)."""
    result = made(node("n"), pod("A", gpus=8, on="n"), pod("C", gpus=4), pod("D", gpus=4))

    assert evicted(result) == []
    assert placed(result) == {}
    assert result.certificate.verdict == Verdict.INFEASIBLE


def test_a_move_is_preferred_to_evicting_an_equal() -> None:
    """An eviction would be taken because it counts as one disruption less than a move."""
    result = made(
        node("n0"),
        node("n1"),
        pod("a", gpus=1, on="n0"),
        pod("b", gpus=6, on="n1"),
        pod("c", gpus=5),
        pod("d", gpus=3),
        pod("e", gpus=5),
    )

    assert evicted(result) == []
    assert len(result.moves) == 1
    assert len(result.binds) == 2
    assert "d" in placed(result)
    assert result.certificate.verdict == Verdict.OPTIMAL


def test_a_higher_tier_evicts_the_fewest() -> None:
    """Preemption would take more victims than it needs."""
    things = [node("n0"), node("n1")]
    low = [pod(f"a{i}", gpus=2, on="n0") for i in range(4)] + [pod("b", gpus=8, on="n1")]

    result = made(*things, *low, pod("high", gpus=8, priority=10))

    assert evicted(result) == ["b"]
    assert result.certificate.stages[:3] == (
        Stage(name="place 10", value=1, bound=1),
        Stage(name="keep 0", value=4, bound=4),
        Stage(name="disruption", value=1001, bound=1001),
    )


def test_what_cannot_be_moved_is_evicted_or_stays() -> None:
    """A pod would be told to move that nobody would bring back."""
    low = pod("low", gpus=4, on="n0", disruption=Disruption.EVICTABLE)
    fixed = pod("fixed", gpus=4, on="n1", disruption=Disruption.FIXED)

    result = made(node("n0"), node("n1"), low, fixed, pod("high", gpus=8, priority=10))

    assert evicted(result) == ["low"]
    assert placed(result) == {"high": "n0"}


def test_protect_first_moves_nobody_for_a_lower_priority() -> None:
    """A pod would be restarted for one that matters less; `PlaceFirst` does just that."""
    running = [pod(f"r{i}", gpus=4, on=f"n{i}", priority=10) for i in range(2)]
    things: list[Node | Pod] = [node("n0"), node("n1"), *running, pod("low", gpus=8)]

    place, protect = (
        made(*things, policy=Policy(order=order))
        for order in (Order.PLACE_FIRST, Order.PROTECT_FIRST)
    )

    assert (len(place.binds), len(place.moves)) == (1, 1)
    assert (len(protect.binds), len(protect.moves)) == (0, 0)
    assert protect.certificate.order is Order.PROTECT_FIRST
    assert protect.certificate.verdict is Verdict.INFEASIBLE


def test_protect_first_moves_an_equal_and_evicts_rather_than_move_a_higher_one() -> None:
    """Nobody of the newcomer's own tier would make room, or a higher pod be restarted."""
    protect = Policy(order=Order.PROTECT_FIRST)
    halves = [pod(f"r{i}", gpus=4, on=f"n{i}", priority=10) for i in range(2)]
    nodes = [node("n0"), node("n1")]
    newcomer = pod("w", gpus=8, priority=10)
    batch = (node("n2"), pod("batch", gpus=8, on="n2"))

    equal = made(*nodes, *halves, newcomer, policy=protect)
    lower = made(*nodes, *halves, *batch, newcomer, policy=protect)
    placed_first = made(*nodes, *halves, *batch, newcomer)

    assert (len(equal.moves), len(equal.evictions)) == (1, 0)
    assert evicted(lower) == ["batch"]
    assert (len(placed_first.moves), len(placed_first.evictions)) == (1, 0)


def test_the_pod_that_starts_fastest_is_moved() -> None:
    """A model that loads for minutes would be restarted instead of one that is back at once."""
    plan = made(
        node("n0"),
        node("n1"),
        pod("slow", gpus=4, on="n0", move_cost=20),
        pod("fast", gpus=4, on="n1"),
        pod("w", gpus=8),
    )

    assert moved(plan) == ["fast"]


def test_one_eviction_costs_more_than_the_dearest_move() -> None:
    """A pod would lose its place so that another need not be restarted."""
    plan = made(
        node("n0"),
        node("n1"),
        pod("dear", gpus=4, on="n0", move_cost=MAX_MOVE_COST),
        pod("other", gpus=4, on="n1", disruption=Disruption.EVICTABLE),
        pod("w", gpus=8, priority=10),
    )

    assert (moved(plan), evicted(plan)) == (["dear"], [])


@pytest.mark.parametrize(
    ("allowed", "moves"), [(2, 2), (1, 0), (0, 0)], ids=["enough", "one short", "nothing left"]
)
def test_a_plan_disturbs_no_more_than_disruption_budgets_admit(allowed: int, moves: int) -> None:
    """A plan would stop half-way, at an eviction that is refused."""
    team = [pod(f"r{i}", gpus=4, on=f"n{i}", labels={"app": "x"}) for i in range(4)]
    nodes = [node(f"n{i}") for i in range(4)]
    unit_of_two = unit("u", 8, 8)

    plan = made(*nodes, *team, *unit_of_two, budget("x", allowed=allowed, app="x"))

    assert len(plan.moves) == moves
    assert len(plan.binds) == moves


@pytest.mark.parametrize("nodes", [4, 150], ids=["a few nodes", "a fleet"])
@pytest.mark.parametrize(("allowed", "moves"), [(2, 2), (1, 0)], ids=["enough", "one short"])
def test_a_pod_that_needs_two_moves_of_one_budget_waits_where_that_admits_one(
    nodes: int, allowed: int, moves: int
) -> None:
    """A plan for it would wait for the budget, and fail, and be made again."""
    pods = [pod(f"r{i}", gpus=3, on="n0", labels={"app": "x"}) for i in range(2)]
    for i in range(1, nodes):
        gpus = 5 if i < 3 else 8
        pods.append(pod(f"f{i}", gpus=gpus, on=f"n{i}", disruption=Disruption.FIXED))
    there = [node(f"n{i}") for i in range(nodes)]

    plan = made(*there, *pods, pod("w", gpus=8), budget("x", allowed=allowed, app="x"))

    assert len(plan.moves) == moves
    assert placed(plan) == ({"w": "n0"} if moves else {})


def test_evictions_count_against_a_disruption_budget_as_well() -> None:
    """A higher priority would take what the API server does not give."""
    team = [pod(f"r{i}", gpus=4, on="n0", labels={"app": "x"}) for i in range(2)]
    things: list[Node | Pod] = [node("n0"), *team, pod("w", gpus=8, priority=10)]

    assert len(made(*things, budget("x", allowed=2, app="x")).evictions) == 2
    assert len(made(*things, budget("x", allowed=1, app="x")).evictions) == 0


@pytest.mark.parametrize(("age_s", "moves"), [(599, 0), (600, 1)], ids=["cooling down", "over"])
def test_a_moved_pod_is_not_moved_again_at_once(age_s: int, moves: int) -> None:
    """A pod would be on the move for ever."""
    now = 1_000_000
    arrived = replace(pod("a", gpus=4, on="n0"), replaces="old", started_at=now - age_s)
    full = pod("b", gpus=4, on="n1", disruption=Disruption.FIXED)
    seen = Snapshot.of([node("n0"), node("n1")], [arrived, full, pod("w", gpus=8)])

    result = result_of(restrained(seen, now=now, cooldown_s=POLICY.cooldown_s))

    assert len(result.plan.moves) == moves


@pytest.mark.parametrize(
    "waiting", [[pod("w-0", gpus=8, priority=10)], unit("w", 8, 8)], ids=["pod", "gang"]
)
def test_who_waits_because_others_must_stay_is_told_so(waiting: list[Pod]) -> None:
    """An operator would buy nodes instead of looking at a budget."""
    team = [
        pod(f"r{i}", gpus=4, on=f"n{i}", labels={"app": "x"}, disruption=Disruption.EVICTABLE)
        for i in range(2)
    ]
    things: list[Node | Pod] = [node("n0"), node("n1"), *team, *waiting]

    forbidden = hold_of(made(*things, budget("x", allowed=0, app="x")), "w-0")
    allowed = made(*things, budget("x", allowed=2, app="x"))

    assert forbidden.rejection.reason is Reason.DISRUPTION_FORBIDDEN
    assert "has PodDisruptionBudget default/x, which admits no" in forbidden.rejection.message
    assert "w-0" in placed(allowed)


def test_a_budget_that_the_plan_uses_up_is_named() -> None:
    """The second of two newcomers would not know that the first took what the budget admits."""
    team = [pod(f"r{i}", gpus=8, on=f"n{i}", labels={"app": "x"}) for i in range(2)]
    newcomers = [pod(f"w{i}", gpus=8, priority=10) for i in range(2)]

    plan = made(node("n0"), node("n1"), *team, *newcomers, budget("x", allowed=1, app="x"))

    (hold,) = plan.holds
    assert hold.rejection.reason is Reason.DISRUPTION_FORBIDDEN
    assert "default/x, which admits no more evictions than" in hold.rejection.message


def test_the_room_of_a_pod_that_gives_way_is_planned_with_as_long_as_it_may_take() -> None:
    """Another pod would be made to go for the same newcomer, or nobody ever again."""
    old = replace(pod("old", gpus=8, on="n0"), gives_way_by=1000)
    new = replace(pod("new", gpus=8, on="n1"), replaces=old.uid, serves_by=1000)
    seen = snapshot(node("n0"), node("n1"), old, new, pod("w", gpus=8))

    soon, late = (result_of(seen.once_left(1000 + GOODBYE_S + s)).plan for s in (0, 1))

    assert [bind.node for bind in soon.binds] == ["n0"]
    assert not soon.victims
    assert not late.binds
    assert not late.victims
    assert seen.without_overdue(1000 + GOODBYE_S) is seen
    (overdue,) = [p for p in seen.without_overdue(1001 + GOODBYE_S).pods if p.uid == old.uid]
    assert overdue.disruption is Disruption.FIXED
    assert not overdue.gives_way_by


def test_a_pod_that_only_says_that_it_gives_way_stays() -> None:
    """Others would be planned into its room, and wait for it for good."""
    alone = replace(pod("old", gpus=8, on="n0"), gives_way_by=1000)
    new = replace(pod("new", gpus=8, on="n1"), replaces=alone.uid, serves_by=10**9)
    for_ever = replace(alone, gives_way_by=10**9)

    for pods in ((alone,), (for_ever, new)):
        seen = snapshot(node("n0"), node("n1"), *pods, pod("w", gpus=8, priority=-1))
        plan = result_of(seen.once_left(1000)).plan
        assert "n0" not in [bind.node for bind in plan.binds]


def test_a_pod_that_overstays_its_deadline_keeps_its_room() -> None:
    """A plan would wait for room that a stuck pod never gives back."""
    stuck = replace(pod("old", gpus=8, on="n0", terminating=True), leaves_at=1000)
    seen = snapshot(node("n0"), stuck, pod("w", gpus=8))

    soon, late = (result_of(seen.once_left(1000 + OVERSTAY_S + after_s)).plan for after_s in (0, 1))

    assert placed(soon) == {"w": "n0"}
    assert placed(late) == {}


def test_room_for_a_nominated_pod_is_taken() -> None:
    """Two schedulers would give away the same room."""
    nominated = replace(pod("foreign", gpus=8, on="n0"), bound=False, disruption=Disruption.FIXED)

    assert placed(made(node("n0"), nominated, pod("w", gpus=8))) == {}
    assert placed(made(node("n0"), pod("w", gpus=8))) == {"w": "n0"}


def test_a_pod_that_preempts_nobody_evicts_nobody() -> None:
    """PreemptionPolicy Never would be ignored."""
    low = pod("low", gpus=4, on="n0", disruption=Disruption.EVICTABLE)

    result = made(node("n0"), low, pod("high", gpus=8, priority=10, preempts=False))

    assert evicted(result) == []
    assert placed(result) == {}


def test_a_pod_that_preempts_nobody_may_move_others() -> None:
    """Room in pieces would be useless to it."""
    low = pod("low", gpus=4, on="n0")

    result = made(
        node("n0"), node("n1", gpus=4), low, pod("high", gpus=8, priority=10, preempts=False)
    )

    assert moved(result) == ["low"]
    assert placed(result) == {"high": "n0"}


def test_a_gang_is_not_placed_in_part() -> None:
    """Two of three pods would hold GPUs and serve nothing."""
    result = made(node("n0"), node("n1", gpus=4), *unit("g", 8, 4, 4), pod("w", gpus=2))

    assert placed(result) == {"w": "n1"}
    hold = hold_of(result, "g-0")
    assert hold.rejection.reason == Reason.GANG_DOES_NOT_FIT
    assert hold.rejection.message == (
        "waits whole (1 x 8 GPUs, 2 x 4 GPUs): 1 of its 3 pods has room; g-1: 0 of 2 nodes have "
        "room: 2 lack GPUs (most free on one node: 2, needs 4; 2 free in all)"
    )


def test_a_gang_that_lacks_pods_waits_for_them() -> None:
    """Room would be given to a gang that cannot start."""
    first = pod("g-0", gpus=1, gang="g", min_count=3)
    second = pod("g-1", gpus=1, gang="g", min_count=3)

    hold = hold_of(made(node("n"), first, second), "g-0")

    assert hold.rejection.reason == Reason.GANG_INCOMPLETE
    assert hold.rejection.message == "2 of 3 pods exist"
    assert hold.remedy == "create the 1 missing pod"


def test_a_cluster_with_nothing_to_decide_on_can_be_defragmented() -> None:
    """A gang that lacks pods would be enough to crash the pass."""
    alone = pod("a", gpus=4, gang="g", min_count=2)

    assert made(node("n0"), alone, policy=replace(POLICY, order=Order.DEFRAGMENT)).holds


def test_a_lost_pod_comes_back_to_its_running_gang() -> None:
    """A gang could not heal, because its one new pod is no whole gang."""
    running = [pod(f"g-{i}", gpus=4, on=f"n{i}", gang="g", min_count=3) for i in range(2)]

    result = made(
        node("n0"), node("n1"), *running, pod("g-2", gpus=8, gang="g", min_count=3), node("n2")
    )

    assert placed(result) == {"g-2": "n2"}


def test_a_running_gang_is_evicted_whole() -> None:
    """The rest of a broken gang would hold GPUs and serve nothing."""
    gang = [pod(f"g-{i}", gpus=8, on=f"n{i}", gang="g", min_count=2) for i in range(2)]

    result = made(node("n0"), node("n1"), *gang, pod("high", gpus=8, priority=10))

    assert evicted(result) == ["g-0", "g-1"]
    assert {evict.gang for evict in result.evictions} == {gang[0].gang}
    assert len(placed(result)) == 1


def test_a_gang_with_a_fixed_pod_stays() -> None:
    """Half a gang would be evicted beside a pod that must stay."""
    gang = [
        pod("g-0", gpus=8, on="n0", gang="g", min_count=2),
        pod("g-1", gpus=8, on="n1", gang="g", min_count=2, disruption=Disruption.FIXED),
    ]

    result = made(node("n0"), node("n1"), *gang, pod("high", gpus=8, priority=10))

    assert evicted(result) == []
    assert placed(result) == {}


def test_the_oldest_of_equal_gangs_comes_first() -> None:
    """Who waits longest would wait on."""
    result = made(node("n0"), *unit("b", 4, 4), *unit("a", 4, 4))

    assert sorted(placed(result)) == ["a-0", "a-1"]


@pytest.mark.parametrize(
    ("policy", "moves", "evictions"),
    [
        pytest.param(Policy(), 1, 0, id="a move is enough"),
        pytest.param(Policy(max_moves=0), 0, 1, id="no moves left: an eviction"),
        pytest.param(Policy(max_moves=0, max_evictions=0), 0, 0, id="neither is allowed"),
    ],
)
def test_budgets_hold(policy: Policy, moves: int, evictions: int) -> None:
    """A plan would disturb more than the administrator allows."""
    low = pod("low", gpus=4, on="n0")
    result = made(
        node("n0"), node("n1", gpus=4), low, pod("high", gpus=8, priority=10), policy=policy
    )

    assert (len(result.moves), len(result.evictions)) == (moves, evictions)


def test_a_node_is_over_full_only_to_those_who_ask_for_what_it_lacks() -> None:
    """A GPU fails under eight pods: whoever asks for CPU alone still has room beside them."""
    runs = [pod(f"r{i}", on="n0", disruption=Disruption.FIXED) for i in range(8)]
    more = [pod("cpu", gpus=0, cpu_milli=1000), pod("gpu", gpus=1, priority=10)]

    found = made(node("n0", gpus=7), *runs, *more)

    assert [bind.pod.name for bind in found.binds] == ["cpu"]
    assert [hold.pod.name for hold in found.holds] == ["gpu"]


def test_an_over_full_node_gets_nothing_and_loses_nothing() -> None:
    """A node that shrank would be filled further, or emptied for no one."""
    shrunk = node("n0", gpus=2)
    result = made(shrunk, pod("a", gpus=4, on="n0"), pod("w", gpus=1))

    assert placed(result) == {}
    assert evicted(result) == []


def test_terminating_pods_hold_their_room() -> None:
    """A pod would be bound to room that is not free yet."""
    leaving = pod("old", gpus=8, on="n0", terminating=True)

    assert placed(made(node("n0"), leaving, pod("w", gpus=1))) == {}


def test_what_is_leaving_already_is_not_made_room_for_twice() -> None:
    """Seen: each pod that arrived while a victim drained made another victim go."""
    leaving = pod("old", gpus=8, on="n0", terminating=True)
    running, waiting = pod("r", gpus=8, on="n1"), pod("w", gpus=8, priority=10)
    asked = snapshot(node("n0"), node("n1"), leaving, running, waiting)

    drained = result_of(asked.once_left(now=0)).plan
    stuck = result_of(asked.once_left(now=OVERSTAY_S + 1)).plan

    assert (placed(drained), evicted(drained)) == ({"w": "n0"}, [])
    assert (placed(stuck), evicted(stuck)) == ({"w": "n1"}, ["r"])


def test_a_gang_whose_size_nobody_says_is_held_with_the_remedy() -> None:
    """The pod would vanish from sight."""
    result = made(node("n0"), pod("a", gang="g", min_count=UNKNOWN_COUNT))

    (held,) = result.holds
    assert held.rejection.message == (
        "label bayplan.dev/gang-min-count does not say how many pods make it whole"
    )
    assert "set the label" in held.remedy


def test_a_gang_that_was_made_smaller_takes_its_newest_size() -> None:
    """A pod made again after the ratio shrank would wait for pods that nobody makes any more."""
    old = pod("a", on="n0", gang="g", min_count=4)
    new = replace(pod("b", gang="g", min_count=2), created_at=9)

    assert placed(made(node("n0"), old, new)) == {"b": "n0"}


def test_nothing_new_on_cordoned_nodes_but_what_runs_stays() -> None:
    """A drain would be worked against, or running pods be thrown out by it."""
    result = made(node("n0", schedulable=False), pod("r", gpus=4, on="n0"), pod("w", gpus=1))

    assert placed(result) == {}
    assert (moved(result), evicted(result)) == ([], [])


def test_whole_slots_stay_free() -> None:
    """Small pods would be strewn over empty nodes."""
    result = made(node("n0"), node("n1"), node("n2"), pod("r", gpus=6, on="n1"), pod("w", gpus=2))

    assert placed(result) == {"w": "n1"}
    slots = {s.name: s.value for s in result.certificate.stages if s.name.startswith("free")}
    assert slots["free 8-GPU slots"] == 2


def test_the_models_of_a_pass_are_freed_by_the_next_collection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are cycles: a planner that makes them old grows with each pass."""
    models: list[weakref.ref[cp_model.CpModel]] = []
    make = cp_model.CpModel.__init__

    def watched(model: cp_model.CpModel) -> None:
        make(model)
        models.append(weakref.ref(model))

    monkeypatch.setattr(cp_model.CpModel, "__init__", watched)

    made(
        *(node("n0"), node("n1"), pod("a", gpus=1, on="n0"), pod("b", gpus=6, on="n1")),
        *(pod("c", gpus=5), pod("d", gpus=3), pod("e", gpus=5)),
    )

    assert models
    assert gc.isenabled()
    gc.collect(1)
    assert not any(model() for model in models)


def test_nothing_waits_nothing_happens() -> None:
    """A quiet cluster would be stirred."""
    result = made(*spread())

    assert result.certificate.verdict == Verdict.OPTIMAL
    assert (result.binds, result.moves, result.evictions, result.holds) == ((), (), (), ())


@pytest.mark.parametrize(
    ("things", "reason", "message", "remedy"),
    [
        pytest.param(
            (node("n0", gpus=4), pod("w", gpus=8)),
            Reason.TOO_SMALL,
            "needs 8 GPUs on one node; the largest has 4",
            "add a node with 8 GPUs",
            id="no node is large enough",
        ),
        pytest.param(
            (
                node("n0"),
                node("n1"),
                pod("a", gpus=8, on="n0", priority=7),
                pod("b", gpus=8, on="n1", priority=9),
                pod("w", gpus=8, priority=5),
            ),
            Reason.OUTRANKED,
            "needs 8 GPUs on one node; all 16 GPUs it may use are taken by pods of "
            "priority >= 5 or by pods that must stay",
            "free 8 more GPUs on n0 (0 of 8 are free), or scale down the owner of default/a "
            "(priority 7; evicted, it would come back), or add 1 node like n0 (8 GPUs)",
            id="higher tiers hold everything",
        ),
        pytest.param(
            (
                node("n0"),
                pod("a", gpus=5, on="n0", priority=7),
                pod("w", gpus=8, priority=5),
            ),
            Reason.OUTRANKED,
            "needs 8 GPUs on one node; pods of priority >= 5 and pods that must stay leave "
            "at most 3",
            "free 5 more GPUs on n0 (3 of 8 are free), or scale down the owner of default/a "
            "(priority 7; evicted, it would come back), or add 1 node like n0 (8 GPUs)",
            id="higher tiers hold part of every node",
        ),
        pytest.param(
            (
                node("n0", labels={"zone": "b"}),
                pod("w", constraints=Constraints(node_selector=(("zone", "a"),))),
            ),
            Reason.SELECTOR_MISMATCH,
            "0 of 1 nodes will do: 1 lacks a label it selects (zone=a)",
            "allow the pod on a node with 1 GPU, or add a node that it accepts",
            id="no node has the label",
        ),
    ],
)
def test_holds_say_why_and_what_would_help(
    things: tuple[Node | Pod, ...], reason: Reason, message: str, remedy: str
) -> None:
    """Pending would be all that people see."""
    hold = hold_of(made(*things), "w")

    assert (hold.rejection.reason, hold.rejection.message) == (reason, message)
    assert hold.remedy == remedy


def test_a_broken_search_never_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the solver would reach the cluster."""
    of = snapshot(node("n0"), pod("w", gpus=8))

    def broken(*args: object, **kwargs: object) -> Solution:
        del args, kwargs
        found = engine.without_search(build(of), Policy())
        wrong = tuple(Stage(name=s.name, value=99, bound=99) for s in found.stages)
        return Solution(
            assignment=found.assignment, stages=wrong, engine="cp-sat", sizes=found.sizes
        )

    monkeypatch.setattr(engine, "solve", broken)

    result = result_of(of)

    assert result.engine == "greedy"
    assert placed(result.plan) == {"w": "n0"}


def test_actions_name_pods_nodes_and_owners() -> None:
    """The operator could not carry a plan out."""
    result = made(
        node("n0"), node("n1", gpus=4), pod("low", gpus=4, on="n0"), pod("high", gpus=8, priority=1)
    )

    move = result.moves[0]
    assert isinstance(move, Move)
    assert (str(move.source), str(move.target), move.uid, move.priority) == (
        "n0",
        "n1",
        "uid-low",
        0,
    )
    assert move.owner is not None
    assert move.owner.name == "low"


def test_the_youngest_gives_way() -> None:
    """Long-running pods would be restarted before fresh ones."""
    old, young = (
        replace(pod(name, gpus=4, on="n0"), created_at=at) for name, at in (("a", 1), ("b", 2))
    )

    result = made(node("n0"), old, young, pod("high", gpus=4, priority=10))

    assert [evict.pod for evict in result.evictions] == [young.key]


def test_a_replica_over_two_nodes_is_evicted_with_its_unit_and_never_moved() -> None:
    """A move of one pod restarts the others; whoever outranks the unit may take its place."""
    running = [
        pod(
            f"engine-{i}",
            gpus=4,
            on=f"n{i}",
            owner="chat",
            gang="chat-0",
            min_count=2,
            disruption=Disruption.EVICTABLE,
        )
        for i in (1, 2)
    ]
    nodes = [node("n1"), node("n2")]

    equal = made(*nodes, *running, pod("new", gpus=8))
    higher = made(*nodes, *running, pod("new", gpus=8, priority=10))

    assert (placed(equal), moved(equal), evicted(equal)) == ({}, [], [])
    assert sorted(evicted(higher)) == ["engine-1", "engine-2"]
    assert not moved(higher)
    assert "new" in placed(higher)


def test_a_plan_that_is_not_valid_gives_way_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would hear of it that everybody waits because of a fault of ours."""
    wrong = Violation(code=Code.OVER_COMMITTED, message="n0 would lack 1 GPU after the plan")
    findings = iter([(wrong,), (wrong,)])
    monkeypatch.setattr("bayplan.planner.validate", lambda *_: next(findings, ()))

    result = plan(snapshot(node("n0"), pod("w")), Policy(), clock=lambda: 0.0)

    assert result.refused == ("OverCommitted: n0 would lack 1 GPU after the plan",) * 2
    assert [hold.pod.name for hold in result.plan.holds] == ["w"]
