"""What the status of a plan says of gangs that were called back, and by what they are known again.

Their pods are gone, and what their owner makes in place of these has other names.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bayplan.api import names
from bayplan.api.packing_plan import MAX_REVISIONS
from bayplan.cluster.keys import GangKey, NodeName
from bayplan.codec.fields import DecodeError, Field, Raw, top
from bayplan.codec.nodes import node_of

#: Labels by which a controller tells pods of one template from those of the next, the surest first.
_REVISIONS: Final = (
    names.LABEL_REVISION,
    "leaderworkerset.sigs.k8s.io/template-revision-hash",
    "pod-template-hash",
    "controller-revision-hash",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """A gang that was called back, for kube-scheduler refused one of it.

    Attributes:
        gang: The gang.
        pod: Name of the pod that was refused last.
        message: Why, in kube-scheduler's words.
        nodes: The nodes that have refused it, the last one first, each with what it was then
            (`state_of`).
        revisions: What its pods were (`revision_of`), sorted.
        times: How many times on end it was called back.
        at: When it was last, in seconds since the epoch.
    """

    gang: GangKey
    pod: str
    message: str
    nodes: tuple[tuple[NodeName, str], ...]
    revisions: tuple[str, ...]
    times: int
    at: int


def recalls_of(status: Field) -> tuple[Recall, ...] | None:
    """Return the gangs that had been called back by the end of a plan; None if it does not say.

    Raises:
        DecodeError: A field cannot be read.
    """
    told = status.get("recalled")
    return None if told.value is None else tuple(_recall(each) for each in told.items())


def recalled_in(raw: Raw) -> tuple[Recall, ...] | None:
    """Return the same of a PackingPlan object; None too where it cannot be read."""
    try:
        return recalls_of(top(raw, "PackingPlan").get("status"))
    except DecodeError:
        return None


def recall_manifest(recall: Recall) -> dict[str, Any]:
    """Return what the status of a plan says of a gang that was called back."""
    at = datetime.fromtimestamp(recall.at, UTC)
    return {
        "namespace": recall.gang.namespace,
        "gang": recall.gang.name,
        "pod": recall.pod,
        "message": recall.message,
        "nodes": [{"name": name, "state": state} for name, state in recall.nodes],
        "revisions": list(recall.revisions),
        "times": recall.times,
        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


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


def _recall(field: Field) -> Recall:
    namespace, gang = field.get("namespace").text(), field.get("gang").text()
    return Recall(
        gang=GangKey(namespace=namespace, name=gang),
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
