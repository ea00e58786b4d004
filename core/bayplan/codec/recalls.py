"""What the status of a plan says of pods that were refused, and by what they are known again.

Their pods are gone, and what their owner makes in place of these has other names.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bayplan.api import names
from bayplan.api.packing_plan import MAX_REVISIONS, Refuser
from bayplan.cluster.keys import GangKey, NodeName, Owner
from bayplan.codec.fields import DecodeError, Field, Raw, top
from bayplan.codec.nodes import node_of

#: Labels by which a controller tells pods of one template from those of the next, the surest first.
_REVISIONS: Final = (
    names.LABEL_REVISION,
    "leaderworkerset.sigs.k8s.io/template-revision-hash",
    "pod-template-hash",
    "controller-revision-hash",
)

#: Pods that are refused alike: those of a gang; of no gang, those that a controller makes.
Group = GangKey | Owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Pods that are made anew, for one of them was refused on its node.

    Attributes:
        group: Whose pods they are.
        by: Who refused it.
        pod: Name of the pod that was refused last.
        message: Why, in the words of who refused it.
        nodes: The nodes that have refused it, the last one first, each with what it was then
            (`state_of`).
        revisions: What its pods were (`revision_of`), sorted.
        times: How many times on end they were refused.
        at: When they were last, in seconds since the epoch.
    """

    group: Group
    by: Refuser = Refuser.KUBE_SCHEDULER
    pod: str
    message: str
    nodes: tuple[tuple[NodeName, str], ...]
    revisions: tuple[str, ...]
    times: int
    at: int


def recalled_in(raw: Raw) -> tuple[Recall, ...] | None:
    """Return who had been refused by the end of a plan; None if its object does not say.

    None too where that cannot be read: a newer version may say more. It is a plan all the same.
    """
    try:
        told = top(raw, "PackingPlan").get("status", "recalled")
        return None if told.value is None else tuple(_recall(each) for each in told.items())
    except DecodeError:
        return None


def recall_manifest(recall: Recall) -> dict[str, Any]:
    """Return what the status of a plan says of pods that were refused."""
    at = datetime.fromtimestamp(recall.at, UTC)
    return {
        "namespace": recall.group.namespace,
        **_group_manifest(recall.group),
        "by": recall.by.value,
        "pod": recall.pod,
        "message": recall.message,
        "nodes": [{"name": name, "state": state} for name, state in recall.nodes],
        "revisions": list(recall.revisions),
        "times": recall.times,
        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def bytes_of(recall: Recall) -> int:
    """Return how much room that takes in the status of a plan."""
    return len(json.dumps(recall_manifest(recall), ensure_ascii=False).encode())


def revisions_of(raws: Iterable[Raw]) -> tuple[str, ...]:
    """Return of which templates pods are, sorted; of which owners where no label tells."""
    return tuple(sorted({_revision_of(raw["metadata"]) for raw in raws}))[:MAX_REVISIONS]


def state_of(raw: Raw) -> str:
    """Return a fingerprint of what a node offers and refuses; heartbeats do not change it.

    Raises:
        DecodeError: A field that placing pods depends on cannot be read.
    """
    told = f"{raw['metadata'].get('uid')} {node_of(raw).in_words({})}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _group_manifest(group: Group) -> dict[str, Any]:
    if isinstance(group, Owner):
        return {"owner": {"kind": group.kind, "name": group.name, "uid": group.uid}}
    return {"gang": group.name}


def _group(field: Field) -> Group:
    namespace, owner = field.get("namespace").text(), field.get("owner")
    if owner.value is None:
        return GangKey(namespace=namespace, name=field.get("gang").text())
    kind, name, uid = (owner.get(part).text() for part in ("kind", "name", "uid"))
    return Owner(kind=kind, namespace=namespace, name=name, uid=uid)


def _recall(field: Field) -> Recall:
    by = field.get("by")
    return Recall(
        group=_group(field),
        by=Refuser.KUBE_SCHEDULER if by.value is None else by.choice(Refuser),
        pod=field.get("pod").text(),
        message=field.get("message").text(""),
        nodes=tuple(
            (NodeName(node.get("name").text()), node.get("state").text())
            for node in field.get("nodes").items()
        ),
        revisions=field.get("revisions").texts(),
        times=field.get("times").integer(),
        at=field.get("at").instant(),
    )


def _revision_of(metadata: Raw) -> str:
    labels = metadata.get("labels") or {}
    owners = (owner["uid"] for owner in metadata.get("ownerReferences") or ())
    return next((labels[key] for key in _REVISIONS if key in labels), next(owners, ""))
