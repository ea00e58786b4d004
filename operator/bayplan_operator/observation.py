"""A fresh look at a part of the cluster: the pods without a node, and some nodes in full.

What evicts and releases decides on this, never on what a watch has told some time ago.
"""

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import structlog

from bayplan.api import names
from bayplan.codec import DecodeError, node_of, pod_of, stand_in_of
from bayplan.keys import NodeName
from bayplan.snapshot import Node, Pod, Snapshot
from bayplan_operator.kube import NODES, PODS, Kube, Raw, node_path

_log = structlog.get_logger()

#: From so many nodes on, two lists of everything are less work than two calls a node.
_LIST_FROM: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen, decoded, with the raw pods beside it by uid.

    `unreadable` says of pods that cannot be decoded, by uid, what is wrong with them.
    """

    snapshot: Snapshot
    raws: Mapping[str, Raw]
    unreadable: Mapping[str, str]

    def unbound(self) -> tuple[Pod, ...]:
        """Return the pods that are on no node yet, pinned ones included."""
        return tuple(pod for pod in self.snapshot.pods if pod.node is None or not pod.bound)


def observe(kube: Kube, pool: Executor, nodes: Collection[NodeName]) -> Observation:
    """Return every managed pod without a node, and the wanted `nodes` with every pod on them."""
    # The unbound pods come first: one that is bound meanwhile is then seen on its node, and
    # counts as there; the other way round it would be seen nowhere, and count as gone.
    raws = kube.items(PODS, labels=f"{names.LABEL_MANAGED}=true", fields="spec.nodeName=")
    raw_nodes, bound = _read(kube, pool, frozenset(nodes))
    by_uid = {raw["metadata"]["uid"]: raw for raw in (*raws, *bound)}
    unreadable: dict[str, str] = {}
    decoded = [_pod(raw, unreadable) for raw in by_uid.values()]
    snapshot = Snapshot.of(_nodes(raw_nodes), (pod for pod in decoded if pod is not None))
    return Observation(snapshot=snapshot, raws=by_uid, unreadable=unreadable)


def _read(kube: Kube, pool: Executor, wanted: frozenset[NodeName]) -> tuple[list[Raw], list[Raw]]:
    """Return the wanted nodes that exist, and the pods bound there."""
    if len(wanted) >= _LIST_FROM:
        nodes = [n for n in kube.items(NODES) if n["metadata"]["name"] in wanted]
        everywhere = kube.items(PODS, fields="spec.nodeName!=")
        return nodes, [p for p in everywhere if p["spec"].get("nodeName") in wanted]
    found = list(pool.map(lambda name: kube.get(node_path(name)), wanted))
    pods = pool.map(lambda name: kube.items(PODS, fields=f"spec.nodeName={name}"), wanted)
    return [raw for raw in found if raw is not None], [raw for some in pods for raw in some]


def _nodes(raws: Iterable[Raw]) -> Iterable[Node]:
    """Return the nodes that can be read; one that cannot counts as gone."""
    for raw in raws:
        try:
            yield node_of(raw)
        except DecodeError as error:
            _log.warning("node_unreadable", error=str(error))


def _pod(raw: Raw, unreadable: dict[str, str]) -> Pod | None:
    """Return the pod, or None if it has ended; if it cannot be read, that is noted.

    One that is on a node is there all the same.
    """
    try:
        return pod_of(raw)
    except DecodeError as error:
        _log.warning("pod_unreadable", error=str(error))
        unreadable[raw["metadata"]["uid"]] = f"{error.path}: {error.problem}"
        return stand_in_of(raw)
