"""The connection to the API server, from a kubeconfig or from inside a pod."""

import copy
import json
import os
from typing import Final

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

#: How a call fails: refused, or not answered, be it that our own token cannot be read just now.
FAILURES: Final = (
    ApiException,
    urllib3.exceptions.HTTPError,
    OSError,
    config.ConfigException,
)

#: What every container of a pod has in its environment, and what else it should have.
_IN_POD: Final = "KUBERNETES_SERVICE_HOST"
_REMEDY: Final = (
    "A pod needs token and ca.crt of its service account in"
    " /var/run/secrets/kubernetes.io/serviceaccount: is automountServiceAccountToken false?"
)

#: Longest text of a failure in a log.
_MAX_TEXT: Final = 300


def connect() -> client.ApiClient:
    """Return a client for the cluster that KUBECONFIG names, or the one we run in, or kubectl's.

    The operator goes by the same order (`bayplan_operator.cluster.connection`).

    Raises:
        kubernetes.config.ConfigException: There is none of them.
    """
    if named := os.environ.get("KUBECONFIG"):
        config.load_kube_config(named)
    else:
        _load_ours()
    return client.ApiClient()


def _load_ours() -> None:
    """Load what a pod has, or else kubectl's configuration."""
    try:
        config.load_incluster_config()
    except config.ConfigException as in_pod:
        try:
            config.load_kube_config()
        except config.ConfigException:
            if _IN_POD not in os.environ:
                raise
            raise config.ConfigException(f"{in_pod} {_REMEDY}") from in_pod


def unretried(api: client.ApiClient) -> client.ApiClient:
    """Return a client for the same cluster whose calls are made once, not again when they fail."""
    configuration = copy.deepcopy(api.configuration)
    configuration.retries = False
    return client.ApiClient(configuration)


def is_away(error: Exception) -> bool:
    """Return whether a call reached nobody: then it is no burden to anybody to ask again."""
    why = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
    return isinstance(
        why, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError
    )


def brief(error: Exception) -> str:
    """Return why a call failed, on one short line."""
    text = f"{error.status} {_reason(error)}" if isinstance(error, ApiException) else str(error)
    return " ".join(text.split())[:_MAX_TEXT]


def _reason(error: ApiException) -> str:
    """Return what the API server says itself, else what HTTP calls it."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):  # no body, no JSON, or none with a message
        return str(error.reason)
