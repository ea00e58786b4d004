"""The patches that let a pod go to its node: the inverse of what the pod codec reads.

Each is a JSON patch for exactly the pod that was read: it names its resourceVersion, so that the
API server refuses it (409) once anything about the pod has changed, its identity included.
"""

from collections.abc import Mapping
from typing import Any

from bayplan.api import names
from bayplan.codec.fields import Raw
from bayplan.codec.pods import PIN_FIELD
from bayplan.keys import NodeName

Operation = dict[str, Any]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def release_patch(raw: Raw, node: NodeName, annotations: Mapping[str, str]) -> list[Operation]:
    """Return the patch that lifts our gate and pins the pod to `node`, in one write.

    The API server allows a gated pod's affinity only to be tightened, so the pin is added to
    every term there is. A pod that was offered to autoscalers has no gate any more, and its
    affinity cannot change: it is told its home in an annotation, which the webhook keeps it to.
    """
    if not raw["spec"].get("schedulingGates"):
        return [*_identity(raw), *_annotations(raw, {**annotations, names.ANNOTATION_HOME: node})]
    return [
        *_identity(raw),
        *_annotations(raw, annotations),
        *_pin(raw, node),
        *_without_gate(raw),
    ]


def ungate_patch(raw: Raw, annotations: Mapping[str, str]) -> list[Operation]:
    """Return the patch that lifts our gate and leaves the choice of node to the scheduler."""
    return [*_identity(raw), *_annotations(raw, annotations, homeless=True), *_without_gate(raw)]


def offer_patch(raw: Raw, annotations: Mapping[str, str]) -> list[Operation]:
    """Return the patch that lifts our gate for autoscalers to see the pod, and gives it no node."""
    told = {**annotations, names.ANNOTATION_HOME: ""}
    return [*_identity(raw), *_annotations(raw, told), *_without_gate(raw)]


def _identity(raw: Raw) -> list[Operation]:
    version = raw["metadata"]["resourceVersion"]
    return [{"op": "replace", "path": "/metadata/resourceVersion", "value": version}]


def _annotations(
    raw: Raw, annotations: Mapping[str, str], *, homeless: bool = False
) -> list[Operation]:
    known = dict(raw["metadata"].get("annotations") or {})
    if homeless:
        known.pop(names.ANNOTATION_HOME, None)
    return [{"op": "add", "path": "/metadata/annotations", "value": {**known, **annotations}}]


def pinned(manifest: Raw, node: NodeName, annotations: Mapping[str, str]) -> dict[str, Any]:
    """Return the manifest of a pod that is pinned to `node` from the beginning, behind our gate."""
    metadata, spec = manifest["metadata"], manifest["spec"]
    said = {**(metadata.get("annotations") or {}), **annotations}
    return {
        **manifest,
        "metadata": {**metadata, "annotations": said},
        "spec": {**spec, "affinity": _pinned_affinity(manifest, node)},
    }


def _pin(raw: Raw, node: NodeName) -> list[Operation]:
    return [{"op": "add", "path": "/spec/affinity", "value": _pinned_affinity(raw, node)}]


def _pinned_affinity(raw: Raw, node: NodeName) -> dict[str, Any]:
    pin = {"key": PIN_FIELD, "operator": "In", "values": [node]}
    affinity = raw["spec"].get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    terms = (node_affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or [{}]
    narrowed = [{**term, "matchFields": [*(term.get("matchFields") or []), pin]} for term in terms]
    required = {_REQUIRED: {"nodeSelectorTerms": narrowed}}
    return {**affinity, "nodeAffinity": {**node_affinity, **required}}


def _without_gate(raw: Raw) -> list[Operation]:
    gates = raw["spec"].get("schedulingGates") or []
    left = [gate for gate in gates if gate.get("name") != names.GATE]
    return [{"op": "replace", "path": "/spec/schedulingGates", "value": left}] if gates else []
