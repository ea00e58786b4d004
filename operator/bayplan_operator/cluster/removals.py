"""Making a pod go as it was seen, and only then: what is decided on may have changed by now.

Deletes and evictions carry the resourceVersion that was seen. Kubelets write to a pod all the time,
most of all while it comes out of service, so that such a call loses often to something that does
not matter. Then the pod is read again, and where all that the decision depends on is as it was, it
is asked for again at once.
"""

from collections.abc import Callable, Iterator
from typing import Final

from kubernetes.client.exceptions import ApiException

from bayplan.cluster.keys import PodKey
from bayplan.codec import DecodeError
from bayplan.codec.deployments import child_of
from bayplan.inference.children import Child
from bayplan_operator.cluster.evictions import ask_to_leave, evict
from bayplan_operator.cluster.kube import OVERTAKEN, Kube, Raw, pod_path

#: Metadata of a pod that say when it was written, and by whom.
_OF_EACH_WRITE: Final = frozenset({"resourceVersion", "managedFields", "generation"})

#: Times that a pod is asked to go in one pass: nobody writes to it that often without end.
_TRIES: Final = 4


def delete_as_seen(kube: Kube, pod: PodKey, seen: Child) -> None:
    """Delete a pod unless something has changed that its deletion depends on.

    Raises:
        ApiException: The API server refuses it, or there was no answer.
    """
    for version in _versions(kube, pod, seen.version, lambda raw: child_of(raw).is_still(seen)):
        if kube.delete(pod_path(pod), uid=seen.uid, version=version):
            return


def relieve_as_seen(kube: Kube, pod: PodKey, seen: Child) -> None:
    """Evict a pod unless something has changed that its going depends on.

    Raises:
        ApiException: The API server refuses it (429: its PodDisruptionBudget), or there was no
            answer.
    """
    for version in _versions(kube, pod, seen.version, lambda raw: child_of(raw).is_still(seen)):
        try:
            ask_to_leave(kube, pod, seen.uid, version=version)
        except ApiException as error:
            if error.status not in OVERTAKEN:
                raise
            continue
        return


def evict_as_seen(kube: Kube, pod: PodKey, seen: Raw) -> str | None:
    """Evict a pod in the same way; return why that is refused, or "" when it goes.

    None when it is gone, or something has changed that its eviction depends on: whether it is out
    of service, or anything that is not its kubelet's to write.

    Raises:
        ApiException: There was no answer.
    """
    child = child_of(seen)

    def is_still(raw: Raw) -> bool:
        return _without_status(raw) == _without_status(seen) and child_of(raw).is_still(child)

    for version in _versions(kube, pod, child.version, is_still):
        refused = evict(kube, pod, child.uid, version=version)
        if refused is not None:
            return refused
    return None


def _versions(kube: Kube, pod: PodKey, seen: str, is_still: Callable[[Raw], bool]) -> Iterator[str]:
    """Yield the version that was seen, and newer ones of which the same is true."""
    yield seen
    for _ in range(_TRIES - 1):
        raw = kube.get(pod_path(pod))
        try:
            if raw is None or not is_still(raw):
                return
        except DecodeError:
            return
        yield raw["metadata"]["resourceVersion"]


def _without_status(raw: Raw) -> tuple[Raw, Raw]:
    """Return metadata and spec, without what every write changes."""
    kept = {k: v for k, v in raw["metadata"].items() if k not in _OF_EACH_WRITE}
    return kept, raw["spec"]
