"""What is said to help does help: each remedy, carried out, lets the pods in."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from bayplan.aftermath import Aftermath
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Plan, Reason
from bayplan.policy import Policy
from bayplan.rules import filters
from bayplan.why.leaving import Rules
from bayplan.why.obstacles import Obstacles
from bayplan.why.remedies import Remedies, Search
from bayplan.why.rooms import Census
from tests import builders
from tests.builders import GPU
from tests.property.crowds import HOSTNAME, crowds
from tests.property.plans import applied, made, policies, snapshots

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


def search(snapshot: Snapshot, plan: Plan, unit: Sequence[Pod]) -> Search:
    """Return who looks for what would help the unit."""
    after = Aftermath.of_plan(snapshot, plan)
    census = Census(after, {pod.constraints for pod in unit})
    return Search(after, census, rules_after(snapshot, after))


def rules_after(snapshot: Snapshot, after: Aftermath) -> Rules:
    """Return what pods ask of each other after a plan."""
    asked = any(pod.constraints.peers for pod in snapshot.pods)
    return Obstacles(after) if asked else Rules()


def found(snapshot: Snapshot, plan: Plan, unit: Sequence[Pod]) -> Remedies:
    """Return what would help the unit."""
    rules = rules_after(snapshot, Aftermath.of_plan(snapshot, plan))
    bound = rules.bind(unit) and len(unit) > 1
    return Remedies() if bound else search(snapshot, plan, unit).find(unit)


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


def freed(snapshot: Snapshot, remedies: Remedies, unit: Sequence[Pod]) -> Snapshot:
    """Return the snapshot after so much use as the remedy says went from each of its nodes.

    What is left of it is in one pod; who cannot make room for the unit stays as it is.
    """
    free, rest = snapshot.free(), list(snapshot.pods)
    for each in remedies.free:
        here = [p for p in rest if p.node == each.node.name]
        stay = [p for p in here if stays(p, unit)]
        left = each.node.allocatable - free[each.node.name] - each.lacking
        for pod in stay:
            left -= pod.requests
        assert all(n >= 0 for _, n in left.items), "more would be free than there is"
        filler = replace(builders.pod(f"filler-{each.node.name}", on=each.node.name), requests=left)
        # Who is there shrinks to nothing, so that rules between pods mean them still.
        less = [replace(p, requests=Resources()) for p in here if p not in stay]
        rest = [p for p in rest if p not in here or p in stay] + less
        rest.append(replace(filler, disruption=Disruption.FIXED))
    return Snapshot.of(snapshot.nodes, rest)


def stays(pod: Pod, unit: Sequence[Pod]) -> bool:
    """Return whether nobody would end the pod for the unit: a daemon, or one of its own gang."""
    daemon = pod.owner is not None and pod.owner.kind == "DaemonSet"
    return daemon or (pod.gang is not None and pod.gang == unit[0].gang)


def uncordoned(snapshot: Snapshot, names: Collection[NodeName]) -> Snapshot:
    """Return the snapshot after `kubectl uncordon`, which takes the taint away as well."""
    nodes = [
        replace(node, schedulable=True, taints=tuple(t for t in node.taints if t != filters.CORDON))
        if node.name in names
        else node
        for node in snapshot.nodes
    ]
    return Snapshot.of(nodes, snapshot.pods)


def recovered(snapshot: Snapshot, names: Collection[NodeName]) -> Snapshot:
    """Return the snapshot after these nodes were ready again."""
    nodes = [replace(node, ready=True) if node.name in names else node for node in snapshot.nodes]
    return Snapshot.of(nodes, snapshot.pods)


def extended(snapshot: Snapshot, like: Node, count: int) -> Snapshot:
    """Return the snapshot with that many more nodes like one of it."""
    more = [
        replace(
            uncordoned(Snapshot.of([like], []), [like.name]).nodes[0],
            name=NodeName(f"more-{i}"),
            labels=tuple((k, f"more-{i}" if k == HOSTNAME else v) for k, v in like.labels),
            ready=True,
        )
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


@given(
    snapshot=st.one_of(crowds(), crowds(rules=True), snapshots(nodes=4, pods=12), over_full()),
    policy=policies(),
)
def test_every_remedy_helps(snapshot: Snapshot, policy: Policy) -> None:
    """People would evict, free or buy what does not help."""
    plan = made(snapshot, policy).plan
    after = applied(snapshot, plan)
    held = units(snapshot, plan)
    assume(held)

    for unit in held:
        remedies = found(snapshot, plan, unit)

        if remedies.free:
            assert lets_in(freed(after, remedies, unit), unit)
        if remedies.evict:
            assert all(victim.disruption is not Disruption.FIXED for victim in remedies.evict)
            assert lets_in(without(after, remedies.evict), unit)
        if remedies.uncordon:
            assert lets_in(uncordoned(after, remedies.uncordon), unit)
        if remedies.recover:
            assert lets_in(recovered(after, remedies.recover), unit)
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
    census = Census(Aftermath.of_plan(snapshot, plan), ())
    stay |= {pod.uid for pod in snapshot.pods if census.held(pod.kind)}

    for unit in units(snapshot, plan):
        remedies = found(snapshot, plan, unit)
        if len(unit) > 1 or filters_all(unit[0], after) or lets_in(after, unit):
            continue
        least = min(
            (
                unit[0].requests.shortfall(free).gpus
                for name, free in after.free().items()
                if could_hold(after, name, unit[0])
            ),
            default=0,
        )
        assert sum(gap.lacking["nvidia.com/gpu"] for gap in remedies.free) == least
        assert len(remedies.evict) == fewest(after, unit, stay)


def could_hold(snapshot: Snapshot, name: NodeName, pod: Pod) -> bool:
    """Return whether the pod has room on the node beside who would stay."""
    node = node_of(snapshot, name)
    stay = [p for p in snapshot.pods if p.node == name and stays(p, [pod])]
    room = sum((p.requests for p in stay), Resources())
    lacks = filters.static_rejection(pod, node)
    return lacks is None and pod.requests.fits(node.allocatable - room)


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


@given(snapshot=crowds(), policy=policies())
def test_what_is_waited_for_is_what_is_in_the_way(snapshot: Snapshot, policy: Policy) -> None:
    """People would wait for a cooldown, or raise a limit, and the pod would go on waiting."""
    plan = made(snapshot, policy).plan
    after = applied(snapshot, plan)

    for unit in units(snapshot, plan):
        said = next(hold.rejection for hold in plan.holds if hold.uid == unit[0].uid)
        mine = {pod.uid for pod in unit}
        alone = [p for p in after.pods if not p.waiting or p.uid in mine]
        if said.reason is Reason.DISRUPTION_FORBIDDEN or "PackingPolicy" in said.message:
            free = [
                replace(p, disruption=Disruption.MOVABLE, fixed_by="", budget=None)
                if p.fixed_by or p.budget
                else p
                for p in alone
            ]
            later = made(Snapshot.of(after.nodes, free), Policy(time_limit_s=20.0))
            assert mine <= {bind.uid for bind in later.plan.binds}


@given(snapshot=crowds(rules=True), policy=policies())
def test_what_pods_of_the_same_plan_keep_waiting_the_next_plan_places(
    snapshot: Snapshot, policy: Policy
) -> None:
    """People would wait for a plan that has no more to give, or relax a rule for nothing."""
    plan = made(snapshot, policy).plan
    after = applied(snapshot, plan)

    for unit in units(snapshot, plan):
        hold = next(hold for hold in plan.holds if hold.uid == unit[0].uid)
        if hold.remedy.startswith("wait for the next plan, which") and len(unit) == 1:
            assert lets_in(after, unit)
        if hold.remedy.startswith("make that preferred"):
            mine = {pod.uid for pod in unit}
            relaxed = [
                replace(p, constraints=replace(p.constraints, peers=None)) if p.uid in mine else p
                for p in after.pods
            ]
            bare = [p for p in relaxed if p.uid in mine]
            assert lets_in(Snapshot.of(after.nodes, relaxed, after.budgets), bare)


@given(snapshot=st.one_of(crowds(), crowds(rules=True)), policy=policies())
def test_a_demand_that_is_given_up_lets_a_pod_in(snapshot: Snapshot, policy: Policy) -> None:
    """People would weaken what they ask for, and the pod would wait on."""
    plan = made(snapshot, policy).plan
    after = applied(snapshot, plan)

    for unit in units(snapshot, plan):
        if len(unit) > 1:
            continue
        eased = search(snapshot, plan, unit).relax(unit[0])
        if eased is not None:
            asks = replace(unit[0], constraints=eased.constraints)
            pods = [asks if p.uid == asks.uid else p for p in after.pods]
            assert lets_in(Snapshot.of(after.nodes, pods, after.budgets), [asks])
