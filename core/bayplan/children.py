"""The pods of an InferenceDeployment: what they are made from, and what is seen of them.

    unit u, pool p, replica i  ──▶  pod `<name>-u-p-i`, gated, labelled, owned

The codec reads `Deployment` and `Child` from objects, `bayplan.rollout` decides which pods to make
and to delete, and the offline command makes manifests here as the operator would.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bayplan.api import names
from bayplan.api.inference_deployment import Role
from bayplan.snapshot import MAX_MOVE_COST, GangTopology, NodeName, Resources

#: What gateways of llm-d call the roles.
_LLMD_ROLES: Final = {Role.PREFILL: "prefill", Role.DECODE: "decode", Role.AGGREGATED: "both"}

#: Seconds of a cold start that make a move cost one more.
SECONDS_PER_COST: Final = 30

#: Hexadecimal digits of a revision: enough to tell the few templates of one deployment apart.
_REVISION_DIGITS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The replicas of one role.

    Attributes:
        name: Part of its pods' names and labels.
        role: What they do.
        count: How many there are in one unit.
        template: PodTemplateSpec as the user wrote it; never changed.
        requests: What one pod uses on its node, read from the template.
    """

    name: str
    role: Role
    count: int
    template: Mapping[str, Any]
    requests: Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How units of an older template give way to those of the newest; all in units.

    Attributes:
        max_unavailable: How many of those asked for may be missing or not ready on purpose.
        max_surge: How many there may be beyond those asked for.
        paused: Whether whole units of an older template stay.
    """

    max_unavailable: int = 1
    max_surge: int = 1
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An InferenceDeployment as far as its pods are concerned.

    Attributes:
        namespace: Where it and its pods are.
        name: Its name.
        uid: Identity; "" for one that is not in a cluster, whose pods then have no owner.
        generation: Number of the spec that this was read from.
        replicas: Units asked for.
        min_replicas: Units that must be ready for it to be Ready.
        floor: Units that it needs, as it says; others of it make room first. 0 if it does not say.
        priority_class: PriorityClass of every pod, or "".
        topology: Where the pods of a unit are to be with respect to each other, if it matters.
        cold_start_s: Seconds from a pod's start until it serves; 0 where nobody says.
        drain_s: Most seconds for which a unit that is to go may finish its requests; 0 for none.
        rollout: How a new template reaches the units.
        pools: In the order of the spec.
    """

    namespace: str
    name: str
    uid: str = ""
    generation: int = 0
    replicas: int = 1
    min_replicas: int = 1
    floor: int = 0
    priority_class: str = ""
    topology: GangTopology | None = None
    cold_start_s: int = 0
    drain_s: int = 0
    rollout: Rollout = Rollout()
    pools: tuple[Pool, ...] = ()

    @property
    def unit_size(self) -> int:
        """How many pods make one unit."""
        return sum(pool.count for pool in self.pools)

    @property
    def revision(self) -> str:
        """A short hash of all that a change of makes whole units out of date.

        One for all pools: the pods of a unit talk to each other, so that they are of one version.
        The ratio is no part of it: a unit gets more pods, or fewer, while the others run on.
        """
        pools = [[pool.name, pool.role.value, pool.template] for pool in self.pools]
        essence = [pools, self.priority_class, _topology(self.topology)]
        text = json.dumps(essence, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A pod that exists, as far as its InferenceDeployment is concerned.

    Attributes:
        name: Its name.
        uid: Its identity.
        owner_uid: uid of its controller, or "".
        pool: Its pool by label, or "".
        unit: Its unit by label, or -1.
        revision: The revision of its unit by label, or "".
        unit_size: How many pods its unit was to have when it was made, by label, or 0.
        node: Where it is bound.
        pin: The node that a plan pinned it to, bound or not.
        unplanned: Whether it has a node that no plan gave it.
        gated: Whether it waits behind a scheduling gate.
        ready: Whether it can serve.
        switched: Whether it is only ready while it is in service.
        in_service: Whether it was put into service.
        drains_since: When it was taken out of service, in seconds since the epoch; 0 if it was not.
        metrics_url: Where its engine tells how much it has to do, or "".
        broken: Whether a device of it is reported unhealthy.
        ended: Whether it is Succeeded or Failed (evicted by its kubelet included).
        terminating: Whether it is being deleted.
        ends_by: When it must have ended then, in seconds since the epoch; else 0.
        created_at: Seconds since the epoch.
    """

    name: str
    uid: str
    owner_uid: str = ""
    pool: str = ""
    unit: int = -1
    revision: str = ""
    unit_size: int = 0
    node: NodeName | None = None
    pin: NodeName | None = None
    unplanned: bool = False
    gated: bool = False
    ready: bool = False
    switched: bool = False
    in_service: bool = False
    drains_since: int = 0
    metrics_url: str = ""
    broken: bool = False
    ended: bool = False
    terminating: bool = False
    ends_by: int = 0
    created_at: int = 0

    @property
    def counts(self) -> bool:
        """Whether it is there to stay."""
        return not (self.terminating or self.ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A pod that should exist: where in which unit, and under which name."""

    name: str
    unit: int
    index: int
    pool: Pool
    revision: str


def slots(deployment: Deployment) -> tuple[Slot, ...]:
    """Return the pods that should exist where nothing does yet, unit by unit."""
    made_from = deployment.revision
    return tuple(
        slot
        for unit in range(deployment.replicas)
        for slot in unit_slots(deployment, unit, made_from)
    )


def unit_slots(deployment: Deployment, unit: int, made_from: str) -> tuple[Slot, ...]:
    """Return the pods of one unit, made from the newest revision, in the order of the pools."""
    return tuple(
        Slot(
            name=f"{deployment.name}-{unit}-{pool.name}-{index}",
            unit=unit,
            index=index,
            pool=pool,
            revision=made_from,
        )
        for pool in deployment.pools
        for index in range(pool.count)
    )


def manifest(deployment: Deployment, slot: Slot) -> dict[str, Any]:
    """Return the pod that fills `slot`: the template, with only what is ours added."""
    template = slot.pool.template
    meta = template.get("metadata") or {}
    metadata: dict[str, Any] = {
        "name": slot.name,
        "namespace": deployment.namespace,
        "labels": labels(deployment, slot, meta.get("labels") or {}),
    }
    annotations = _annotations(deployment) | (meta.get("annotations") or {})
    annotations |= _topology(deployment.topology)
    if annotations:
        metadata["annotations"] = annotations
    if deployment.uid:
        metadata["ownerReferences"] = [_owner_reference(deployment)]
    spec = {
        **template["spec"],
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
    }
    ours = {
        "app.kubernetes.io/managed-by": "bayplan",
        names.LABEL_MANAGED: "true",
        names.LABEL_DEPLOYMENT: deployment.name,
        names.LABEL_POOL: slot.pool.name,
        names.LABEL_ROLE: slot.pool.role.lower(),
        names.LABEL_UNIT: str(slot.unit),
        names.LABEL_REPLICA: str(slot.index),
        names.LABEL_REVISION: slot.revision,
        names.LABEL_LLMD_ROLE: _LLMD_ROLES[slot.pool.role],
        names.LABEL_GANG: f"{deployment.name}-{slot.unit}",
        names.LABEL_GANG_MIN_COUNT: str(deployment.unit_size),
    }
    if deployment.floor:
        ours[names.LABEL_MIN_UNITS] = str(deployment.floor)
    return {**recommended, **template, **ours}


def _topology(topology: GangTopology | None) -> dict[str, str]:
    """Return the annotations that say it to the planner."""
    if topology is None:
        return {}
    said = {
        names.ANNOTATION_TOPOLOGY_REQUIRED: topology.required,
        names.ANNOTATION_TOPOLOGY_PREFERRED: ",".join(topology.preferred),
    }
    return {name: text for name, text in said.items() if text}


def _owner_reference(deployment: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceDeployment",
        "name": deployment.name,
        "uid": deployment.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
