"""The pods that controllers will make, read from their manifests.

For questions about what is not in the cluster yet: each pod is as its controller would make it,
behind our gate, whatever scheduler its template names.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from bayplan.api import names
from bayplan.codec.fields import Raw, top

#: Where a kind says how many pods there will be, of those that have a pod template.
_REPLICAS: Final = {
    "Deployment": "replicas",
    "ReplicaSet": "replicas",
    "ReplicationController": "replicas",
    "StatefulSet": "replicas",
    "Job": "parallelism",
}


def with_pods(documents: Iterable[Raw]) -> Iterator[Raw]:
    """Yield pods as they will wait for us, the pods of controllers, and other objects as they are.

    Raises:
        DecodeError: A number of replicas cannot be read.
    """
    for raw in documents:
        if raw["kind"] in _REPLICAS:
            yield from _pods(raw)
        else:
            yield _waiting(raw) if raw["kind"] == "Pod" else raw


def _pods(raw: Raw) -> Iterator[Raw]:
    root = top(raw, raw["kind"])
    count = root.get("spec", _REPLICAS[raw["kind"]]).integer(1)
    template = raw["spec"].get("template") or {}
    metadata = raw["metadata"]
    owner = {"kind": raw["kind"], "name": metadata["name"], "uid": "new", "controller": True}
    for number in range(count):
        own = {
            "name": f"{metadata['name']}-{number}",
            "namespace": metadata.get("namespace", "default"),
            "ownerReferences": [owner],
        }
        yield _waiting(
            {
                "kind": "Pod",
                "metadata": {**(template.get("metadata") or {}), **own},
                "spec": template.get("spec") or {},
            }
        )


def _waiting(raw: Raw) -> dict[str, Any]:
    gates = {"schedulerName": names.SCHEDULER, "schedulingGates": [{"name": names.GATE}]}
    metadata = {**raw["metadata"]}
    metadata.setdefault("uid", f"new-{metadata.get('namespace', 'default')}-{metadata['name']}")
    metadata["labels"] = {**(metadata.get("labels") or {}), names.LABEL_MANAGED: "true"}
    return {**raw, "metadata": metadata, "spec": {**(raw.get("spec") or {}), **gates}}
