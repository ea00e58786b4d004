"""What the pods of an InferenceDeployment look like: its templates, with only what is ours added.

The operator makes pods from these manifests, and the offline command would make the same.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from bayplan.api import names
from bayplan.api.pools import Role
from bayplan.cluster.pods import MAX_MOVE_COST
from bayplan.inference import accelerators, members
from bayplan.inference.deployments import Deployment, topology_annotations
from bayplan.inference.slots import Slot, slots

#: What gateways of llm-d call the roles.
_LLMD_ROLES: Final = {Role.PREFILL: "prefill", Role.DECODE: "decode", Role.AGGREGATED: "both"}

#: Seconds of a cold start that make a move cost one more.
SECONDS_PER_COST: Final = 30


def manifest(deployment: Deployment, slot: Slot) -> dict[str, Any]:
    """Return the pod that fills `slot`: the template, with only what is ours added."""
    template, _ = slot.pool.of_worker(slot.worker)
    meta = template.get("metadata") or {}
    metadata: dict[str, Any] = {
        "name": slot.name,
        "namespace": deployment.namespace,
        "labels": labels(deployment, slot, meta.get("labels") or {}),
    }
    annotations = _annotations(deployment) | (meta.get("annotations") or {})
    annotations |= topology_annotations(deployment.topology) | {
        names.ANNOTATION_SHAPE: str(slot.shape)
    }
    metadata["annotations"] = annotations
    if deployment.uid:
        metadata["ownerReferences"] = [owner_reference(deployment)]
    spec = {
        **_spec(deployment, slot),
        "schedulerName": names.SCHEDULER,
        "schedulingGates": [{"name": names.GATE}],
        "readinessGates": [
            *(template["spec"].get("readinessGates") or ()),
            {"conditionType": names.CONDITION_IN_SERVICE},
        ],
    }
    if deployment.priority_class:
        spec["priorityClassName"] = deployment.priority_class
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _spec(deployment: Deployment, slot: Slot) -> Mapping[str, Any]:
    """Return the template's spec with what makes it one of its replica and pool."""
    pool = slot.pool
    template, requests = pool.of_worker(slot.worker)
    spec: Mapping[str, Any] = template["spec"]
    label = accelerators.label_for(name for name, _ in requests.items)
    if pool.accelerators and label:
        spec = accelerators.preferring(spec, label, pool.accelerators)
    if pool.size > 1:
        domain = f"{deployment.peers_service}.{deployment.namespace}"
        spec = members.joined(
            spec, leader=slot.leader, worker=slot.worker, size=pool.size, domain=domain
        )
    return spec


def _annotations(deployment: Deployment) -> dict[str, str]:
    """Return what a pod says of itself unless its template does; no part of its revision."""
    if not deployment.cold_start_s:
        return {}
    cost = math.ceil(deployment.cold_start_s / SECONDS_PER_COST)
    return {names.ANNOTATION_MOVE_COST: str(min(cost, MAX_MOVE_COST))}


def manifests(deployment: Deployment) -> tuple[dict[str, Any], ...]:
    """Return every pod that should exist."""
    return tuple(manifest(deployment, slot) for slot in slots(deployment))


def labels(deployment: Deployment, slot: Slot, template: Mapping[str, str]) -> dict[str, str]:
    """Return a pod's labels: recommended ones, over them the template's, over them ours."""
    recommended = {
        "app.kubernetes.io/name": "inference",
        "app.kubernetes.io/instance": deployment.name,
        "app.kubernetes.io/component": slot.pool.name,
        "app.kubernetes.io/part-of": deployment.name,
        "app.kubernetes.io/managed-by": "bayplan",
    }
    if not slot.worker:  # workers take no requests
        recommended[names.LABEL_LLMD_ROLE] = _LLMD_ROLES[slot.pool.role]
    ours = {
        names.LABEL_MANAGED: "true",
        names.LABEL_DEPLOYMENT: deployment.name,
        names.LABEL_POOL: slot.pool.name,
        names.LABEL_ROLE: slot.pool.role.lower(),
        names.LABEL_UNIT: str(slot.unit),
        names.LABEL_REPLICA: str(slot.index),
        names.LABEL_WORKER: str(slot.worker),
        names.LABEL_REVISION: slot.revision,
        names.LABEL_GANG: f"{deployment.name}-{slot.unit}",
        names.LABEL_GANG_MIN_COUNT: str(slot.unit_size),
    }
    if slot.pool.size > 1:
        ours[names.LABEL_REPLICA_SIZE] = str(slot.pool.size)
    if slot.represents:
        ours[names.LABEL_REPRESENTS] = "true"
    if deployment.min_units:
        ours[names.LABEL_MIN_UNITS] = str(deployment.min_units)
    return {**recommended, **template, **ours}


def owner_reference(deployment: Deployment) -> dict[str, Any]:
    """Return what makes an object go when its deployment does."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND_DEPLOYMENT,
        "name": deployment.name,
        "uid": deployment.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
