"""The watch of managed pods: whose pod it is, and whether it came or went.

On its way to a node a pod changes four times and more, and a plan places hundreds. Nothing of a pod
is remembered here.
"""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from bayplan.api import names
from bayplan_operator.cluster.kube import PODS, Kube, Raw
from bayplan_operator.cluster.watches import watch
from bayplan_operator.keys import DeploymentKey


class Change(Enum):
    """What became of a pod."""

    CAME = "came"
    WENT = "went"
    LAST = "last"  #: it is on its node, the last one that the plan at work has waited for
    REFUSED = "refused"  #: its kubelet would not start it
    OTHER = "other"


#: The deployment that a pod is of, if it is of one, and what became of the pod.
News = tuple[DeploymentKey | None, Change]

#: Takes such news, once for all pods of which it is the same.
Listener = Callable[[DeploymentKey | None, Change], None]


class Awaited(Protocol):
    """The pods that the plan at work waits for."""

    def see(self, event: Raw) -> bool:
        """Take an event; return whether its pod is the last one that is waited for."""

    def forget(self) -> None:
        """Take that events may be lost."""


class Refused(Protocol):
    """The pods that kubelets refuse."""

    def see(self, event: Raw) -> bool:
        """Take an event; return whether the kubelet of its pod has just refused it."""


async def watch_pods(kube: Kube, listener: Listener, awaited: Awaited, refused: Refused) -> None:
    """Have the listener told of every change, on the event loop, until cancelled.

    `awaited` and `refused` are told of every event at once, in the thread of the watch.

    Raises:
        Exception: The watch has ended, which no error of the API server makes it do.
    """
    await watch(kube, ManagedPods(awaited, refused), lambda news: listener(*news))


class ManagedPods:
    """Makes news of what happens to managed pods."""

    path = PODS
    labels = f"{names.LABEL_MANAGED}=true"

    def __init__(self, awaited: Awaited, refused: Refused) -> None:
        self._awaited = awaited
        self._refused = refused

    def begin(self, tell: Callable[[News], None]) -> str:
        """Have every pod told of; nobody tells of those that went meanwhile."""
        _ = tell
        self._awaited.forget()
        return ""

    def see(self, event: Raw, tell: Callable[[News], None]) -> None:
        """Tell of an event."""
        owner, change = news_of(event)
        change = Change.REFUSED if self._refused.see(event) else change
        tell((owner, Change.LAST if self._awaited.see(event) else change))


def news_of(event: Raw) -> News:
    """Return the deployment that the event's pod is of, if it is of one, and what became of it."""
    metadata = event["object"]["metadata"]
    name = (metadata.get("labels") or {}).get(names.LABEL_DEPLOYMENT)
    owner = DeploymentKey(namespace=metadata["namespace"], name=name) if name else None
    if event["type"] == "DELETED" or "deletionTimestamp" in metadata:
        return owner, Change.WENT
    return owner, Change.CAME if event["type"] == "ADDED" else Change.OTHER
