"""What holds for every plan, on snapshots nobody thought of."""

import copy
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Verdict
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.solver import engine
from bayplan.solver.problem import goals
from bayplan.solver.problem.counting import build
from bayplan.validate import validate
from tests import oracle
from tests.builders import node, pod
from tests.property.plans import POLICY, applied, frozen, made, policies, snapshots


@given(snapshot=snapshots(), policy=policies())
def test_every_plan_is_valid(snapshot: Snapshot, policy: Policy) -> None:
    """A plan could over-commit a node, split a gang, exceed a budget, or claim what is not so."""
    before = copy.deepcopy(snapshot)
    instance = build(snapshot)
    found = engine.solve(instance, policy, clock=frozen, deadline_at=17.0, seed=0)

    result = made(snapshot, policy)

    assert validate(snapshot, policy, result.plan) == ()
    # The exact engine's own answer passed, not a simpler one in its place.
    assert result.engine == found.engine
    assert result.plan.certificate.stages == found.stages
    assert snapshot == before


@given(snapshot=snapshots(), random=st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(snapshot: Snapshot, random: Random) -> None:
    """The same cluster would get another plan on each list of its objects."""
    nodes, pods = list(snapshot.nodes), list(snapshot.pods)
    random.shuffle(nodes)
    random.shuffle(pods)
    shuffled = Snapshot(nodes=tuple(nodes), pods=tuple(pods), budgets=snapshot.budgets[::-1])

    assert made(shuffled) == made(snapshot)
    assert shuffled.digest == snapshot.digest


@given(snapshot=snapshots())
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(snapshot: Snapshot) -> None:
    """The planner would move pods for ever."""
    for _ in range(3):
        first = made(snapshot).plan
        snapshot = applied(snapshot, first)
        second = made(snapshot).plan

        if first.certificate.verdict in {Verdict.OPTIMAL, Verdict.INFEASIBLE}:
            assert (second.binds, second.moves, second.evictions) == ((), (), ())


@given(snapshot=snapshots(nodes=3, pods=6), policy=policies())
def test_stages_equal_brute_force(snapshot: Snapshot, policy: Policy) -> None:
    """`Optimal` would not mean optimal."""
    certificate = made(snapshot, policy).plan.certificate
    names = tuple(stage.name for stage in certificate.stages)
    values = tuple(stage.value for stage in certificate.stages)

    assert oracle.reached(names, values) == oracle.best(snapshot, policy, names)


@given(snapshot=snapshots(nodes=3, pods=8))
def test_protect_first_disturbs_nobody_for_a_lower_tier(snapshot: Snapshot) -> None:
    """A pod would be restarted so that one of a lower priority fits."""
    policy = replace(POLICY, order=Order.PROTECT_FIRST)
    stages = made(snapshot, policy).plan.certificate.stages
    lowest: dict[object, int] = {}
    for each in snapshot.waiting():
        gang = each.gang or each.key
        lowest[gang] = min(each.priority, lowest.get(gang, each.priority))

    for i, stage in enumerate(stages):
        if stage.name.startswith("disruption from "):
            tier = int(stage.name.rsplit(" ", 1)[1])
            above = [p for p in snapshot.pods if lowest.get(p.gang or p.key, tier) >= tier]
            alone = made(replace(snapshot, pods=tuple(above)), policy).plan.certificate.stages
            assert [(s.name, s.value) for s in alone[: i + 1]] == [
                (s.name, s.value) for s in stages[: i + 1]
            ]


@given(snapshot=snapshots(nodes=4, pods=10))
def test_search_is_never_worse_than_greedy(snapshot: Snapshot) -> None:
    """A longer search would hand out a worse plan."""
    instance = build(snapshot)
    order = goals.in_order(instance, Order.PLACE_FIRST)
    searched = engine.solve(instance, POLICY, clock=frozen, deadline_at=17.0, seed=0)
    greedy = engine.without_search(instance, POLICY)

    assert goals.values(instance, order, searched.assignment) >= goals.values(
        instance, order, greedy.assignment
    )


@given(snapshot=snapshots())
def test_whoever_waits_is_bound_or_told_why(snapshot: Snapshot) -> None:
    """A pod would stay Pending without a reason."""
    result = made(snapshot).plan

    assert all(hold.rejection.message for hold in result.holds)
    assert {b.pod for b in result.binds} | {h.pod for h in result.holds} == {
        each.key for each in snapshot.waiting()
    }


def test_an_expired_clock_still_gives_a_plan() -> None:
    """A slow machine would get no answer at all."""
    ticks = iter(range(0, 1_000_000, 100))
    small = Snapshot.of([node("a"), node("b")], [pod("r", gpus=4, on="a"), pod("w", gpus=8)])

    result = plan(small, POLICY, clock=lambda: float(next(ticks)))

    assert [bind.node for bind in result.plan.binds] == ["b"]
