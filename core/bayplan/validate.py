"""Whether a plan may be published: every rule checked again, by code that knows no solver.

The planner calls it on each plan before it is published. Each check reads the snapshot and the
plan and returns what it finds wrong; they are listed in `CHECKS`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from bayplan import between, filters, units
from bayplan.between import Placement
from bayplan.plan import EVICTION_COST, Bind, Evict, Hold, Move, Plan
from bayplan.policy import Policy
from bayplan.snapshot import (
    Budget,
    BudgetKey,
    Disruption,
    GangKey,
    Guests,
    Node,
    NodeName,
    Pod,
    PodKey,
    PodKind,
    Resources,
    Snapshot,
    newest_member,
)

#: A gang of fewer pods is no gang.
_SMALLEST_GANG: Final = 2


class Code(StrEnum):
    """What is wrong with a plan."""

    UNKNOWN_POD = "UnknownPod"
    UNKNOWN_NODE = "UnknownNode"
    UID_MISMATCH = "UidMismatch"
    NOT_ONCE = "NotDecidedOnce"
    WRONG_STATE = "WrongState"
    NODE_REFUSES = "NodeRefuses"
    OVER_COMMITTED = "OverCommitted"
    WRONG_DEVICE = "WrongDevice"
    NOT_DISRUPTABLE = "NotDisruptable"
    PEERS_BROKEN = "RuleBetweenPodsBroken"
    GANG_SPLIT = "GangSplit"
    GANG_SCATTERED = "GangScattered"
    OUTRANKED_VICTIM = "OutrankedVictim"
    OVER_BUDGET = "OverBudget"
    WRONG_OBJECTIVE = "WrongObjective"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule: a code for programs, a sentence for people."""

    code: Code
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What the checks look at, gathered once.

    Attributes:
        snapshot: What the plan was made from.
        policy: What it may do.
        plan: The plan.
        pods: The pods by key.
        nodes: The nodes by name.
        waiting: The pods that wait.
        arrivals: Pods that get a node, with the node.
        gone: Keys of the pods that lose their node.
        goes: Where the plan sends pods; None for those that lose their node.
        gangs: Gangs of two pods and more.
        placement: The same as far as pods ask something of each other; None if none does.
        used: What is in use on each node after the plan, by resource.
        shared: What shares use of the GPUs of a node after the plan; nodes without any are absent.
    """

    snapshot: Snapshot
    policy: Policy
    plan: Plan
    pods: Mapping[PodKey, Pod] = field(repr=False)
    nodes: Mapping[NodeName, Node] = field(repr=False)
    waiting: tuple[Pod, ...] = field(repr=False)
    arrivals: tuple[tuple[Pod, NodeName], ...] = field(repr=False)
    gone: frozenset[PodKey] = field(repr=False)
    goes: Mapping[PodKey, NodeName | None] = field(repr=False)
    gangs: frozenset[GangKey] = field(repr=False)
    placement: Placement | None = field(repr=False)
    used: Mapping[NodeName, Mapping[str, int]] = field(repr=False)
    shared: Mapping[NodeName, "_Shared"] = field(repr=False)

    def has_node(self, pod: Pod) -> bool:
        """Return whether the pod has a node after the plan."""
        return self.goes.get(pod.key, pod.node) is not None


def validate(snapshot: Snapshot, policy: Policy, plan: Plan) -> tuple[Violation, ...]:
    """Return every rule that the plan breaks; empty when it may be published."""
    pods = snapshot.by_key
    nodes = {node.name: node for node in snapshot.nodes}
    goes = _goes(plan)
    about = Input(
        snapshot=snapshot,
        policy=policy,
        plan=plan,
        pods=pods,
        nodes=nodes,
        waiting=snapshot.waiting(),
        arrivals=tuple(_arrivals(plan, pods)),
        gone=frozenset(evict.pod for evict in plan.evictions),
        goes=goes,
        gangs=frozenset(
            pod.gang
            for pod in snapshot.pods
            if pod.gang and pod.gang_min_count >= _SMALLEST_GANG and not pod.terminating
        ),
        used=_used(snapshot, goes),
        shared=_shared(snapshot, plan, goes),
        placement=Placement.of(snapshot, goes),
    )
    return tuple(violation for check in CHECKS for violation in check(about))


def _arrivals(plan: Plan, pods: Mapping[PodKey, Pod]) -> Iterator[tuple[Pod, NodeName]]:
    for bind in plan.binds:
        if bind.pod in pods:
            yield pods[bind.pod], bind.node
    for move in plan.moves:
        if move.pod in pods:
            yield pods[move.pod], move.target


def _goes(plan: Plan) -> dict[PodKey, NodeName | None]:
    goes: dict[PodKey, NodeName | None] = {move.pod: move.target for move in plan.moves}
    goes |= {bind.pod: bind.node for bind in plan.binds}
    goes |= {evict.pod: None for evict in plan.evictions}
    return goes


def _used(
    snapshot: Snapshot, goes: Mapping[PodKey, NodeName | None]
) -> Mapping[NodeName, Mapping[str, int]]:
    """Return what is in use on each node; nodes with equal guests share one sum."""
    sums: dict[Guests, Mapping[str, int]] = {}
    used: dict[NodeName, Mapping[str, int]] = {}
    for name, guests in snapshot.guests_after(goes).items():
        if guests not in sums:
            sums[guests] = _sum(guests)
        used[name] = sums[guests]
    return used


def _sum(kinds: Iterable[PodKind]) -> dict[str, int]:
    total: dict[str, int] = {}
    for kind in kinds:
        for resource, n in kind.requests.items:
            total[resource] = total.get(resource, 0) + n
    return total


@dataclass(slots=True)
class _Shared:
    """What shares use of the GPUs of one node.

    Attributes:
        loads: Thousandths in use, by number of the GPU.
        homeless: Shares of which nobody knows the GPU; each may have one for itself.
    """

    loads: Counter[int] = field(default_factory=Counter)
    homeless: int = 0

    @property
    def gpus(self) -> int:
        """GPUs that nobody can have whole."""
        return len(self.loads) + self.homeless


def _shared(
    snapshot: Snapshot, plan: Plan, goes: Mapping[PodKey, NodeName | None]
) -> Mapping[NodeName, _Shared]:
    """Return what shares use, added up pod by pod."""
    kinds = {pod.kind for pod in snapshot.pods}
    sharing = {
        kind: (kind.requests.share_milli, kind.requests.device)
        for kind in kinds
        if kind.requests.share_milli
    }
    found: dict[NodeName, _Shared] = defaultdict(_Shared)
    if not sharing:
        return found
    homes: tuple[Bind | Move, ...] = (*plan.binds, *plan.moves)
    devices = {action.pod: action.device for action in homes}
    for pod in snapshot.pods:
        node = goes.get(pod.key, pod.node)
        if node is None or pod.kind not in sharing:
            continue
        milli, device = sharing[pod.kind]
        device = devices.get(pod.key, device)
        if device is None:
            found[node].homeless += 1
        else:
            found[node].loads[device] += milli
    return found


def _actions(plan: Plan) -> tuple[Bind | Move | Evict | Hold, ...]:
    return (*plan.binds, *plan.moves, *plan.evictions, *plan.holds)


def _known(about: Input) -> Iterator[Violation]:
    """Check that every pod exists as the plan knows it, and every node."""
    for action in _actions(about.plan):
        pod = about.pods.get(action.pod)
        if pod is None:
            yield _wrong(Code.UNKNOWN_POD, f"{action.pod} is not in the snapshot")
        elif pod.uid != action.uid:
            yield _wrong(Code.UID_MISMATCH, f"{action.pod} is {pod.uid}, not {action.uid}")
    for pod, node in about.arrivals:
        if node not in about.nodes:
            yield _wrong(Code.UNKNOWN_NODE, f"{pod.key} goes to {node}, which does not exist")


def _decided_once(about: Input) -> Iterator[Violation]:
    """Check that every waiting pod is bound or held, and no pod is decided twice."""
    times = Counter(action.pod for action in _actions(about.plan))
    for key, count in times.items():
        if count > 1:
            yield _wrong(Code.NOT_ONCE, f"{key} is decided {count} times")
    for pod in about.waiting:
        if not times[pod.key] and not pod.terminating:
            yield _wrong(Code.NOT_ONCE, f"{pod.key} waits and is neither bound nor held")


def _states(about: Input) -> Iterator[Violation]:
    """Check that what is bound or held waits, and what is moved or evicted is where it is said."""
    to_wait: tuple[Bind | Hold, ...] = (*about.plan.binds, *about.plan.holds)
    for waiting in to_wait:
        pod = about.pods.get(waiting.pod)
        if pod is not None and (not pod.waiting or pod.terminating):
            verb = "held" if isinstance(waiting, Hold) else "bound"
            yield _wrong(Code.WRONG_STATE, f"{pod.key} is {verb} but does not wait")
    to_leave: tuple[Move | Evict, ...] = (*about.plan.moves, *about.plan.evictions)
    for leaving in to_leave:
        pod = about.pods.get(leaving.pod)
        source = leaving.source if isinstance(leaving, Move) else leaving.node
        if pod is not None and pod.node != source:
            yield _wrong(Code.WRONG_STATE, f"{pod.key} is not on {source}")
        if isinstance(leaving, Move) and leaving.source == leaving.target:
            yield _wrong(Code.WRONG_STATE, f"{leaving.pod} moves to where it is")


def _disruptable(about: Input) -> Iterator[Violation]:
    """Check that nothing is done to a pod that it does not allow."""
    leaving: tuple[Move | Evict, ...] = (*about.plan.moves, *about.plan.evictions)
    for action in leaving:
        pod = about.pods.get(action.pod)
        if pod is None:
            continue
        if pod.terminating or pod.disruption is Disruption.FIXED:
            yield _wrong(Code.NOT_DISRUPTABLE, f"{pod.key} must stay on {pod.node}")
        elif isinstance(action, Move) and pod.disruption is not Disruption.MOVABLE:
            yield _wrong(Code.NOT_DISRUPTABLE, f"{pod.key} can be evicted but not moved")


def _accepted(about: Input) -> Iterator[Violation]:
    """Check that every node accepts what arrives there, room aside."""
    looks = filters.Looks.of({kind.constraints for kind in {pod.kind for pod, _ in about.arrivals}})
    accepted: set[tuple[object, ...]] = set()
    for pod, name in about.arrivals:
        node = about.nodes.get(name)
        if node is None:
            continue
        alike = (pod.kind, looks.at(node), id(node.allocatable))
        if alike in accepted:
            continue
        rejection = filters.static_rejection(pod, node)
        if rejection is None:
            accepted.add(alike)
        else:
            yield _wrong(Code.NODE_REFUSES, f"{pod.key} on {name}: {rejection.message}")


def _room(about: Input) -> Iterator[Violation]:
    """Check that no node with an arrival holds more than fits.

    A node that was over-full before and gets nothing is not the plan's fault.
    """
    over: dict[tuple[int, int], list[tuple[str, int]]] = {}
    shared = _shared_ports(about)
    arrived = {name for _, name in about.arrivals}
    for node in about.snapshot.nodes:
        if node.name not in arrived:
            continue
        room, used = node.allocatable, about.used[node.name]
        state = (id(room), id(used))
        if state not in over:
            over[state] = _excess(room, used)
        for resource, n in over[state]:
            if (node.name, resource) not in shared:
                yield _wrong(
                    Code.OVER_COMMITTED,
                    f"{node.name} would lack {units.words(resource, n)} after the plan",
                )


def _devices(about: Input) -> Iterator[Violation]:
    """Check that each share that arrives has a GPU with room for it, and whole GPUs are whole."""
    homes: tuple[Bind | Move, ...] = (*about.plan.binds, *about.plan.moves)
    kinds = {pod.kind for pod, _ in about.arrivals}
    sharing = {kind for kind in kinds if kind.requests.share_milli}
    for action in homes:
        pod = about.pods.get(action.pod)
        if action.device is None and (pod is None or pod.kind not in sharing):
            continue
        node = about.nodes.get(about.goes[action.pod] or NodeName(""))
        if pod is None or node is None:
            continue
        if pod.kind not in sharing:
            yield _wrong(Code.WRONG_DEVICE, f"{pod.key} asks for no share, but gets one")
        elif action.device not in range(node.allocatable[units.SHARED_GPU]):
            number = "no GPU" if action.device is None else f"GPU {action.device}"
            yield _wrong(Code.WRONG_DEVICE, f"{pod.key} gets {number} of {node.name} to share")
    shared_nodes = about.shared.keys() & about.nodes.keys()
    for name in sorted({name for _, name in about.arrivals} & shared_nodes):
        shared, room = about.shared[name], about.nodes[name].allocatable[units.SHARED_GPU]
        for device, milli in sorted(shared.loads.items()):
            if milli > units.WHOLE_MILLI:
                yield _wrong(
                    Code.OVER_COMMITTED, f"shares of GPU {device} of {name} would be {milli}/1000"
                )
        gpus = shared.gpus + about.used[name].get(units.SHARED_GPU, 0)
        if gpus > room:
            yield _wrong(
                Code.OVER_COMMITTED,
                f"{name} would lack {units.words(units.SHARED_GPU, gpus - room)} after the plan",
            )


def _excess(room: Resources, used: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return what is used beyond the room."""
    have = dict(room.items)
    beyond = ((name, n - have.get(name, 0)) for name, n in sorted(used.items()))
    more = (
        (name, n - units.implied(name)) for name, n in beyond if n > 0 and not units.is_part(name)
    )
    return [(name, n) for name, n in more if n > 0]


def _shared_ports(about: Input) -> set[tuple[NodeName, str]]:
    """Return the host ports, by node, that are taken and for which nobody arrives.

    Two pods may share a port on two addresses; that is no matter of other newcomers.
    """
    ports = {
        resource
        for kind in {pod.kind for pod in about.snapshot.pods}
        for resource in kind.requests
        if units.is_host_port(resource)
    }
    if not ports:
        return set()
    asked = {(name, resource) for pod, name in about.arrivals for resource in pod.requests}
    taken = ((name, port) for name in about.used for port in ports & about.used[name].keys())
    return {at for at in taken if at not in asked}


def _between_pods(about: Input) -> Iterator[Violation]:
    """Check what pods ask of each other."""
    if about.placement is None:
        return
    for message in between.broken(about.placement):
        yield _wrong(Code.PEERS_BROKEN, message)
    for message in between.scattered(about.placement):
        yield _wrong(Code.GANG_SCATTERED, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gang:
    """Where a gang stands, before and after."""

    key: GangKey
    min_count: int
    before: int
    after: int
    waiting: int
    placed: int
    evicted: int


def _gangs(about: Input) -> Iterator[_Gang]:
    members: dict[GangKey, list[Pod]] = defaultdict(list)
    for pod in about.snapshot.pods:
        if pod.gang is not None and not pod.terminating:
            members[pod.gang].append(pod)
    for key, pods in sorted(members.items()):
        min_count = newest_member(pods).gang_min_count
        running = [pod for pod in pods if not pod.waiting and pod.node in about.nodes]
        waiting = [pod for pod in pods if pod.waiting]
        if key in about.gangs:
            yield _Gang(
                key=key,
                min_count=min_count,
                before=len(running),
                after=sum(map(about.has_node, running + waiting)),
                waiting=len(waiting),
                placed=sum(map(about.has_node, waiting)),
                evicted=sum(pod.key in about.gone for pod in running),
            )


def _whole_gangs(about: Input) -> Iterator[Violation]:
    """Check that gangs are placed whole, reach their minimum, and are evicted whole."""
    for gang in _gangs(about):
        if gang.placed and gang.after < gang.min_count:
            yield _wrong(
                Code.GANG_SPLIT, f"{gang.key}: {gang.after} of {gang.min_count} pods would run"
            )
        if gang.before < gang.min_count and 0 < gang.placed < gang.waiting:
            yield _wrong(
                Code.GANG_SPLIT, f"{gang.key}: {gang.placed} of {gang.waiting} waiting pods placed"
            )
        if gang.evicted and gang.evicted < gang.before:
            yield _wrong(
                Code.GANG_SPLIT, f"{gang.key}: {gang.evicted} of {gang.before} running pods evicted"
            )


def _tiers(about: Input) -> dict[PodKey, int]:
    """Return the tier at which each waiting pod is decided: of a gang, its lowest."""
    lowest: dict[GangKey, int] = {}
    for pod in about.waiting:
        if pod.gang in about.gangs and pod.gang is not None and not pod.terminating:
            lowest[pod.gang] = min(pod.priority, lowest.get(pod.gang, pod.priority))
    return {
        pod.key: lowest.get(pod.gang, pod.priority) if pod.gang else pod.priority
        for pod in about.waiting
    }


def _ranks(about: Input) -> Iterator[Violation]:
    """Check that each evicted pod gives way to a newcomer that outranks it and may preempt."""
    tiers = _tiers(about)
    newcomers = [
        tiers[bind.pod]
        for bind in about.plan.binds
        if bind.pod in tiers and about.pods[bind.pod].preempts
    ]
    highest = max(newcomers, default=None)
    for evict in about.plan.evictions:
        pod = about.pods.get(evict.pod)
        if pod is not None and (highest is None or pod.priority >= highest):
            yield _wrong(
                Code.OUTRANKED_VICTIM,
                f"{pod.key} of priority {pod.priority} is evicted; the highest newcomer that may "
                f"preempt has {'none' if highest is None else highest}",
            )


def _budgets(about: Input) -> Iterator[Violation]:
    """Check that no more is moved and evicted than allowed."""
    for word, count, most in (
        ("moves", len(about.plan.moves), about.policy.max_moves),
        ("evictions", len(about.plan.evictions), about.policy.max_evictions),
    ):
        if count > most:
            yield _wrong(Code.OVER_BUDGET, f"{count} {word}; the policy allows {most}")


def _disruption_budgets(about: Input) -> Iterator[Violation]:
    """Check that no PodDisruptionBudget is asked for more than it admits.

    Who belongs to one is read from labels again; nobody can evict a pod that belongs to two.
    """
    leaving = [move.pod for move in about.plan.moves]
    leaving += [evict.pod for evict in about.plan.evictions]
    used: Counter[BudgetKey] = Counter()
    for pod in (about.pods[key] for key in leaving if key in about.pods):
        own = [budget.key for budget in about.snapshot.budgets if _is_covered(pod, budget)]
        used.update(own)
        if len(own) > 1:
            yield _wrong(
                Code.NOT_DISRUPTABLE, f"{pod.key} has PodDisruptionBudgets {own[0]} and {own[1]}"
            )
    for budget in about.snapshot.budgets:
        if used[budget.key] > budget.allowed:
            yield _wrong(
                Code.OVER_BUDGET,
                f"{used[budget.key]} pods of PodDisruptionBudget {budget.key} lose their node; "
                f"it admits {budget.allowed}",
            )


def _is_covered(pod: Pod, budget: Budget) -> bool:
    here = pod.key.namespace == budget.key.namespace
    return here and filters.selects(budget.labels, pod.labels)


def _objective(about: Input) -> Iterator[Violation]:
    """Check that the certificate says what the actions reach, and no bound is beaten."""
    counted = _counted(about)
    for stage in about.plan.certificate.stages:
        value = counted.get(stage.name, 0)
        if value != stage.value:
            yield _wrong(
                Code.WRONG_OBJECTIVE, f"{stage.name} is {value}; the plan claims {stage.value}"
            )
        fewer = stage.name.startswith("disruption")
        beaten = value < stage.bound if fewer else value > stage.bound
        if beaten:
            yield _wrong(
                Code.WRONG_OBJECTIVE, f"{stage.name} is {value}, beyond its bound {stage.bound}"
            )


def _counted(about: Input) -> Counter[str]:
    """Return what the actions reach, by name of the stage."""
    counted: Counter[str] = Counter()
    for kind, n in _survivors(about).items():
        counted[f"keep {kind.priority}"] += n
    tiers = _tiers(about)
    peaceful = _peaceful(about)
    for bind in about.plan.binds:
        if bind.pod in tiers:
            suffix = " without preemption" if bind.pod in peaceful else ""
            counted[f"place {tiers[bind.pod]}{suffix}"] += 1
    counted.update(_disruption(about))
    counted["preference"] = sum(
        filters.preference(pod.constraints.prefers, about.nodes[name])
        for pod, name in about.arrivals
        if pod.constraints.prefers and name in about.nodes
    )
    if about.placement is not None:
        counted.update(between.gathered(about.placement))
    counted.update(_free_slots(about))
    return counted


def _disruption(about: Input) -> Counter[str]:
    """Return what running pods suffer, in all and from each tier up."""
    suffered = [(about.pods.get(move.pod), 0) for move in about.plan.moves]
    suffered += [(about.pods.get(evict.pod), EVICTION_COST) for evict in about.plan.evictions]
    tiers = {kind.priority for kind in {pod.kind for pod in about.snapshot.pods}}
    costs: Counter[str] = Counter()
    for pod, extra in suffered:
        if pod is not None:
            cost = pod.move_cost + extra
            costs["disruption"] += cost
            costs.update({f"disruption from {t}": cost for t in tiers if t <= pod.priority})
    return costs


def _survivors(about: Input) -> Counter[PodKind]:
    """Return how many pods that the plan might have disturbed go on running, by kind."""
    survivors: Counter[PodKind] = Counter()
    for guests, nodes in Counter(about.snapshot.guests.values()).items():
        for kind in guests:
            survivors[kind] += nodes if kind.disruption is not Disruption.FIXED else 0
    leaving = (pod for pod in about.snapshot.pods if pod.terminating)
    for pod in (*leaving, *(about.pods[key] for key in about.gone if key in about.pods)):
        if pod.node in about.nodes and pod.kind.disruption is not Disruption.FIXED:
            survivors[pod.kind] -= 1
    return survivors


def _peaceful(about: Input) -> set[PodKey]:
    """Return the waiting pods that preempt nobody, or wait with one that does not."""
    gentle = [pod for pod in about.waiting if not pod.preempts and not pod.terminating]
    gangs = {pod.gang for pod in gentle} & about.gangs
    alone = {pod.key for pod in gentle}
    return {p.key for p in about.waiting if p.key in alone or p.gang in gangs}


def _free_slots(about: Input) -> Counter[str]:
    """Return the whole free slots on nodes that take pods, by size."""
    alike: dict[tuple[int, int, int], list[Node]] = defaultdict(list)
    for node in about.snapshot.nodes:
        if node.ready and node.schedulable:
            shared = about.shared[node.name].gpus if node.name in about.shared else 0
            alike[id(node.allocatable), id(about.used[node.name]), shared].append(node)
    slots: Counter[str] = Counter()
    for (_, _, shared), nodes in alike.items():
        for resource, n in nodes[0].allocatable.items:
            if units.is_gpu(resource):
                taken = about.used[nodes[0].name].get(resource, 0)
                taken += shared if resource == units.SHARED_GPU else 0
                free = max(0, n - taken)
                for size in (8, 4, 2, 1):
                    slots[f"free {size}-GPU slots"] += free // size * len(nodes)
    return slots


def _wrong(code: Code, message: str) -> Violation:
    return Violation(code=code, message=message)


#: Every check, simplest first.
CHECKS: Final[tuple[Callable[[Input], Iterator[Violation]], ...]] = (
    _known,
    _decided_once,
    _states,
    _disruptable,
    _accepted,
    _room,
    _devices,
    _between_pods,
    _whole_gangs,
    _ranks,
    _budgets,
    _disruption_budgets,
    _objective,
)
