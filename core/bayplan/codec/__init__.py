"""Kubernetes objects to the core's values and back: parse once, at the border.

Raw objects (dicts as the API server prints them) become `Node`, `Pod`, `Policy` and `Plan` values,
or a `DecodeError` that names object, field and fix. Past this package nothing handles dicts of
Kubernetes objects.
"""

from bayplan.codec.budgets import budget_of
from bayplan.codec.documents import snapshot_of
from bayplan.codec.fields import DecodeError, Raw
from bayplan.codec.nodes import node_of, trouble_of
from bayplan.codec.parts import decisions, joined, plan_manifests
from bayplan.codec.plans import PublishedPlan, StepStatus, plan_manifest, published_plan_of
from bayplan.codec.pods import ended_member_of, pod_of, stand_in_of
from bayplan.codec.pods.mistakes import mistake_in, other_gates_in, oversight_in
from bayplan.codec.policies import policy_of
from bayplan.codec.recordings import Recording, recording_document, recording_of
from bayplan.codec.volumes import unreadable_volume, volume_of

__all__ = [
    "DecodeError",
    "PublishedPlan",
    "Raw",
    "Recording",
    "StepStatus",
    "budget_of",
    "decisions",
    "ended_member_of",
    "joined",
    "mistake_in",
    "node_of",
    "other_gates_in",
    "oversight_in",
    "plan_manifest",
    "plan_manifests",
    "pod_of",
    "policy_of",
    "published_plan_of",
    "recording_document",
    "recording_of",
    "snapshot_of",
    "stand_in_of",
    "trouble_of",
    "unreadable_volume",
    "volume_of",
]
