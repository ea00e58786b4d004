"""The pods of an InferenceDeployment: which should exist, which to make, which to delete.

    desired:  unit u, pool p, replica i  ──▶  pod `<name>-u-p-i`, gated, labelled, owned
    seen:     missing ──▶ create        older revision, running ──▶ keep and report
              surplus ──▶ delete        ended, or its node is lost ──▶ delete, made again later

Everything is compared level by level: asking again after the changes were made yields none. The
codec reads `Deployment` and `Child` from objects, the operator carries the `Changes` out, and the
offline command makes manifests here as the operator would.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bayplan.api import names
from bayplan.api.inference_deployment import Role
from bayplan.snapshot import MAX_MOVE_COST, GangTopology, NodeName, Resources

#: What gateways of llm-d call the roles.
_LLMD_ROLES: Final = {Role.PREFILL: "prefill", Role.DECODE: "decode", Role.AGGREGATED: "both"}

#: Least seconds from the making of a pod to the making of the next under its name: a node that
#: fails every pod at once must not be fed with plans and pods in a hot loop.
LEAST_LIFE_S: Final = 20

#: Seconds of a cold start that make a move cost one more.
SECONDS_PER_COST: Final = 30

#: Hexadecimal digits of a revision: enough to tell the few templates of one pool apart.
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
class Deployment:
    """An InferenceDeployment as far as its pods are concerned.

    Attributes:
        namespace: Where it and its pods are.
        name: Its name.
        uid: Identity; "" for one that is not in a cluster, whose pods then have no owner.
        generation: Number of the spec that this was read from.
        replicas: Units asked for.
        min_replicas: Units that must be ready for it to be Ready.
        priority_class: PriorityClass of every pod, or "".
        topology: Where the pods of a unit are to be with respect to each other, if it matters.
        cold_start_s: Seconds from a pod's start until it serves; 0 where nobody says.
        pools: In the order of the spec.
    """

    namespace: str
    name: str
    uid: str = ""
    generation: int = 0
    replicas: int = 1
    min_replicas: int = 1
    priority_class: str = ""
    topology: GangTopology | None = None
    cold_start_s: int = 0
    pools: tuple[Pool, ...] = ()

    @property
    def unit_size(self) -> int:
        """How many pods make one unit."""
        return sum(pool.count for pool in self.pools)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A pod that exists, as far as its InferenceDeployment is concerned.

    Attributes:
        name: Its name.
        uid: Its identity.
        owner_uid: uid of its controller, or "".
        pool: Its pool by label, or "".
        unit: Its unit by label, or -1.
        revision: Its template's revision by label, or "".
        node: Where it is bound.
        pin: The node that a plan pinned it to, bound or not.
        unplanned: Whether it has a node that no plan gave it.
        gated: Whether it waits behind a scheduling gate.
        ready: Whether it can serve.
        ended: Whether it is Succeeded or Failed (evicted by its kubelet included).
        terminating: Whether it is being deleted.
        created_at: Seconds since the epoch.
    """

    name: str
    uid: str
    owner_uid: str = ""
    pool: str = ""
    unit: int = -1
    revision: str = ""
    node: NodeName | None = None
    pin: NodeName | None = None
    unplanned: bool = False
    gated: bool = False
    ready: bool = False
    ended: bool = False
    terminating: bool = False
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What to do about the pods now.

    Attributes:
        create: Missing pods, by unit; none while a terminating pod has the name.
        delete: Pods to delete, surplus first, highest units first.
        outdated: Running pods of an older revision, which are kept.
        strangers: Names that pods of another owner keep from us.
    """

    create: tuple[Slot, ...] = ()
    delete: tuple[Child, ...] = ()
    outdated: tuple[Child, ...] = ()
    strangers: tuple[str, ...] = ()


def slots(deployment: Deployment) -> tuple[Slot, ...]:
    """Return the pods that should exist, unit by unit, in the order of the pools."""
    revisions = {pool.name: revision(deployment, pool) for pool in deployment.pools}
    return tuple(
        Slot(
            name=f"{deployment.name}-{unit}-{pool.name}-{index}",
            unit=unit,
            index=index,
            pool=pool,
            revision=revisions[pool.name],
        )
        for unit in range(deployment.replicas)
        for pool in deployment.pools
        for index in range(pool.count)
    )


def changes(
    deployment: Deployment,
    seen: Iterable[Child],
    *,
    lost: Collection[NodeName] = (),
    now: float = math.inf,
) -> Changes:
    """Return what to create and delete so that the seen pods become the desired ones.

    `lost` are nodes that no longer exist: a pod pinned there that was never bound is replaced.
    `now` is in seconds since the epoch.
    """
    wanted = {slot.name: slot for slot in slots(deployment)}
    own, strangers = _by_owner(deployment, seen)
    present = {child.name for child in (*own, *strangers)}
    surplus = sorted((c for c in own if c.name not in wanted), key=lambda c: (-c.unit, c.name))
    kept = sorted((c for c in own if c.name in wanted), key=lambda c: c.name)
    spent = [c for c in kept if _is_spent(c, wanted[c.name], lost, now)]
    return Changes(
        create=tuple(slot for slot in wanted.values() if slot.name not in present),
        delete=tuple(child for child in (*surplus, *spent) if not child.terminating),
        outdated=tuple(c for c in kept if c.counts and _is_outdated(c, wanted) and c.node),
        strangers=tuple(sorted(c.name for c in strangers if c.name in wanted)),
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
    return {**recommended, **template, **ours}


def revision(deployment: Deployment, pool: Pool) -> str:
    """Return a short hash of all that a change of makes running pods out of date."""
    essence = [pool.template, pool.role.value, deployment.priority_class, deployment.unit_size]
    if deployment.topology is not None:
        essence.append(_topology(deployment.topology))
    text = json.dumps(essence, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_DIGITS]


def _topology(topology: GangTopology | None) -> dict[str, str]:
    """Return the annotations that say it to the planner."""
    if topology is None:
        return {}
    said = {
        names.ANNOTATION_TOPOLOGY_REQUIRED: topology.required,
        names.ANNOTATION_TOPOLOGY_PREFERRED: ",".join(topology.preferred),
    }
    return {name: text for name, text in said.items() if text}


def _by_owner(
    deployment: Deployment, seen: Iterable[Child]
) -> tuple[Sequence[Child], Sequence[Child]]:
    """Return our own pods, and those that only look like ours (e.g. of a deleted namesake)."""
    own: list[Child] = []
    strangers: list[Child] = []
    for child in seen:
        (own if child.owner_uid == deployment.uid else strangers).append(child)
    return own, strangers


def _is_spent(child: Child, slot: Slot, lost: Collection[NodeName], now: float) -> bool:
    """Return whether a wanted pod must go so that a fresh one can take its name."""
    if child.ended:
        return now >= child.created_at + LEAST_LIFE_S
    if child.node is not None:
        return False
    # It does not run yet, so replacing it disturbs nobody.
    return child.revision != slot.revision or (child.pin is not None and child.pin in lost)


def _is_outdated(child: Child, wanted: Mapping[str, Slot]) -> bool:
    return child.revision != wanted[child.name].revision


def _owner_reference(deployment: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceDeployment",
        "name": deployment.name,
        "uid": deployment.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
