"""One Pod object to a `Pod` value, or to what stands for one that cannot be read."""

from collections.abc import Iterator
from typing import Final

from bayplan.api import names
from bayplan.cluster import units
from bayplan.cluster.budgets import Health
from bayplan.cluster.keys import NodeName, Owner, PodKey
from bayplan.cluster.pods import Disruption, Ended, Pod
from bayplan.cluster.resources import Resources
from bayplan.codec.fields import Field, Raw, top
from bayplan.codec.pods.disruption import disruption_of, move_cost
from bayplan.codec.pods.gangs import check_alone, gang_of, has_count
from bayplan.codec.pods.gates import gates_of, is_managed, other_gates, oversight
from bayplan.codec.pods.peers import gang_topology_of
from bayplan.codec.pods.placing import placing_of
from bayplan.codec.pods.requests import used_by
from bayplan.codec.pods.status import health_of, refusal_of
from bayplan.codec.replacements import failed_move_of, moment_of

#: More than any node has: what a pod takes of which nobody knows how much it is.
_ALL: Final = 2**20

#: The `restartPolicy` of pods that end only when they are made to.
_ALWAYS: Final = "Always"


def pod_of(raw: Raw) -> Pod | None:
    """Return the pod, or None when it has ended and uses no room any more.

    Raises:
        DecodeError: A field that placing it depends on cannot be read.
    """
    root = top(raw, "Pod")
    if root.get("status", "phase").text("") in {"Succeeded", "Failed"}:
        return None
    metadata, spec = root.get("metadata"), root.get("spec")
    key = PodKey(
        namespace=metadata.get("namespace").text("default"), name=metadata.get("name").text()
    )
    labels = metadata.get("labels").labels()
    bound = spec.get("nodeName").text("")
    listed = gates_of(spec)
    gates = set(listed)
    home = None if bound or gates else _home(root)
    owner = _owner(metadata, key.namespace)
    # Nobody else starts a pod before another goes, and an annotation alone is not to be believed.
    is_ours = owner is not None and owner.kind == names.KIND_DEPLOYMENT
    serves_by = moment_of(metadata, names.ANNOTATION_SERVES_BY) if is_ours else 0
    # One that starts before another goes is made with its pin: its gate is lifted next.
    gated = bool(gates) and not (serves_by and gates == {names.GATE})
    pin, constraints = placing_of(metadata, spec, labels, key.namespace, gated=gated)
    node = bound or ("" if gated else pin or home or ("" if gates else _nominated(root)))
    gang, min_count = None, 0
    if not bound or has_count(metadata):
        gang, min_count = gang_of(metadata, key, grouped=not is_ours)
    terminating = metadata.get("deletionTimestamp").value is not None
    asks = gates == {names.GATE} or home is not None
    # The operator sees those with the label alone, and nobody needs a node to go.
    waiting = asks and not node and not terminating and is_managed(labels)
    if waiting and gang is None:
        check_alone(metadata)
    return Pod(
        key=key,
        uid=metadata.get("uid").text(str(key)),
        requests=used_by(metadata, spec, root.get("status"), placed=bool(node)),
        priority=spec.get("priority").integer(0),
        constraints=constraints,
        node=NodeName(node) if node else None,
        waiting=waiting,
        disruption=Disruption.FIXED if node and not bound else disruption_of(metadata, spec, owner),
        preempts=spec.get("preemptionPolicy").text("") != "Never",
        terminating=terminating,
        leaves_at=metadata.get("deletionTimestamp").instant(),
        finalizers=metadata.get("finalizers").texts() if terminating else (),
        gang=gang,
        gang_min_count=min_count,
        gang_topology=gang_topology_of(metadata) if gang else None,
        min_units=(units.whole_number(labels.get(names.LABEL_MIN_UNITS, "")) or 0) if gang else 0,
        labels=tuple(sorted(labels.items())),
        owner=owner,
        created_at=metadata.get("creationTimestamp").instant(),
        bound=bool(bound),
        replaces=metadata.get("annotations", names.ANNOTATION_REPLACES).text(""),
        serves_by=serves_by,
        gives_way_by=moment_of(metadata, names.ANNOTATION_GIVES_WAY_BY) if is_ours else 0,
        move_failed_at=failed_move_of(metadata).at,
        started_at=root.get("status", "startTime").instant(),
        move_cost=move_cost(metadata) or 1,
        offered=home is not None,
        unplanned=(oversight(listed, labels) or other_gates(listed)) if listed else "",
        claims=tuple(_claims(spec, key.name)),
        refused="" if bound or gates else refusal_of(root.get("status")),
        health=health_of(root.get("status")) if bound else Health.READY,
    )


def ended_member_of(raw: Raw) -> Ended | None:
    """Return what a pod of a gang is that has ended well and is not made again; None for any other.

    Raises:
        DecodeError: Its labels cannot be read.
    """
    root = top(raw, "Pod")
    if root.get("status", "phase").text("") != "Succeeded":
        return None
    if root.get("spec", "restartPolicy").text(_ALWAYS) == _ALWAYS:
        return None  # it was made to go, and is made again
    metadata = root.get("metadata")
    namespace = metadata.get("namespace").text("default")
    owner = _owner(metadata, namespace)
    if owner is not None and owner.kind == names.KIND_DEPLOYMENT:
        return None  # which is to serve, and is made again
    key = PodKey(namespace=namespace, name=metadata.get("name").text())
    gang, _ = gang_of(metadata, key, grouped=True)
    return None if gang is None else Ended(gang=gang, owner=owner.uid if owner else "")


def stand_in_of(raw: Raw) -> Pod | None:
    """Return what stands for a pod that cannot be read; None unless it is on a node.

    Nobody knows what it takes there, so it takes everything, and its node takes nobody.
    """
    metadata, spec = raw["metadata"], raw.get("spec") or {}
    node = spec.get("nodeName")
    if not node:
        return None
    key = PodKey(namespace=metadata.get("namespace", "default"), name=metadata["name"])
    return Pod(
        key=key,
        uid=metadata.get("uid", str(key)),
        requests=Resources.of({"pods": _ALL, units.SHARED_GPU: _ALL}),
        node=NodeName(node),
    )


def _claims(spec: Field, pod: str) -> Iterator[str]:
    """Yield the names of the claims that the pod uses; that of one made for it begins with its."""
    for volume in spec.get("volumes").items():
        if volume.get("ephemeral").value is not None:
            yield f"{pod}-{volume.get('name').text()}"
        elif volume.get("persistentVolumeClaim").value is not None:
            yield volume.get("persistentVolumeClaim", "claimName").text()


def _home(root: Field) -> str | None:
    """Return the node of a pod that was offered to autoscalers, "" for none; None for others.

    Only together with the plan that it is of: the operator writes both at once.
    """
    if root.get("spec", "schedulerName").text("") != names.SCHEDULER:
        return None
    annotations = root.get("metadata", "annotations")
    home = annotations.get(names.ANNOTATION_HOME)
    if home.value is None:
        return None
    return home.text() if annotations.get(names.ANNOTATION_PLAN).text("") else ""


def _nominated(root: Field) -> str:
    """Return the node on which another scheduler is making room for the pod, or "".

    That room is as good as taken. A pod of our own scheduler waits for a plan instead.
    """
    if root.get("spec", "schedulerName").text("") == names.SCHEDULER:
        return ""
    return root.get("status", "nominatedNodeName").text("")


def _owner(metadata: Field, namespace: str) -> Owner | None:
    for reference in metadata.get("ownerReferences").items():
        if reference.get("controller").flag():
            return Owner(
                kind=reference.get("kind").text(),
                namespace=namespace,
                name=reference.get("name").text(),
                uid=reference.get("uid").text(""),
            )
    return None
