"""Checks of nodes: that they accept who comes, and have room and GPUs for all."""

from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter

import numpy as np

from bayplan.aftermath import Numbers
from bayplan.cluster import units
from bayplan.cluster.pods import Pod, PodKind
from bayplan.plan import Bind, Move
from bayplan.rules import filters
from bayplan.validate.evidence import Amounts, Evidence
from bayplan.validate.findings import Code, Violation, wrong


def accepted(about: Evidence) -> Iterator[Violation]:
    """Check that every node accepts what arrives there, room aside.

    Pods of a kind are judged once for all nodes that are alike to whoever arrives.
    """
    nodes, pods = about.snapshot.nodes, about.snapshot.pods
    looks = filters.Looks.of({kind.constraints for kind in about.coming}).over(about.snapshot)
    arrivals, targets = about.arrivals[about.targets >= 0], about.targets[about.targets >= 0]
    kinds = len(about.snapshot.kinds)
    pairs = np.asarray(looks.numbers)[targets] * kinds + about.after.kind_of[arrivals]
    different, first = np.unique(pairs, return_index=True)
    rejections = (filters.static_rejection(pods[arrivals[i]], nodes[targets[i]]) for i in first)
    refused = np.array([rejection is not None for rejection in rejections], dtype=np.bool_)
    for i in np.flatnonzero(np.isin(pairs, different[refused])):
        pod, node = pods[arrivals[i]], nodes[targets[i]]
        rejection = filters.static_rejection(pod, node)
        assert rejection is not None  # noqa: S101 - of one like it there was one
        yield wrong(Code.NODE_REFUSES, f"{pod.key} on {node.name}: {rejection.message}")


def room(about: Evidence) -> Iterator[Violation]:
    """Check that no node with an arrival holds more than fits.

    What a node was over-full of before, and gets nobody who asks for it, is not the plan's fault.
    """
    takers = np.unique(about.targets[about.targets >= 0])
    excess = _excess(about.amounts, about.node_kind[takers], about.state[takers])
    over = np.argwhere(excess > 0)
    asked = _asked(about) if len(over) else set()
    for t, r in over.tolist():
        n, resource = int(takers[t]), about.amounts.names[r]
        if (n, resource) in asked:
            yield wrong(
                Code.OVER_COMMITTED,
                f"{about.snapshot.nodes[n].name} would lack "
                f"{units.words(resource, int(excess[t, r]))} after the plan",
            )


def devices(about: Evidence) -> Iterator[Violation]:
    """Check that each share that arrives has a GPU with room for it, and whole GPUs are whole.

    What is too much for GPUs is not the plan's fault where it brings nobody who asks for any.
    """
    sharing = {kind for kind in about.coming if kind.requests.share_milli}
    if sharing or _names_devices(about):
        yield from _misnamed(about, sharing)
    whole, there = about.in_use(units.SHARED_GPU), about.there(units.SHARED_GPU)
    for n in sorted(about.shared.keys() & _gpu_takers(about) if about.shared else ()):
        shared, name = about.shared[n], about.snapshot.nodes[n].name
        for device, milli in sorted(shared.loads.items()):
            if milli > units.WHOLE_MILLI:
                yield wrong(
                    Code.OVER_COMMITTED, f"shares of GPU {device} of {name} would be {milli}/1000"
                )
        lacking = shared.gpus + int(whole[n] - there[n])
        if lacking > 0:
            yield wrong(
                Code.OVER_COMMITTED,
                f"{name} would lack {units.words(units.SHARED_GPU, lacking)} after the plan",
            )


def _misnamed(about: Evidence, sharing: set[PodKind]) -> Iterator[Violation]:
    """Check that pods of the kinds in `sharing` get a GPU that is there, and all others none."""
    homes: Iterable[tuple[Bind | Move, Pod]] = chain(about.bound, about.moved)
    for (action, pod), n in zip(homes, about.targets.tolist(), strict=True):
        if n < 0 or (action.device is None and pod.kind not in sharing):
            continue
        node = about.snapshot.nodes[n]
        if pod.kind not in sharing:
            yield wrong(Code.WRONG_DEVICE, f"{pod.key} asks for no share, but gets one")
        elif action.device not in range(node.allocatable[units.SHARED_GPU]):
            number = "no GPU" if action.device is None else f"GPU {action.device}"
            yield wrong(Code.WRONG_DEVICE, f"{pod.key} gets {number} of {node.name} to share")


def _gpu_takers(about: Evidence) -> set[int]:
    """Return where the nodes are at which somebody arrives who asks for whole GPUs or a share."""
    asked = [kind.requests for kind in about.snapshot.kinds]
    asks = np.array([bool(r.share_milli or r[units.SHARED_GPU]) for r in asked], dtype=np.bool_)
    return {*about.targets[asks[about.after.kind_of[about.arrivals]]].tolist()}


def _names_devices(about: Evidence) -> bool:
    """Return whether some action names a GPU."""
    named = map(attrgetter("device"), chain(about.plan.binds, about.plan.moves))
    return any(device is not None for device in set(named))


def _excess(amounts: Amounts, node_kinds: Numbers, states: Numbers) -> Numbers:
    """Return [node, resource] what is used beyond the room, of nodes of these kinds and states."""
    implied = np.array([units.implied(name) for name in amounts.names], dtype=np.int64)
    parts = np.array([units.is_part(name) for name in amounts.names], dtype=np.bool_)
    beyond = amounts.used[states] - amounts.there[node_kinds] - implied
    return np.asarray(np.where(parts, 0, np.maximum(beyond, 0)))


def _asked(about: Evidence) -> set[tuple[int, str]]:
    """Return what those ask for who arrive, by where the node is."""
    arrivals = zip(about.arrivals.tolist(), about.targets.tolist(), strict=True)
    return {(n, resource) for i, n in arrivals for resource in about.snapshot.pods[i].requests}
