"""Removing the chart from a real API server."""

from e2e.cluster import Cluster, eventually
from e2e.stack import NAMESPACE, install

#: Every kind that the chart makes.
KINDS = (
    "deployments,services,configmaps,serviceaccounts,poddisruptionbudgets,roles,rolebindings,"
    "clusterroles,clusterrolebindings,mutatingadmissionpolicies,mutatingadmissionpolicybindings"
)


def test_uninstalling_leaves_nothing_behind(cluster: Cluster) -> None:
    """An admission policy or a role that stays would haunt the next installation."""
    eventually(lambda: not namespaces(cluster), what="an earlier installation's namespace is gone")

    with install(cluster, programs=()):
        assert ours(cluster)

    eventually(lambda: not ours(cluster), what="everything of ours is gone")


def ours(cluster: Cluster) -> list[str]:
    """Return what the chart has made and is still there."""
    label = "app.kubernetes.io/part-of=bayplan"
    return cluster.kubectl_run("get", KINDS, "-A", "-l", label, "-o", "name").split()


def namespaces(cluster: Cluster) -> list[str]:
    """Return the namespace that we install into, if it is there."""
    return cluster.kubectl_run(
        "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"
    ).split()
