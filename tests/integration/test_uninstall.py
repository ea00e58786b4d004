"""Removing the chart from a real API server."""

import json
import subprocess

from bayplan.api import names
from charts.generate import ROOT
from e2e.cluster import Cluster, eventually
from e2e.stack import NAMESPACE, install

#: Every kind that the chart makes.
KINDS = (
    "deployments,services,configmaps,serviceaccounts,poddisruptionbudgets,roles,rolebindings,"
    "clusterroles,clusterrolebindings,mutatingadmissionpolicies,mutatingadmissionpolicybindings"
)


def test_uninstalling_leaves_nothing_behind(cluster: Cluster) -> None:
    """An admission policy or a role that stays would haunt the next installation."""
    eventually(
        lambda: not namespaces(cluster),
        what="an earlier installation's namespace is gone",
        timeout_s=90,
    )

    with install(cluster, programs=()):
        assert ours(cluster)

    eventually(lambda: not ours(cluster), what="everything of ours is gone")


def test_the_command_of_the_guide_lifts_our_gates_alone(cluster: Cluster, namespace: str) -> None:
    """A pod behind a gate that nobody knows any more waits for ever."""
    guide = (ROOT / "docs" / "guides" / "upgrade-and-uninstall.md").read_text()
    command = guide.partition("```bash\n")[2].partition("```")[0]
    for name, gates in {"a": [names.GATE], "b": [names.GATE, "their/gate"], "c": ["x/y"]}.items():
        spec = {
            "schedulingGates": [{"name": gate} for gate in gates],
            "containers": [{"name": "c", "image": "probe"}],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        cluster.kubectl_run("create", "-n", namespace, "-f", "-", input=json.dumps(pod))

    path = f"{cluster.kubectl.parent}:{cluster.env['PATH']}"
    subprocess.run(["bash", "-ec", command], env=cluster.env | {"PATH": path}, check=True)  # noqa: S607 - our own guide

    raw = json.loads(cluster.kubectl_run("get", "pods", "-n", namespace, "-o", "json"))
    left = {
        pod["metadata"]["name"]: [gate["name"] for gate in pod["spec"].get("schedulingGates", ())]
        for pod in raw["items"]
    }
    assert left == {"a": [], "b": ["their/gate"], "c": ["x/y"]}


def ours(cluster: Cluster) -> list[str]:
    """Return what the chart has made and is still there."""
    label = "app.kubernetes.io/part-of=bayplan"
    return cluster.kubectl_run("get", KINDS, "-A", "-l", label, "-o", "name").split()


def namespaces(cluster: Cluster) -> list[str]:
    """Return the namespace that we install into, if it is there."""
    return cluster.kubectl_run(
        "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"
    ).split()
