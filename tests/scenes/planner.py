"""Passes of the planner on clusters made by hand, and what comes of them."""

from bayplan.cluster.budgets import Budget
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Hold, Plan, Result
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.validate import validate
from tests.builders import node, pod, snapshot

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
