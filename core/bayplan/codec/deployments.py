"""InferenceDeployment objects, and the pods that belong to them, to values.

The API server has checked an InferenceDeployment against its schema; a file has not been, and a
pod template is checked by nobody until a pod is made from it. What would keep us from making a
pod we can place is refused here, with field and fix.
"""

import re
from collections.abc import Mapping
from typing import Final

from bayplan.api import names
from bayplan.api.inference_deployment import SERVICE_NAME, Sharing
from bayplan.cluster.constraints import GangTopology
from bayplan.cluster.keys import NodeName
from bayplan.cluster.units import whole_number
from bayplan.codec.fields import DecodeError, Field, Raw, top
from bayplan.codec.pods.disruption import is_outdated
from bayplan.codec.pods.placing import pinned_node
from bayplan.codec.pods.status import refusal_of
from bayplan.codec.pools import pools_of, port_of
from bayplan.codec.replacements import moment_of
from bayplan.codec.service import YIELDS
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment, Gateway, Rollout
from bayplan.inference.shapes import Shape

#: Longest name of an InferenceDeployment: it becomes part of names and labels.
_MAX_NAME: Final = 52

#: Seconds for which a unit that is to go may finish its requests, where nobody says.
DEFAULT_DRAIN_S: Final = 120


def deployment_of(raw: Raw) -> Deployment:
    """Return what the pods of an InferenceDeployment are made from.

    Raises:
        DecodeError: A field cannot be read, or a template cannot become a pod that is placed.
    """
    root = top(raw, names.KIND_DEPLOYMENT)
    metadata, spec = root.get("metadata"), root.get("spec")
    name = metadata.get("name")
    if len(name.text()) > _MAX_NAME:
        raise name.error(f"must be at most {_MAX_NAME} characters: choose a shorter name")
    if not re.fullmatch(SERVICE_NAME, name.text()):
        raise name.error(
            "must be lower-case letters, digits and '-', beginning with a letter: it becomes part"
            " of the names of Services"
        )
    replicas = spec.get("replicas").integer(1)
    return Deployment(
        namespace=metadata.get("namespace").text("default"),
        name=name.text(),
        uid=metadata.get("uid").text(""),
        generation=metadata.get("generation").integer(0),
        replicas=replicas,
        min_replicas=spec.get("minReplicas").integer(replicas),
        min_units=spec.get("minReplicas").integer(0),
        priority_class=spec.get("priorityClassName").text(""),
        topology=_topology(spec.get("placement", "topology")),
        cold_start_s=_cold_start(spec.get("disruption", "coldStartSeconds")),
        drain_s=_drain(spec.get("disruption", "drainTimeoutSeconds")),
        rollout=_rollout(spec.get("rollout")),
        pools=pools_of(spec, deployment=name.text()),
        gateway=_gateway(spec.get("inferencePool")),
    )


def child_of(raw: Raw) -> Child:
    """Return what an InferenceDeployment needs to know of a pod.

    Raises:
        DecodeError: A field cannot be read.
    """
    root = top(raw, "Pod")
    metadata, spec, status = root.get("metadata"), root.get("spec"), root.get("status")
    pod_labels = metadata.get("labels").labels()
    replica_size = _number(pod_labels, names.LABEL_REPLICA_SIZE, 1)
    worker = _number(pod_labels, names.LABEL_WORKER, 0)
    restarts = _restarts(status)
    started_anew = replica_size > 1 and restarts > 0
    node = spec.get("nodeName").text("")
    plan = metadata.get("annotations", names.ANNOTATION_PLAN).text("")
    pin = pinned_node(spec) if plan else ""  # a pin of the template's own is not ours
    in_service = _condition(status, names.CONDITION_IN_SERVICE)
    taken_out = in_service.get("status").text("") == "False"
    readiness = _condition(status, "Ready")
    ready = readiness.get("status").text("") == "True"
    return Child(
        name=metadata.get("name").text(),
        uid=metadata.get("uid").text(""),
        owner_uid=_controller_uid(metadata),
        pool=pod_labels.get(names.LABEL_POOL, ""),
        unit=_number(pod_labels, names.LABEL_UNIT, -1),
        revision=pod_labels.get(names.LABEL_REVISION, ""),
        unit_size=_number(pod_labels, names.LABEL_GANG_MIN_COUNT, 0),
        shape=Shape.parse(metadata.get("annotations").labels().get(names.ANNOTATION_SHAPE, "")),
        min_units=_number(pod_labels, names.LABEL_MIN_UNITS, 0),
        replica=_number(pod_labels, names.LABEL_REPLICA, 0),
        worker=worker,
        replica_size=replica_size,
        represents=pod_labels.get(names.LABEL_REPRESENTS) == "true",
        replaces=metadata.get("annotations", names.ANNOTATION_REPLACES).text(""),
        serves_by=moment_of(metadata, names.ANNOTATION_SERVES_BY),
        gives_way_by=moment_of(metadata, names.ANNOTATION_GIVES_WAY_BY),
        plan=plan,
        node=NodeName(node) if node else None,
        pin=NodeName(pin) if pin else None,
        unplanned=bool(node) and not plan,
        refused="" if node else refusal_of(status),
        gated=any(True for _ in spec.get("schedulingGates").items()),
        ready=ready,
        unready_since=0 if ready else readiness.get("lastTransitionTime").instant(),
        switched=any(
            gate.get("conditionType").text("") == names.CONDITION_IN_SERVICE
            for gate in spec.get("readinessGates").items()
        ),
        in_service=in_service.get("status").text("") == "True",
        drains_since=in_service.get("lastTransitionTime").instant() if taken_out else 0,
        yields=taken_out and in_service.get("reason").text("") == YIELDS,
        metrics_url="" if worker else _metrics_url(metadata, status),
        broken=_is_broken(status),
        restarts=restarts,
        ended=status.get("phase").text("") in {"Succeeded", "Failed"} or started_anew,
        outdated=is_outdated(metadata),
        terminating=metadata.get("deletionTimestamp").value is not None,
        ends_by=metadata.get("deletionTimestamp").instant(),
        created_at=metadata.get("creationTimestamp").instant(),
        version=metadata.get("resourceVersion").text(""),
    )


def _topology(listed: Field) -> GangTopology | None:
    """Return where the pods of a unit are to be with respect to each other."""
    required, preferred = "", []
    for each in listed.items():
        key, mode = each.get("key").text(), each.get("mode").text(Sharing.PREFERRED)
        if not key or "," in key:
            raise each.get("key").error(f"should be a label of nodes, is {key!r}")
        if mode == Sharing.PREFERRED:
            preferred.append(key)
            continue
        each.get("mode").choice(Sharing)
        if required:
            raise each.error(
                f"requires a second label beside {required}: require one, prefer others"
            )
        required = key
    if not required and not preferred:
        return None
    return GangTopology(required=required, preferred=tuple(preferred))


def _cold_start(field: Field) -> int:
    if field.integer(0) < 0:
        raise field.error(f"should be 1 or more seconds, is {field.value}")
    return field.integer(0)


def drain_s_of(raw: Raw) -> int:
    """Return the seconds for which pods of an InferenceDeployment may finish their requests.

    Nothing else of it is read, so that they are known while something else of it is wrong.
    """
    try:
        return _drain(
            top(raw, names.KIND_DEPLOYMENT).get("spec", "disruption", "drainTimeoutSeconds")
        )
    except DecodeError:
        return DEFAULT_DRAIN_S


def _drain(field: Field) -> int:
    if field.integer(DEFAULT_DRAIN_S) < 0:
        raise field.error(f"should be 0 or more seconds, is {field.value}")
    return field.integer(DEFAULT_DRAIN_S)


def _rollout(field: Field) -> Rollout:
    max_unavailable = field.get("maxUnavailable").integer(1)
    max_surge = field.get("maxSurge").integer(1)
    for name, units in (("maxUnavailable", max_unavailable), ("maxSurge", max_surge)):
        if units < 0:
            raise field.get(name).error(f"should be 0 or more units, is {units}")
    if max_unavailable + max_surge == 0:
        raise field.error(
            "maxUnavailable and maxSurge are both 0, so that no unit could ever be replaced: set"
            " one of them to at least 1"
        )
    return Rollout(
        max_unavailable=max_unavailable, max_surge=max_surge, paused=field.get("paused").flag()
    )


def _gateway(field: Field) -> Gateway | None:
    """Return what gateways are told."""
    if field.value is None:
        return None
    return Gateway(
        picker=field.get("endpointPicker").text(),
        picker_port=port_of(field.get("endpointPickerPort"), 9002),
        target_port=port_of(field.get("targetPort")),
    )


def _number(labels: Mapping[str, str], name: str, default: int) -> int:
    """Return the number that a label says; `default` where it says none."""
    said = whole_number(labels.get(name, ""))
    return default if said is None else said


def _controller_uid(metadata: Field) -> str:
    for reference in metadata.get("ownerReferences").items():
        if reference.get("controller").flag():
            return reference.get("uid").text("")
    return ""


def _restarts(status: Field) -> int:
    """Return how often a container has ended and was started again by the kubelet, at most."""
    counts = (
        container.get("restartCount").integer(0)
        for kind in ("initContainerStatuses", "containerStatuses")
        for container in status.get(kind).items()
    )
    return max(counts, default=0)


def _condition(status: Field, kind: str) -> Field:
    """Return a condition, or an empty field."""
    found = (c for c in status.get("conditions").items() if c.get("type").text("") == kind)
    return next(found, Field(None, where=status.where, above=status))


def _metrics_url(metadata: Field, status: Field) -> str:
    """Return where the pod's annotations for Prometheus say that its metrics are, or ""."""
    said = metadata.get("annotations").labels()
    port, address = said.get("prometheus.io/port", ""), status.get("podIP").text("")
    scheme = said.get("prometheus.io/scheme", "http")
    if not port.isdecimal() or not address or scheme not in {"http", "https"}:
        return ""
    host = f"[{address}]" if ":" in address else address
    path = said.get("prometheus.io/path", "/metrics").removeprefix("/")
    return f"{scheme}://{host}:{port}/{path}"


def _is_broken(status: Field) -> bool:
    """Return whether the kubelet reports a device of a container as unhealthy."""
    return any(
        device.get("health").text("") == "Unhealthy"
        for container in status.get("containerStatuses").items()
        for resource in container.get("allocatedResourcesStatus").items()
        for device in resource.get("resources").items()
    )
