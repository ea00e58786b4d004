"""How an InferenceDeployment is reached: a Service per pool, peers by name, an InferencePool.

    pool, its template has ports      ──▶  Service `<name>-<pool>`, over leaders and single pods
    any replica of several pods       ──▶  headless Service `<name>-peers`, over all pods
    spec.inferencePool                ──▶  InferencePool `<name>`

Decided from what is there, like the pods: `changes` compares what should be with what is. An
object of somebody else under one of these names is left alone and told.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bayplan.api import names
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment, Pool
from bayplan.inference.manifests import owner_reference

Raw = Mapping[str, Any]

SERVICE: Final = "Service"
INFERENCE_POOL: Final = "InferencePool"

#: Where the Gateway API Inference Extension has its kind.
INFERENCE_API: Final = "inference.networking.k8s.io/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What to do about the objects that lead to the pods.

    Attributes:
        apply: Objects to make, and with the uid of what they correct those to correct.
        delete: Objects that lead nowhere any more.
        taken: Names that objects of somebody else keep from us: "Service chat-decode".
        silent: Pools without a port, which therefore have no Service.
    """

    apply: tuple[dict[str, Any], ...] = ()
    delete: tuple[Raw, ...] = ()
    taken: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def changes(deployment: Deployment, seen: Sequence[Child], there: Sequence[Raw]) -> Exposure:
    """Return what to apply and to delete so that what leads to the pods is as it should be.

    `there` are the objects of these kinds under the names that we use, and all others that carry
    the deployment's label. The Service of a pool that the spec no longer has stays for as long as
    there are pods of it.
    """
    wanted = {_key(raw): raw for raw in manifests(deployment)}
    known = {_key(raw): raw for raw in there}
    mine = {key: raw for key, raw in known.items() if _owner(raw) == deployment.uid}
    old = {child.pool for child in seen if child.owner_uid == deployment.uid}
    return Exposure(
        apply=tuple(
            _for(mine.get(key), raw)
            for key, raw in wanted.items()
            if key not in known or (key in mine and not covers(mine[key], raw))
        ),
        delete=tuple(
            raw for key, raw in mine.items() if key not in wanted and not _leads_to(raw, old)
        ),
        taken=tuple(" ".join(key) for key in wanted if key in known and key not in mine),
        silent=tuple(pool.name for pool in deployment.pools if not pool.ports),
    )


def _for(known: Raw | None, raw: dict[str, Any]) -> dict[str, Any]:
    """Return the object with the uid of the one that it corrects, if there is one."""
    if known is None:
        return raw
    return {**raw, "metadata": {**raw["metadata"], "uid": known["metadata"]["uid"]}}


def manifests(deployment: Deployment) -> tuple[dict[str, Any], ...]:
    """Return every object that should lead to the pods."""
    return tuple(_manifests(deployment))


def covers(actual: object, wanted: object) -> bool:
    """Return whether all that is wanted is there; what others have added does not matter."""
    if isinstance(wanted, Mapping):
        return isinstance(actual, Mapping) and all(
            key in actual and covers(actual[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(wanted)
            and all(covers(a, w) for a, w in zip(actual, wanted, strict=True))
        )
    return actual == wanted


def _manifests(deployment: Deployment) -> Iterator[dict[str, Any]]:
    for pool in deployment.pools:
        if ports := _ports(pool):
            yield _service(
                deployment,
                f"{deployment.name}-{pool.name}",
                {names.LABEL_POOL: pool.name},
                {
                    "selector": _selector(deployment, **{names.LABEL_POOL: pool.name}),
                    "ports": ports,
                },
            )
    if any(pool.size > 1 for pool in deployment.pools):
        # Peers look for each other before they are ready.
        spec = {
            "selector": {names.LABEL_DEPLOYMENT: deployment.name},
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
        }
        yield _service(deployment, deployment.peers_service, {}, spec)
    if deployment.gateway is not None:
        picker = deployment.gateway
        spec = {
            "selector": {"matchLabels": _selector(deployment)},
            "targetPorts": [{"number": picker.target_port}],
            "endpointPickerRef": {"name": picker.picker, "port": {"number": picker.picker_port}},
        }
        metadata = _metadata(deployment, deployment.name, {})
        yield {
            "apiVersion": INFERENCE_API,
            "kind": INFERENCE_POOL,
            "metadata": metadata,
            "spec": spec,
        }


def _service(
    deployment: Deployment, name: str, labels: Mapping[str, str], spec: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": SERVICE,
        "metadata": _metadata(deployment, name, labels),
        "spec": spec,
    }


def _metadata(deployment: Deployment, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": deployment.namespace,
        "labels": {
            "app.kubernetes.io/instance": deployment.name,
            "app.kubernetes.io/managed-by": "bayplan",
            names.LABEL_DEPLOYMENT: deployment.name,
            **labels,
        },
    }
    if deployment.uid:
        metadata["ownerReferences"] = [owner_reference(deployment)]
    return metadata


def _selector(deployment: Deployment, **more: str) -> dict[str, str]:
    """Return the labels of the pods that take requests: workers answer to their leader alone."""
    return {names.LABEL_DEPLOYMENT: deployment.name, names.LABEL_WORKER: "0", **more}


def _ports(pool: Pool) -> list[dict[str, Any]]:
    """Return the ports of the Service over a pool.

    A port with a name is aimed at by it, so that units of two templates may have it at different
    numbers during a rollout.
    """
    found: dict[tuple[int, str], dict[str, Any]] = {}
    used: set[str] = set()
    for port in pool.ports:
        named = bool(port.name) and port.name not in used
        name = port.name if named else f"{port.protocol.lower()}-{port.number}"
        if (port.number, port.protocol) not in found:
            used.add(name)
            found[port.number, port.protocol] = {
                "name": name,
                "port": port.number,
                "protocol": port.protocol,
                "targetPort": name if named else port.number,
            }
    return list(found.values())


def _key(raw: Raw) -> tuple[str, str]:
    return raw["kind"], raw["metadata"]["name"]


def _owner(raw: Raw) -> str | None:
    references = raw["metadata"].get("ownerReferences") or []
    return next((str(ref["uid"]) for ref in references if ref.get("controller")), None)


def _leads_to(raw: Raw, pools: Collection[str]) -> bool:
    """Return whether an object is a Service of one of the pools."""
    return (
        raw["kind"] == SERVICE and raw["metadata"].get("labels", {}).get(names.LABEL_POOL) in pools
    )
