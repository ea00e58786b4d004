"""Why no node takes a pod, in one sentence over all nodes.

It looks at every kind of node once and says the most useful thing first: no node is ever large
enough; or which nodes refuse the pod for good; or which room is short, and by how much. The
planner uses it for what it holds, `kubectl describe` shows it.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, TypeVar

from bayplan.cluster import units
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.shares import left_in
from bayplan.plan import Reason, Rejection
from bayplan.rules import filters
from bayplan.why.rooms import Beyond, Refusing, Room, refusals

T = TypeVar("T", bound=str)

#: How a count of refusing nodes is said, by reason.
_SAID: Final = {
    Reason.NODE_NOT_READY: ("is not ready", "are not ready"),
    Reason.NODE_CORDONED: ("is cordoned", "are cordoned"),
    Reason.TAINT_NOT_TOLERATED: (
        "has a taint it does not tolerate",
        "have a taint it does not tolerate",
    ),
    Reason.SELECTOR_MISMATCH: ("lacks a label it selects", "lack a label it selects"),
    Reason.AFFINITY_MISMATCH: ("fails its node affinity", "fail its node affinity"),
    Reason.VOLUME_ELSEWHERE: ("does not reach its volume", "do not reach its volume"),
    Reason.TOO_SMALL: ("is too small", "are too small"),
    Reason.REFUSED_ON_NODE: ("is left out", "are left out"),
}


#: Most characters of a label, a taint or a term that are told.
_MOST_ABOUT: Final = 120

#: That there are no other nodes.
_NOTHING: Final = Beyond()


def over_rooms(pod: Pod, rooms: Sequence[Room], beyond: Beyond = _NOTHING) -> Rejection | None:
    """Return why none of the nodes with these rooms takes the pod; None if one does.

    No node `beyond` them does.
    """
    if not rooms and not beyond.refusing:
        return Rejection(reason=Reason.NO_NODES, message="the cluster has no nodes")
    nowhere = filters.blanket_rejection(pod.constraints)
    if nowhere is not None:
        return nowhere
    refused = refusals(pod, rooms)
    usable = [room for room, refusal in zip(rooms, refused, strict=True) if refusal is None]
    if any(pod.requests.fits(room.free) for room in usable):
        return None
    never = _never_large_enough(pod.requests, beyond.sizes or [room.node for room in rooms])
    if never is not None:
        return never
    counts = _counted(rooms, refused, beyond)
    total = sum(room.count for room in rooms) + beyond.refusing.total()
    if not usable:
        return _refused_for_good(pod.requests, total, counts)
    return _no_room(pod.requests, usable, total, counts)


def refusing(pod: Pod, rooms: Sequence[Room], beyond: Beyond) -> str:
    """Return which nodes refuse the pod whatever room they have: "of 3 nodes 1 is not ready".

    Those are told that have these rooms, and those `beyond` them; "" if all would take it.
    """
    counts = _counted(rooms, refusals(pod, rooms), beyond)
    total = sum(room.count for room in rooms) + beyond.refusing.total()
    return f"of {total} nodes {', '.join(_refusals_said(counts))}" if counts else ""


def _counted(
    rooms: Sequence[Room], refused: Sequence[Rejection | None], beyond: Beyond
) -> Refusing:
    counts = beyond.refusing.copy()
    for room, refusal in zip(rooms, refused, strict=True):
        if refusal is not None:
            counts[refusal.reason, refusal.about] += room.count
    return counts


def _never_large_enough(requests: Resources, nodes: Sequence[Node]) -> Rejection | None:
    """Return the refusal when not even an empty node of the cluster could hold the requests."""
    if any(requests.fits(node.allocatable) for node in nodes):
        return None
    for resource, need in _gpus_first(requests):
        if units.is_host_port(resource):
            continue
        if units.is_share(resource):
            if any(requests.shortfall(node.allocatable)[resource] == 0 for node in nodes):
                continue
            message = f"needs {units.words(resource, need)}; no node has a GPU to share"
            return Rejection(reason=Reason.TOO_SMALL, message=message)
        largest = max(node.allocatable[resource] for node in nodes)
        if largest < need:
            message = (
                f"needs {words(resource, need, nodes)} on one node; "
                f"the largest has {units.texts(resource, largest, need)[0]}"
            )
            return Rejection(reason=Reason.TOO_SMALL, message=message)
    return Rejection(
        reason=Reason.TOO_SMALL,
        message=f"needs {in_words(requests)} on one node; each node lacks one of these",
    )


def _refused_for_good(requests: Resources, total: int, counts: Refusing) -> Rejection:
    summed = _summed(counts)
    message = f"0 of {total} nodes will do: {'; '.join(_refusals_said(counts))}"
    if Reason.TOO_SMALL in summed:
        message += f" (needs {in_words(requests)})"
    return Rejection(reason=_ranked(summed)[0][0], message=message)


def _summed(counts: Refusing) -> Counter[Reason]:
    summed: Counter[Reason] = Counter()
    for (reason, _), n in counts.items():
        summed[reason] += n
    return summed


def _refusals_said(counts: Refusing) -> list[str]:
    """Return what refuses the pod for good, what refuses it on most nodes first."""
    about: defaultdict[Reason, Counter[str]] = defaultdict(Counter)
    for (reason, what), n in counts.items():
        about[reason][what] = n
    return [_said(reason, about[reason]) for reason, _ in _ranked(_summed(counts))]


def _no_room(
    requests: Resources, usable: Sequence[Room], total: int, counts: Refusing
) -> Rejection:
    lacking: dict[str, list[Room]] = defaultdict(list)
    order = _gpus_first(requests)
    for room in usable:
        short = requests.shortfall(room.free)
        lacking[next(name for name, _ in order if short[name])].append(room)
    counts_of = Counter({name: sum(room.count for room in lack) for name, lack in lacking.items()})
    parts = [
        _lack(name, n, requests[name], lacking[name], usable) for name, n in _ranked(counts_of)
    ]
    parts += _refusals_said(counts)
    ports_only = all(units.is_host_port(name) for name in lacking)
    return Rejection(
        reason=Reason.HOST_PORT_TAKEN if ports_only else Reason.INSUFFICIENT_ROOM,
        message=f"0 of {total} nodes have room: {'; '.join(parts)}",
        resolvable=True,
    )


def _lack(
    resource: str, count: int, need: int, lacking: Sequence[Room], usable: Sequence[Room]
) -> str:
    """Return e.g. "6 lack GPUs (most free on one node: 4, needs 8; 21 free in all)".

    The most is that of the nodes that lack it: others may have more of it, and lack something else.
    """
    if units.is_host_port(resource):
        return f"{resource} is taken on {count}"
    most = max(0, *(filters.free_of(resource, room.free) for room in lacking))
    verb = "lacks" if count == 1 else "lack"
    if units.is_share(resource):
        loose = sum(left_in(room.free.items).loose * room.count for room in usable)
        return (
            f"{count} {verb} {units.words(resource, 1)} "
            f"(most free on one GPU: {most / units.WHOLE_MILLI:g}; "
            f"{loose / units.WHOLE_MILLI:g} GPUs free in all)"
        )
    in_all = sum(max(0, filters.free_of(resource, room.free)) * room.count for room in usable)
    largest, needs = units.texts(resource, most, need)
    total = units.text(resource, in_all)
    return (
        f"{count} {verb} {_noun(resource, [room.node for room in usable])} "
        f"(most free on one node: {largest}, needs {needs}; {total} free in all)"
    )


def _noun(resource: str, nodes: Sequence[Node]) -> str:
    if units.is_gpu(resource):
        return resource if _has_others(resource, nodes) else "GPUs"
    return {"cpu": "CPU", "pods": "room for another pod"}.get(resource, resource)


def words(resource: str, n: int, nodes: Sequence[Node]) -> str:
    """Return an amount in words; GPUs by the resource's name where nodes have those of others."""
    if units.is_gpu(resource) and _has_others(resource, nodes):
        return f"{n} {resource}"
    return units.exact_words(resource, n)


def _has_others(resource: str, nodes: Sequence[Node]) -> bool:
    """Return whether a node has GPUs of another make."""
    sizes = {id(node.allocatable): node.allocatable for node in nodes}
    return any(units.is_gpu(name) and name != resource for size in sizes.values() for name in size)


def _said(reason: Reason, counts: Counter[str]) -> str:
    """Return e.g. "3 lack a label it selects (model=h)", with the one that most of them lack."""
    one, many = _SAID[reason]
    said = f"{counts.total()} {one if counts.total() == 1 else many}"
    about, n = _ranked(counts)[0]
    if not about:
        return said
    what = about if len(about) <= _MOST_ABOUT else f"{about[:_MOST_ABOUT]}..."
    return f"{said} ({what})" if n == counts.total() else f"{said} (most often {what})"


def _ranked(counts: "Counter[T]") -> list[tuple[T, int]]:
    """Return the counts, largest first, names in order among equals."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _gpus_first(requests: Resources) -> list[tuple[str, int]]:
    return sorted(requests.items, key=lambda item: (not filters.is_about_gpus(item[0]), item[0]))


def in_words(requests: Resources) -> str:
    """Return the requests in words, GPUs first, without the pod itself: "8 GPUs, 64 CPU"."""
    parts = [
        units.exact_words(name, n)
        for name, n in _gpus_first(requests)
        if name != "pods" and not units.is_host_port(name)
    ]
    return ", ".join(parts) if parts else "room for a pod"
