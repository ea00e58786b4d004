"""A heap of Kubernetes objects to one `Snapshot`: what the offline command and benchmarks read.

Takes what `kubectl get nodes,pods,infd,pdb -A -o json` prints, or manifests from files. What the
API server and the operator would have added is added here: the pods of an InferenceDeployment that
are not among the documents, the priority that a pod's PriorityClass gives it, and the label that
admission puts on pods behind our gate.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from bayplan.api import names
from bayplan.cluster.constraints import Volume
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec.budgets import budget_of
from bayplan.codec.deployments import deployment_of
from bayplan.codec.fields import DecodeError, Field, Raw, top
from bayplan.codec.nodes import node_of
from bayplan.codec.pods import ended_member_of, pod_of, stand_in_of
from bayplan.codec.volumes import unreadable_volume, volume_of
from bayplan.inference.manifests import manifests

#: The kinds from which a plan is made.
KINDS: Final = frozenset(
    {
        "Node",
        "PackingPolicy",
        "PersistentVolume",
        "Pod",
        "PodDisruptionBudget",
        "PriorityClass",
        names.KIND_DEPLOYMENT,
    }
)

#: Priorities of the classes that every cluster has.
_BUILT_IN: Final = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def snapshot_of(
    documents: Iterable[Raw], *, unreadable: Callable[[DecodeError], None] | None = None
) -> Snapshot:
    """Return the snapshot of the nodes, pods, budgets and volumes among `documents`.

    Other kinds are ignored. Where somebody is told of pods and volumes that cannot be read, such
    pods wait for no plan, and a node that they are on takes nobody; such volumes are reached from
    nowhere.

    Raises:
        DecodeError: An object cannot be read, or a document is no Kubernetes object.
    """
    by_kind: dict[str, list[Raw]] = {}
    for raw in flat(documents):
        by_kind.setdefault(raw["kind"], []).append(raw)
    raw_pods = [*by_kind.get("Pod", ()), *_missing_pods(by_kind)]
    priorities = _priorities(by_kind)
    pods = (_pod(raw, priorities, unreadable) for raw in raw_pods)
    budgets = (budget_of(raw) for raw in by_kind.get("PodDisruptionBudget", ()))
    volumes = (_volume(raw, unreadable) for raw in by_kind.get("PersistentVolume", ()))
    ended = (ended_member_of(raw) for raw in by_kind.get("Pod", ()))
    return Snapshot(
        nodes=tuple(node_of(raw) for raw in by_kind.get("Node", ())),
        pods=tuple(pod for pod in pods if pod is not None),
        budgets=tuple(budget for budget in budgets if budget is not None),
        volumes=tuple(volume for volume in volumes if volume is not None),
        ended=tuple(member for member in ended if member is not None),
    )


def _pod(
    raw: Raw, priorities: Mapping[str, int], unreadable: Callable[[DecodeError], None] | None
) -> Pod | None:
    try:
        return pod_of(_managed(_with_priority(raw, priorities)))
    except DecodeError as error:
        if unreadable is None:
            raise
        unreadable(error)
        return stand_in_of(raw)


def _volume(raw: Raw, unreadable: Callable[[DecodeError], None] | None) -> Volume | None:
    try:
        return volume_of(raw)
    except DecodeError as error:
        if unreadable is None:
            raise
        unreadable(error)
        return unreadable_volume(raw, error)


def flat(documents: Iterable[Raw]) -> Iterator[Raw]:
    """Return the objects, lists opened.

    Raises:
        DecodeError: A document has no kind, or a list no items.
    """
    for raw in documents:
        yield from _opened(Field(raw, where="document"))


def _opened(document: Field) -> Iterator[Raw]:
    kind = document.get("kind")
    if not isinstance(kind.value, str):
        raise kind.error("should be a Kubernetes kind such as Pod")
    if kind.value.endswith("List"):
        for item in document.get("items").items():
            yield from _opened(item)
    else:
        yield cast("Raw", document.value)


def _missing_pods(by_kind: Mapping[str, list[Raw]]) -> Iterator[dict[str, Any]]:
    """Return the pods that the operator would still make."""
    there = {_place(raw) for raw in by_kind.get("Pod", ())}
    for raw in by_kind.get(names.KIND_DEPLOYMENT, ()):
        made = manifests(deployment_of(raw))
        yield from (pod for pod in made if _place(pod) not in there)


def _place(raw: Raw) -> tuple[str, str]:
    metadata = top(raw, str(raw["kind"])).get("metadata")
    return metadata.get("namespace").text("default"), metadata.get("name").text()


def _priorities(by_kind: Mapping[str, list[Raw]]) -> dict[str, int]:
    """Return the priority of each class: from the classes, else from pods that carry both."""
    seen = dict(_BUILT_IN)
    for raw in by_kind.get("Pod", ()):
        spec = top(raw, "Pod").get("spec")
        name, priority = spec.get("priorityClassName"), spec.get("priority")
        if name.value is not None and priority.value is not None:
            seen[name.text()] = priority.integer()
    for raw in by_kind.get("PriorityClass", ()):
        root = top(raw, "PriorityClass")
        seen[root.get("metadata", "name").text()] = root.get("value").integer()
    return seen


def _managed(raw: Raw) -> Raw:
    """Return a pod of our scheduler with our label, unless the API server has seen it without."""
    root = top(raw, "Pod")
    ours = root.get("spec", "schedulerName").text("") == names.SCHEDULER
    if not ours or root.get("metadata", "uid").value is not None:
        return raw
    labels = {**root.get("metadata", "labels").labels(), names.LABEL_MANAGED: "true"}
    return {**raw, "metadata": {**raw["metadata"], "labels": labels}}


def _with_priority(raw: Raw, priorities: Mapping[str, int]) -> Raw:
    spec = top(raw, "Pod").get("spec")
    name = spec.get("priorityClassName")
    if spec.get("priority").value is not None or not name.text(""):
        return raw
    if name.text() not in priorities:
        raise name.error(f"PriorityClass {name.text()!r} is not among the documents: add it")
    return {**raw, "spec": {**raw["spec"], "priority": priorities[name.text()]}}
