"""The validator counts columns: what it finds in broken plans is what a look at each pod finds."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bayplan.cluster import units
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import (
    EVICTION_COST,
    Action,
    Bind,
    Evict,
    Hold,
    Move,
    Plan,
    Reason,
    Rejection,
    Stage,
    actions_of,
    plan_of,
)
from bayplan.policy import Policy
from bayplan.rules import filters
from bayplan.validate import Code, validate
from tests.builders import GPU
from tests.property.plans import made, policies, snapshots

#: What is looked for pod by pod here; budgets, gangs and ranks have tests of their own.
LOOKED_AT = {
    Code.UNKNOWN_POD,
    Code.UNKNOWN_NODE,
    Code.UID_MISMATCH,
    Code.MISDESCRIBED,
    Code.NOT_ONCE,
    Code.WRONG_STATE,
    Code.NOT_DISRUPTABLE,
    Code.NODE_REFUSES,
    Code.OVER_COMMITTED,
    Code.WRONG_OBJECTIVE,
}


@given(snapshot=snapshots(), policy=policies(), seed=st.integers(0, 2**32))
def test_what_is_wrong_with_a_plan_is_found(snapshot: Snapshot, policy: Policy, seed: int) -> None:
    """A broken plan would be published, or a sound one thrown away."""
    random = Random(seed)  # noqa: S311 - an example, not a secret
    snapshot = _some_leaving(snapshot, random)
    broken = _broken(snapshot, made(snapshot, policy).plan, random)
    claims = [
        Stage(name=name, value=value + (random.random() < 0.05), bound=bound)
        for name, value in _counted(snapshot, broken).items()
        for bound in [0 if name.startswith("disruption") else 10**9]
    ]
    plan = replace(broken, certificate=replace(broken.certificate, stages=tuple(claims)))

    found = {violation.code for violation in validate(snapshot, policy, plan)}

    assert found & LOOKED_AT == set(_faults(snapshot, plan))


def _some_leaving(snapshot: Snapshot, random: Random) -> Snapshot:
    """Return the snapshot with some pods that are being deleted."""
    pods = [replace(each, terminating=random.random() < 0.15) for each in snapshot.pods]
    return Snapshot.of(snapshot.nodes, pods, snapshot.budgets)


def _broken(snapshot: Snapshot, plan: Plan, random: Random) -> Plan:
    """Return the plan with up to three things changed."""
    actions = list(actions_of(plan))
    for _ in range(random.randint(0, 3)):
        kept = actions.pop(random.randrange(len(actions))) if actions else None
        pod = random.choice(snapshot.pods) if snapshot.pods else None
        if kept is not None:
            actions += random.choice([[], [kept], [kept, kept], [_changed(kept, snapshot, random)]])
        if pod is not None and random.random() < 0.5:
            actions.append(_about(pod, snapshot, random))
    return plan_of(plan.certificate, actions)


def _changed(action: Action, snapshot: Snapshot, random: Random) -> Action:
    match random.choice(["pod", "uid", "node"]), action:
        case "pod", _:
            return replace(action, pod=PodKey("default", random.choice(["zz", "w0", "r0"])))
        case "node", Bind() | Evict():
            return replace(action, node=_node(snapshot, random))
        case "node", Move():
            return replace(action, target=_node(snapshot, random))
    return replace(action, uid="another")


def _about(pod: Pod, snapshot: Snapshot, random: Random) -> Action:
    """Return anything that could be said about the pod."""
    key, node = pod.key, _node(snapshot, random)
    why = Rejection(reason=Reason.NO_NODES, message="none")
    said: list[Action] = [
        Bind(pod=key, uid=pod.uid, node=node),
        Move(pod=key, uid=pod.uid, source=pod.node or node, target=node, owner=None, priority=0),
        Evict(pod=key, uid=pod.uid, node=pod.node or node, priority=pod.priority),
        Hold(pod=key, uid=pod.uid, rejection=why),
    ]
    return random.choice(said)


def _node(snapshot: Snapshot, random: Random) -> NodeName:
    return random.choice([*(node.name for node in snapshot.nodes), NodeName("gone")])


def _homes(plan: Plan) -> dict[PodKey, NodeName | None]:
    """Return where pods go; of two actions on one pod the worse for it counts."""
    homes: dict[PodKey, NodeName | None] = {move.pod: move.target for move in plan.moves}
    homes |= {bind.pod: bind.node for bind in plan.binds}
    return homes | {evict.pod: None for evict in plan.evictions}


def _used(snapshot: Snapshot, plan: Plan, node: Node) -> Counter[str]:
    """Return what is in use on a node after the plan."""
    homes, used = _homes(plan), Counter[str]()
    for pod in snapshot.pods:
        if homes.get(pod.key, pod.node) == node.name:
            used.update(dict(pod.requests.items))
    return used


def _counted(snapshot: Snapshot, plan: Plan) -> dict[str, int]:
    """Return what the plan reaches, as far as gangs are no matter."""
    counted: Counter[str] = Counter({"disruption": 0})
    nodes = {node.name: node for node in snapshot.nodes}
    evicted = {evict.pod for evict in plan.evictions}
    for pod in snapshot.pods:
        stays = pod.node in nodes and not pod.terminating and pod.key not in evicted
        counted[f"keep {pod.priority}"] += stays and pod.disruption is not Disruption.FIXED
        moves = sum(move.pod == pod.key for move in plan.moves)
        ends = sum(evict.pod == pod.key for evict in plan.evictions)
        counted["disruption"] += pod.move_cost * (moves + ends) + EVICTION_COST * ends
    for size in (8, 4, 2, 1):
        counted[f"free {size}-GPU slots"] = sum(
            max(0, node.allocatable[GPU] - _used(snapshot, plan, node)[GPU]) // size
            for node in snapshot.nodes
            if node.schedulable and node.ready
        )
    return dict(counted)


def _faults(snapshot: Snapshot, plan: Plan) -> Iterator[Code]:
    """Yield what is wrong with the plan."""
    times = Counter(action.pod for action in actions_of(plan))
    pods = {pod.key: pod for pod in snapshot.pods}
    if any(n > 1 for n in times.values()):
        yield Code.NOT_ONCE
    if any(p.waiting and not p.terminating and p.key not in times for p in snapshot.pods):
        yield Code.NOT_ONCE
    if any(move.source == move.target for move in plan.moves):
        yield Code.WRONG_STATE
    for action in actions_of(plan):
        if action.pod in pods:
            yield from _faults_of(action, pods[action.pod], snapshot)
        else:
            yield Code.UNKNOWN_POD
    arrivals = {bind.node for bind in plan.binds if bind.pod in pods}
    arrivals |= {move.target for move in plan.moves if move.pod in pods}
    if any(_is_over(snapshot, plan, node) for node in snapshot.nodes if node.name in arrivals):
        yield Code.OVER_COMMITTED
    values = _counted(snapshot, plan)
    if any(values[stage.name] != stage.value for stage in plan.certificate.stages):
        yield Code.WRONG_OBJECTIVE


def _is_over(snapshot: Snapshot, plan: Plan, node: Node) -> bool:
    used, room = _used(snapshot, plan, node), dict(node.allocatable.items)
    return any(n > room.get(name, 0) + units.implied(name) for name, n in used.items())


def _faults_of(action: Action, pod: Pod, snapshot: Snapshot) -> Iterator[Code]:
    """Yield what is wrong with one action on a pod that is there."""
    if action.uid != pod.uid:
        yield Code.UID_MISMATCH
    told = {"gang", "owner", "priority"} & {each.name for each in fields(action)}
    if any(getattr(action, name) != getattr(pod, name) for name in told):
        yield Code.MISDESCRIBED
    if isinstance(action, Bind | Move):
        name = action.node if isinstance(action, Bind) else action.target
        node = next((each for each in snapshot.nodes if each.name == name), None)
        if node is None:
            yield Code.UNKNOWN_NODE
        elif filters.static_rejection(pod, node) is not None:
            yield Code.NODE_REFUSES
    if isinstance(action, Bind | Hold):
        if not pod.waiting or pod.terminating:
            yield Code.WRONG_STATE
        return
    if pod.node != (action.source if isinstance(action, Move) else action.node):
        yield Code.WRONG_STATE
    allowed = {Disruption.MOVABLE} if isinstance(action, Move) else {*Disruption}
    if pod.terminating or pod.disruption not in allowed - {Disruption.FIXED}:
        yield Code.NOT_DISRUPTABLE
