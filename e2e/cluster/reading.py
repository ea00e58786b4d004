"""Reading objects over a connection that stays open.

Who waits for something looks many times a second, and each kubectl takes 50 ms of a core to start
and to find out what the server serves.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from e2e.cluster.errors import CommandFailed

_OURS = "/apis/bayplan.dev/v1alpha1"

#: Where the API server has what tests look at, by what kubectl calls it.
_SERVED = {
    "configmap": ("/api/v1", "configmaps"),
    "endpointslices": ("/apis/discovery.k8s.io/v1", "endpointslices"),
    "events": ("/api/v1", "events"),
    "inferencepools": ("/apis/inference.networking.k8s.io/v1", "inferencepools"),
    "infd": (_OURS, "inferencedeployments"),
    "lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "namespaces": ("/api/v1", "namespaces"),
    "nodes": ("/api/v1", "nodes"),
    "packingplan": (_OURS, "packingplans"),
    "packingplans": (_OURS, "packingplans"),
    "pdb": ("/apis/policy/v1", "poddisruptionbudgets"),
    "pod": ("/api/v1", "pods"),
    "pods": ("/api/v1", "pods"),
    "pvc": ("/api/v1", "persistentvolumeclaims"),
    "serviceaccount": ("/api/v1", "serviceaccounts"),
    "services": ("/api/v1", "services"),
}

_TIMEOUT_S = 30.0
_OK = 200


def read(kubeconfig: Path, what: str, *, namespace: str = "", labels: str = "") -> Any:  # noqa: ANN401 - JSON
    """Return what `kubectl get -o json` would: an object, "infd/chat", or a list, "pods".

    Args:
        kubeconfig: Who asks whom.
        what: A kind of `_SERVED`, and perhaps a name.
        namespace: Where it is; "" for everywhere, and for what is in no namespace.
        labels: A label selector of a list.

    Raises:
        CommandFailed: The server says no, or nobody answers.
    """
    kind, _, name = what.partition("/")
    api, plural = _SERVED[kind]
    parts = [
        api,
        *(["namespaces", namespace] if namespace else []),
        plural,
        *([name] if name else []),
    ]
    query = f"?{urlencode({'labelSelector': labels})}" if labels else ""
    connection = _connection(kubeconfig)
    request = connection.param_serialize("GET", "/".join(parts), auth_settings=["BearerToken"])
    method, url, headers, *_ = request
    try:
        answer = connection.rest_client.pool_manager.request(
            method, url + query, headers=headers, timeout=_TIMEOUT_S
        )
    except HTTPError as error:
        raise CommandFailed(f"get {what}: {error}") from error
    if answer.status != _OK:
        raise CommandFailed(f"get {what}: {answer.status} {answer.data.decode(errors='replace')}")
    return json.loads(answer.data)


@cache
def _connection(kubeconfig: Path) -> client.ApiClient:
    """Return the connection that this process holds to a cluster."""
    connection: client.ApiClient = config.new_client_from_config(str(kubeconfig))
    return connection
