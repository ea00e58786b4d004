"""Objects as the API server has them, for tests of how they are read."""

from typing import Any

from bayplan.api import names
from bayplan.cluster.pods import Pod
from bayplan.codec import (
    pod_of,
)
from tests.builders import GPU


def raw_pod(**spec: object) -> dict[str, Any]:
    """Return a waiting pod of a ReplicaSet as the API server prints it."""
    owner = {"kind": "ReplicaSet", "name": "web", "uid": "rs-1", "controller": True}
    gates = [{"name": names.GATE}]
    container = {"name": "c", "resources": {"limits": {GPU: "2"}, "requests": {"cpu": "500m"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-1",
            "namespace": "team",
            "uid": "u1",
            "labels": {names.LABEL_MANAGED: "true"},
            "ownerReferences": [owner],
            "creationTimestamp": "2026-01-31T12:00:00Z",
        },
        "spec": {
            "schedulerName": names.SCHEDULER,
            "schedulingGates": gates,
            "priority": 5,
            "containers": [container],
        }
        | spec,
        "status": {"phase": "Pending"},
    }


def decoded(raw: dict[str, Any]) -> Pod:
    """Return the pod, which must be readable and alive."""
    pod = pod_of(raw)
    assert pod is not None
    return pod


def pinned(node: str) -> dict[str, Any]:
    """Return the affinity that pins a pod to one node."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = [{"matchFields": [field]}]
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
