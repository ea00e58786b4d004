"""A heap of Kubernetes objects to one `Snapshot`: what the offline command and benchmarks read.

Takes what `kubectl get nodes,pods,infd -A -o json` prints, or manifests from files. Pods of an
InferenceDeployment that has none yet are made as the operator would make them.
"""

from collections.abc import Iterable, Iterator

from bayplan.codec.fields import DecodeError, Raw
from bayplan.codec.nodes import node_of
from bayplan.codec.pods import pod_of
from bayplan.snapshot import Node, Pod, Snapshot


def snapshot_of(documents: Iterable[Raw]) -> Snapshot:
    """Return the snapshot of the nodes and pods among `documents`; other kinds are ignored.

    Raises:
        DecodeError: A node or pod cannot be read, or a document is no Kubernetes object.
    """
    nodes: list[Node] = []
    pods: list[Pod] = []
    for raw in flat(documents):
        if raw["kind"] == "Node":
            nodes.append(node_of(raw))
        elif raw["kind"] == "Pod" and (pod := pod_of(raw)) is not None:
            pods.append(pod)
    return Snapshot.of(nodes, pods)


def flat(documents: Iterable[Raw]) -> Iterator[Raw]:
    """Return the objects, lists opened.

    Raises:
        DecodeError: A document has no kind.
    """
    for raw in documents:
        if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str):
            raise DecodeError("document", "kind", "should be a Kubernetes kind such as Pod")
        if raw["kind"].endswith("List"):
            yield from flat(raw.get("items") or ())
        else:
            yield raw
