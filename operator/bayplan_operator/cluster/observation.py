"""A fresh look at a part of the cluster: the pods without a node, and some nodes in full.

What evicts and releases decides on this, never on what a watch has told some time ago.
"""

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import structlog

from bayplan.api import names
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import DecodeError, node_of, pod_of, stand_in_of
from bayplan_operator.cluster.kube import NODES, PODS, Kube, Raw, node_path

_log = structlog.get_logger()

#: Two lists of everything are less work than two calls a node from so many nodes on, where they are
#: at least this part of all nodes.
_LIST_FROM: Final = 64
_LIST_PART: Final = 1 / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen, decoded, with the raw pods beside it by uid.

    `unreadable` says of pods that cannot be decoded, by uid, what is wrong with them; `finished`
    are those, by uid, that have run to their end on the nodes, and are in the snapshot no more.
    """

    snapshot: Snapshot
    raws: Mapping[str, Raw]
    unreadable: Mapping[str, str]
    finished: frozenset[str] = frozenset()

    def unbound(self) -> tuple[Pod, ...]:
        """Return the pods that are on no node yet, pinned ones included."""
        return tuple(pod for pod in self.snapshot.pods if pod.node is None or not pod.bound)


def observe(
    kube: Kube, pool: Executor, nodes: Collection[NodeName], *, about: Collection[str] = ()
) -> Observation:
    """Return every managed pod without a node, and the wanted `nodes` with every pod on them.

    Raw objects are kept of the pods without a node, and of those with a uid in `about`: an object
    takes ten times the memory of what is read from it.
    """
    seen = _Seen(frozenset(about))
    # The unbound pods come first: one that is bound meanwhile is then seen on its node, and
    # counts as there; the other way round it would be seen nowhere, and count as gone.
    waiting = kube.pages(PODS, labels=f"{names.LABEL_MANAGED}=true", fields="spec.nodeName=")
    seen.take(waiting, keep=True)
    there = _read(kube, pool, frozenset(nodes), seen)
    pods = (pod for pod in seen.pods.values() if pod is not None)
    return Observation(
        snapshot=Snapshot.of(there, pods),
        raws=seen.raws,
        unreadable=seen.unreadable,
        finished=frozenset(seen.finished),
    )


class _Seen:
    """The pods that have been read so far; one page of objects is in memory at a time."""

    def __init__(self, about: frozenset[str]) -> None:
        self.pods: dict[str, Pod | None] = {}
        self.raws: dict[str, Raw] = {}
        self.unreadable: dict[str, str] = {}
        self.finished: set[str] = set()
        self._about = about

    def take(self, raws: Iterable[Raw], *, keep: bool = False) -> None:
        """Read pods; safe to be called by several threads for different pods."""
        for raw in raws:
            uid = raw["metadata"]["uid"]
            self.unreadable.pop(uid, None)
            self.pods[uid] = _pod(raw, self.unreadable)
            if (raw.get("status") or {}).get("phase") == "Succeeded":
                self.finished.add(uid)
            if keep or uid in self._about or uid in self.raws:
                raw["metadata"].pop("managedFields", None)  # half of the object, and of no use
                self.raws[uid] = raw


def _read(kube: Kube, pool: Executor, wanted: frozenset[NodeName], seen: _Seen) -> list[Node]:
    """Return the wanted nodes that exist, and take note of the pods bound there."""
    if len(wanted) >= _LIST_FROM and len(wanted) >= _LIST_PART * kube.count(NODES):
        found = list(_nodes(n for n in kube.pages(NODES) if n["metadata"]["name"] in wanted))
        everywhere = kube.pages(PODS, fields="spec.nodeName!=")
        seen.take(pod for pod in everywhere if pod["spec"].get("nodeName") in wanted)
        return found
    raws = pool.map(lambda name: kube.get(node_path(name)), wanted)
    found = list(_nodes(raw for raw in raws if raw is not None))
    on_node = (f"spec.nodeName={name}" for name in wanted)
    list(pool.map(lambda fields: seen.take(kube.pages(PODS, fields=fields)), on_node))
    return found


def _nodes(raws: Iterable[Raw]) -> Iterable[Node]:
    """Return the nodes that can be read; one that cannot counts as gone."""
    for raw in raws:
        try:
            yield node_of(raw)
        except DecodeError as error:
            _log.warning("node_unreadable", error=str(error))


def _pod(raw: Raw, unreadable: dict[str, str]) -> Pod | None:
    """Return the pod, or None if it has ended; if it cannot be read, that is noted.

    One that is on a node is there all the same. It is seen in every pass: who tells on it
    (`bayplan_operator.gates`) knows what has been said.
    """
    try:
        return pod_of(raw)
    except DecodeError as error:
        unreadable[raw["metadata"]["uid"]] = f"{error.path}: {error.problem}"
        return stand_in_of(raw)
