"""The scheduler extender protocol (k8s.io/kube-scheduler/extender/v1), both ways.

Top-level keys are Go field names; inner objects are ordinary Kubernetes JSON. Only status 200
counts as an answer, so a problem travels in `Error`, or in an empty answer where the reply has no
such field. Each verb reads no more of its arguments than it needs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from bayplan.answers import Answer
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.pods import Pod
from bayplan.codec import DecodeError, Raw, pod_of

Reply = dict[str, Any] | list[dict[str, Any]]

#: Finds the pod that was seen last with this key, uid and resourceVersion.
Known = Callable[[PodKey, str, int], Pod | None]

#: What kube-scheduler calls the arguments of filter and prioritize.
_ARGUMENTS: Final = "ExtenderArgs"

#: Digits of the largest resourceVersion there can be (64 bits).
_VERSION_DIGITS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """What filter and prioritize are asked.

    Attributes:
        pod: The pod to place.
        nodes: The nodes that passed the scheduler's own filters.
        objects: The whole Node objects by name, when the scheduler sent these
            (`nodeCacheCapable: false`); None when it sent names.
    """

    pod: Pod
    nodes: tuple[NodeName, ...]
    objects: Mapping[NodeName, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preemption:
    """What preempt is asked: for whom, and the uids of the proposed victims by node."""

    uid: str
    victims: Mapping[NodeName, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What bind is asked."""

    pod: PodKey
    uid: str
    node: NodeName


def arguments_of(body: bytes, known: Known) -> Arguments:
    """Return the arguments of a filter or prioritize call.

    A pod that our watch shows in the same version is not decoded again.

    Raises:
        DecodeError: The body is not what a kube-scheduler sends.
    """
    raw = _object(body, _ARGUMENTS)
    pod = _pod(raw.get("Pod"), known)
    if raw.get("Nodes") is None:
        return Arguments(pod=pod, nodes=_names(raw.get("NodeNames")))
    items = raw["Nodes"].get("items") if isinstance(raw["Nodes"], dict) else None
    if items is not None and not isinstance(items, list):
        raise DecodeError(_ARGUMENTS, "Nodes.items", "should be a list of nodes")
    objects = {NodeName(_name(item)): item for item in items or ()}
    return Arguments(pod=pod, nodes=tuple(objects), objects=objects)


def preemption_of(body: bytes) -> Preemption:
    """Return the arguments of a preempt call.

    Raises:
        DecodeError: The body is not what a kube-scheduler sends.
    """
    kind = "ExtenderPreemptionArgs"
    raw = _object(body, kind)
    metadata = _metadata(raw.get("Pod"))
    uid = metadata.get("uid")
    by_node = raw.get("NodeNameToMetaVictims")
    read = _meta_uid
    if by_node is None:
        by_node, read = raw.get("NodeNameToVictims"), _pod_uid
    if not isinstance(uid, str) or not isinstance(by_node, dict):
        raise DecodeError(kind, "", "should have a Pod with a uid, and victims by node")
    victims = {NodeName(name): _uids(each, read, kind) for name, each in by_node.items()}
    return Preemption(uid=uid, victims=victims)


def binding_of(body: bytes) -> Binding:
    """Return the arguments of a bind call.

    Raises:
        DecodeError: The body is not what a kube-scheduler sends.
    """
    raw = _object(body, "ExtenderBindingArgs")
    keys = ("PodNamespace", "PodName", "PodUID", "Node")
    for key in keys:
        if not isinstance(raw.get(key), str) or not raw[key]:
            raise DecodeError("ExtenderBindingArgs", key, "should be a string")
    namespace, name, uid, node = (raw[key] for key in keys)
    return Binding(pod=PodKey(namespace=namespace, name=name), uid=uid, node=NodeName(node))


def filter_result(answer: Answer, arguments: Arguments) -> Reply:
    """Return the reply to a filter call.

    Refused nodes go into FailedAndUnresolvableNodes: preempting there would not help, and the
    scheduler's own preemption must not undo a plan. Nobody reads them when there is an answer.
    """
    nodes = [] if answer.node is None else [answer.node]
    listed, objects = None, arguments.objects
    if objects is not None:
        listed = {"metadata": {}, "items": [objects[name] for name in nodes]}
    return {
        "Nodes": listed,
        "NodeNames": None if listed else nodes,
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {name: why.message for name, why in answer.refused},
        "Error": "",
    }


def filter_error(message: str) -> Reply:
    """Return the reply to a filter call that could not be answered."""
    return {
        "Nodes": None,
        "NodeNames": None,
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {},
        "Error": message,
    }


def priorities(scores: Mapping[NodeName, int]) -> Reply:
    """Return the reply to a prioritize call."""
    return [{"Host": name, "Score": score} for name, score in scores.items()]


def no_priorities(_: str) -> Reply:
    """Return the reply to a prioritize call that could not be answered: nobody is preferred."""
    return []


def preempt_result(victims: Mapping[NodeName, Sequence[str]]) -> Reply:
    """Return the reply to a preempt call; without victims nobody is preempted.

    The scheduler has counted the violated budgets itself and picks among one node.
    """
    meta = {
        name: {"Pods": [{"UID": uid} for uid in uids], "NumPDBViolations": 0}
        for name, uids in victims.items()
    }
    return {"NodeNameToMetaVictims": meta}


def no_preemption(_: str) -> Reply:
    """Return the reply to a preempt call that could not be answered: nobody has to go."""
    return preempt_result({})


def bind_result(error: str) -> Reply:
    """Return the reply to a bind call; an empty `error` says that the pod is bound."""
    return {"Error": error}


def _object(body: bytes, kind: str) -> dict[str, Any]:
    try:
        raw = orjson.loads(body)
    except ValueError as error:
        raise DecodeError(kind, "", f"is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise DecodeError(kind, "", "should be an object")
    return raw


def _pod(raw: object, known: Known) -> Pod:
    metadata = _metadata(raw)
    namespace, name = metadata.get("namespace"), metadata.get("name")
    uid, version = metadata.get("uid"), metadata.get("resourceVersion")
    texts = (namespace, name, uid, version)
    if all(isinstance(text, str) for text in texts) and _is_version(str(version)):
        key = PodKey(namespace=str(namespace), name=str(name))
        seen = known(key, str(uid), int(str(version)))
        if seen is not None:
            return seen
    pod = pod_of(cast(Raw, raw))  # `_metadata` has seen that it is an object
    if pod is None:
        raise DecodeError(_ARGUMENTS, "Pod.status.phase", "the pod has ended")
    return pod


def _is_version(text: str) -> bool:
    return text.isdecimal() and len(text) <= _VERSION_DIGITS


def _metadata(raw: object) -> dict[str, Any]:
    metadata = raw.get("metadata") if isinstance(raw, dict) else None
    if not isinstance(metadata, dict):
        raise DecodeError("ExtenderArgs", "Pod", "should be a pod")
    return metadata


def _names(names: object) -> tuple[NodeName, ...]:
    if not isinstance(names, list) or not {str}.issuperset(map(type, names)):
        raise DecodeError(_ARGUMENTS, "NodeNames", "should be a list of node names")
    return tuple(names)


def _name(item: object) -> str:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        raise DecodeError(_ARGUMENTS, "Nodes.items", "should be nodes with a name")
    return name


def _uids(victims: object, read: Callable[[Any], object], kind: str) -> tuple[str, ...]:
    pods = victims.get("Pods") if isinstance(victims, dict) else None
    uids = [read(pod) for pod in pods] if isinstance(pods, list) else [None]
    if not all(isinstance(uid, str) for uid in uids):
        raise DecodeError(kind, "Pods", "should be pods with a uid")
    return tuple(str(uid) for uid in uids)


def _meta_uid(pod: Any) -> object:  # noqa: ANN401 - whatever was sent
    return pod.get("UID") if isinstance(pod, dict) else None


def _pod_uid(pod: Any) -> object:  # noqa: ANN401 - whatever was sent
    metadata = pod.get("metadata") if isinstance(pod, dict) else None
    return metadata.get("uid") if isinstance(metadata, dict) else None
