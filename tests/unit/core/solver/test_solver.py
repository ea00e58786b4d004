"""The exact model rule by rule, the relaxation, and the greedy placement."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ortools.sat.python import cp_model

from bayplan.cluster.budgets import Budget
from bayplan.cluster.constraints import GangTopology
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.policy import Order, Policy
from bayplan.solver.bounds.relaxation import Relaxation
from bayplan.solver.exact import constraints, variables
from bayplan.solver.exact.constraints import Rule
from bayplan.solver.local import greedy
from bayplan.solver.local.drain import drain
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment, present
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.goals import Keep, Place
from bayplan.solver.problem.instance import Instance, PlaceGroup
from tests.builders import apart, beside, budget, node, pod, snapshot, spread

Things = tuple[Node | Pod | Budget, ...]

TEAM = tuple(pod(f"t{i}", gpus=4, on=f"n{i}", gang="t", min_count=2) for i in range(2))
X: dict[str, Any] = {"app": "x"}
ZONED = tuple(node(f"n{i}", labels={"zone": "aab"[i]}) for i in range(3))
IN_A_ZONE = GangTopology(required="zone")
UNIT = tuple(pod(f"u{i}", gpus=4, gang="u", min_count=2) for i in range(2))


def instance_of(*things: Node | Pod | Budget) -> Instance:
    """Return the things as the engines see them, on two nodes unless they bring their own."""
    nodes = [thing for thing in things if isinstance(thing, Node)]
    return build(snapshot(*things, *([] if nodes else [node("n0"), node("n1")])))


def allows(rule: Rule, instance: Instance, policy: Policy, **fixed: int) -> bool:
    """Return whether the rule alone allows these values of variables, given by name."""
    model = cp_model.CpModel()
    v = variables.declare(model, instance)
    rule.add(model, v, policy)
    named = {
        **{f"final_{i}_{n}": var for (i, n), var in v.final.items()},
        **{f"kept_{i}_{n}": var for (i, n), var in v.kept.items()},
        **{f"survivors_{i}": var for i, var in v.survivors.items()},
        **{f"units_{k}": var for k, var in v.units.items()},
        **{f"alive_{key.name}": var for key, var in v.alive.items()},
    }
    for name, value in fixed.items():
        model.add(named[name] == value)
    return cp_model.CpSolver().solve(model) in {cp_model.OPTIMAL, cp_model.FEASIBLE}


@pytest.mark.parametrize(
    ("rule", "things", "good", "bad"),
    [
        pytest.param(
            constraints.NodeCapacity(),
            (pod("a", gpus=5), pod("b", gpus=4)),
            {"final_0_0": 1, "final_1_0": 0},
            {"final_0_0": 1, "final_1_0": 1},
            id="a node holds what fits",
        ),
        pytest.param(
            constraints.Headcount(),
            (pod("a", gpus=2, on="n0"), pod("b", gpus=2)),
            {"survivors_0": 1, "final_0_0": 1, "final_0_1": 1},
            {"survivors_0": 0, "final_0_0": 1, "final_0_1": 1},
            id="no more are placed than wait",
        ),
        pytest.param(
            constraints.Headcount(),
            (pod("a", gpus=2, on="n0"),),
            {"survivors_0": 1, "final_0_0": 0, "final_0_1": 1},
            {"survivors_0": 1, "final_0_0": 0, "final_0_1": 0},
            id="a survivor is somewhere",
        ),
        pytest.param(
            constraints.Staying(),
            (pod("a", gpus=2, on="n0"), pod("b", gpus=2)),
            {"kept_0_0": 1, "final_0_0": 1, "survivors_0": 1},
            {"kept_0_0": 1, "final_0_0": 1, "survivors_0": 0},
            id="what stays survives",
        ),
        pytest.param(
            constraints.Staying(),
            (pod("a", gpus=2, on="n0"), pod("b", gpus=2)),
            {"kept_0_0": 0, "final_0_0": 0},
            {"kept_0_0": 1, "final_0_0": 0},
            id="what stays is still there",
        ),
        pytest.param(
            constraints.WholeGangs(),
            UNIT,
            {"units_0": 1, "final_0_0": 1, "final_0_1": 1},
            {"units_0": 1, "final_0_0": 1, "final_0_1": 0},
            id="a gang comes whole",
        ),
        pytest.param(
            constraints.WholeGangs(),
            UNIT,
            {"units_0": 0, "final_0_0": 0, "final_0_1": 0},
            {"units_0": 0, "final_0_0": 1},
            id="or not at all",
        ),
        pytest.param(
            constraints.RunningGangs(),
            TEAM,
            {"alive_t": 0, "survivors_0": 0},
            {"alive_t": 0, "survivors_0": 1},
            id="a running gang goes whole",
        ),
        pytest.param(
            constraints.Budgets(),
            (pod("a", on="n0"), pod("b", on="n0"), pod("c")),
            {"survivors_0": 1, "kept_0_0": 1},
            {"survivors_0": 0, "kept_0_0": 0},
            id="no more evictions than allowed",
        ),
        pytest.param(
            constraints.Budgets(),
            (pod("a", on="n0"), pod("b", on="n0"), pod("c")),
            {"survivors_0": 2, "kept_0_0": 1},
            {"survivors_0": 2, "kept_0_0": 0},
            id="no more moves than allowed",
        ),
        pytest.param(
            constraints.BetweenPods(),
            (*ZONED, *(pod(f"a{i}", labels=X, constraints=apart("zone", **X)) for i in range(2))),
            {"final_0_0": 1, "final_0_1": 0, "final_0_2": 1},
            {"final_0_0": 1, "final_0_1": 1, "final_0_2": 0},
            id="who keeps apart is in no zone twice",
        ),
        pytest.param(
            constraints.BetweenPods(),
            (*ZONED, *(pod(f"a{i}", labels=X, constraints=spread("zone", **X)) for i in range(2))),
            {"final_0_0": 1, "final_0_1": 0, "final_0_2": 1},
            {"final_0_0": 1, "final_0_1": 1, "final_0_2": 0},
            id="a zone has no more than the skew allows",
        ),
        pytest.param(
            constraints.BetweenPods(),
            (*ZONED, pod("c", gpus=2, labels=X), pod("a", constraints=beside("zone", **X))),
            {"final_0_0": 1, "final_1_1": 1},
            {"final_0_2": 1, "final_0_0": 0, "final_0_1": 0, "final_1_1": 1, "final_1_2": 0},
            id="who needs company finds it",
        ),
        pytest.param(
            constraints.BetweenPods(),
            (*ZONED, *(pod(f"a{i}", labels=X, constraints=beside("zone", **X)) for i in range(2))),
            {"final_0_0": 1, "final_0_1": 1, "final_0_2": 0},
            {"final_0_0": 1, "final_0_1": 0, "final_0_2": 1},
            id="the first ones begin in one zone",
        ),
        pytest.param(
            constraints.GangsTogether(),
            (*ZONED, *(replace(each, gang_topology=IN_A_ZONE) for each in UNIT)),
            {"units_0": 1, "final_0_0": 1, "final_0_1": 1, "final_0_2": 0},
            {"units_0": 1, "final_0_0": 1, "final_0_1": 0, "final_0_2": 1},
            id="a gang is in one zone",
        ),
        pytest.param(
            constraints.DisruptionBudgets(),
            (
                pod("a", on="n0", labels={"app": "x"}),
                pod("b", on="n1", labels={"app": "x"}),
                budget("x", allowed=1, app="x"),
            ),
            {"kept_0_0": 1, "kept_0_1": 0},
            {"kept_0_0": 0, "kept_0_1": 0},
            id="no more of a PodDisruptionBudget than it admits",
        ),
        pytest.param(
            constraints.SharedGpus(),
            (node("n0", gpus=2), *(pod(f"a{i}", share=600) for i in range(3))),
            {"final_0_0": 2},
            {"final_0_0": 3},
            id="no two large shares on one GPU",
        ),
        pytest.param(
            constraints.SharedGpus(),
            (node("n0", gpus=2), pod("a", gpus=1), pod("b", share=500), pod("c", share=600)),
            {"final_0_0": 1, "final_1_0": 1, "final_2_0": 0},
            {"final_0_0": 1, "final_1_0": 1, "final_2_0": 1},
            id="whole GPUs are whole",
        ),
        pytest.param(
            constraints.SharedGpus(),
            (
                node("n0", gpus=2),
                pod("r", share=400, on="n0", device=0),
                pod("s", share=400, on="n0", device=1),
                pod("a", share=700),
            ),
            {"kept_0_0": 1, "kept_1_0": 0, "final_2_0": 1},
            {"kept_0_0": 1, "kept_1_0": 1, "final_2_0": 1},
            id="who stays keeps its GPU",
        ),
        pytest.param(
            constraints.SharedGpus(),
            (
                node("n0", gpus=1),
                node("n1", gpus=1),
                pod("r", share=400, on="n0", device=0),
                pod("s", share=400, on="n1", device=0),
            ),
            {"kept_0_0": 1, "final_0_0": 2},
            {"kept_0_0": 0, "final_0_0": 2},
            id="nobody changes its GPU on its node",
        ),
    ],
)
def test_each_rule_allows_and_forbids(
    rule: Rule, things: Things, good: dict[str, int], bad: dict[str, int]
) -> None:
    """A rule could forbid what is right, or allow what is wrong."""
    policy = Policy(max_moves=1, max_evictions=1)
    instance = instance_of(*things)

    assert allows(rule, instance, policy, **good)
    assert not allows(rule, instance, policy, **bad)


def test_pods_that_are_alike_are_one_class() -> None:
    """The model would grow with the pods instead of with their kinds."""
    instance = instance_of(*(pod(f"p{i}") for i in range(9)), pod("r", on="n0"))

    assert len(instance.classes) == 1
    assert len(instance.classes[0].waiting) == 9
    assert len(instance.classes[0].running) == 1


def test_gangs_that_are_alike_are_one_kind() -> None:
    """A hundred equal units would be a hundred variables."""
    gangs = [
        pod(f"{name}{i}", gpus=gpus, gang=name, min_count=2)
        for name in ("a", "b", "c")
        for i, gpus in enumerate((8, 4))
    ]
    instance = instance_of(*gangs)

    assert [len(kind.gangs) for kind in instance.kinds] == [3]
    assert len(instance.classes) == 2


def test_what_may_not_be_touched_is_taken_from_the_room() -> None:
    """The model could place pods where a fixed one is."""
    instance = instance_of(
        pod("f", gpus=3, on="n0", disruption=Disruption.FIXED),
        pod("t", gpus=2, on="n0", terminating=True),
        pod("w"),
    )
    column = instance.resources.index("nvidia.com/gpu")

    assert list(instance.room[:, column]) == [3, 8]


def test_the_relaxation_bounds_a_tier_given_the_one_above() -> None:
    """A tier would be measured against room that it can never have."""
    instance = instance_of(
        node("n0"),
        *(pod(f"h{i}", gpus=4, priority=10) for i in range(1)),
        *(pod(f"l{i}", gpus=4) for i in range(3)),
    )
    relaxation = Relaxation(instance, Policy())
    low = Place(PlaceGroup(0, preempts=True))

    assert relaxation.bound(low, seconds=5) == 2
    relaxation.require(Place(PlaceGroup(10, preempts=True)), 1)
    assert relaxation.bound(low, seconds=5) == 1


def test_the_relaxation_knows_running_gangs() -> None:
    """Half a gang would be counted as kept."""
    instance = instance_of(*TEAM, pod("h", gpus=8, priority=10))
    relaxation = Relaxation(instance, Policy())
    relaxation.require(Place(PlaceGroup(10, preempts=True)), 1)

    assert relaxation.bound(Keep(0), seconds=5) == 2


def test_greedy_fills_the_tightest_node() -> None:
    """Whole free nodes would be broken for small pods."""
    instance = instance_of(pod("r", gpus=6, on="n1"), pod("w", gpus=2))

    assert greedy.fill(instance, Order.PLACE_FIRST).final[:, 1].sum() == 2


def test_greedy_takes_the_order_that_places_more() -> None:
    """One large pod would keep out many small ones of its tier."""
    instance = instance_of(node("n0"), pod("large", gpus=8), *(pod(f"s{i}") for i in range(8)))

    assert int(greedy.fill(instance, Order.PLACE_FIRST).placed.sum()) == 8


def test_greedy_places_as_many_gangs_as_fit_and_no_half() -> None:
    """Room that is there for each class of a gang alone would be taken for whole gangs."""
    gangs = [
        pod(f"{name}{k}", gpus=gpus, gang=f"g{k}", min_count=2)
        for k in range(3)
        for name, gpus in (("p", 4), ("d", 8))
    ]
    instance = instance_of(node("n0"), node("n1"), node("n2"), *gangs)

    found = greedy.fill(instance, Order.PLACE_FIRST)

    assert found.units.tolist() == [2]
    assert sorted(found.final.sum(axis=1).tolist()) == [2, 2]
    assert (instance.left(found.final) >= 0).all()


def test_greedy_that_has_no_time_left_still_places() -> None:
    """A fleet would get no answer where one placement takes all the time there is."""
    instance = instance_of(node("n0"), pod("large", gpus=8), *(pod(f"s{i}") for i in range(8)))

    assert int(greedy.fill(instance, Order.PLACE_FIRST, ended=lambda: True).placed.sum()) == 1


def test_nodes_are_drained_only_while_there_is_time() -> None:
    """A pass that wins slots would go on for minutes on a large fleet."""
    instance = instance_of(node("n0"), node("n1"), pod("a", on="n0"), pod("b", on="n1"))
    still = present(instance)

    drained = drain(instance, Policy(), still, ended=lambda: False)
    late = drain(instance, Policy(), still, ended=lambda: True)

    assert sorted(drained.final.sum(axis=0).tolist()) == [0, 2]
    assert late.final.tolist() == still.final.tolist()


def test_refill_spares_a_victim_before_it_places_anyone() -> None:
    """A newcomer would take the room in which an evicted pod could have stayed."""
    instance = instance_of(
        node("n0", gpus=4), pod("r", gpus=4, on="n0"), pod("w", gpus=4, priority=5)
    )
    empty = Assignment(
        final=np.zeros_like(instance.running),
        survivors=np.zeros_like(instance.run_totals),
        units=np.zeros(0, dtype=np.int64),
    )

    full = greedy.refill(instance, Policy(), empty)

    still = present(instance)
    order = goals.in_order(instance, Order.PLACE_FIRST)
    assert goals.values(instance, order, full) == goals.values(instance, order, still)


def test_pods_that_preempt_nobody_come_after_every_keeping_stage() -> None:
    """They would cost a running pod its place."""
    instance = instance_of(
        pod("r", on="n0"), pod("n", priority=20, preempts=False), pod("p", priority=10)
    )

    assert [goal.name for goal in goals.in_order(instance, Order.PLACE_FIRST)][:3] == [
        "place 10",
        "keep 0",
        "place 20 without preemption",
    ]


def test_who_is_needed_comes_first_in_a_tier() -> None:
    """Who preempts nobody would come before the last that could be given up for them."""
    units = [
        pod(
            name,
            priority=priority,
            preempts=preempts,
            gang=name,
            owner=name,
            min_units=1,
            min_count=1,
        )
        for name, priority, preempts in (("a-0", 20, False), ("b-0", 20, True), ("c-0", 0, False))
    ]
    others = [pod("x", priority=20), pod("y", priority=20, preempts=False), pod("z")]
    instance = instance_of(pod("r", on="n0"), *units, *others)

    assert [goal.name for goal in goals.in_order(instance, Order.PLACE_FIRST)][:7] == [
        "place 20 below minReplicas",
        "place 20",
        "keep 0",
        "place 20 below minReplicas without preemption",
        "place 20 without preemption",
        "place 0 below minReplicas without preemption",
        "place 0",
    ]


def test_equal_units_are_apart_where_only_some_are_needed() -> None:
    """All of them would be placed before others, or none."""
    units = [
        pod(f"u-{i}-{part}", gpus=4, gang=f"u-{i}", min_count=2, owner="u", min_units=1)
        for i in range(3)
        for part in "ab"
    ]
    instance = instance_of(*units)

    counted = {kind.place: len(kind.gangs) for kind in instance.kinds}
    assert counted == {PlaceGroup(0, True, True): 1, PlaceGroup(0, True, False): 2}


def test_protect_first_settles_what_a_tier_suffers_before_the_next_is_placed() -> None:
    """A lower tier could still move pods of the higher one."""
    instance = instance_of(
        pod("r", on="n0", priority=10), pod("s", on="n0"), pod("a", priority=20), pod("b")
    )

    assert [goal.name for goal in goals.in_order(instance, Order.PROTECT_FIRST)][:6] == [
        "place 20",
        "keep 10",
        "disruption from 10",
        "keep 0",
        "place 0",
        "disruption from 0",
    ]


def test_a_budget_that_cannot_bind_is_no_rule() -> None:
    """Every PodDisruptionBudget of a cluster would cost the search time."""
    team = [pod(f"a{i}", on="n0", labels={"app": "x"}) for i in range(2)]

    assert instance_of(*team, budget("x", allowed=1, app="x")).allowances[0].most == 1
    assert instance_of(*team, budget("x", allowed=2, app="x")).allowances == ()


def test_the_relaxation_knows_disruption_budgets() -> None:
    """Room would be counted that no eviction may free."""
    team = [pod(f"a{i}", gpus=4, on="n0", labels={"app": "x"}) for i in range(2)]
    instance = instance_of(
        node("n0"), *team, pod("h", gpus=8, priority=10), budget("x", allowed=1, app="x")
    )

    assert (
        Relaxation(instance, Policy()).bound(Place(PlaceGroup(10, preempts=True)), seconds=5) == 0
    )
