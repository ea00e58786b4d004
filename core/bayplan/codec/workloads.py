"""The pods that controllers will make, read from their manifests.

For questions about what is not in the cluster yet: each pod is as its controller would make it,
behind our gate, whatever scheduler its template names.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from bayplan.api import names
from bayplan.codec.fields import Field, Raw, top

#: Where a kind says how many pods there will be, of those that have one pod template.
_REPLICAS: Final = {
    "Deployment": "replicas",
    "ReplicaSet": "replicas",
    "ReplicationController": "replicas",
    "StatefulSet": "replicas",
    "Job": "parallelism",
}

#: The kind whose replicas are groups of pods.
_GROUPS: Final = "LeaderWorkerSet"

#: The kinds that are read as the pods that they will have.
KINDS: Final = frozenset({*_REPLICAS, _GROUPS})


@dataclass(frozen=True, slots=True)
class _Made:
    """A pod that a controller will make: its name, its template, and what it adds to that."""

    name: str
    template: Field
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def with_pods(documents: Iterable[Raw]) -> Iterator[Raw]:
    """Yield pods as they will wait for us, the pods of controllers, and other objects as they are.

    Raises:
        DecodeError: A name, a number of replicas or a template cannot be read.
    """
    for raw in documents:
        if raw["kind"] in KINDS:
            yield from _pods(raw)
        else:
            yield _waiting(raw) if raw["kind"] == "Pod" else raw


def _pods(raw: Raw) -> Iterator[Raw]:
    root = top(raw, raw["kind"])
    metadata, spec = root.get("metadata"), root.get("spec")
    name = metadata.get("name").text()
    made = _grouped(name, spec) if raw["kind"] == _GROUPS else _alike(raw["kind"], name, spec)
    own = {
        "namespace": metadata.get("namespace").text("default"),
        "ownerReferences": [{"kind": raw["kind"], "name": name, "uid": "new", "controller": True}],
    }
    for pod in made:
        template = pod.template.get("metadata")
        told = {
            "labels": {**_object(template.get("labels")), **pod.labels},
            "annotations": {**_object(template.get("annotations")), **pod.annotations},
        }
        yield _waiting(
            {
                "kind": "Pod",
                "metadata": {**_object(template), **told, **own, "name": pod.name},
                "spec": _object(pod.template.get("spec")),
            }
        )


def _alike(kind: str, name: str, spec: Field) -> Iterator[_Made]:
    for number in range(spec.get(_REPLICAS[kind]).integer(1)):
        yield _Made(f"{name}-{number}", spec.get("template"))


def _grouped(name: str, spec: Field) -> Iterator[_Made]:
    """Yield the pods of a LeaderWorkerSet: in each group a leader and its workers."""
    templates = spec.get("leaderWorkerTemplate")
    worker, leader = templates.get("workerTemplate"), templates.get("leaderTemplate")
    size = templates.get("size").integer(1)
    annotations = {names.ANNOTATION_LWS_SIZE: str(size)}
    for group in range(spec.get("replicas").integer(1)):
        labels = {names.LABEL_LWS_GROUP: str(group)}
        first = leader if leader.value is not None else worker
        yield _Made(f"{name}-{group}", first, labels, annotations)
        for number in range(1, size):
            yield _Made(f"{name}-{group}-{number}", worker, labels, annotations)


def _waiting(raw: Raw) -> dict[str, Any]:
    root = top(raw, "Pod")
    gates = {"schedulerName": names.SCHEDULER, "schedulingGates": [{"name": names.GATE}]}
    metadata = _object(root.get("metadata"))
    metadata.setdefault("uid", f"new-{metadata.get('namespace', 'default')}-{metadata['name']}")
    labels = _object(root.get("metadata", "labels"))
    metadata["labels"] = {**labels, names.LABEL_MANAGED: "true"}
    return {**raw, "metadata": metadata, "spec": {**_object(root.get("spec")), **gates}}


def _object(field: Field) -> dict[str, Any]:
    """Return a copy of an object, which is empty where there is none."""
    field.parts()
    return dict(cast("Raw", field.value or {}))
