"""An InferenceDeployment for tests, and the pods that it has."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from bayplan.api import names
from bayplan.cluster.keys import NodeName
from bayplan.codec.deployments import deployment_of
from bayplan.inference import manifests, slots
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.slots import Slot

#: What every pod of `chat` says of its unit.
SHAPE = {names.ANNOTATION_SHAPE: "decode=2,prefill=1"}

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def chat(**spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the InferenceDeployment that everyone knows: units of one prefill and two decode."""
    limits = {"Prefill": 8, "Decode": 4}
    pools = [{"role": role, "template": template(gpus)} for role, gpus in limits.items()]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceDeployment",
        "metadata": {"name": "chat", "namespace": "team", "uid": "u-chat", "generation": 3},
        "spec": {"replicas": 2, "ratio": {"prefill": 1, "decode": 2}, "pools": pools, **spec},
    }


def template(gpus: int, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a pod template with one container."""
    container = {"name": "vllm", "image": "x", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return {"spec": {"containers": [container], **spec}}


def deployment(**spec: Any) -> Deployment:  # noqa: ANN401 - JSON
    """Return the decoded `chat`."""
    return deployment_of(chat(**spec))


def unit_slots(of: Deployment, unit: int, made_from: str) -> tuple[Slot, ...]:
    """Return the pods of one unit as it is to be in the end, in the order of the pools."""
    every = {(pool.name, n) for pool in of.pools for n in range(of.wanted[pool.name])}
    together = sum(pool.size * of.wanted[pool.name] for pool in of.pools)
    return slots.slots_of(of, unit, made_from, replicas=every, together=together, shape=of.least)


def fill(slot: Slot, **state: Any) -> Child:  # noqa: ANN401 - fields of Child
    """Return the pod that the operator made for a slot."""
    return Child(
        **{
            "name": slot.name,
            "uid": f"u-{slot.name}",
            "owner_uid": "u-chat",
            "pool": slot.pool.name,
            "unit": slot.unit,
            "revision": slot.revision,
            "unit_size": slot.unit_size,
            "shape": slot.shape,
            "replica": slot.index,
            "represents": slot.represents,
            "worker": slot.worker,
            "replica_size": slot.pool.size,
            "gated": not state.get("node"),
            **state,
        }
    )


def running(of: Deployment) -> list[Child]:
    """Return all pods of a deployment, running and ready."""
    return [fill(slot, node=NodeName("n1"), ready=True) for slot in slots.slots(of)]


def names_of(things: Iterable[Slot | Child]) -> list[str]:
    """Return the names of slots or children."""
    return [thing.name for thing in things]


OLD = "0123456789"


def made_pod(**state: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the first pod of `chat` as the API server shows it."""
    of = deployment()
    raw = manifests.manifest(of, slots.slots(of)[0])
    said = state.get("metadata", {})
    annotations = raw["metadata"]["annotations"] | said.get("annotations", {})
    raw["metadata"] |= {"uid": "u-chat-0-prefill-0", **said, "annotations": annotations}
    raw["spec"] |= state.get("spec", {})
    return raw | {"status": state.get("status", {})}


def second(of: Deployment) -> list[Child]:
    """Return the second unit of a deployment, running and ready."""
    slots = unit_slots(of, 1, of.revision)
    return [fill(slot, node=NodeName("n1"), ready=True) for slot in slots]
