"""Binding pods for the scheduler: the optional verb `bind`.

The scheduler asks again when a reply was lost, so that asking twice must do the same as asking
once: whatever went wrong, what counts is whether the pod is on the node in the end.
"""

import json
from typing import Any, Protocol

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bayplan_extender.kube import FAILURES
from bayplan_extender.webhook.wire import Binding

#: Seconds to connect and for the API server to answer; the scheduler waits 5 s in all by default.
_TIMEOUT_S = (1.0, 2.0)


class Binder(Protocol):
    """Binds a pod."""

    def bind(self, asked: Binding) -> str:
        """Bind, and return "" or what went wrong."""


class ApiBinder:
    """Binds through the API server."""

    def __init__(self, api: client.ApiClient) -> None:
        self._core = client.CoreV1Api(api)

    def bind(self, asked: Binding) -> str:
        """Bind the pod to the node, and return "" or what went wrong."""
        try:
            problem = self._create(asked)
        except FAILURES as error:
            problem = _brief(error)
        if not problem:
            return ""
        try:
            return "" if self._is_there(asked) else problem
        except (*FAILURES, ValueError):
            return problem

    def _create(self, asked: Binding) -> str:
        # The uid makes the API server refuse a pod made again under the same name.
        body: Any = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {
                "name": asked.pod.name,
                "namespace": asked.pod.namespace,
                "uid": asked.uid,
            },
            "target": {"apiVersion": "v1", "kind": "Node", "name": asked.node},
        }
        reply: Any = self._core.create_namespaced_pod_binding(
            asked.pod.name,
            asked.pod.namespace,
            body,
            _preload_content=False,
            _request_timeout=_TIMEOUT_S,
        )
        return "" if reply.status < 300 else _said(reply)  # noqa: PLR2004 - HTTP's boundary of success

    def _is_there(self, asked: Binding) -> bool:
        """Return whether the pod is bound to the node already."""
        reply: Any = self._core.read_namespaced_pod(
            asked.pod.name,
            asked.pod.namespace,
            _preload_content=False,
            _request_timeout=_TIMEOUT_S,
        )
        if reply.status >= 300:  # noqa: PLR2004 - HTTP's boundary of success
            return False
        pod = json.loads(reply.data)
        node = pod["spec"].get("nodeName")
        return bool(pod["metadata"]["uid"] == asked.uid and node == asked.node)


def _said(reply: Any) -> str:  # noqa: ANN401 - the library's response
    try:
        message = json.loads(reply.data).get("message")
    except (ValueError, AttributeError):
        message = None
    return f"{reply.status}: {message or reply.reason}"


def _brief(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"{error.status}: {' '.join(str(error.body or error.reason).split())[:300]}"
    return " ".join(str(error).split())[:300]
