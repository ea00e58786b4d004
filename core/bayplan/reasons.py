"""Why no node takes a pod, in one sentence over all nodes.

`summarise` looks at every node once and says the most useful thing first: no node is ever large
enough; or which nodes refuse it for good; or which room is short, and by how much. The planner
uses it for what it holds, `kubectl describe` shows it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from bayplan import filters, units
from bayplan.plan import Reason, Rejection
from bayplan.snapshot import Node, NodeName, Pod, Resources, Snapshot

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
    Reason.TOO_SMALL: ("is too small", "are too small"),
}


def summarise(pod: Pod, snapshot: Snapshot) -> Rejection | None:
    """Return why no node of the snapshot takes the pod; None if one does."""
    return over_nodes(pod, snapshot.nodes, snapshot.free())


def over_nodes(
    pod: Pod, nodes: Sequence[Node], free: Mapping[NodeName, Resources]
) -> Rejection | None:
    """Return why none of `nodes` with this `free` room takes the pod; None if one does."""
    if not nodes:
        return Rejection(reason=Reason.NO_NODES, message="the cluster has no nodes")
    roomy = (node for node in nodes if pod.requests.fits(free[node.name]))
    if any(filters.static_rejection(pod, node) is None for node in roomy):
        return None
    refusals = {node.name: filters.static_rejection(pod, node) for node in nodes}
    usable = [node for node in nodes if refusals[node.name] is None]
    never = _never_large_enough(pod.requests, nodes)
    if never is not None:
        return never
    counts = Counter(refusal.reason for refusal in refusals.values() if refusal is not None)
    if not usable:
        return _refused_for_good(pod.requests, nodes, counts)
    return _no_room(pod.requests, usable, free, len(nodes), counts)


def _never_large_enough(requests: Resources, nodes: Sequence[Node]) -> Rejection | None:
    """Return the refusal when not even an empty node of the cluster could hold the requests."""
    if any(requests.fits(node.allocatable) for node in nodes):
        return None
    for resource, need in _gpus_first(requests):
        if units.is_host_port(resource):
            continue
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


def _refused_for_good(
    requests: Resources, nodes: Sequence[Node], counts: Counter[Reason]
) -> Rejection:
    parts = [_said(reason, n) for reason, n in _ranked(counts)]
    message = f"0 of {len(nodes)} nodes will do: {'; '.join(parts)}"
    if counts[Reason.TOO_SMALL]:
        message += f" (needs {in_words(requests)})"
    return Rejection(reason=_ranked(counts)[0][0], message=message)


def _no_room(
    requests: Resources,
    usable: Sequence[Node],
    free: Mapping[NodeName, Resources],
    total: int,
    counts: Counter[Reason],
) -> Rejection:
    lacking = Counter(
        next(
            name
            for name, n in _gpus_first(requests)
            if n > free[node.name][name] + units.implied(name)
        )
        for node in usable
    )
    parts = [_lack(name, n, requests[name], usable, free) for name, n in _ranked(lacking)]
    parts += [_said(reason, n) for reason, n in _ranked(counts)]
    ports_only = all(units.is_host_port(name) for name in lacking)
    return Rejection(
        reason=Reason.HOST_PORT_TAKEN if ports_only else Reason.INSUFFICIENT_ROOM,
        message=f"0 of {total} nodes have room: {'; '.join(parts)}",
        resolvable=True,
    )


def _lack(
    resource: str,
    count: int,
    need: int,
    usable: Sequence[Node],
    free: Mapping[NodeName, Resources],
) -> str:
    """Return e.g. "6 lack GPUs (most free on one node: 4, needs 8; 21 free in all)"."""
    if units.is_host_port(resource):
        return f"{resource} is taken on {count}"
    amounts = [max(0, free[node.name][resource]) for node in usable]
    verb = "lacks" if count == 1 else "lack"
    most, needs, in_all = (units.text(resource, n) for n in (max(amounts), need, sum(amounts)))
    return (
        f"{count} {verb} {_noun(resource)} "
        f"(most free on one node: {most}, needs {needs}; {in_all} free in all)"
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
    return sorted(requests.items, key=lambda item: (not units.is_gpu(item[0]), item[0]))


def in_words(requests: Resources) -> str:
    """Return the requests in words, GPUs first, without the pod itself: "8 GPUs, 64 CPU"."""
    parts = [
        units.words(name, n)
        for name, n in _gpus_first(requests)
        if name != "pods" and not units.is_host_port(name)
    ]
    return ", ".join(parts) if parts else "room for a pod"
