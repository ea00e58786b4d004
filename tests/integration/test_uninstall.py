"""Removing the chart from a real API server, and installing it over what is left."""

import json
import subprocess

import pytest
import yaml

from bayplan.api import names
from charts.generate import CHART, ROOT
from e2e.cluster import Cluster, CommandFailed, eventually
from e2e.stack import NAMESPACE, install

GUIDE = (ROOT / "docs" / "guides" / "upgrade-and-uninstall.md").read_text()

#: Every kind that the chart makes.
KINDS = (
    "deployments,services,configmaps,serviceaccounts,poddisruptionbudgets,roles,rolebindings,"
    "clusterroles,clusterrolebindings,mutatingadmissionpolicies,mutatingadmissionpolicybindings"
)


def test_uninstalling_leaves_nothing_behind(cluster: Cluster) -> None:
    """An admission policy or a role that stays would haunt the next installation."""
    wait_until_gone(cluster)

    with install(cluster, programs=()):
        assert ours(cluster)

    eventually(lambda: not ours(cluster), what="everything of ours is gone")


def test_the_command_of_the_guide_makes_way_for_an_installation(cluster: Cluster) -> None:
    """Helm refuses to install over definitions of another version that kubectl has applied."""
    wait_until_gone(cluster)
    definition = yaml.safe_load((CHART / "crds" / "packingpolicies.bayplan.dev.yaml").read_text())
    version = definition["spec"]["versions"][0]
    version["schema"]["openAPIV3Schema"]["description"] = "What another version says."
    by_kubectl = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    cluster.kubectl_run(*by_kubectl, input=json.dumps(definition))

    with pytest.raises(CommandFailed, match="conflict"), install(cluster, programs=()):
        pass
    type_in(cluster, GUIDE.partition("```\n")[2].partition("\n")[0])
    with install(cluster, programs=()):
        assert ours(cluster)


def test_the_command_of_the_guide_lifts_our_gates_alone(cluster: Cluster, namespace: str) -> None:
    """A pod behind a gate that nobody knows any more waits for ever."""
    for name, gates in {"a": [names.GATE], "b": [names.GATE, "their/gate"], "c": ["x/y"]}.items():
        spec = {
            "schedulingGates": [{"name": gate} for gate in gates],
            "containers": [{"name": "c", "image": "probe"}],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        cluster.kubectl_run("create", "-n", namespace, "-f", "-", input=json.dumps(pod))

    type_in(cluster, GUIDE.partition("```bash\n")[2].partition("```")[0])

    raw = json.loads(cluster.kubectl_run("get", "pods", "-n", namespace, "-o", "json"))
    left = {
        pod["metadata"]["name"]: [gate["name"] for gate in pod["spec"].get("schedulingGates", ())]
        for pod in raw["items"]
    }
    assert left == {"a": [], "b": ["their/gate"], "c": ["x/y"]}


def type_in(cluster: Cluster, command: str) -> None:
    """Run a command of the guide as whoever reads it would, in the clone."""
    path = f"{cluster.kubectl.parent}:{cluster.env['PATH']}"
    environment = cluster.env | {"PATH": path}
    subprocess.run(["bash", "-ec", command], env=environment, cwd=ROOT, check=True)  # noqa: S607 - our own guide


def wait_until_gone(cluster: Cluster) -> None:
    """Wait until nothing is left of an earlier installation."""
    eventually(
        lambda: not namespaces(cluster),
        what="an earlier installation's namespace is gone",
        timeout_s=90,
    )


def ours(cluster: Cluster) -> list[str]:
    """Return what the chart has made and is still there."""
    label = "app.kubernetes.io/part-of=bayplan"
    return cluster.kubectl_run("get", KINDS, "-A", "-l", label, "-o", "name").split()


def namespaces(cluster: Cluster) -> list[str]:
    """Return the namespace that we install into, if it is there."""
    return cluster.kubectl_run(
        "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"
    ).split()
