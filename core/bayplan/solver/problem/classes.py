"""Which pods are alike: classes of pods, kinds of gangs that wait, and gangs that run.

Pods come in thousands and few kinds, and waiting gangs too; which of several that are alike gets a
node is decided by age, after the engines have decided how many do.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import Final, NamedTuple, cast

import numpy as np

from bayplan.cluster.constraints import Constraints, GangTopology
from bayplan.cluster.keys import BudgetKey, GangKey, NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod, PodKind, newest_member
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.rules.peers import Meant
from bayplan.solver.problem import gangs
from bayplan.solver.problem.domains import by_label
from bayplan.solver.problem.instance import (
    Counts,
    GangKind,
    Home,
    Incomplete,
    Mask,
    Picked,
    PlaceGroup,
    PodClass,
    RunningGang,
    Team,
)

#: A gang of fewer pods needs no care: its pods are placed one by one.
_SMALLEST_GANG: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The pods of one gang that count.

    Attributes:
        key: The gang.
        min_count: How many make it whole.
        needed: Whether its deployment has fewer units than it needs without it.
        running: Those that have a node.
        waiting: Those that wait for a plan.
    """

    key: GangKey
    min_count: int
    needed: bool
    running: tuple[Pod, ...]
    waiting: tuple[Pod, ...]

    @property
    def place(self) -> PlaceGroup:
        """The stage of its waiting pods: its lowest tier, so that no member outranks itself."""
        return PlaceGroup(
            tier=min(pod.priority for pod in self.waiting),
            preempts=all(pod.preempts for pod in self.waiting),
            needed=self.needed,
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
        """Return what it still waits for."""
        existing = len(self.running) + len(self.waiting)
        return Incomplete(key=self.key, existing=existing, min_count=self.min_count)


def members_of(snapshot: Snapshot, needed: Collection[GangKey]) -> dict[GangKey, Members]:
    """Return the gangs by key; terminating pods and those of vanished nodes do not count.

    `needed` are the waiting ones without which a deployment has fewer units than it needs.
    """
    found: dict[GangKey, list[Pod]] = defaultdict(list)
    known = {node.name for node in snapshot.nodes} if snapshot.in_gangs else set()
    for pod in snapshot.in_gangs:
        if not pod.terminating and (pod.waiting or pod.node in known):
            found[cast("GangKey", pod.gang)].append(pod)
    members = (
        Members(
            key=key,
            min_count=newest_member(pods).gang_min_count,
            needed=key in needed,
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
    """What makes pods alike; sorts highest tier first, who is needed first in it."""

    tier: int
    preempts: bool
    needed: bool
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
    must_go: bool = False

    def order(self) -> tuple[object, ...]:
        return (-self.tier, not self.needed, -self.keep_tier, repr(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pods that are alike at first sight: all run, or all wait.

    Attributes:
        pods: The pods, oldest first.
        rows: [pod] index of the node of each that runs; -1 for those that wait.
    """

    pods: Picked
    rows: Counts = field(repr=False)


@dataclass(slots=True)
class _Alike:
    """Pods of one class."""

    running: list[Batch] = field(default_factory=list)
    waiting: list[Batch] = field(default_factory=list)


def sorted_out(
    snapshot: Snapshot, members: dict[GangKey, Members], meant: Meant, needed: Collection[GangKey]
) -> tuple[list[Batch], Batch]:
    """Return the pods a plan decides on, and those with a node that it may not disturb.

    The former are running ones it may disturb and waiting ones it can place; those that are
    alike at first sight come together. A fleet has too many pods to be looked at one by one.
    """
    pods = snapshot.pods
    at = np.asarray(snapshot.spot_of.numbers)
    at = np.where(at < len(snapshot.nodes), at, _NOWHERE)
    waiting = (at < 0) & np.frombuffer(snapshot.waits, dtype=np.bool_)
    leaving = _flags("terminating", pods) if snapshot.leaving else np.zeros_like(waiting)
    kind_of = np.asarray(snapshot.kind_of.numbers)
    still = np.array([kind.disruption is Disruption.FIXED for kind in snapshot.kinds], np.bool_)
    fixed = (at >= 0) & (leaving | still[kind_of])
    decided = ~fixed & ((at >= 0) | (waiting & ~leaving))
    code = kind_of * 2 + waiting
    if members:
        gangs = {key: g for g, key in enumerate(members, start=1)}
        gang_of = _column(map(gangs.get, map(attrgetter("gang"), pods), repeat(0)), pods)
        lacking = np.array([False, *(m.lacks_pods for m in members.values())], dtype=np.bool_)
        decided &= ~(waiting & lacking[gang_of])
        code = code * len(gangs) + code + gang_of
    if needed:
        # Gangs are told apart already, but not those of a single pod.
        code = code * 2 + _column((pod.waiting and pod.gang in needed for pod in pods), pods)
    if meant.selectors:
        means: dict[tuple[int, ...], int] = {}
        code = code * len(pods) + _column(
            (means.setdefault(meant(pod), len(means)) for pod in pods), pods
        )
    return _batches(pods, np.flatnonzero(decided), code, at), _batch(
        pods, np.flatnonzero(fixed), at
    )


#: Stands for a node that is not there.
_NOWHERE: Final = -1


def _column(values: Iterable[int], pods: Sequence[Pod]) -> Counts:
    return np.fromiter(values, dtype=np.int64, count=len(pods))


def _flags(name: str, pods: Sequence[Pod]) -> Mask:
    return np.fromiter(map(attrgetter(name), pods), dtype=np.bool_, count=len(pods))


def _batches(pods: Sequence[Pod], chosen: Counts, code: Counts, at: Counts) -> list[Batch]:
    """Return the chosen pods apart by code, those of each by age; who is as old stays by name."""
    if not len(chosen):
        return []
    born = np.fromiter(map(attrgetter("created_at"), pods), dtype=np.int64, count=len(pods))
    by_age = chosen[np.argsort(born[chosen], kind="stable")]
    # Short integers are sorted several times as fast.
    few = np.int16 if code.max() <= np.iinfo(np.int16).max else np.int64
    order = by_age[np.argsort(code[by_age].astype(few), kind="stable")]
    ends = np.flatnonzero(np.diff(code[order])) + 1
    return [_batch(pods, some, at) for some in np.split(order, ends)]


def _batch(pods: Sequence[Pod], chosen: Counts, at: Counts) -> Batch:
    return Batch(pods=Picked(pods, chosen), rows=at[chosen])


def classes_of(  # noqa: PLR0913 - a snapshot and what was found in it
    snapshot: Snapshot,
    decided: Iterable[Batch],
    members: dict[GangKey, Members],
    meant: Meant,
    needed: Collection[GangKey],
    *,
    divided: bool,
    must_go: Collection[GangKey],
) -> tuple[tuple[PodClass, ...], tuple[GangKind, ...]]:
    """Return the classes of the pods to decide on, and the kinds of gangs that wait.

    Args:
        snapshot: The cluster.
        decided: The pods, those together that are alike at first sight.
        members: The gangs.
        meant: Which pods are meant by rules between pods.
        needed: Waiting units without which a deployment has fewer than it needs.
        divided: Whether pods of running gangs are classed by what they are alone.
        must_go: Gangs that are given up, when divided.
    """
    words: dict[tuple[PodKind, tuple[int, ...]], str] = {}
    shapes = {key: _shape(m, meant, words) for key, m in members.items() if m.below_minimum}
    pods, nodes = snapshot.pods, snapshot.nodes
    homes = {key: home for key, m in members.items() if (home := _home(m, snapshot))}
    key_of = partial(_key, members=members, shapes=shapes, homes=homes, meant=meant, needed=needed)
    grouped: dict[_Key, _Alike] = defaultdict(_Alike)
    for batch in decided:
        key = key_of(batch.pods[0])
        if divided and key.joins:
            key = key._replace(gang=None, must_go=key.gang in must_go)
        alike = grouped[key]
        mine = alike.waiting if batch.pods[0].waiting else alike.running
        mine.append(batch)
    keys = sorted(grouped, key=_Key.order)
    index = {key: i for i, key in enumerate(keys)}
    kinds = _kinds(members, shapes, lambda pod: index[key_of(pod)], nodes)
    kind_of = {i: k for k, kind in enumerate(kinds) for i, _ in kind.need}
    classes = tuple(_class(key, grouped[key], kind_of.get(index[key]), pods) for key in keys)
    return classes, kinds


def _key(  # noqa: PLR0913 - a pod and what was found in its snapshot
    pod: Pod,
    *,
    members: dict[GangKey, Members],
    shapes: dict[GangKey, _Shape],
    homes: dict[GangKey, Home],
    meant: Meant,
    needed: Collection[GangKey],
) -> _Key:
    gang = members.get(pod.gang) if pod.gang else None
    alone = PlaceGroup(pod.priority, pod.preempts, needed=pod.waiting and pod.gang in needed)
    place = gang.place if gang and pod.waiting else alone
    shape = shapes.get(gang.key) if gang and pod.waiting else None
    # Identical waiting gangs share their classes; what runs, or joins what runs, has its own.
    shared = gang is None or (pod.waiting and not gang.running)
    return _Key(
        tier=place.tier,
        preempts=place.preempts,
        needed=place.needed,
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


def _shape(
    gang: Members, meant: Meant, words: dict[tuple[PodKind, tuple[int, ...]], str]
) -> _Shape:
    """Return what makes the gang like others; `words` are those of pods so far."""
    pods = Counter((pod.kind, meant(pod)) for pod in gang.waiting)
    for kind, means in pods.keys() - words.keys():
        words[kind, means] = f"{kind.in_words()} {means}"
    return _Shape(
        place=gang.place,
        running=gang.key if gang.running else None,
        pods=tuple(sorted((words[each], n) for each, n in pods.items())),
        topology=gang.topology,
    )


def _kinds(
    members: dict[GangKey, Members],
    shapes: dict[GangKey, _Shape],
    index: Callable[[Pod], int],
    nodes: tuple[Node, ...],
) -> tuple[GangKind, ...]:
    alike: dict[_Shape, list[Members]] = defaultdict(list)
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


def _class(key: _Key, alike: _Alike, kind: int | None, pods: Sequence[Pod]) -> PodClass:
    running, waiting = (_joined(batches, pods) for batches in (alike.running, alike.waiting))
    return PodClass(
        requests=key.requests,
        constraints=key.constraints,
        keep_tier=key.keep_tier,
        place=PlaceGroup(key.tier, key.preempts, key.needed) if waiting.pods else None,
        running=running.pods,
        rows=running.rows,
        waiting=waiting.pods,
        movable=key.movable,
        move_cost=key.move_cost,
        budget=key.budget,
        gang=key.gang,
        must_stay=key.joins and key.gang is None and not key.must_go,
        must_go=key.must_go,
        kind=kind,
        meant=key.meant,
        home=key.home,
    )


def _home(gang: Members, snapshot: Snapshot) -> Home | None:
    """Return the domain where most of a gang runs that must be in one; None if it need not."""
    label = gang.topology.required if gang.running and gang.topology else ""
    if not label:
        return None
    names = (cast("NodeName", pod.node) for pod in gang.running)
    there = (dict(snapshot.nodes[snapshot.rows[name]].labels) for name in names)
    counts = Counter(labels[label] for labels in there if label in labels)
    most = max(counts.values(), default=0)
    return Home(label, min((value for value, n in counts.items() if n == most), default=None))


def _joined(batches: Sequence[Batch], pods: Sequence[Pod]) -> Batch:
    """Return batches as one, oldest first; who is as old stays by name."""
    if len(batches) == 1:
        return batches[0]
    none = np.zeros(0, dtype=np.int64)
    index = np.concatenate([none, *(batch.pods.where for batch in batches)])
    rows = np.concatenate([none, *(batch.rows for batch in batches)])
    born = np.array([pods[i].created_at for i in index.tolist()], dtype=np.int64)
    order = np.lexsort((index, born))
    return Batch(pods=Picked(pods, index[order]), rows=rows[order])


def oldest_first(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """Return the pods in the order that decides among equals: by age, then by name."""
    by_name = sorted(pods, key=attrgetter("key"))
    return tuple(sorted(by_name, key=attrgetter("created_at")))


def running_gangs(
    classes: Sequence[PodClass], members: dict[GangKey, Members]
) -> tuple[RunningGang, ...]:
    """Return the gangs that run, where their classes tell them apart."""
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


def teams_of(classes: Sequence[PodClass], members: dict[GangKey, Members]) -> tuple[Team, ...]:
    """Return the gangs that run where they are not told apart, those together that are alike."""
    needs: dict[GangKey, Counter[int]] = defaultdict(Counter)
    for i, each in enumerate(classes):
        if each.must_stay:
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


def may_disturb(pod: Pod) -> bool:
    """Return whether a plan may move or evict the pod."""
    return pod.node is not None and not pod.terminating and pod.disruption is not Disruption.FIXED
