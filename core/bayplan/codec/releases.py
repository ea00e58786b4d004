"""The patches that let a pod go to its node: the inverse of what the pod codec reads.

Each is a strategic merge patch for exactly the pod that was read: it names its resourceVersion, so
that the API server refuses it (409) once anything about the pod has changed, its identity included.
For a JSON patch the server would write the whole pod as JSON and read it back, twice as much work.
"""

from collections.abc import Mapping
from typing import Any

from bayplan.api import names
from bayplan.cluster.keys import NodeName
from bayplan.codec.fields import Raw
from bayplan.codec.pods.placing import PIN_FIELD

Patch = dict[str, Any]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def release_patch(raw: Raw, node: NodeName, annotations: Mapping[str, str]) -> Patch:
    """Return the patch that lifts our gate and pins the pod to `node`, in one write.

    The API server allows a gated pod's affinity only to be tightened, so the pin is added to
    every term there is. A pod that was offered to autoscalers has no gate any more, and its
    affinity cannot change: it is told its home in an annotation, which the webhook keeps it to.
    """
    if not raw["spec"].get("schedulingGates"):
        return _patch(raw, {**annotations, names.ANNOTATION_HOME: node}, {})
    pin = {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": _pinned_terms(raw, node)}}}
    return _patch(raw, annotations, {"affinity": pin, **_without_gate(raw)})


def ungate_patch(raw: Raw, annotations: Mapping[str, str]) -> Patch:
    """Return the patch that lifts our gate and leaves the choice of node to the scheduler."""
    known = raw["metadata"].get("annotations") or {}
    homeless = {names.ANNOTATION_HOME: None} if names.ANNOTATION_HOME in known else {}
    return _patch(raw, {**homeless, **annotations}, _without_gate(raw))


def offer_patch(raw: Raw, annotations: Mapping[str, str]) -> Patch:
    """Return the patch that lifts our gate for autoscalers to see the pod, and gives it no node."""
    return _patch(raw, {**annotations, names.ANNOTATION_HOME: ""}, _without_gate(raw))


def _patch(raw: Raw, annotations: Mapping[str, str | None], spec: Patch) -> Patch:
    """Return a patch of the pod as it was read; an annotation of None goes, and others stay."""
    metadata = {
        "resourceVersion": raw["metadata"]["resourceVersion"],
        "annotations": dict(annotations),
    }
    return {"metadata": metadata, "spec": spec} if spec else {"metadata": metadata}


def pinned(manifest: Raw, node: NodeName, annotations: Mapping[str, str]) -> dict[str, Any]:
    """Return the manifest of a pod that is pinned to `node` from the beginning, behind our gate."""
    metadata, spec = manifest["metadata"], manifest["spec"]
    said = {**(metadata.get("annotations") or {}), **annotations}
    return {
        **manifest,
        "metadata": {**metadata, "annotations": said},
        "spec": {**spec, "affinity": _pinned_affinity(manifest, node)},
    }


def _pinned_affinity(raw: Raw, node: NodeName) -> dict[str, Any]:
    affinity = raw["spec"].get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    required = {_REQUIRED: {"nodeSelectorTerms": _pinned_terms(raw, node)}}
    return {**affinity, "nodeAffinity": {**node_affinity, **required}}


def _pinned_terms(raw: Raw, node: NodeName) -> list[Patch]:
    """Return the terms of which a node has to meet one, each narrowed to `node`.

    An empty term, which no node meets, stays as it is: narrowed, it would let `node` in.
    """
    pin = {"key": PIN_FIELD, "operator": "In", "values": [node]}
    affinity = raw["spec"].get("affinity") or {}
    required = (affinity.get("nodeAffinity") or {}).get(_REQUIRED) or {}
    terms = required.get("nodeSelectorTerms") or []
    return [_pinned_term(term, pin) for term in terms] if terms else [{"matchFields": [pin]}]


def _pinned_term(term: Patch, pin: Patch) -> Patch:
    if not (term.get("matchFields") or term.get("matchExpressions")):
        return term
    return {**term, "matchFields": [*(term.get("matchFields") or []), pin]}


def _without_gate(raw: Raw) -> Patch:
    if not raw["spec"].get("schedulingGates"):
        return {}
    return {"schedulingGates": [{"$patch": "delete", "name": names.GATE}]}
