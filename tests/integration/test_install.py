"""The chart on a real API server, without pods: everything that is not a program."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bayplan.api import names
from e2e.cluster import Cluster, CommandFailed, eventually
from e2e.stack import NAMESPACE, Stack, install

Object = dict[str, Any]

GATE = {"name": names.GATE}
OTHER_GATE = {"name": "example.com/other"}


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Stack]:
    """Install the chart with no replicas; leaving removes it."""
    with install(cluster, programs=()) as stack:
        yield stack


def made(cluster: Cluster, metadata: Object, spec: Object) -> Object:
    """Return what the API server makes of a pod, without keeping it."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": "default", **metadata},
        "spec": {"containers": [{"name": "probe", "image": "probe"}], **spec},
    }
    arguments = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    answer: Object = json.loads(cluster.kubectl_run(*arguments, input=json.dumps(pod)))
    return answer


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("metadata", "spec", "gates"),
    [
        ({}, {}, [GATE]),
        ({}, {"schedulingGates": [GATE]}, [GATE]),
        ({"labels": {names.LABEL_MANAGED: "true"}}, {}, [GATE]),
        ({"labels": {"app": "x"}}, {"schedulingGates": [OTHER_GATE]}, [OTHER_GATE, GATE]),
    ],
    ids=["a plain pod", "a pod with the gate", "a pod with the label", "a pod with others"],
)
def test_pods_that_ask_for_us_get_gate_and_label(
    cluster: Cluster, metadata: Object, spec: Object, gates: list[Object]
) -> None:
    """A pod with one of them only would be bound without a plan, or never be seen."""
    pod = made(cluster, metadata, {"schedulerName": names.SCHEDULER, **spec})

    assert sorted(pod["spec"]["schedulingGates"], key=str) == sorted(gates, key=str)
    labels = {names.LABEL_MANAGED: "true"} | metadata.get("labels", {})
    assert pod["metadata"]["labels"] == labels


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "spec",
    [{}, {"schedulerName": "other"}, {"schedulerName": names.SCHEDULER, "nodeName": "n1"}],
    ids=["the default scheduler", "another scheduler", "a pod that has a node"],
)
def test_other_pods_are_left_alone(cluster: Cluster, spec: Object) -> None:
    """Nobody who has not asked for us may notice us."""
    pod = made(cluster, {}, spec)

    assert "schedulingGates" not in pod["spec"]
    assert names.LABEL_MANAGED not in pod["metadata"].get("labels", {})


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("program", "verb", "resource", "allowed"),
    [
        ("operator", "patch", "inferencedeployments.bayplan.dev/status", True),
        ("operator", "update", "inferencedeployments.bayplan.dev/finalizers", True),
        ("operator", "create", "pods/eviction", True),
        ("operator", "get", "secrets", False),
        ("operator", "create", "packingplans.bayplan.dev", False),
        ("planner", "create", "packingplans.bayplan.dev", True),
        ("planner", "delete", "pods", False),
        ("planner", "get", "secrets", False),
        ("webhook", "watch", "packingplans.bayplan.dev", True),
        ("webhook", "create", "packingplans.bayplan.dev", False),
        ("webhook", "patch", "pods", False),
        ("scheduler", "create", "pods/binding", True),
    ],
)
def test_a_program_may_what_it_needs_and_no_more(
    cluster: Cluster, program: str, verb: str, resource: str, *, allowed: bool
) -> None:
    """The roles as the API server understands them."""
    kind, _, part = resource.partition("/")
    what = (kind, f"--subresource={part}") if part else (kind,)
    account = f"--as=system:serviceaccount:{NAMESPACE}:bayplan-{program}"

    def answer() -> bool:
        try:
            return cluster.kubectl_run("auth", "can-i", verb, *what, account) == "yes\n"
        except CommandFailed:  # kubectl says no by its exit code
            return False

    # The authorizer learns of new roles within a moment.
    eventually(lambda: answer() is allowed, what=f"{program} may {verb} {resource}: {allowed}")


@pytest.mark.usefixtures("installed")
def test_users_find_our_kinds_in_the_clusters_own_roles(cluster: Cluster) -> None:
    """Who may edit in a namespace may edit our objects there without another role."""

    def edits() -> bool:
        role = json.loads(cluster.kubectl_run("get", "clusterrole", "edit", "-o", "json"))
        named = [rule.get("resources", ()) for rule in role["rules"]]
        return any("inferencedeployments" in resources for resources in named)

    eventually(edits, what="the role edit holds our kinds")


@pytest.mark.usefixtures("installed")
def test_the_policy_is_there(cluster: Cluster) -> None:
    """`kubectl get ppolicy` answers from the first moment on."""
    assert cluster.kubectl_run("get", "ppolicy", "-o", "name").split() == [
        "packingpolicy.bayplan.dev/default"
    ]
