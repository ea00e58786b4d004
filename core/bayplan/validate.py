"""Whether a plan may be published: every rule checked again, by code that knows no solver.

The planner calls it on each plan before it is published. Each check reads the snapshot and the
plan and returns what it finds wrong; they are listed in `CHECKS`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Final, NamedTuple, TypeVar

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


class PlacedAs(NamedTuple):
    """What decides on pods that wait, and so by which stage they are counted.

    Attributes:
        tier: Their priority, or the lowest of their gang.
        preempts: Whether others may be made to go for them.
        gentle: Whether nobody is made to go for them, or for one of their gang.
    """

    tier: int
    preempts: bool
    gentle: bool


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
        bound, moved, evicted, held: What is decided on pods that are there, with the pod.
        arrivals: Pods that get a node, with the node.
        comers: The same by node.
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
    bound: Sequence[tuple[Bind, Pod]] = field(repr=False)
    moved: Sequence[tuple[Move, Pod]] = field(repr=False)
    evicted: Sequence[tuple[Evict, Pod]] = field(repr=False)
    held: Sequence[tuple[Hold, Pod]] = field(repr=False)
    arrivals: Sequence[tuple[Pod, NodeName]] = field(repr=False)
    comers: Mapping[NodeName, Sequence[Pod]] = field(repr=False)
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
    bound, moved = _with_pods(plan.binds, pods), _with_pods(plan.moves, pods)
    arrivals = [(pod, bind.node) for bind, pod in bound]
    arrivals += [(pod, move.target) for move, pod in moved]
    about = Input(
        snapshot=snapshot,
        policy=policy,
        plan=plan,
        pods=pods,
        nodes=nodes,
        waiting=snapshot.waiting(),
        bound=bound,
        moved=moved,
        evicted=_with_pods(plan.evictions, pods),
        held=_with_pods(plan.holds, pods),
        arrivals=arrivals,
        comers=_comers(arrivals),
        gone=frozenset(evict.pod for evict in plan.evictions),
        goes=goes,
        gangs=frozenset(
            pod.gang
            for pod in snapshot.in_gangs
            if pod.gang and pod.gang_min_count >= _SMALLEST_GANG and not pod.terminating
        ),
        used=_used(snapshot, goes),
        shared=_shared(snapshot, plan, goes),
        placement=Placement.of(snapshot, goes),
    )
    return tuple(violation for check in CHECKS for violation in check(about))


_Action = TypeVar("_Action", Bind, Move, Evict, Hold)


def _with_pods(actions: Iterable[_Action], pods: Mapping[PodKey, Pod]) -> list[tuple[_Action, Pod]]:
    """Return the actions with their pods; those of pods that are not there are left out."""
    found = ((action, pods.get(action.pod)) for action in actions)
    return [(action, pod) for action, pod in found if pod is not None]


def _comers(arrivals: Iterable[tuple[Pod, NodeName]]) -> dict[NodeName, list[Pod]]:
    comers: dict[NodeName, list[Pod]] = defaultdict(list)
    for pod, name in arrivals:
        comers[name].append(pod)
    return comers


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
    sharing = {
        kind: (kind.requests.share_milli, kind.requests.device)
        for kind in snapshot.kinds
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
    decided: list[tuple[Bind | Move | Evict | Hold, Pod]] = []
    for group in (about.bound, about.moved, about.evicted, about.held):
        decided += group
    if len(decided) < len(_actions(about.plan)):
        for action in _actions(about.plan):
            if action.pod not in about.pods:
                yield _wrong(Code.UNKNOWN_POD, f"{action.pod} is not in the snapshot")
    for known, pod in decided:
        if pod.uid != known.uid:
            yield _wrong(Code.UID_MISMATCH, f"{pod.key} is {pod.uid}, not {known.uid}")
    for node in (name for name in about.comers if name not in about.nodes):
        for pod in about.comers[node]:
            yield _wrong(Code.UNKNOWN_NODE, f"{pod.key} goes to {node}, which does not exist")


def _decided_once(about: Input) -> Iterator[Violation]:
    """Check that every waiting pod is bound or held, and no pod is decided twice."""
    keys = [action.pod for action in _actions(about.plan)]
    decided = set(keys)
    if len(decided) < len(keys):
        for key, count in Counter(keys).items():
            if count > 1:
                yield _wrong(Code.NOT_ONCE, f"{key} is decided {count} times")
    for pod in about.waiting:
        if pod.key not in decided and not pod.terminating:
            yield _wrong(Code.NOT_ONCE, f"{pod.key} waits and is neither bound nor held")


def _states(about: Input) -> Iterator[Violation]:
    """Check that what is bound or held waits, and what is moved or evicted is where it is said."""
    to_wait: Iterable[tuple[Bind | Hold, Pod]] = chain(about.bound, about.held)
    for waiting, pod in to_wait:
        if not pod.waiting or pod.terminating:
            verb = "held" if isinstance(waiting, Hold) else "bound"
            yield _wrong(Code.WRONG_STATE, f"{pod.key} is {verb} but does not wait")
    to_leave: Iterable[tuple[Move | Evict, Pod]] = chain(about.moved, about.evicted)
    for leaving, pod in to_leave:
        source = leaving.source if isinstance(leaving, Move) else leaving.node
        if pod.node != source:
            yield _wrong(Code.WRONG_STATE, f"{pod.key} is not on {source}")
    for move in about.plan.moves:
        if move.source == move.target:
            yield _wrong(Code.WRONG_STATE, f"{move.pod} moves to where it is")


def _disruptable(about: Input) -> Iterator[Violation]:
    """Check that nothing is done to a pod that it does not allow."""
    leaving: Iterable[tuple[Move | Evict, Pod]] = chain(about.moved, about.evicted)
    for action, pod in leaving:
        if pod.terminating or pod.disruption is Disruption.FIXED:
            yield _wrong(Code.NOT_DISRUPTABLE, f"{pod.key} must stay on {pod.node}")
        elif isinstance(action, Move) and pod.disruption is not Disruption.MOVABLE:
            yield _wrong(Code.NOT_DISRUPTABLE, f"{pod.key} can be evicted but not moved")


def _accepted(about: Input) -> Iterator[Violation]:
    """Check that every node accepts what arrives there, room aside."""
    looks = filters.Looks.of({kind.constraints for kind in _coming(about)})
    accepted: dict[tuple[object, ...], set[PodKind]] = defaultdict(set)
    for name, pods in about.comers.items():
        node = about.nodes.get(name)
        if node is None:
            continue
        here = accepted[looks.at(node), id(node.allocatable)]
        for pod in pods:
            if pod.kind in here:
                continue
            rejection = filters.static_rejection(pod, node)
            if rejection is None:
                here.add(pod.kind)
            else:
                yield _wrong(Code.NODE_REFUSES, f"{pod.key} on {name}: {rejection.message}")


def _coming(about: Input) -> set[PodKind]:
    """Return the kinds of the pods that get a node."""
    return {pod.kind for pod, _ in about.arrivals}


def _room(about: Input) -> Iterator[Violation]:
    """Check that no node with an arrival holds more than fits.

    A node that was over-full before and gets nothing is not the plan's fault.
    """
    over: dict[tuple[int, int], list[tuple[str, int]]] = {}
    shared = _shared_ports(about)
    for node in map(about.nodes.get, about.comers):
        if node is None:
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
    sharing = {kind for kind in _coming(about) if kind.requests.share_milli}
    coming: Iterable[tuple[Bind | Move, Pod]] = chain(about.bound, about.moved)
    for action, pod in coming:
        if action.device is None and pod.kind not in sharing:
            continue
        node = about.nodes.get(about.goes[action.pod] or NodeName(""))
        if node is None:
            continue
        if pod.kind not in sharing:
            yield _wrong(Code.WRONG_DEVICE, f"{pod.key} asks for no share, but gets one")
        elif action.device not in range(node.allocatable[units.SHARED_GPU]):
            number = "no GPU" if action.device is None else f"GPU {action.device}"
            yield _wrong(Code.WRONG_DEVICE, f"{pod.key} gets {number} of {node.name} to share")
    shared_nodes = about.shared.keys() & about.nodes.keys()
    for name in sorted(about.comers.keys() & shared_nodes):
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
        for kind in about.snapshot.kinds
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
    for pod in about.snapshot.in_gangs:
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


def _newcomers(about: Input) -> Counter[PlacedAs]:
    """Return how many waiting pods are bound, by what decides on them.

    A pod is decided on at its priority; one of a gang at the gang's lowest, and like one that does
    not preempt if one of the gang does not.
    """
    lowest: dict[GangKey, int] = {}
    gentle: set[GangKey] = set()
    for pod in about.waiting if about.gangs else ():
        if pod.gang is not None and pod.gang in about.gangs and not pod.terminating:
            lowest[pod.gang] = min(pod.priority, lowest.get(pod.gang, pod.priority))
            gentle |= set() if pod.preempts else {pod.gang}
    alone: Counter[PodKind] = Counter()
    found: Counter[PlacedAs] = Counter()
    for _, pod in about.bound:
        if not pod.waiting:
            continue
        if pod.gang is None or pod.gang not in about.gangs:
            alone[pod.kind] += 1
            continue
        tier = lowest.get(pod.gang, pod.priority)
        found[PlacedAs(tier, pod.preempts, pod.gang in gentle)] += 1
    for kind, n in alone.items():
        found[PlacedAs(kind.priority, kind.preempts, not kind.preempts)] += n
    return found


def _ranks(about: Input) -> Iterator[Violation]:
    """Check that each evicted pod gives way to a newcomer that outranks it and may preempt."""
    newcomers = [each.tier for each in _newcomers(about) if each.preempts]
    highest = max(newcomers, default=None)
    for _, pod in about.evicted:
        if highest is None or pod.priority >= highest:
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
    for each, n in _newcomers(about).items():
        suffix = " without preemption" if each.gentle else ""
        counted[f"place {each.tier}{suffix}"] += n
    counted.update(_disruption(about))
    choosy = {kind for kind in _coming(about) if kind.constraints.prefers}
    counted["preference"] = sum(
        filters.preference(pod.constraints.prefers, about.nodes[name])
        for pod, name in about.arrivals
        if pod.kind in choosy and name in about.nodes
    )
    if about.placement is not None:
        counted.update(between.gathered(about.placement))
    counted.update(_free_slots(about))
    return counted


def _disruption(about: Input) -> Counter[str]:
    """Return what running pods suffer, in all and from each tier up."""
    moved = Counter(pod.kind for _, pod in about.moved)
    evicted = Counter(pod.kind for _, pod in about.evicted)
    tiers = {kind.priority for kind in about.snapshot.kinds}
    costs: Counter[str] = Counter()
    for kind in moved.keys() | evicted.keys():
        cost = kind.move_cost * (moved[kind] + evicted[kind]) + EVICTION_COST * evicted[kind]
        costs["disruption"] += cost
        costs.update({f"disruption from {t}": cost for t in tiers if t <= kind.priority})
    return costs


def _survivors(about: Input) -> Counter[PodKind]:
    """Return how many pods that the plan might have disturbed go on running, by kind."""
    survivors: Counter[PodKind] = Counter()
    for guests, nodes in Counter(about.snapshot.guests.values()).items():
        for kind in guests:
            survivors[kind] += nodes if kind.disruption is not Disruption.FIXED else 0
    for pod in (
        *about.snapshot.leaving,
        *(about.pods[key] for key in about.gone if key in about.pods),
    ):
        if pod.node in about.nodes and pod.kind.disruption is not Disruption.FIXED:
            survivors[pod.kind] -= 1
    return survivors


def _free_slots(about: Input) -> Counter[str]:
    """Return the whole free slots on nodes that take pods, by size."""
    used, shared = about.used, {name: each.gpus for name, each in about.shared.items()}
    alike: dict[tuple[int, int, int], int] = defaultdict(int)
    example: dict[tuple[int, int, int], Node] = {}
    for node in about.snapshot.nodes:
        if node.ready and node.schedulable:
            name = node.name
            state = (id(node.allocatable), id(used[name]), shared.get(name, 0))
            alike[state] += 1
            example[state] = node
    slots: Counter[str] = Counter()
    for state, count in alike.items():
        node = example[state]
        for resource, n in node.allocatable.items:
            if units.is_gpu(resource):
                taken = used[node.name].get(resource, 0)
                taken += state[2] if resource == units.SHARED_GPU else 0
                free = max(0, n - taken)
                for size in (8, 4, 2, 1):
                    slots[f"free {size}-GPU slots"] += free // size * count
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
