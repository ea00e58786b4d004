"""How to reach the API server: one configuration for our own client and for kopf's watches."""

import os
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, Final

import kopf
import structlog
from kubernetes import client, config

_log = structlog.get_logger()

#: Connections kept open; as many as threads that may talk at a time.
POOL_SIZE = 34

#: Seconds between two tries while the API server does not answer, or not well; the last one goes on
#: for ever.
_PAUSES_S: Final = (0.5, 1.0, 2.0)

#: What every container of a pod has in its environment, and what else it should have.
_IN_POD: Final = "KUBERNETES_SERVICE_HOST"
_REMEDY: Final = (
    "A pod needs token and ca.crt of its service account in"
    " /var/run/secrets/kubernetes.io/serviceaccount: is automountServiceAccountToken false?"
)


def configuration() -> client.Configuration:
    """Return the cluster that KUBECONFIG names, or the one we run in, or kubectl's.

    Raises:
        kubernetes.config.ConfigException: There is none of them.
        OSError: A file of theirs cannot be read.
    """
    found = client.Configuration()
    found.connection_pool_maxsize = POOL_SIZE
    if named := os.environ.get("KUBECONFIG"):
        config.load_kube_config(named, client_configuration=found)
    else:
        _load_ours(found)
    _keep_token(found)
    return found


def pauses() -> Iterator[float]:
    """Yield the seconds between tries, without end."""
    return chain(_PAUSES_S, repeat(_PAUSES_S[-1]))


def _load_ours(found: client.Configuration) -> None:
    """Load what a pod has, or else kubectl's configuration."""
    try:
        config.load_incluster_config(client_configuration=found)
    except config.ConfigException as in_pod:
        try:
            config.load_kube_config(client_configuration=found)
        except config.ConfigException:
            if _IN_POD not in os.environ:
                raise
            raise config.ConfigException(f"{in_pod} {_REMEDY}") from in_pod


def _keep_token(found: client.Configuration) -> None:
    """Go on with the token that there is while its file cannot be read, which is renewed now."""
    read, missing = found.refresh_api_key_hook, False
    if read is None:
        return

    def refresh(configuration: client.Configuration) -> None:
        nonlocal missing
        try:
            read(configuration)
            missing = False
        except (config.ConfigException, OSError) as error:
            if not missing:
                _log.warning("token_not_read", error=str(error), action="the last one is used on")
            missing = True
        configuration.refresh_api_key_hook = refresh  # reading has put another one in its place

    found.refresh_api_key_hook = refresh


def kopf_login(found: client.Configuration) -> kopf.ConnectionInfo:
    """Return the same access for kopf, with the token as it is now.

    The client library has it as the whole header, "Bearer" in capitals or not: a pod's is not.
    """
    header = found.get_api_key_with_prefix("BearerToken") or ""
    token = header.rpartition(" ")[2]
    optional: dict[str, Any] = {
        "ca_path": found.ssl_ca_cert,
        "certificate_path": found.cert_file,
        "private_key_path": found.key_file,
    }
    return kopf.ConnectionInfo(
        server=found.host,
        insecure=not found.verify_ssl,
        scheme="Bearer" if token else None,
        token=token or None,
        **{key: value for key, value in optional.items() if value},
    )
