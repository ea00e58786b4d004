"""The webhook and the unmodified kube-scheduler: what each makes of the other."""

import json
import os
import signal
import ssl
import urllib.request
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import yaml

from e2e import extender_scene
from e2e.cluster import Cluster, eventually
from e2e.cluster.certificates import Authority
from e2e.extender_scene import binds, create, node_of, release
from e2e.stack import NAMESPACE, READY_S, Stack, install, tls_folder

nodes = extender_scene.nodes

#: What runs here: no operator, so that a pod stays as the test made it.
PROGRAMS = ("webhook", "scheduler")

#: Binding through us as well, which takes TLS, and less patient than the 5 s of the chart, for
#: somebody who hangs; but not so that one who is slow on a busy machine is taken for one.
VALUES = ("webhook.bind=true", "scheduler.extender.httpTimeout=3s")

Object = dict[str, Any]


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Return who makes the certificates of webhook and scheduler."""
    return Authority()


@pytest.fixture(scope="module")
def installed(cluster: Cluster, nodes: Sequence[str], authority: Authority) -> Iterator[Stack]:
    """Run the webhook and the scheduler for all tests of this file."""
    assert nodes
    if cluster.flavor != "local":
        pytest.skip("stops processes, which are pods elsewhere")
    with install(cluster, programs=PROGRAMS, values=VALUES, tls=authority) as running:
        yield running


@pytest.fixture
def stack(installed: Stack, namespace: str) -> Iterator[Stack]:
    """Have the webhook there, and take the pods away in the end."""
    if not installed.processes["webhook"].alive:
        installed.start("webhook")
    await_ready(installed)
    yield installed
    arguments = ("-n", namespace, "--grace-period=0", "--force")
    installed.cluster.kubectl_run("delete", "pods", "--all", *arguments)


def test_pods_are_bound_through_every_verb_that_is_asked(
    stack: Stack, cluster: Cluster, namespace: str
) -> None:
    """The wire format is as somebody read it: only a real scheduler can say that it is right."""
    bound, filtered = calls(stack, "bind"), calls(stack, "filter")

    binds(cluster, namespace, "a")

    # A binding is counted a moment after it is there to be seen.
    eventually(lambda: calls(stack, "bind") == bound + 1, what="the binding is counted")
    assert calls(stack, "filter") == filtered + 1
    assert "gpu-" in node_of(cluster, namespace, "a")


def test_certificates_that_are_renewed_are_used(
    stack: Stack, cluster: Cluster, authority: Authority, namespace: str
) -> None:
    """A scheduler that cannot ask skips us in silence: pods would be bound without our answer."""
    filtered = calls(stack, "filter")
    binds(cluster, namespace, "a")

    authority.issue("bayplan-webhook", tls_folder(cluster, "webhook"))
    stack.stop("scheduler")  # its connections are kept alive: only a new one sees the files
    stack.start("scheduler")
    binds(cluster, namespace, "b")

    assert "certificate_renewed" in stack.log("webhook")
    assert calls(stack, "filter") == filtered + 2


def test_a_webhook_that_is_away_stops_nobody(
    stack: Stack, cluster: Cluster, namespace: str
) -> None:
    """Fail open: refused connections skip the filter, and the scheduler binds by itself."""
    stack.kill("webhook")

    binds(cluster, namespace, "a")

    stack.start("webhook")
    await_ready(stack)
    binds(cluster, namespace, "b")
    assert calls(stack, "filter") == 1


def test_a_webhook_that_hangs_stops_nobody(stack: Stack, cluster: Cluster, namespace: str) -> None:
    """Fail open: after the timeout of filter, and that of bind, the scheduler goes on alone."""
    binds(cluster, namespace, "before")  # then they are connected, if that was quick
    pid = stack.processes["webhook"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        binds(cluster, namespace, "a")
    finally:
        os.kill(pid, signal.SIGCONT)

    await_ready(stack)
    asked = calls(stack, "filter")
    binds(cluster, namespace, "b")
    eventually(lambda: calls(stack, "filter") > asked, what="it is asked again")


def test_binding_again_is_a_success_and_binding_elsewhere_is_none(
    stack: Stack, cluster: Cluster, nodes: Sequence[str], namespace: str
) -> None:
    """The scheduler repeats a bind whose reply was lost."""
    create(cluster, namespace, "a", schedulerName="nobody")
    uid = cluster.read("pod/a", namespace=namespace)["metadata"]["uid"]
    asked = {"PodName": "a", "PodNamespace": namespace, "PodUID": uid, "Node": nodes[0]}

    assert post(stack, "bind", asked) == {"Error": ""}
    assert node_of(cluster, namespace, "a") == nodes[0]
    assert post(stack, "bind", asked) == {"Error": ""}
    assert "409" in post(stack, "bind", asked | {"Node": nodes[1]})["Error"]
    assert "409" in post(stack, "bind", asked | {"PodUID": "another"})["Error"]
    assert "404" in post(stack, "bind", asked | {"PodName": "b"})["Error"]


def test_nobody_is_preempted_behind_the_planners_back(
    stack: Stack, cluster: Cluster, nodes: Sequence[str], namespace: str
) -> None:
    """With the webhook, whom to evict is for plans to say; without it, the scheduler decides."""
    asked = calls(stack, "preempt")
    make_priority(cluster, "urgent")
    small = [f"small-{i}" for i in range(2 * len(nodes))]
    for name in small:
        binds(cluster, namespace, name, gpus=4)
    create(cluster, namespace, "big", gpus=8, priorityClassName="urgent")
    release(cluster, namespace, "big")

    eventually(lambda: calls(stack, "preempt") > asked, what="the webhook is asked about victims")
    assert len(running(cluster, namespace)) == len(small)

    stack.stop("webhook")
    # A pod that was refused for lack of room is tried again when some becomes free.
    cluster.kubectl_run("delete", "pod", small[0], "-n", namespace, "--wait=false")
    eventually(lambda: node_of(cluster, namespace, "big"), what="the scheduler made room by itself")
    assert len(running(cluster, namespace)) == len(small) - 2 + 1


def calls(stack: Stack, verb: str) -> int:
    """Return how often the webhook was asked."""
    url = f"{stack.health['webhook']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - our own, on loopback
        text = reply.read().decode()
    count = f'bayplan_extender_request_duration_seconds_count{{verb="{verb}"}} '
    counted = [line.split()[1] for line in text.splitlines() if line.startswith(count)]
    return int(float(counted[0])) if counted else 0


def post(stack: Stack, verb: str, body: Object) -> Object:
    """Ask the webhook as the scheduler does: where it does, and with its certificate."""
    path = "jsonpath={.data.config\\.yaml}"
    told = stack.cluster.kubectl_run("get", "cm", "bayplan-scheduler", "-n", NAMESPACE, "-o", path)
    (extender,) = yaml.safe_load(told)["extenders"]
    files = tls_folder(stack.cluster, "scheduler")
    context = ssl.create_default_context(cafile=str(files / "ca.crt"))
    context.load_cert_chain(files / "tls.crt", files / "tls.key")
    request = urllib.request.Request(f"{extender['urlPrefix']}/{verb}", json.dumps(body).encode())  # noqa: S310 - our own, on loopback
    with urllib.request.urlopen(request, timeout=10, context=context) as reply:  # noqa: S310 - as above
        answer: Object = json.loads(reply.read())
        return answer


def make_priority(cluster: Cluster, name: str) -> None:
    """Create a PriorityClass above the default."""
    kind = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": 1000,
    }
    cluster.kubectl_run("apply", "-f", "-", input=json.dumps(kind))


def running(cluster: Cluster, namespace: str) -> list[str]:
    """Return the names of the pods that have a node and are not on their way out."""
    raw = cluster.read("pods", namespace=namespace)
    return [
        pod["metadata"]["name"]
        for pod in raw["items"]
        if pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]
    ]


def await_ready(stack: Stack) -> None:
    """Wait until the webhook, which has just been started, is ready."""
    ready = partial(is_ready, stack)
    eventually(ready, what="the webhook is ready", timeout_s=READY_S, retry_on=(OSError,))


def is_ready(stack: Stack) -> bool:
    """Return whether the webhook is ready."""
    url = f"{stack.health['webhook']}/readyz"
    with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - our own, on loopback
        return bool(reply.status == 200)
