"""The planner on clusters that one can see through: who is placed, moved and evicted."""

import gc
import time
import weakref
from dataclasses import replace

import pytest
from ortools.sat.python import cp_model

from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import MAX_MOVE_COST, OVERSTAY_S, Disruption, Pod
from bayplan.plan import Move, Stage, Verdict
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.solver import engine
from bayplan.solver.problem.counting import build
from bayplan.solver.solution import Solution
from bayplan.validate import Code, Violation
from tests.builders import node, pod, snapshot
from tests.scenes.planner import POLICY, evicted, made, moved, placed, result_of, spread, unit


def test_two_units_come_in_by_moves_alone() -> None:
    """Free GPUs in pieces would stay useless, or running pods would be evicted for them."""
    result = result_of(snapshot(*spread(), *unit("chat-0", 8, 4, 4), *unit("chat-1", 8, 4, 4)))

    assert result.plan.certificate.verdict == Verdict.OPTIMAL
    assert len(result.plan.binds) == 6
    assert result.plan.evictions == ()
    assert result.plan.holds == ()
    assert len(result.plan.moves) == 4


def test_the_story_takes_less_than_two_seconds() -> None:
    """The demo would stall; in practice it takes about a tenth of that, of a core to itself."""
    of = snapshot(*spread(), *unit("chat-0", 8, 4, 4), *unit("chat-1", 8, 4, 4))

    result = plan(of, POLICY, clock=time.process_time)

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


def test_a_cluster_with_nothing_to_decide_on_can_be_defragmented() -> None:
    """A gang that lacks pods would be enough to crash the pass."""
    alone = pod("a", gpus=4, gang="g", min_count=2)

    assert made(node("n0"), alone, policy=replace(POLICY, order=Order.DEFRAGMENT)).holds


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


def test_a_plan_that_is_not_valid_gives_way_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would hear of it that everybody waits because of a fault of ours."""
    wrong = Violation(code=Code.OVER_COMMITTED, message="n0 would lack 1 GPU after the plan")
    findings = iter([(wrong,), (wrong,)])
    monkeypatch.setattr("bayplan.planner.validate", lambda *_: next(findings, ()))

    result = plan(snapshot(node("n0"), pod("w")), Policy(), clock=lambda: 0.0)

    assert result.refused == ("OverCommitted: n0 would lack 1 GPU after the plan",) * 2
    assert [hold.pod.name for hold in result.plan.holds] == ["w"]
