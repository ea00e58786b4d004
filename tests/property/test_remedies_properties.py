"""What is said to help does help: each remedy, carried out, lets the pods in."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from bayplan import filters
from bayplan.aftermath import Aftermath
from bayplan.keys import NodeName
from bayplan.plan import Plan
from bayplan.policy import Policy
from bayplan.resources import Resources
from bayplan.snapshot import Disruption, Node, Pod, Snapshot
from bayplan.why.remedies import Remedies, Search
from bayplan.why.rooms import Census
from tests.builders import GPU
from tests.property.test_planner_properties import applied, made, policies, snapshots

#: Nobody is disturbed: what is placed found room.
PEACEFUL = Policy(time_limit_s=20.0, max_moves=0, max_evictions=0)


def units(snapshot: Snapshot, plan: Plan) -> list[list[Pod]]:
    """Return the gangs and single pods that the plan holds and that are complete.

    A gang of which the plan evicts the running part is not: it waits for its pods to come back.
    """
    gone = {evict.uid for evict in plan.evictions}
    broken = {pod.gang for pod in snapshot.pods if pod.uid in gone}
    held = {hold.uid for hold in plan.holds if hold.rejection.reason != "GangIncomplete"}
    groups: dict[object, list[Pod]] = {}
    for pod in snapshot.pods:
        if pod.uid in held and (pod.gang is None or pod.gang not in broken):
            groups.setdefault(pod.gang or pod.key, []).append(pod)
    return list(groups.values())


def found(snapshot: Snapshot, plan: Plan, unit: Sequence[Pod]) -> Remedies:
    """Return what would help the unit."""
    after = Aftermath.of_plan(snapshot, plan)
    census = Census.of(after, {pod.constraints for pod in unit})
    return Search(after, census).find(unit)


def lets_in(snapshot: Snapshot, unit: Sequence[Pod]) -> bool:
    """Return whether the unit finds room beside what runs, when nobody else waits."""
    mine = {pod.uid for pod in unit}
    alone = [p for p in snapshot.pods if not p.waiting or p.uid in mine]
    result = made(Snapshot.of(snapshot.nodes, alone), PEACEFUL)
    return mine <= {bind.uid for bind in result.plan.binds}


def without(snapshot: Snapshot, pods: Sequence[Pod]) -> Snapshot:
    """Return the snapshot after these pods went."""
    gone = {pod.uid for pod in pods}
    return Snapshot.of(snapshot.nodes, [p for p in snapshot.pods if p.uid not in gone])


def freed(snapshot: Snapshot, remedies: Remedies) -> Snapshot:
    """Return the snapshot with as much more room as the remedy asks for."""
    lacking = {each.node.name: each.lacking for each in remedies.free}
    nodes = [
        replace(node, allocatable=node.allocatable + lacking[node.name])
        if node.name in lacking
        else node
        for node in snapshot.nodes
    ]
    return Snapshot.of(nodes, snapshot.pods)


def extended(snapshot: Snapshot, like: Node, count: int) -> Snapshot:
    """Return the snapshot with that many more nodes like one of it."""
    more = [
        replace(like, name=NodeName(f"more-{i}"), schedulable=True, ready=True)
        for i in range(count)
    ]
    return Snapshot.of([*snapshot.nodes, *more], snapshot.pods)


def over_full() -> st.SearchStrategy[Snapshot]:
    """Return clusters in which GPUs of some nodes have failed under running pods."""
    return st.builds(_shrunk, snapshots(nodes=4, pods=12), st.integers(0, 2**32))


def _shrunk(snapshot: Snapshot, seed: int) -> Snapshot:
    random = Random(seed)  # noqa: S311 - an example, not a secret
    nodes = [
        replace(
            each,
            allocatable=Resources.of(
                dict(each.allocatable.items)
                | {GPU: max(1, each.allocatable[GPU] - random.choice([0, 1, 3]))}
            ),
        )
        for each in snapshot.nodes
    ]
    return Snapshot.of(nodes, snapshot.pods, snapshot.budgets)


@given(snapshot=st.one_of(snapshots(nodes=4, pods=12), over_full()), policy=policies())
def test_every_remedy_helps(snapshot: Snapshot, policy: Policy) -> None:
    """People would evict, free or buy what does not help."""
    plan = made(snapshot, policy).plan
    after = applied(snapshot, plan)
    held = units(snapshot, plan)
    assume(held)

    for unit in held:
        remedies = found(snapshot, plan, unit)

        if remedies.free:
            assert lets_in(freed(after, remedies), unit)
        if remedies.evict:
            assert all(victim.disruption is not Disruption.FIXED for victim in remedies.evict)
            assert lets_in(without(after, remedies.evict), unit)
        if remedies.uncordon:
            fixed = [replace(n, schedulable=True) for n in after.nodes]
            assert lets_in(Snapshot.of(fixed, after.pods), unit)
        if remedies.add:
            assert lets_in(extended(after, remedies.add.like, remedies.add.count), unit)
            if remedies.add.count > 1 and len(unit) == 1:
                raise AssertionError("one pod never needs two nodes")


@given(snapshot=snapshots(nodes=4, pods=12), policy=policies())
def test_a_single_pod_gets_the_cheapest_remedy(snapshot: Snapshot, policy: Policy) -> None:
    """People would be sent to evict three pods where one is enough."""
    plan = made(snapshot, policy).plan
    after = applied(snapshot, plan)
    stay = {bind.uid for bind in plan.binds} | {move.uid for move in plan.moves}
    census = Census.of(Aftermath.of_plan(snapshot, plan), ())
    stay |= {pod.uid for pod in snapshot.pods if census.held(pod.kind)}

    for unit in units(snapshot, plan):
        remedies = found(snapshot, plan, unit)
        if len(unit) > 1 or filters_all(unit[0], after) or lets_in(after, unit):
            continue
        least = min(
            sum(n for name, n in unit[0].requests.shortfall(free).items if name.endswith("gpu"))
            for name, free in after.free().items()
            if filters.static_rejection(unit[0], node_of(after, name)) is None
        )
        assert sum(gap.lacking["nvidia.com/gpu"] for gap in remedies.free) == least
        assert len(remedies.evict) == fewest(after, unit, stay)


def filters_all(pod: Pod, snapshot: Snapshot) -> bool:
    """Return whether every node refuses the pod for good."""
    return all(filters.static_rejection(pod, node) for node in snapshot.nodes)


def node_of(snapshot: Snapshot, name: NodeName) -> Node:
    """Return a node by name."""
    return next(node for node in snapshot.nodes if node.name == name)


def fewest(snapshot: Snapshot, unit: Sequence[Pod], stay: set[str]) -> int:
    """Return by brute force the fewest pods on one node whose going lets a pod in; 0: none do."""
    gangs: dict[object, list[Pod]] = {}
    for pod in snapshot.placed():
        gangs.setdefault(pod.gang if pod.gang_min_count > 1 else pod.key, []).append(pod)
    parties = [
        pods
        for pods in gangs.values()
        if all(p.disruption is not Disruption.FIXED and p.uid not in stay for p in pods)
        and (unit[0].gang is None or pods[0].gang != unit[0].gang)
    ]
    for most in range(1, len(snapshot.pods) + 1):
        for size in range(1, len(parties) + 1):
            for chosen in combinations(parties, size):
                pods = [pod for party in chosen for pod in party]
                if len(pods) == most and fits_somewhere(without(snapshot, pods), unit[0]):
                    return most
    return 0


def fits_somewhere(snapshot: Snapshot, pod: Pod) -> bool:
    """Return whether some node has room for the pod."""
    free = snapshot.free()
    return any(filters.reject(pod, node, free[node.name]) is None for node in snapshot.nodes)
