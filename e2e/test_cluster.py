"""The clusters themselves: what every other end-to-end test and the demo stand on."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from e2e.cluster import Cluster, Process, ProcessGroup, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.cluster.local import unavailable

#: Seconds in which a cluster is up, and gone: three waits of 120 s, and five processes of 10 s.
UP_S = 400.0
GONE_S = 60.0

needs_local = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

_DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "pairs"},
    "spec": {
        "replicas": 10,
        "selector": {"matchLabels": {"app": "pairs"}},
        "template": {
            "metadata": {"labels": {"app": "pairs"}},
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": "registry.k8s.io/pause:3.10",
                        "resources": {"limits": {"nvidia.com/gpu": 2}},
                    }
                ]
            },
        },
    },
}


def test_pods_that_ask_for_gpus_run_on_fake_gpu_nodes(cluster: Cluster, namespace: str) -> None:
    """Without this, nothing that needs a GPU could be tested on this machine."""
    count = 8 if cluster.flavor == "local" else 4
    nodes = add_gpu_nodes(cluster, names=[f"{namespace}-{index}" for index in range(count)])

    cluster.kubectl_run("apply", "-n", namespace, "-f", "-", input=json.dumps(_DEPLOYMENT))

    eventually(
        lambda: _ready_replicas(cluster, namespace) == "10",
        what="ten two-GPU pods are ready",
        timeout_s=120,
    )
    pods = json.loads(cluster.kubectl_run("get", "pods", "-n", namespace, "-o", "json"))["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} <= set(nodes)
    remove_gpu_nodes(cluster, nodes)


def test_a_pod_can_be_told_to_fail_its_readiness_probe(cluster: Cluster, namespace: str) -> None:
    """Rollouts and ratios are tested with replicas that run but do not serve."""
    if cluster.flavor != "local":
        pytest.skip("only fake nodes play a failing probe")
    nodes = add_gpu_nodes(cluster, names=[f"{namespace}-0"])
    annotation = "bayplan.dev/fake-readiness"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "sick", "annotations": {annotation: "failing"}},
        "spec": _DEPLOYMENT["spec"]["template"]["spec"],  # type: ignore[index]  # plain JSON
    }

    cluster.kubectl_run("apply", "-n", namespace, "-f", "-", input=json.dumps(pod))

    eventually(lambda: _ready(cluster, namespace, "sick") == "False", what="it runs unready")
    cluster.kubectl_run("annotate", "-n", namespace, "pod/sick", f"{annotation}-")
    eventually(lambda: _ready(cluster, namespace, "sick") == "True", what="it has become ready")
    remove_gpu_nodes(cluster, nodes)


@needs_local
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_cluster_runs_beside_another_and_ends_with_the_process_that_opened_it(
    cluster: Cluster, namespace: str, how: signal.Signals, tmp_path: Path
) -> None:
    """Test runs side by side must not meet, and one that is killed must leave nothing behind."""
    log = tmp_path / "up.log"
    command = [sys.executable, "-m", "e2e.cluster", "up"]
    parent = Process("up", command, log=log, cwd=Path(__file__).parents[1]).start()
    text = eventually(
        lambda: _containing(log, "export KUBECONFIG="), what="it is up", timeout_s=UP_S
    )
    kubeconfig = Path(text.partition("export KUBECONFIG=")[2].split()[0])
    pids = _pids_naming(kubeconfig.parent)
    assert len(pids) == 5
    assert "ready in" in text
    other = cluster.kubectl_run("--kubeconfig", str(kubeconfig), "get", "namespaces")
    assert "default" in other
    assert namespace not in other

    os.kill(parent.pid, how)

    eventually(lambda: not _alive(pids), what="all of it is gone", timeout_s=GONE_S)
    eventually(lambda: not parent.alive, what="the parent is gone", timeout_s=GONE_S)
    assert parent.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 0)
    assert kubeconfig.exists() == (how == signal.SIGKILL)
    assert (kubeconfig.parent / "logs" / "kube-apiserver.log").exists()
    assert namespace in cluster.kubectl_run("get", "namespaces")


def test_a_process_restarts_after_a_crash_and_its_group_ends_with_it(tmp_path: Path) -> None:
    """Restart tests kill our programs with -9; their children must not survive either."""
    script = "import subprocess, sys; subprocess.Popen(['sleep', '600']).wait()"
    with ProcessGroup(tmp_path) as group:
        process = group.start("parent", [sys.executable, "-c", script])
        before = eventually(lambda: _group(process.pid, size=2), what="the child is there")

        process.kill()

        eventually(lambda: not _alive(before), what="both are gone")
        assert not process.alive
        process.start()
        after = eventually(lambda: _group(process.pid, size=2), what="both are back")

    eventually(lambda: not _alive(after), what="both are gone for good")


def test_a_process_that_has_ended_by_itself_leaves_nothing_behind_when_it_is_started_again(
    tmp_path: Path,
) -> None:
    """Nobody had waited for the first one: it stayed a zombie, and Python complained later."""
    with ProcessGroup(tmp_path) as group:
        process = group.start("short", [sys.executable, "-c", "pass"])
        first = process.pid
        eventually(lambda: not process.alive, what="it has ended")

        process.start()

        assert not _alive({first})


def test_waiting_ends_with_what_was_seen_last() -> None:
    """A time-out that does not say what it saw is a riddle."""
    expected = r"pod is ready: not within 0.1 s; last seen: \[\]"
    with pytest.raises(AssertionError, match=expected):
        eventually(list, what="pod is ready", timeout_s=0.1)


def _ready_replicas(cluster: Cluster, namespace: str) -> str:
    path = "jsonpath={.status.readyReplicas}"
    return cluster.kubectl_run("get", "-n", namespace, "deployment/pairs", "-o", path)


def _ready(cluster: Cluster, namespace: str, pod: str) -> str:
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return cluster.kubectl_run("get", "-n", namespace, f"pod/{pod}", "-o", path)


def _containing(log: Path, text: str) -> str:
    content = log.read_text() if log.exists() else ""
    return content if text in content else ""


def _pids_naming(run_dir: Path) -> set[int]:
    """Ids of the processes that have the run directory in their command line."""
    return {pid for pid in _all_pids() if str(run_dir) in _proc(pid, "cmdline")}


def _group(leader: int, *, size: int) -> set[int]:
    """Ids of the members of a process group, or nothing until it has that size."""
    members = {pid for pid in _all_pids() if _group_of(pid) == leader}
    return members if len(members) == size else set()


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _alive(pids: set[int]) -> set[int]:
    """The processes of these that exist and are not zombies."""
    return {pid for pid in pids if (stat := _proc(pid, "stat")) and ") Z " not in stat}


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
