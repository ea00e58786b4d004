"""How to reach the API server: one configuration for our own client and for kopf's watches."""

import os
from typing import Any

import kopf
from kubernetes import client, config

#: Connections kept open; as many as threads that may talk at a time.
POOL_SIZE = 34


def configuration() -> client.Configuration:
    """Return the cluster that KUBECONFIG names, or the one we run in, or kubectl's.

    Raises:
        kubernetes.config.ConfigException: There is none of them.
    """
    found = client.Configuration()
    found.connection_pool_maxsize = POOL_SIZE
    if named := os.environ.get("KUBECONFIG"):
        config.load_kube_config(named, client_configuration=found)
        return found
    try:
        config.load_incluster_config(client_configuration=found)
    except config.ConfigException:
        config.load_kube_config(client_configuration=found)
    return found


def kopf_login(found: client.Configuration) -> kopf.ConnectionInfo:
    """Return the same access for kopf, with the token as it is now."""
    header = found.get_api_key_with_prefix("BearerToken") or ""
    optional: dict[str, Any] = {
        "ca_path": found.ssl_ca_cert,
        "certificate_path": found.cert_file,
        "private_key_path": found.key_file,
    }
    return kopf.ConnectionInfo(
        server=found.host,
        insecure=not found.verify_ssl,
        scheme="Bearer" if header else None,
        token=header.removeprefix("Bearer ") or None,
        **{key: value for key, value in optional.items() if value},
    )
