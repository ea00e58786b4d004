"""The problem as arrays: pod classes times nodes, with gangs.

Pods that are alike (same requests, constraints, priority, and what may be done to them) form one
class, of which only the number per node matters. What a plan may not touch is subtracted from
the room of its node here, so that the engines only see what they decide.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import attrgetter
from typing import Final, NamedTuple, cast

import numpy as np

from bayplan import filters, units
from bayplan.peers import Meant
from bayplan.snapshot import (
    BudgetKey,
    Constraints,
    Disruption,
    GangKey,
    GangTopology,
    Node,
    NodeName,
    Pod,
    PodKind,
    Resources,
    Snapshot,
    newest_member,
)
from bayplan.solver import domains, gangs
from bayplan.solver.between import between
from bayplan.solver.devices import Devices, Sharing, sharing
from bayplan.solver.domains import DomainRule, Domains, by_label

Counts = domains.Counts
Mask = domains.Mask

#: A gang of fewer pods needs no care: its pods are placed one by one.
_SMALLEST_GANG: Final = 2


class Home(NamedTuple):
    """A domain: a label of nodes and a value of it; no value where none will do."""

    label: str
    value: str | None


class PlaceGroup(NamedTuple):
    """Waiting pods that one placing stage counts."""

    tier: int
    preempts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PodClass:
    """Pods that are alike.

    Attributes:
        requests: What each uses.
        constraints: What each asks of its node.
        keep_tier: Priority of the running ones.
        place: Stage that counts the waiting ones; None without any.
        running: Running pods that a plan may disturb, oldest first.
        rows: [running pod] index of its node.
        waiting: Waiting pods, oldest first.
        movable: Whether a running one may get another node.
        move_cost: What a move of a running one costs.
        budget: The PodDisruptionBudget of the running ones, if any.
        gang: The running gang whose fate these pods share.
        loyal: Whether the running ones are of gangs that are not told apart: all go on running.
        doomed: Whether the running ones are of gangs that are given up: none goes on running.
        kind: Index of the gang kind the waiting ones are placed with.
        meant: Indices of the selectors of other pods' rules that mean these pods.
        home: The domain that these pods must not leave, and others of their gang must join.
    """

    requests: Resources
    constraints: Constraints
    keep_tier: int
    place: PlaceGroup | None
    running: tuple[Pod, ...]
    rows: Counts = field(repr=False, compare=False)
    waiting: tuple[Pod, ...]
    movable: bool
    move_cost: int
    budget: BudgetKey | None
    gang: GangKey | None
    loyal: bool
    doomed: bool
    kind: int | None
    meant: tuple[int, ...] = ()
    home: Home | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a PodDisruptionBudget still admits.

    Attributes:
        classes: Indices of the classes it covers.
        most: Most of their running pods that may lose their node; fewer than there are.
    """

    classes: tuple[int, ...]
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GangKind:
    """Waiting gangs that are alike: the same number of pods of the same classes.

    Attributes:
        place: Stage that counts their pods.
        gangs: The gangs as their waiting pods, oldest gang first.
        need: Class index and number of pods, for each class of one gang.
        running: The running part the gang needs, if it has one.
        required: Domains of which all pods of a gang must be in one; None where it is the same,
            or where the running part decides it (then `arrivals` says so).
        preferred: Domains of which they had better be in one, dearest first.
    """

    place: PlaceGroup
    gangs: tuple[tuple[Pod, ...], ...]
    need: tuple[tuple[int, int], ...]
    running: GangKey | None
    required: Domains | None = field(default=None, repr=False, compare=False)
    preferred: tuple[Domains, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGang:
    """A gang with running pods: evicted whole, or not at all.

    Attributes:
        key: The gang.
        classes: Indices of the classes of its running pods.
        pinned: Whether one of its pods must not be evicted, and so none.
    """

    key: GangKey
    classes: tuple[int, ...]
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Running gangs that are alike, in an instance that does not tell them apart.

    Attributes:
        gangs: The gangs, youngest first.
        need: Class index and number of running pods, for each class of one gang.
        pinned: Whether a pod of each must not be evicted, and so none.
        partial: Whether further pods of each wait.
    """

    gangs: tuple[GangKey, ...]
    need: tuple[tuple[int, int], ...]
    pinned: bool
    partial: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomplete:
    """A gang that cannot be placed yet because pods of it do not exist."""

    key: GangKey
    existing: int
    min_count: int


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What the engines decide on; arrays are read-only.

    Attributes:
        nodes: All nodes, by name.
        classes: Classes of pods, highest tier first.
        kinds: Kinds of waiting gangs.
        gangs: Running gangs that a plan may disturb, where they are told apart.
        teams: The same where they are not.
        allowances: What the PodDisruptionBudgets that could matter admit.
        incomplete: Gangs that wait for pods to be created.
        resources: Names of the columns of `requests`, `room` and `capacity`.
        requests: [class, resource] what one pod uses.
        room: [node, resource] allocatable less what may not be touched; may be negative.
        capacity: [node, resource] as `room`, but at least what runs there now.
        running: [class, node] number of pods now.
        arrivals: [class, node] whether a pod of the class may come to the node.
        rules: What pods ask of each other across nodes.
        wishes: [class, node] weight of the preferences that the node fulfils; None without any.
        devices: What shares of GPUs need of each node's; None where nobody has or wants one.
    """

    nodes: tuple[Node, ...]
    classes: tuple[PodClass, ...]
    kinds: tuple[GangKind, ...]
    gangs: tuple[RunningGang, ...]
    teams: tuple[Team, ...]
    allowances: tuple[Allowance, ...]
    incomplete: tuple[Incomplete, ...]
    resources: tuple[str, ...]
    requests: Counts = field(repr=False)
    room: Counts = field(repr=False)
    capacity: Counts = field(repr=False)
    running: Counts = field(repr=False)
    arrivals: Mask = field(repr=False)
    rules: tuple[DomainRule, ...] = field(default=(), repr=False, compare=False)
    wishes: Counts | None = field(default=None, repr=False)
    devices: Devices | None = field(default=None, repr=False, compare=False)

    @property
    def far_sighted(self) -> bool:
        """Whether it matters for some pod where others are, or which of alike nodes it gets."""
        near = any(kind.required is not None or kind.preferred for kind in self.kinds)
        return bool(self.rules) or near or self.wishes is not None

    @cached_property
    def run_totals(self) -> Counts:
        """Number of running pods by class."""
        return np.array([len(c.running) for c in self.classes], dtype=np.int64)

    @cached_property
    def wait_totals(self) -> Counts:
        """Number of waiting pods by class."""
        return np.array([len(c.waiting) for c in self.classes], dtype=np.int64)

    @cached_property
    def move_costs(self) -> Counts:
        """What a move costs by class."""
        return np.array([c.move_cost for c in self.classes], dtype=np.int64)

    @cached_property
    def upper(self) -> Counts:
        """[class, node] most pods of the class the node can end up with."""
        return _upper(self)

    @cached_property
    def open_nodes(self) -> Counts:
        """Indices of the nodes whose free slots count: ready and not cordoned."""
        takes = [node.ready and node.schedulable for node in self.nodes]
        return np.flatnonzero(np.array(takes, dtype=np.bool_)).astype(np.int64)

    @cached_property
    def loyal(self) -> Mask:
        """[class] whether every running pod must go on running, for the sake of its gang."""
        return np.array([c.loyal for c in self.classes], dtype=np.bool_)

    @cached_property
    def doomed(self) -> Mask:
        """[class] whether no running pod may go on running, for its gang is given up."""
        return np.array([c.doomed for c in self.classes], dtype=np.bool_)

    def left(self, final: Counts) -> Counts:
        """Return [node, resource] room beside [class, node] pods; GPUs with shares are taken."""
        left = self.room - final.T @ self.requests
        if self.devices is not None:
            left[:, self.devices.column] -= self.devices.all_held(final)
        return np.asarray(left, dtype=np.int64)

    def spare(self, final: Counts) -> tuple[Counts, Counts]:
        """Return [node, resource] capacity beside the pods, and [node] the GPUs with shares.

        The former is without the latter.
        """
        spare = self.capacity - final.T @ self.requests
        held = np.zeros(len(self.nodes), dtype=np.int64)
        if self.devices is not None:
            held = self.devices.all_held(final)
            spare[:, self.devices.column] -= held
        return spare, held

    @property
    def divided(self) -> bool:
        """Whether running gangs are not told apart, so that no part of them can be evicted."""
        return bool((self.loyal | self.doomed).any())

    @property
    def variables(self) -> int:
        """Number of (class, node) pairs that a plan may decide, room aside.

        Where GPUs are shared, pairs of a GPU and a size are decided as well.
        """
        pairs = int(np.count_nonzero(self.arrivals | (self.running > 0)))
        return pairs if self.devices is None else pairs + self._shared_pairs(self.devices)

    def _shared_pairs(self, devices: Devices) -> int:
        sizes = len({*devices.sizes[devices.sizes > 0].tolist()})
        return sizes * int(np.maximum(self.room[:, devices.column], 0).sum())


def build(
    snapshot: Snapshot, *, divided: bool = False, doomed: Collection[GangKey] = ()
) -> Instance:
    """Return the snapshot as classes and arrays; the same for any order of the input.

    With `divided`, pods of running gangs are classes by what they are alone, however many gangs
    there are. An assignment of that instance counts only if it loses all of those in `doomed` and
    none of the others; what cannot be beaten without this rule cannot be beaten at all.
    """
    members = _members(snapshot)
    rows = {node.name: n for n, node in enumerate(snapshot.nodes)}
    meant = Meant(snapshot)
    decided, fixed = _sorted_out(snapshot, members, rows, meant)
    classes, kinds = _classes(
        decided, members, rows, snapshot.nodes, meant, divided=divided, doomed=doomed
    )
    resources = _resources(snapshot)
    room = _room(snapshot.nodes, fixed, resources, rows)
    requests = _amounts([c.requests for c in classes], resources)
    running = _running(classes, len(rows))
    shared = _sharing(snapshot.nodes, classes, running, fixed, resources)
    if shared is not None:
        resources = (*resources, *shared.names)
        room[:, shared.devices.column] -= shared.devices.lost
        requests = np.column_stack([requests, shared.requests])
        room = np.column_stack([room, shared.room])
    capacity = np.maximum(room, running.T @ requests)
    listed = np.array([not units.implied(name) for name in resources], dtype=np.bool_)
    arrivals = _arrivals(classes, snapshot.nodes) & np.all((capacity == room)[:, listed], axis=1)
    arrivals &= ~_taken(requests, room, capacity, ~listed)
    if shared is not None:
        whole = room - running.T @ requests
        arrivals &= ~shared.devices.overfull(whole[:, shared.devices.column])
    # Who is over what a node implies (a port twice) stays; to all others that is no matter.
    room[:, ~listed] = capacity[:, ~listed]
    found = between(snapshot, classes, rows, running, meant)
    if found.barred is not None:
        arrivals &= ~found.barred
    for index, nowhere in _away_from_gangs(classes, kinds, snapshot.nodes):
        arrivals[index] &= ~nowhere
    return Instance(
        nodes=snapshot.nodes,
        classes=classes,
        kinds=kinds,
        gangs=_running_gangs(classes, members),
        teams=_teams(classes, members),
        allowances=_allowances(classes, snapshot),
        incomplete=tuple(m.incomplete() for m in members.values() if m.lacks_pods),
        resources=(*resources, *(f"apart {k}" for k in range(len(found.columns)))),
        requests=np.column_stack([requests, *(uses for uses, _ in found.columns)]),
        room=np.column_stack([room, *(there for _, there in found.columns)]),
        capacity=np.column_stack([capacity, *(there for _, there in found.columns)]),
        running=running,
        arrivals=arrivals,
        rules=found.rules,
        wishes=_wishes(classes, snapshot.nodes),
        devices=None if shared is None else shared.devices,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Members:
    """The pods of one gang that count."""

    key: GangKey
    min_count: int
    running: tuple[Pod, ...]
    waiting: tuple[Pod, ...]

    @property
    def place(self) -> PlaceGroup:
        """The stage of its waiting pods: its lowest tier, so that no member outranks itself."""
        return PlaceGroup(
            min(pod.priority for pod in self.waiting), all(pod.preempts for pod in self.waiting)
        )

    @property
    def topology(self) -> GangTopology | None:
        """Where its pods are to be with respect to each other."""
        return newest_member((*self.running, *self.waiting)).gang_topology

    @property
    def lacks_pods(self) -> bool:
        """Whether it waits for pods that do not exist."""
        return bool(self.waiting) and len(self.running) + len(self.waiting) < self.min_count

    @property
    def below_minimum(self) -> bool:
        """Whether its waiting pods must be placed together."""
        return bool(self.waiting) and len(self.running) < self.min_count

    def incomplete(self) -> Incomplete:
        existing = len(self.running) + len(self.waiting)
        return Incomplete(key=self.key, existing=existing, min_count=self.min_count)


def _members(snapshot: Snapshot) -> dict[GangKey, _Members]:
    """Return the gangs by key; terminating pods and those of vanished nodes do not count."""
    found: dict[GangKey, list[Pod]] = defaultdict(list)
    grouped = [pod for pod in snapshot.pods if pod.gang is not None]
    known = {node.name for node in snapshot.nodes} if grouped else set()
    for pod in grouped:
        if not pod.terminating and (pod.waiting or pod.node in known):
            found[cast("GangKey", pod.gang)].append(pod)
    members = (
        _Members(
            key=key,
            min_count=newest_member(pods).gang_min_count,
            running=tuple(pod for pod in pods if not pod.waiting),
            waiting=tuple(pod for pod in pods if pod.waiting),
        )
        for key, pods in sorted(found.items())
    )
    return {m.key: m for m in members if m.min_count >= _SMALLEST_GANG}


class _Shape(NamedTuple):
    """What makes waiting gangs alike.

    Attributes:
        place: Stage that counts their pods.
        running: The gang itself if part of it runs: it is like no other.
        pods: Kinds in words, and how many pods of each.
        topology: Where they are to be with respect to each other.
    """

    place: PlaceGroup
    running: GangKey | None
    pods: tuple[tuple[str, int], ...]
    topology: GangTopology | None

    def order(self) -> tuple[object, ...]:
        return (self.place, self.running or (), self.pods, repr(self.topology))


class _Key(NamedTuple):
    """What makes pods alike; sorts highest tier first, then largest."""

    tier: int
    preempts: bool
    keep_tier: int
    requests: Resources
    constraints: Constraints
    movable: bool
    move_cost: int
    budget: BudgetKey | None
    gang: GangKey | None
    shape: _Shape | None
    joins: bool
    meant: tuple[int, ...]
    home: Home | None
    doomed: bool = False

    def order(self) -> tuple[object, ...]:
        return (-self.tier, -self.keep_tier, repr(self))


@dataclass(slots=True)
class _Alike:
    """Pods of one class, by name."""

    running: list[Pod] = field(default_factory=list)
    waiting: list[Pod] = field(default_factory=list)


def _classes(  # noqa: PLR0913 - the parts of a snapshot, sorted out
    decided: Iterable[list[Pod]],
    members: dict[GangKey, _Members],
    rows: dict[NodeName, int],
    nodes: tuple[Node, ...],
    meant: Meant,
    *,
    divided: bool,
    doomed: Collection[GangKey],
) -> tuple[tuple[PodClass, ...], tuple[GangKind, ...]]:
    shapes = {key: _shape(m, meant) for key, m in members.items() if m.below_minimum}
    homes = {key: home for key, m in members.items() if (home := _home(m, nodes, rows))}
    key_of = partial(_key, members=members, shapes=shapes, homes=homes, meant=meant)
    grouped: dict[_Key, _Alike] = defaultdict(_Alike)
    for pods in decided:
        key = key_of(pods[0])
        if divided and key.joins:
            key = key._replace(gang=None, doomed=key.gang in doomed)
        alike = grouped[key]
        mine = alike.waiting if pods[0].waiting else alike.running
        mine += pods
    keys = sorted(grouped, key=_Key.order)
    index = {key: i for i, key in enumerate(keys)}
    kinds = _kinds(members, shapes, lambda pod: index[key_of(pod)], nodes)
    kind_of = {i: k for k, kind in enumerate(kinds) for i, _ in kind.need}
    classes = tuple(_class(key, grouped[key], rows, kind_of.get(index[key])) for key in keys)
    return classes, kinds


def _sorted_out(
    snapshot: Snapshot, members: dict[GangKey, _Members], rows: dict[NodeName, int], meant: Meant
) -> tuple[Iterable[list[Pod]], list[Pod]]:
    """Return the pods a plan decides on, and those with a node that it may not disturb.

    The former are running ones it may disturb and waiting ones it can place; those that are
    alike at first sight come together.
    """
    found: dict[tuple[PodKind, bool, GangKey | None, object], list[Pod]] = defaultdict(list)
    fixed: list[Pod] = []
    selected = bool(meant.selectors)
    for pod in snapshot.pods:
        if pod.node in rows:
            if pod.terminating or pod.kind.disruption is Disruption.FIXED:
                fixed.append(pod)
            else:
                found[pod.kind, False, pod.gang, selected and meant(pod)].append(pod)
        elif pod.waiting and not pod.terminating:
            gang = members.get(pod.gang) if pod.gang else None
            if not (gang and gang.lacks_pods):
                found[pod.kind, True, pod.gang, selected and meant(pod)].append(pod)
    return found.values(), fixed


def may_disturb(pod: Pod) -> bool:
    """Return whether a plan may move or evict the pod."""
    return pod.node is not None and not pod.terminating and pod.disruption is not Disruption.FIXED


def _key(
    pod: Pod,
    *,
    members: dict[GangKey, _Members],
    shapes: dict[GangKey, _Shape],
    homes: dict[GangKey, Home],
    meant: Meant,
) -> _Key:
    gang = members.get(pod.gang) if pod.gang else None
    place = gang.place if gang and pod.waiting else PlaceGroup(pod.priority, pod.preempts)
    shape = shapes.get(gang.key) if gang and pod.waiting else None
    # Identical waiting gangs share their classes; what runs, or joins what runs, has its own.
    shared = gang is None or (pod.waiting and not gang.running)
    return _Key(
        tier=place.tier,
        preempts=place.preempts,
        keep_tier=pod.priority,
        requests=pod.requests,
        constraints=pod.constraints,
        movable=pod.waiting or pod.disruption is Disruption.MOVABLE,
        move_cost=pod.move_cost,
        budget=pod.budget,
        gang=None if shared or gang is None else gang.key,
        shape=shape,
        joins=gang is not None and not pod.waiting,
        meant=meant(pod),
        home=homes.get(gang.key) if gang else None,
    )


def _shape(gang: _Members, meant: Meant) -> _Shape:
    pods = Counter((pod.kind, meant(pod)) for pod in gang.waiting)
    return _Shape(
        place=gang.place,
        running=gang.key if gang.running else None,
        pods=tuple(sorted((f"{kind} {means}", n) for (kind, means), n in pods.items())),
        topology=gang.topology,
    )


def _kinds(
    members: dict[GangKey, _Members],
    shapes: dict[GangKey, _Shape],
    index: Callable[[Pod], int],
    nodes: tuple[Node, ...],
) -> tuple[GangKind, ...]:
    alike: dict[_Shape, list[_Members]] = defaultdict(list)
    for key, shape in shapes.items():
        if not members[key].lacks_pods:
            alike[shape].append(members[key])
    kinds = []
    for shape in sorted(alike, key=_Shape.order):
        alike_gangs = sorted(
            alike[shape], key=lambda m: (min(p.created_at for p in m.waiting), m.key)
        )
        need = Counter(map(index, alike_gangs[0].waiting))
        running = alike_gangs[0].key if alike_gangs[0].running else None
        topology = GangTopology() if running else shape.topology or GangTopology()
        kinds.append(
            GangKind(
                place=alike_gangs[0].place,
                gangs=tuple(m.waiting for m in alike_gangs),
                need=tuple(sorted(need.items())),
                running=running,
                required=by_label(nodes, topology.required) if topology.required else None,
                preferred=gangs.tiers(topology, nodes),
            )
        )
    return tuple(kinds)


def _class(key: _Key, alike: _Alike, rows: dict[NodeName, int], kind: int | None) -> PodClass:
    running, waiting = oldest_first(alike.running), oldest_first(alike.waiting)
    here = map(rows.__getitem__, map(attrgetter("node"), running))
    return PodClass(
        requests=key.requests,
        constraints=key.constraints,
        keep_tier=key.keep_tier,
        place=PlaceGroup(key.tier, key.preempts) if waiting else None,
        running=running,
        rows=np.fromiter(here, dtype=np.int64, count=len(running)),
        waiting=waiting,
        movable=key.movable,
        move_cost=key.move_cost,
        budget=key.budget,
        gang=key.gang,
        loyal=key.joins and key.gang is None and not key.doomed,
        doomed=key.doomed,
        kind=kind,
        meant=key.meant,
        home=key.home,
    )


def oldest_first(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """Return the pods in the order that decides among equals: by age, then by name."""
    by_name = sorted(pods, key=attrgetter("key"))
    return tuple(sorted(by_name, key=attrgetter("created_at")))


def _running_gangs(
    classes: Sequence[PodClass], members: dict[GangKey, _Members]
) -> tuple[RunningGang, ...]:
    of: dict[GangKey, list[int]] = defaultdict(list)
    for i, each in enumerate(classes):
        if each.gang is not None and each.running:
            of[each.gang].append(i)
    return tuple(
        RunningGang(
            key=key,
            classes=tuple(indices),
            pinned=not all(may_disturb(pod) for pod in members[key].running),
        )
        for key, indices in sorted(of.items())
    )


def _teams(classes: Sequence[PodClass], members: dict[GangKey, _Members]) -> tuple[Team, ...]:
    needs: dict[GangKey, Counter[int]] = defaultdict(Counter)
    for i, each in enumerate(classes):
        if each.loyal:
            for pod in each.running:
                needs[cast("GangKey", pod.gang)][i] += 1
    alike: dict[tuple[tuple[tuple[int, int], ...], bool, bool], list[GangKey]] = defaultdict(list)
    for key, need in needs.items():
        pinned = not all(may_disturb(pod) for pod in members[key].running)
        alike[tuple(sorted(need.items())), pinned, bool(members[key].waiting)].append(key)
    youngest = {key: max((p.created_at, p.key) for p in members[key].running) for key in needs}
    return tuple(
        Team(
            gangs=tuple(sorted(gangs, key=youngest.__getitem__, reverse=True)),
            need=need,
            pinned=pinned,
            partial=partial,
        )
        for (need, pinned, partial), gangs in sorted(alike.items())
    )


def _allowances(classes: Sequence[PodClass], snapshot: Snapshot) -> tuple[Allowance, ...]:
    of: dict[BudgetKey, list[int]] = defaultdict(list)
    for i, each in enumerate(classes):
        if each.budget is not None and each.running:
            of[each.budget].append(i)
    allowed = {budget.key: budget.allowed for budget in snapshot.budgets}
    found = (
        Allowance(classes=tuple(indices), most=max(0, allowed.get(key, 0)))
        for key, indices in sorted(of.items())
    )
    return tuple(
        each for each in found if each.most < sum(len(classes[i].running) for i in each.classes)
    )


def _resources(snapshot: Snapshot) -> tuple[str, ...]:
    kinds = set(map(attrgetter("kind"), snapshot.pods))
    offered = {node.allocatable.items for node in snapshot.nodes}
    names = {name for kind in kinds for name in kind.requests if not _is_shared(name)}
    names |= {name for items in offered for name, _ in items if units.is_gpu(name)}
    if any(kind.requests.share_milli for kind in kinds):
        names.add(units.SHARED_GPU)
    return tuple(sorted(names))


def _sharing(
    nodes: tuple[Node, ...],
    classes: Sequence[PodClass],
    running: Counts,
    fixed: Sequence[Pod],
    resources: tuple[str, ...],
) -> Sharing | None:
    """Return what shares of GPUs add; None where there are none."""
    if units.SHARED_GPU not in resources:
        return None
    column = resources.index(units.SHARED_GPU)
    return sharing(nodes, [each.requests for each in classes], running, fixed, column)


def _is_shared(name: str) -> bool:
    """Return whether a resource is a matter of packing, not of sums: see `devices`."""
    return units.is_share(name) or units.is_part(name)


def _amounts(rows: Sequence[Resources], resources: tuple[str, ...]) -> Counts:
    """Return [row, resource]; equal amounts are read once."""
    known: dict[tuple[tuple[str, int], ...], int] = {}
    index = [known.setdefault(row.items, len(known)) for row in rows]
    amounts = np.zeros((len(known), len(resources)), dtype=np.int64)
    for items, i in known.items():
        have = dict(items)
        amounts[i] = [have.get(name, 0) for name in resources]
    return np.asarray(amounts[np.array(index, dtype=np.int64)], dtype=np.int64)


def _room(
    nodes: Sequence[Node],
    fixed: Sequence[Pod],
    resources: tuple[str, ...],
    rows: dict[NodeName, int],
) -> Counts:
    """Return allocatable less every pod that has a node and that a plan may not disturb."""
    room = _amounts([node.allocatable for node in nodes], resources)
    room += np.array([units.implied(name) for name in resources], dtype=np.int64)
    taken = _amounts([pod.requests for pod in fixed], resources)
    here = [rows[pod.node] for pod in fixed if pod.node is not None]
    np.subtract.at(room, np.array(here, dtype=np.int64), taken)
    return room


def _running(classes: Sequence[PodClass], nodes: int) -> Counts:
    counts = [np.bincount(each.rows, minlength=nodes) for each in classes]
    return np.array(counts, dtype=np.int64).reshape(len(classes), nodes)


def _arrivals(classes: Sequence[PodClass], nodes: Sequence[Node]) -> Mask:
    """Return where pods of a class may go, room aside; each set of constraints is checked once.

    Nodes are checked once for all that look the same to every pod.
    """
    asked = {each.constraints for each in classes if each.movable}
    looks = filters.Looks.of(asked)
    number: dict[object, int] = {}
    examples: list[Node] = []
    of_node = np.empty(len(nodes), dtype=np.int64)
    for n, node in enumerate(nodes):
        look = looks.at(node)
        if look not in number:
            number[look] = len(examples)
            examples.append(node)
        of_node[n] = number[look]
    masks = {
        constraints: np.array(
            [filters.eligibility(constraints, node) is None for node in examples], dtype=np.bool_
        )[of_node]
        for constraints in asked
    }
    nowhere = np.zeros(len(nodes), dtype=np.bool_)
    arrivals = [masks[each.constraints] if each.movable else nowhere for each in classes]
    return np.array(arrivals, dtype=np.bool_).reshape(len(classes), len(nodes))


def _taken(requests: Counts, room: Counts, capacity: Counts, implied: Mask) -> Mask:
    """Return [class, node] whether the node is over what it implies of something the class uses."""
    over = (capacity > room) & implied
    return np.asarray((requests > 0).astype(np.int64) @ over.T.astype(np.int64) > 0, dtype=np.bool_)


def _home(gang: _Members, nodes: tuple[Node, ...], rows: dict[NodeName, int]) -> Home | None:
    """Return the domain where most of a gang runs that must be in one; None if it need not."""
    label = gang.topology.required if gang.running and gang.topology else ""
    if not label:
        return None
    there = (dict(nodes[rows[cast("NodeName", pod.node)]].labels) for pod in gang.running)
    counts = Counter(labels[label] for labels in there if label in labels)
    most = max(counts.values(), default=0)
    return Home(label, min((value for value, n in counts.items() if n == most), default=None))


def _away_from_gangs(
    classes: Sequence[PodClass], kinds: Sequence[GangKind], nodes: tuple[Node, ...]
) -> Iterable[tuple[int, Mask]]:
    """Return classes of gangs that must share a domain, with the nodes that are in no such one."""
    for kind in kinds:
        if kind.required is not None:
            yield from ((i, kind.required.of_node < 0) for i, _ in kind.need)
    for i, each in enumerate(classes):
        if each.home is not None:
            label, value = each.home
            inside = [value is not None and (label, value) in node.labels for node in nodes]
            yield i, ~np.array(inside, dtype=np.bool_)


def _wishes(classes: Sequence[PodClass], nodes: tuple[Node, ...]) -> Counts | None:
    """Return the weights of preferred node affinity; None where no pod that may come has any."""
    asked = {each.constraints.prefers for each in classes if each.movable} - {()}
    if not asked:
        return None
    nothing = np.zeros(len(nodes), dtype=np.int64)
    known = {
        prefers: np.array([filters.preference(prefers, node) for node in nodes], dtype=np.int64)
        for prefers in asked
    }
    rows = [known.get(each.constraints.prefers, nothing) for each in classes]
    return np.array(rows, dtype=np.int64)


def _upper(instance: Instance) -> Counts:
    """Return the most pods of a class a node can hold; without arrivals, what runs there."""
    running, capacity = instance.running, np.maximum(instance.capacity, 0)
    upper = running.copy()
    for i, each in enumerate(instance.classes):
        asks = instance.requests[i]
        uses = asks > 0
        copies = np.full(len(capacity), len(each.running) + len(each.waiting), dtype=np.int64)
        if uses.any():
            copies = np.minimum(copies, (capacity[:, uses] // asks[uses]).min(axis=1))
        upper[i] = np.where(instance.arrivals[i], np.maximum(copies, running[i]), running[i])
    return upper
