"""Who is disturbed, against brute force, where room has to be made: costs, budgets and orders."""

from dataclasses import replace
from random import Random
from unittest import mock

import pytest

from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Result
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.solver import engine
from bayplan.validate import validate
from tests import oracle
from tests.builders import budget, node, pod
from tests.builders import snapshot as snapshot_of

POLICY = Policy(time_limit_s=20.0)

#: What is looked at; brute force takes a tenth of a second for each and each order.
SEEDS = range(40)


def crowded(seed: int) -> Snapshot:
    """Return a small cluster with free GPUs in pieces, and newcomers that need them whole."""
    random = Random(seed)  # noqa: S311 - an example, not a secret
    hosts = [node(f"n{i}", gpus=4) for i in range(3)]
    running = [_running(random, i) for i in range(random.randint(4, 5))]
    waiting = [
        pod(f"w{i}", gpus=random.choice([3, 4, 4]), priority=random.choice([0, 10, 20]))
        for i in range(random.randint(1, 2))
    ]
    budgets = [
        budget(app, allowed=random.choice([0, 1, 1, 1, 2]), app=app)
        for app in ("a", "b")
        if random.random() < 0.5
    ]
    return snapshot_of(*hosts, *running, *waiting, *budgets)


def _running(random: Random, i: int) -> Pod:
    return pod(
        f"r{i}",
        gpus=random.choice([1, 1, 1, 2]),
        on=f"n{i % 3}",
        priority=random.choice([0, 10, 10]),
        disruption=random.choice([*[Disruption.MOVABLE] * 4, Disruption.EVICTABLE]),
        labels={"app": random.choice("aaab")},
        move_cost=random.choice([1, 7, 30]),
    )


def made(snapshot: Snapshot, policy: Policy, *, counted: bool) -> Result:
    """Return the plan of keep and fill (`counted`) or of the direct model."""
    with mock.patch.object(engine, "MIN_VARIABLES", 0 if counted else 10**9):
        return plan(snapshot, policy, clock=lambda: 0.0)


@pytest.mark.parametrize("order", Order)
def test_stages_equal_brute_force(order: Order) -> None:
    """The wrong pods would be disturbed, or more than a budget admits."""
    for seed in SEEDS:
        snapshot, policy = crowded(seed), replace(POLICY, order=order, max_moves=2 + seed % 3)
        direct, counted = (made(snapshot, policy, counted=each) for each in (False, True))
        stages = direct.plan.certificate.stages
        names = tuple(stage.name for stage in stages)
        values = tuple(stage.value for stage in stages)

        for result in (direct, counted):
            assert validate(snapshot, policy, result.plan) == ()
            assert all(stage.proved for stage in result.plan.certificate.stages)
        assert counted.engine == "keep-and-fill"
        assert counted.plan.certificate.stages == stages
        assert oracle.reached(names, values) == oracle.best(snapshot, policy, names)


def test_the_examples_are_about_something() -> None:
    """Without budgets that bind, costs that matter and orders that differ nothing is tested."""
    budgets = costs = orders = 0
    for seed in SEEDS:
        snapshot = crowded(seed)
        pods = tuple(
            replace(each, disruption=Disruption.MOVABLE) if each.fixed_by else each
            for each in snapshot.pods
        )
        wide = tuple(replace(each, allowed=9) for each in snapshot.budgets)
        free = Snapshot(nodes=snapshot.nodes, pods=pods, budgets=wide)
        cheap = replace(free, pods=tuple(replace(each, move_cost=1) for each in free.pods))
        values = [made(each, POLICY, counted=False).plan for each in (snapshot, free, cheap)]
        protect = made(snapshot, replace(POLICY, order=Order.PROTECT_FIRST), counted=False).plan
        budgets += len(values[0].binds) != len(values[1].binds)
        costs += values[1].moves != values[2].moves
        orders += len(values[0].binds) != len(protect.binds)

    assert min(budgets, costs, orders) > 3, (budgets, costs, orders)
