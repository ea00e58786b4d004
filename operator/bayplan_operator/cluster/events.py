"""Kubernetes events: what `kubectl describe` tells about a deployment or a pod.

They are for people and may be lost: written by a thread of their own from a bounded queue, never
waited for, and never the only carrier of state. The same thing said twice is one event, because
its name is a hash of what it says.
"""

import hashlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan_operator.cluster.kube import OVERTAKEN, Kube, events_path, message_of

_log = structlog.get_logger()

#: Events that may wait to be written; more are dropped.
_CAPACITY: Final = 2000

#: Kubernetes' bound on an event's note, in bytes.
MAX_NOTE: Final = 1000

_CONTROLLER: Final = f"{names.GROUP}/operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The object that an event is about."""

    kind: str
    api_version: str
    namespace: str
    name: str
    uid: str

    @classmethod
    def pod(cls, key: PodKey, uid: str) -> "About":
        """Return the reference to a pod."""
        return cls(kind="Pod", api_version="v1", namespace=key.namespace, name=key.name, uid=uid)

    @classmethod
    def deployment(cls, namespace: str, name: str, uid: str) -> "About":
        """Return the reference to an InferenceDeployment."""
        return cls(
            kind=names.KIND_DEPLOYMENT,
            api_version=names.API_VERSION,
            namespace=namespace,
            name=name,
            uid=uid,
        )


class Events:
    """Writes events in the background."""

    def __init__(self, kube: Kube, *, instance: str, now: Callable[[], datetime]) -> None:
        self._kube = kube
        self._instance = instance
        self._now = now
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue(maxsize=_CAPACITY)
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def tell(  # noqa: PLR0913 - the fields of an event
        self,
        about: About,
        reason: str,
        action: str,
        note: str,
        *,
        warning: bool = False,
        once: str = "",
    ) -> None:
        """Say something about an object; `once` tells apart what may be said again later."""
        digest = hashlib.sha256(repr((about.uid, reason, note, once)).encode()).hexdigest()
        at = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            # Not events.k8s.io, whose events have no lastTimestamp, by which kubectl sorts.
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{about.name[:230]}.{digest[:16]}",
                "namespace": about.namespace,
            },
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "source": {"component": _CONTROLLER},
            "reportingComponent": _CONTROLLER,
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "message": note.encode()[:MAX_NOTE].decode(errors="ignore"),
            "type": "Warning" if warning else "Normal",
            "involvedObject": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
        }
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            _log.warning("event_dropped", reason=reason, object=about.name)

    def _run(self) -> None:
        while True:
            self._write(self._waiting.get())

    def _write(self, event: dict[str, Any]) -> None:
        try:
            self._kube.create(events_path(event["metadata"]["namespace"]), event)
        except ApiException as error:
            told = message_of(error)
            # The namespace is gone, or going; or the same was said already.
            if error.status not in OVERTAKEN and "being terminated" not in told:
                _log.warning("event_not_written", reason=event["reason"], error=told)
        except Exception as error:  # noqa: BLE001 - an answer that is none must not end all events
            _log.warning("event_not_written", error=str(error), reason=event["reason"])
