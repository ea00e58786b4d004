"""The pods that controllers will make, read from their manifests.

For questions about what is not in the cluster yet: each pod is as its controller would make it,
behind our gate, whatever scheduler its template names.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from bayplan.api import names
from bayplan.codec.fields import Field, Raw, top

#: Where a kind says how many pods there will be, of those that have a pod template.
REPLICAS: Final = {
    "Deployment": "replicas",
    "ReplicaSet": "replicas",
    "ReplicationController": "replicas",
    "StatefulSet": "replicas",
    "Job": "parallelism",
}


def with_pods(documents: Iterable[Raw]) -> Iterator[Raw]:
    """Yield pods as they will wait for us, the pods of controllers, and other objects as they are.

    Raises:
        DecodeError: A name, a number of replicas or a template cannot be read.
    """
    for raw in documents:
        if raw["kind"] in REPLICAS:
            yield from _pods(raw)
        else:
            yield _waiting(raw) if raw["kind"] == "Pod" else raw


def _pods(raw: Raw) -> Iterator[Raw]:
    root = top(raw, raw["kind"])
    spec, name = root.get("spec"), root.get("metadata", "name").text()
    count = spec.get(REPLICAS[raw["kind"]]).integer(1)
    template = spec.get("template")
    owner = {"kind": raw["kind"], "name": name, "uid": "new", "controller": True}
    for number in range(count):
        own = {
            "name": f"{name}-{number}",
            "namespace": root.get("metadata", "namespace").text("default"),
            "ownerReferences": [owner],
        }
        yield _waiting(
            {
                "kind": "Pod",
                "metadata": {**_object(template.get("metadata")), **own},
                "spec": _object(template.get("spec")),
            }
        )


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
