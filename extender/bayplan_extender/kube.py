"""The connection to the API server, from a kubeconfig or from inside a pod."""

from kubernetes import client, config


def connect() -> client.ApiClient:
    """Return a client for the cluster that KUBECONFIG, or the pod we run in, points to.

    Raises:
        kubernetes.config.ConfigException: There is neither.
    """
    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config()
    return client.ApiClient()
