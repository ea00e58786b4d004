"""The scheduler extender protocol (kube-scheduler/extender/v1), both ways.

Top-level keys are Go field names; inner objects are ordinary Kubernetes JSON. Only status 200
counts as an answer, so every problem travels in `Error`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bayplan.answers import Answer
from bayplan.codec import DecodeError, pod_of
from bayplan.snapshot import NodeName, Pod


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


def arguments_of(body: bytes) -> Arguments:
    """Return the arguments of a filter or prioritize call.

    Raises:
        DecodeError: The body is not what a kube-scheduler sends.
    """
    raw = _object(body)
    pod = pod_of(_pod(raw.get("Pod")))
    if pod is None:
        raise DecodeError("ExtenderArgs", "Pod.status.phase", "the pod has ended")
    if raw.get("Nodes") is None:
        return Arguments(pod=pod, nodes=_names(raw.get("NodeNames")))
    items = raw["Nodes"].get("items") if isinstance(raw["Nodes"], dict) else None
    objects = {NodeName(_name(item)): item for item in items or ()}
    return Arguments(pod=pod, nodes=tuple(objects), objects=objects)


def filter_result(answer: Answer, arguments: Arguments) -> dict[str, Any]:
    """Return the reply to a filter call.

    Refused nodes go into FailedAndUnresolvableNodes: preempting there would not help, and the
    scheduler's own preemption must not undo a plan.
    """
    objects = arguments.objects
    listed = (
        {"metadata": {}, "items": [objects[name] for name in answer.nodes]} if objects else None
    )
    return {
        "Nodes": listed,
        "NodeNames": None if objects else list(answer.nodes),
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {name: why.message for name, why in answer.refused},
        "Error": "",
    }


def filter_error(message: str) -> dict[str, Any]:
    """Return the reply to a filter call that could not be answered."""
    return {
        "Nodes": None,
        "NodeNames": None,
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {},
        "Error": message,
    }


def priorities(scores: Mapping[NodeName, int]) -> list[dict[str, Any]]:
    """Return the reply to a prioritize call."""
    return [{"Host": name, "Score": score} for name, score in scores.items()]


def _object(body: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(body)
    except ValueError as error:
        raise DecodeError("ExtenderArgs", "", f"is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise DecodeError("ExtenderArgs", "", "should be an object")
    return raw


def _pod(pod: object) -> dict[str, Any]:
    if not isinstance(pod, dict):
        raise DecodeError("ExtenderArgs", "Pod", "should be a pod")
    return pod


def _names(names: object) -> tuple[NodeName, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DecodeError("ExtenderArgs", "NodeNames", "should be a list of node names")
    return tuple(NodeName(name) for name in names)


def _name(item: object) -> str:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        raise DecodeError("ExtenderArgs", "Nodes.items", "should be nodes with a name")
    return name
