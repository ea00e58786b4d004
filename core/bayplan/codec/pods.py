"""Pod objects to `Pod` values.

What a pod asks for, whether it waits for us, where it is or is pinned to, and what a plan may do
to it: all read from the pod alone, so that every program sees the same.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from bayplan.api import names
from bayplan.cluster import units
from bayplan.cluster.budgets import Health
from bayplan.cluster.constraints import Constraints, NodeTerm, Preference, Requirement, Toleration
from bayplan.cluster.keys import GangKey, NodeName, Owner, PodKey
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import MAX_MOVE_COST, UNKNOWN_COUNT, Disruption, Pod
from bayplan.cluster.units import Rounding
from bayplan.codec.containers import asked_by, largest, resized
from bayplan.codec.fields import Field, Raw, top
from bayplan.codec.marks import failed_move_of, moment_of
from bayplan.codec.peers import gang_topology_of, peers_of
from bayplan.codec.remembered import Remembered
from bayplan.codec.selectors import node_term

#: Priorities from here on belong to the cluster itself (system-cluster-critical and above).
SYSTEM_PRIORITY = 2_000_000_000

#: The weights that a preferred node affinity may have.
_WEIGHTS: Final = range(1, 101)

#: The ports that there are.
_PORTS: Final = range(1, 65_536)

#: The largest number of a GPU that is believed; no node has so many.
_MAX_DEVICE: Final = 1023

#: More than any node has: what a pod takes of which nobody knows how much it is.
_ALL: Final = 2**20

#: Between the name of a gang and the group it is of; no label has one.
_IN_GROUP: Final = "/"

#: The node field by which a pod is pinned to one node.
PIN_FIELD = "metadata.name"

#: The parts of a pod's spec that say what it uses on its node, and what was read from them.
_ASKING: Final = ("initContainers", "containers", "resources", "overhead", "hostNetwork")
_REQUESTS: Final = Remembered[Resources]()

#: The parts that say where it may go, those with rules between pods first.
_PLACING: Final = ("affinity", "topologySpreadConstraints", "nodeSelector", "tolerations")
_PLACINGS: Final = Remembered[tuple[str, Constraints]]()


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
    pin, constraints = _placing(metadata, spec, labels, key.namespace, gated=gated)
    node = bound or ("" if gated else pin or home or ("" if gates else _nominated(root)))
    gang, min_count = None, 0
    if not bound or _has_count(metadata):
        gang, min_count = _gang(metadata, key, grouped=not is_ours)
    terminating = metadata.get("deletionTimestamp").value is not None
    asks = gates == {names.GATE} or home is not None
    # The operator sees those with the label alone, and nobody needs a node to go.
    waiting = asks and not node and not terminating and is_managed(labels)
    if waiting and gang is None:
        _check_alone(metadata)
    return Pod(
        key=key,
        uid=metadata.get("uid").text(str(key)),
        requests=_requests(metadata, spec, root.get("status"), placed=bool(node)),
        priority=spec.get("priority").integer(0),
        constraints=constraints,
        node=NodeName(node) if node else None,
        waiting=waiting,
        disruption=Disruption.FIXED if node and not bound else _disruption(metadata, spec, owner),
        preempts=spec.get("preemptionPolicy").text("") != "Never",
        terminating=terminating,
        leaves_at=metadata.get("deletionTimestamp").instant(),
        gang=gang,
        gang_min_count=min_count,
        gang_topology=gang_topology_of(metadata) if gang else None,
        floor=(units.whole_number(labels.get(names.LABEL_MIN_UNITS, "")) or 0) if gang else 0,
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
        health=_health(root.get("status")) if bound else Health.READY,
    )


def gates_of(spec: Field) -> list[str]:
    """Return the names of the gates behind which a pod waits."""
    return [gate.get("name").text() for gate in spec.get("schedulingGates").items()]


def oversight(gates: Collection[str], labels: Mapping[str, str]) -> str:
    """Return why a pod waits behind our gate where nobody looks for it; "" for any other pod."""
    if names.GATE not in gates or is_managed(labels):
        return ""
    return (
        f"has the gate {names.GATE}, but no plan is made for it and its gate is never lifted:"
        f' give it the label {names.LABEL_MANAGED}: "true" as well'
    )


def other_gates(gates: Collection[str]) -> str:
    """Return behind which gates of others a pod waits, and what follows; "" for any other pod."""
    others = [gate for gate in gates if gate != names.GATE]
    if not others:
        return ""
    follows = (
        "it is planned once they are lifted" if names.GATE in gates else "Bayplan does not hold it"
    )
    return f"waits behind gates of others ({', '.join(others)}): {follows}"


def bound_at_of(raw: Raw) -> int:
    """Return since when the pod has its node, in seconds since the epoch; 0 if it has none.

    Raises:
        DecodeError: That cannot be read.
    """
    for condition in top(raw, "Pod").get("status", "conditions").items():
        scheduled = condition.get("type").value == "PodScheduled"
        if scheduled and condition.get("status").value == "True":
            return condition.get("lastTransitionTime").instant()
    return 0


def _claims(spec: Field, pod: str) -> Iterator[str]:
    """Yield the names of the claims that the pod uses; that of one made for it begins with its."""
    for volume in spec.get("volumes").items():
        if volume.get("ephemeral").value is not None:
            yield f"{pod}-{volume.get('name').text()}"
        elif volume.get("persistentVolumeClaim").value is not None:
            yield volume.get("persistentVolumeClaim", "claimName").text()


def _health(status: Field) -> Health:
    """Return what PodDisruptionBudgets make of a pod on a node, as the API server has it.

    A manifest that no API server has seen counts as ready, with which nobody is disturbed too much.
    """
    phase = status.get("phase").text("")
    if phase == "Pending":
        return Health.PENDING
    for condition in status.get("conditions").items():
        kind, holds = condition.parts("type", "status")
        if kind == "Ready":
            return Health.READY if holds == "True" else Health.UNREADY
    return Health.UNREADY if phase else Health.READY


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


def _requests(metadata: Field, spec: Field, status: Field, *, placed: bool) -> Resources:
    """Return what a pod uses on its node, with its share of a GPU.

    Of a pod that has a node nothing is complained of: what cannot be read counts as a whole GPU.
    """
    asks = requests(spec, resized(spec, status) if placed else {})
    field = metadata.get("annotations", names.ANNOTATION_GPU_SHARE)
    if field.value is None:
        return asks
    if not placed:
        check_share(metadata, asks)
    milli = _share_milli(field)
    if milli is not None and not asks[units.SHARED_GPU]:
        share = asks + Resources.of({units.share(milli): 1})
        return share.on_device(_device(metadata)) if placed else share
    return asks if asks[units.SHARED_GPU] else asks + Resources.of({units.SHARED_GPU: 1})


def check_share(metadata: Field, asks: Resources) -> None:
    """Complain of a share of a GPU by which a pod that asks for this cannot be planned.

    Raises:
        DecodeError: It is no share, or the pod asks for whole GPUs as well.
    """
    field = metadata.get("annotations", names.ANNOTATION_GPU_SHARE)
    if field.value is None:
        return
    if _share_milli(field) is None:
        raise field.error(
            f"should be the part of one GPU that the pod asks for, above 0 and below 1 such as "
            f'"0.5", is {field.value!r}; whole GPUs are asked for as {units.SHARED_GPU}'
        )
    if asks[units.SHARED_GPU]:
        raise field.error(
            f"the pod asks for {units.words(units.SHARED_GPU, asks[units.SHARED_GPU])} as well; "
            "remove the annotation or the request"
        )


def _share_milli(field: Field) -> int | None:
    """Return the thousandths of a GPU that are asked for; None if that is no share.

    They are rounded up, but for shares of which fewer would then go on one GPU than really do:
    three times "0.3333" fit. Such a share counts as up to a thousandth too little beside others.
    """
    try:
        milli = units.parse(str(field.value)) * units.WHOLE_MILLI
    except ValueError:
        return None
    if not 0 < milli < units.WHOLE_MILLI:
        return None
    up = math.ceil(milli)
    if up == 1:
        return up
    most, down = units.WHOLE_MILLI // milli, up - 1
    return down if units.WHOLE_MILLI // up < most == units.WHOLE_MILLI // down else up


def _device(metadata: Field) -> int | None:
    """Return the number of the GPU that the pod has its share on; None where nobody knows."""
    said = metadata.get("annotations", names.ANNOTATION_GPU_DEVICE).value
    device = units.whole_number(str(said))
    return device if device is not None and device <= _MAX_DEVICE else None


def requests(spec: Field, instead: Mapping[str, Resources] = MappingProxyType({})) -> Resources:
    """Return what a pod uses on its node, `pods: 1` and its host ports included.

    The sum over containers, or the largest init container where that is more; restartable init
    containers (sidecars) count as containers; what the pod requests as a whole (`spec.resources`)
    goes before that, resource by resource, and its limits after it; overhead on top (as
    kube-scheduler computes it).
    A host port counts on every address of the node, also where the pod asks for one address.
    `instead` is what single containers use, by name, other than what they ask for.
    """
    if instead:
        return _requests_of(spec, instead)
    return _REQUESTS.read(spec.parts(*_ASKING), lambda: _requests_of(spec, instead))


def _requests_of(spec: Field, instead: Mapping[str, Resources]) -> Resources:
    def used(container: Field) -> Resources:
        return (instead and instead.get(container.get("name").text(""))) or asked_by(container)

    running = Resources.of({"pods": 1})
    peak = Resources()
    for container in spec.get("initContainers").items():
        asks = used(container)
        if container.get("restartPolicy").text("") == "Always":
            running = running + asks
            peak = largest(peak, running)
        else:
            peak = largest(peak, running + asks)
    for container in spec.get("containers").items():
        running = running + used(container)
    overhead = Resources.of(spec.get("overhead").amounts(Rounding.UP))
    said = Resources.of(spec.get("resources", "requests").amounts(Rounding.UP))
    # A limit counts where nobody says a request, as the API server has it.
    parts = (asked_by(spec), largest(running, peak), said)
    asked = Resources.of({name: n for part in parts for name, n in part.items})
    total = asked + overhead + _host_ports(spec)
    for name, n in total.items:
        if n > units.MAX_AMOUNT:
            raise spec.error(f"requests {n} of {name} in sum, which is too large to be meant")
    return total


def _host_ports(spec: Field) -> Resources:
    """Return the ports of the node that the pod takes; on the host's network that is every one."""
    on_host = spec.get("hostNetwork").flag()
    taken: dict[str, int] = {}
    sidecars = [
        container
        for container in spec.get("initContainers").items()
        if container.get("restartPolicy").text("") == "Always"
    ]
    for container in [*sidecars, *spec.get("containers").items()]:
        for port in container.get("ports").items():
            own = port.get("containerPort").integer(0) if on_host else 0
            number = port.get("hostPort").integer(0) or own
            if number and number not in _PORTS:
                raise port.get("hostPort").error(f"should be 1 to {_PORTS[-1]}, is {number}")
            if number:
                taken[units.host_port(number, port.get("protocol").text("TCP"))] = 1
    return Resources.of(taken)


def pinned_node(spec: Field) -> str:
    """Return the one node that every required affinity term pins the pod to, or "".

    But for empty terms, which no node meets.
    """
    pins = {_pin(term) for term in _terms(spec) if term.labels or term.fields}
    return pins.pop() if len(pins) == 1 else ""


def _pin(term: NodeTerm) -> str:
    pins = [r.values[0] for r in term.fields if r.key == PIN_FIELD and _is_one_value(r)]
    return pins[0] if pins else ""


def _without_pin(term: NodeTerm) -> NodeTerm:
    """Return the term without its last field where that is a pin: ours is added last."""
    if term.fields and term.fields[-1].key == PIN_FIELD and _is_one_value(term.fields[-1]):
        return replace(term, fields=term.fields[:-1])
    return term


def _is_one_value(requirement: Requirement) -> bool:
    return requirement.operator == "In" and len(requirement.values) == 1


def is_managed(labels: Mapping[str, str]) -> bool:
    """Return whether a pod with these labels is one of those that the operator looks at."""
    return labels.get(names.LABEL_MANAGED) == "true"


def is_outdated(metadata: Field) -> bool:
    """Return whether the pod is marked as one of an older template."""
    return metadata.get("annotations", names.ANNOTATION_OUTDATED).value == "true"


def _placing(
    metadata: Field, spec: Field, labels: Mapping[str, str], namespace: str, *, gated: bool
) -> tuple[str, Constraints]:
    """Return the node that the pod is pinned to, or "", and what it asks of a node beside that.

    We pin a pod as we lift its gate: behind one a pin is its own, whatever its annotations say. It
    may have been made from the manifest of a pod that had its place.
    """
    planned = not gated and bool(metadata.get("annotations", names.ANNOTATION_PLAN).text(""))
    rules = spec.parts(*_PLACING)
    # Only rules between pods look at the pod's own labels, which may be different for each.
    peers = (dict(labels), namespace) if any(rules[:2]) else ()
    return _PLACINGS.read(
        (planned, peers, rules),
        lambda: (pinned_node(spec), _constraints(spec, labels, namespace, planned=planned)),
    )


def _constraints(
    spec: Field, labels: Mapping[str, str], namespace: str, *, planned: bool
) -> Constraints:
    """Return what the pod asks of a node, without the pin by which we placed it.

    The pod that takes a moved one's place comes without that pin, so a plan may move it anywhere
    that its own constraints allow.
    """
    terms = _terms(spec)
    if planned:
        terms = [term for term in map(_without_pin, terms) if term.labels or term.fields]
    return Constraints(
        node_selector=tuple(sorted(spec.get("nodeSelector").labels().items())),
        affinity=tuple(sorted(terms)),
        tolerations=tuple(sorted(_toleration(t) for t in spec.get("tolerations").items())),
        prefers=tuple(sorted(_preferences(spec))),
        peers=peers_of(spec, labels, namespace),
    )


def _preferences(spec: Field) -> Iterator[Preference]:
    affinity = spec.get("affinity", "nodeAffinity")
    for each in affinity.get("preferredDuringSchedulingIgnoredDuringExecution").items():
        weight = each.get("weight")
        if weight.integer() not in _WEIGHTS:
            raise weight.error(f"should be 1 to {_WEIGHTS[-1]}, is {weight.value}")
        yield Preference(weight=weight.integer(), term=node_term(each.get("preference")))


def _terms(spec: Field) -> list[NodeTerm]:
    affinity = spec.get("affinity", "nodeAffinity")
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return [node_term(term) for term in required.get("nodeSelectorTerms").items()]


def _toleration(field: Field) -> Toleration:
    return Toleration(
        key=field.get("key").text(""),
        operator=field.get("operator").text("Equal"),
        value=field.get("value").text(""),
        effect=field.get("effect").text(""),
    )


def selector_of(gang: GangKey) -> str:
    """Return the label selector of the pods of a gang."""
    name, _, group = gang.name.partition(_IN_GROUP)
    selected = f"{names.LABEL_GANG}={name}"
    return f"{selected},{names.LABEL_LWS_GROUP}={group}" if group else selected


def _gang(metadata: Field, key: PodKey, *, grouped: bool) -> tuple[GangKey | None, int]:
    """Return the gang that a pod is of, and how many pods make it whole.

    All groups of a LeaderWorkerSet have one template, and with it one label: each is a gang where
    the pod may be `grouped`. A unit of an InferenceDeployment is one, whatever its templates say.
    """
    name = metadata.get("labels", names.LABEL_GANG).text("")
    if not name:
        return None, 0
    group = metadata.get("labels", names.LABEL_LWS_GROUP).text("")
    if group and grouped:
        name = f"{name}{_IN_GROUP}{group}"
    count = metadata.get("labels", names.LABEL_GANG_MIN_COUNT)
    size = int(count.text()) if _has_count(metadata) else UNKNOWN_COUNT
    return GangKey(namespace=key.namespace, name=name), size


def _check_alone(metadata: Field) -> None:
    """Complain of a pod of no gang that says something else: it would go without the others.

    Raises:
        DecodeError: It has the size of a gang without its name, or has either as an annotation.
    """
    misplaced = (
        ("labels", names.LABEL_GANG_MIN_COUNT),
        ("annotations", names.LABEL_GANG),
        ("annotations", names.LABEL_GANG_MIN_COUNT),
    )
    for kind, name in misplaced:
        field = metadata.get(kind, name)
        if field.value is not None:
            raise field.error(
                f"the pod is of no gang without the label {names.LABEL_GANG}: add that one, with"
                f" the name of the gang, and its size as the label {names.LABEL_GANG_MIN_COUNT};"
                " or remove this"
            )


def _has_count(metadata: Field) -> bool:
    """Return whether the gang's size can be read.

    Without it a running pod keeps its room, and a waiting one is held with the reason.
    """
    text = metadata.get("labels", names.LABEL_GANG_MIN_COUNT).text("")
    return bool(units.whole_number(text))


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


def move_cost(metadata: Field) -> int | None:
    """Return what a move costs, 1 without a word of it; None where it is no number in range."""
    text = metadata.get("annotations", names.ANNOTATION_MOVE_COST).text("1")
    cost = units.whole_number(text) or 0
    return cost if 1 <= cost <= MAX_MOVE_COST else None


def _disruption(metadata: Field, spec: Field, owner: Owner | None) -> Disruption:
    """Return what a plan may do to the pod while it runs.

    A pod that no controller makes again would be lost, a DaemonSet's comes straight back, and the
    cluster's own are not ours to touch. Whoever asks not to be disturbed, or whose cost of a move
    cannot be read, stays as well. One of several pods of a replica, or of a group of a
    LeaderWorkerSet, is not moved: all of them would start anew, the others without a place in the
    plan. Nor is one of an older template moved: it does not come again.
    """
    if owner is None or owner.kind in {"DaemonSet", "Node"}:
        return Disruption.FIXED
    if spec.get("priority").integer(0) >= SYSTEM_PRIORITY:
        return Disruption.FIXED
    annotations = metadata.get("annotations").labels()
    if any(annotations.get(name) == value for name, value in names.DO_NOT_DISRUPT.items()):
        return Disruption.FIXED
    if move_cost(metadata) is None:
        return Disruption.FIXED
    if names.ANNOTATION_GPU_SHARE in annotations and _device(metadata) is None:
        # Nobody knows which GPU would be free without it.
        return Disruption.FIXED
    ours = spec.get("schedulerName").text("") == names.SCHEDULER
    movable = ours and _starts_alone(metadata) and not is_outdated(metadata)
    return Disruption.MOVABLE if movable else Disruption.EVICTABLE


def _starts_alone(metadata: Field) -> bool:
    """Return whether no other pod starts anew when this one does."""
    labels, annotations = (metadata.get(each).labels() for each in ("labels", "annotations"))
    grouped = names.LABEL_LWS_GROUP in labels and annotations.get(names.ANNOTATION_LWS_SIZE) != "1"
    return labels.get(names.LABEL_REPLICA_SIZE, "1") == "1" and not grouped
