"""Why no node takes a pod, in one sentence over all nodes.

It looks at every kind of node once and says the most useful thing first: no node is ever large
enough; or which nodes refuse the pod for good; or which room is short, and by how much. The
planner uses it for what it holds, `kubectl describe` shows it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, TypeVar

from bayplan import filters, units
from bayplan.plan import Reason, Rejection
from bayplan.resources import Resources
from bayplan.shares import left_in
from bayplan.snapshot import Node, Pod
from bayplan.why.rooms import Room, refusals

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
}


def over_rooms(pod: Pod, rooms: Sequence[Room]) -> Rejection | None:
    """Return why none of the nodes with these rooms takes the pod; None if one does."""
    if not rooms:
        return Rejection(reason=Reason.NO_NODES, message="the cluster has no nodes")
    nowhere = filters.blanket_rejection(pod.constraints)
    if nowhere is not None:
        return nowhere
    refused = refusals(pod, rooms)
    usable = [room for room, refusal in zip(rooms, refused, strict=True) if refusal is None]
    if any(pod.requests.fits(room.free) for room in usable):
        return None
    never = _never_large_enough(pod.requests, [room.node for room in rooms])
    if never is not None:
        return never
    counts: Counter[Reason] = Counter()
    for room, refusal in zip(rooms, refused, strict=True):
        if refusal is not None:
            counts[refusal.reason] += room.count
    total = sum(room.count for room in rooms)
    if not usable:
        return _refused_for_good(pod.requests, total, counts)
    return _no_room(pod.requests, usable, total, counts)


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
                f"needs {units.words(resource, need)} on one node; "
                f"the largest has {units.text(resource, largest)}"
            )
            return Rejection(reason=Reason.TOO_SMALL, message=message)
    return Rejection(
        reason=Reason.TOO_SMALL,
        message=f"needs {in_words(requests)} on one node; each node lacks one of these",
    )


def _refused_for_good(requests: Resources, total: int, counts: Counter[Reason]) -> Rejection:
    parts = [_said(reason, n) for reason, n in _ranked(counts)]
    message = f"0 of {total} nodes will do: {'; '.join(parts)}"
    if counts[Reason.TOO_SMALL]:
        message += f" (needs {in_words(requests)})"
    return Rejection(reason=_ranked(counts)[0][0], message=message)


def _no_room(
    requests: Resources, usable: Sequence[Room], total: int, counts: Counter[Reason]
) -> Rejection:
    lacking: Counter[str] = Counter()
    order = _gpus_first(requests)
    for room in usable:
        short = requests.shortfall(room.free)
        lacking[next(name for name, _ in order if short[name])] += room.count
    parts = [_lack(name, n, requests[name], usable) for name, n in _ranked(lacking)]
    parts += [_said(reason, n) for reason, n in _ranked(counts)]
    ports_only = all(units.is_host_port(name) for name in lacking)
    return Rejection(
        reason=Reason.HOST_PORT_TAKEN if ports_only else Reason.INSUFFICIENT_ROOM,
        message=f"0 of {total} nodes have room: {'; '.join(parts)}",
        resolvable=True,
    )


def _lack(resource: str, count: int, need: int, usable: Sequence[Room]) -> str:
    """Return e.g. "6 lack GPUs (most free on one node: 4, needs 8; 21 free in all)"."""
    if units.is_host_port(resource):
        return f"{resource} is taken on {count}"
    most = max(0, *(filters.free_of(resource, room.free) for room in usable))
    verb = "lacks" if count == 1 else "lack"
    if units.is_share(resource):
        loose = sum(left_in(room.free.items).loose * room.count for room in usable)
        return (
            f"{count} {verb} {units.words(resource, 1)} "
            f"(most free on one GPU: {most / units.WHOLE_MILLI:g}; "
            f"{loose / units.WHOLE_MILLI:g} GPUs free in all)"
        )
    in_all = sum(max(0, filters.free_of(resource, room.free)) * room.count for room in usable)
    largest, needs, total = (units.text(resource, n) for n in (most, need, in_all))
    return (
        f"{count} {verb} {_noun(resource)} "
        f"(most free on one node: {largest}, needs {needs}; {total} free in all)"
    )


def _noun(resource: str) -> str:
    if units.is_gpu(resource):
        return "GPUs"
    return {"cpu": "CPU", "pods": "room for another pod"}.get(resource, resource)


def _said(reason: Reason, count: int) -> str:
    one, many = _SAID[reason]
    return f"{count} {one if count == 1 else many}"


def _ranked(counts: "Counter[T]") -> list[tuple[T, int]]:
    """Return the counts, largest first, names in order among equals."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _gpus_first(requests: Resources) -> list[tuple[str, int]]:
    return sorted(requests.items, key=lambda item: (not filters.is_about_gpus(item[0]), item[0]))


def in_words(requests: Resources) -> str:
    """Return the requests in words, GPUs first, without the pod itself: "8 GPUs, 64 CPU"."""
    parts = [
        units.words(name, n)
        for name, n in _gpus_first(requests)
        if name != "pods" and not units.is_host_port(name)
    ]
    return ", ".join(parts) if parts else "room for a pod"
