"""`kubectl bayplan` for people who may not read everything, on a real API server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bayplan.api import names
from e2e.cluster import Cluster, eventually
from e2e.command_line import Told, bayplan

pytestmark = pytest.mark.usefixtures("served")

WAITING: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "a",
        "labels": {names.LABEL_MANAGED: "true"},
        "annotations": {names.ANNOTATION_DECISION: "Outranked: needs 8 GPUs on one node"},
    },
    "spec": {
        "schedulerName": names.SCHEDULER,
        "schedulingGates": [{"name": names.GATE}],
        "containers": [{"name": "c", "image": "registry.k8s.io/pause"}],
    },
}


@pytest.fixture
def tenant(cluster: Cluster, namespace: str, tmp_path: Path) -> Callable[..., Told]:
    """Return how somebody asks who may read what is in one namespace alone."""
    token = eventually(
        lambda: cluster.kubectl_run("create", "token", "default", "-n", namespace),
        what="the namespace has its account",
    )
    account = f"--serviceaccount={namespace}:default"
    may = ("--clusterrole=view", account, "-n", namespace)
    cluster.kubectl_run("create", "rolebinding", "tenant", *may)
    settings = yaml.safe_load(cluster.kubeconfig.read_text())
    settings["users"][0]["user"] = {"token": token.strip()}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(settings))

    def ask(*arguments: str) -> Told:
        return bayplan({**cluster.env, "KUBECONFIG": str(tmp_path / "kubeconfig")}, *arguments)

    return ask


def test_who_has_rights_in_one_namespace_is_told_of_its_own_pods(
    cluster: Cluster, namespace: str, tenant: Callable[..., Told]
) -> None:
    """Plans are of no namespace, so it was refused, though its pod says why it waits."""
    cluster.kubectl_run("create", "-n", namespace, "-f", "-", input=json.dumps(WAITING))

    told = eventually(
        lambda: _answered(tenant("explain", "pod", "a", "-n", namespace)),
        what="the rights count",
    )

    assert told is not None
    assert told.stdout.splitlines()[1:] == [
        "It was told last: Outranked: needs 8 GPUs on one node."
    ]
    assert told.stderr == "PackingPlans may not be read; so only what the pod says is told\n"


def test_who_may_read_all_but_plans_is_told_what_that_means(
    cluster: Cluster, namespace: str, tenant: Callable[..., Told], tmp_path: Path
) -> None:
    """It would be told nothing, or something else than whoever may read them."""
    rights = f"{namespace}-all-but-plans"
    readable = (
        "nodes,pods,persistentvolumes,poddisruptionbudgets.policy,"
        "priorityclasses.scheduling.k8s.io,packingpolicies.bayplan.dev"
    )
    cluster.kubectl_run("create", "clusterrole", rights, "--verb=list", f"--resource={readable}")
    account = f"--serviceaccount={namespace}:default"
    cluster.kubectl_run("create", "clusterrolebinding", rights, f"--clusterrole={rights}", account)
    (tmp_path / "new.json").write_text(json.dumps(WAITING))
    try:
        told = eventually(
            lambda: _answered(tenant("plan", "-f", str(tmp_path / "new.json"))),
            what="the rights count",
        )
    finally:
        cluster.kubectl_run("delete", "clusterrole,clusterrolebinding", rights)

    assert told is not None
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("not read: ")]
    assert line.startswith("not read: packingplans.bayplan.dev is forbidden: ")
    assert line.endswith("; so pods that were refused of late are planned as if they had not been")


def _answered(told: Told) -> Told | None:
    """Return the answer; None while nothing may be read yet."""
    return None if "the API server refused (403)" in told.stderr else told
