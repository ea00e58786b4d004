"""What the checks look at, gathered once for all of them.

Everything is counted anew from the snapshot and the plan.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, TypeVar

from bayplan.between import Placement
from bayplan.keys import GangKey, NodeName, PodKey
from bayplan.plan import Bind, Evict, Hold, Move, Plan
from bayplan.policy import Policy
from bayplan.snapshot import Node, Pod, PodKind, Snapshot

#: A gang of fewer pods is no gang.
_SMALLEST_GANG: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
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
        coming: The kinds of these pods.
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
    coming: frozenset[PodKind] = field(repr=False)
    gone: frozenset[PodKey] = field(repr=False)
    goes: Mapping[PodKey, NodeName | None] = field(repr=False)
    gangs: frozenset[GangKey] = field(repr=False)
    placement: Placement | None = field(repr=False)
    used: Mapping[NodeName, Mapping[str, int]] = field(repr=False)
    shared: Mapping[NodeName, "Shared"] = field(repr=False)

    def has_node(self, pod: Pod) -> bool:
        """Return whether the pod has a node after the plan."""
        return self.goes.get(pod.key, pod.node) is not None


def gather(snapshot: Snapshot, policy: Policy, plan: Plan) -> Evidence:
    """Return what the checks of a plan look at."""
    pods = snapshot.by_key
    nodes = {node.name: node for node in snapshot.nodes}
    goes = _goes(plan)
    bound, moved = _with_pods(plan.binds, pods), _with_pods(plan.moves, pods)
    arrivals = [(pod, bind.node) for bind, pod in bound]
    arrivals += [(pod, move.target) for move, pod in moved]
    return Evidence(
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
        coming=frozenset(pod.kind for pod, _ in arrivals),
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


_Action = TypeVar("_Action", Bind, Move, Evict, Hold)


def _with_pods(actions: Iterable[_Action], pods: Mapping[PodKey, Pod]) -> list[tuple[_Action, Pod]]:
    """Return the actions with their pods; those of pods that are not there are left out."""
    listed = tuple(actions)
    found = zip(listed, map(pods.get, map(attrgetter("pod"), listed)), strict=True)
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
    after = snapshot.guests_after(goes)
    states = {id(guests): guests for guests in after.values()}
    sums = {state: _sum(guests) for state, guests in states.items()}
    return {name: sums[id(guests)] for name, guests in after.items()}


def _sum(kinds: Iterable[PodKind]) -> dict[str, int]:
    total: dict[str, int] = {}
    for kind in kinds:
        for resource, n in kind.requests.items:
            total[resource] = total.get(resource, 0) + n
    return total


@dataclass(slots=True)
class Shared:
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
) -> Mapping[NodeName, Shared]:
    """Return what shares use, added up pod by pod."""
    sharing = {
        kind: (kind.requests.share_milli, kind.requests.device)
        for kind in snapshot.kinds
        if kind.requests.share_milli
    }
    found: dict[NodeName, Shared] = defaultdict(Shared)
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
