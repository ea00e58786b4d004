"""`make demo`: Bayplan's main job on a real control plane, told in five steps.

First the default scheduler alone gets the scattered cluster and the request, then Bayplan does.
Everything printed comes from kubectl. With `--once` it cleans up at the end, else it stays until
Ctrl-C so that one can look around.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bayplan.api.names import ANNOTATION_REPLACES as REPLACES
from e2e import story
from e2e.cluster import Cluster, ClusterError, binaries, eventually, open_cluster
from e2e.stack import Stack, install

#: Seconds that the default scheduler gets to do what it can (it needs about two).
_FAIR_CHANCE_S = 20.0

_ALONE, _WITH = "default-alone", "default"


class Stage:
    """Prints the story: headings, commands as typed, and what they answer."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()

    def heading(self, text: str) -> None:
        """Print a step's title with the seconds since the start."""
        bold, plain = ("\033[1m", "\033[0m") if _colours() else ("", "")
        seconds = time.monotonic() - self._started_at
        print(f"\n{bold}== {text}{plain}  [{seconds:.0f} s]", flush=True)

    def say(self, text: str) -> None:
        """Print a sentence."""
        print(text, flush=True)

    def progress(self, text: str) -> None:
        """Print what is being waited for."""
        print(f"   … {text}", flush=True)

    def kubectl(self, cluster: Cluster, command: str) -> None:
        """Run a kubectl command as a user would, and show both."""
        print(f"\n$ kubectl {command}", flush=True)
        environment = cluster.env | {"PATH": f"{_bin()}{os.pathsep}{os.environ.get('PATH', '')}"}
        subprocess.run([cluster.kubectl, *command.split()], env=environment, check=False)


def main() -> int:
    """Tell the story; return the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="clean up and exit at the end")
    options = parser.parse_args()
    stage = Stage()
    try:
        binaries.path("helm", progress=stage.progress)  # before the story, which it would interrupt
        with _interruptible(), open_cluster(progress=stage.progress) as cluster:
            return _tell(cluster, stage, stay=not options.once)
    except KeyboardInterrupt:
        stage.say("\nstopped; everything is cleaned up")
        return 130
    except (ClusterError, AssertionError) as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 1


def _tell(cluster: Cluster, stage: Stage, *, stay: bool) -> int:
    stage.heading("1. Six 8-GPU nodes with small pods scattered over them")
    nodes = story.add_nodes(cluster)
    story.make_priority_classes(cluster)
    _default_alone(cluster, stage, nodes)
    with install(cluster, progress=stage.progress) as stack:
        _with_bayplan(stack, stage, nodes)
        if stay:
            _look_around(cluster, stage)
    stage.heading("Cleaned up")
    return 0


def _default_alone(cluster: Cluster, stage: Stage, nodes: Sequence[str]) -> None:
    cluster.kubectl_run("create", "namespace", _ALONE)
    stage.progress("small low-priority pods come to run here and there")
    story.scatter(cluster, nodes, namespace=_ALONE, scheduler="default-scheduler")
    _show_free(cluster, stage, nodes)
    stage.heading("2. What the default scheduler alone makes of the request")
    stage.say("Two prefill pods of 8 GPUs and four decode pods of 4, priority 1000: 32 GPUs.")
    before = {pod.uid for pod in story.pods(cluster, _ALONE)}
    story.apply(cluster, *story.chat_as_deployments(), namespace=_ALONE)
    eventually(lambda: len(story.chat_pods(cluster, _ALONE)) == 6, what="the pods are made")
    settled = _Settled(lambda: _placement(cluster, _ALONE))
    eventually(settled, what="the default scheduler is done", timeout_s=_FAIR_CHANCE_S)
    stage.kubectl(cluster, f"get pods -n {_ALONE} -o wide")
    _sum_up(cluster, stage, before)
    cluster.kubectl_run("delete", "namespace", _ALONE, "--wait=false")
    empty = dict.fromkeys(nodes, story.GPUS_PER_NODE)
    eventually(lambda: story.free_gpus(cluster, nodes) == empty, what="the nodes are empty again")


def _sum_up(cluster: Cluster, stage: Stage, before: set[str]) -> None:
    pods = story.pods(cluster, _ALONE)
    pending = [pod for pod in pods if not pod.node]
    evicted = len(before - {pod.uid for pod in pods})
    names = ", ".join(f"{pod.name} ({pod.gpus} GPUs)" for pod in pending) or "nobody"
    stage.say(
        f"\nEvicted with no other place in mind: {evicted}. Left pending: {names}."
        "\nIt looks at one pod at a time, and cannot move anybody."
    )


def _with_bayplan(stack: Stack, stage: Stage, nodes: Sequence[str]) -> None:
    cluster = stack.cluster
    stage.heading("3. The same cluster with Bayplan")
    stage.progress("the same small pods, now with schedulerName: bayplan in their Deployments")
    story.scatter(cluster, nodes, namespace=_WITH, scheduler="bayplan")
    _show_free(cluster, stage, nodes)
    stage.heading("4. A user applies an InferenceDeployment: ratio 1:2, two units, priority 1000")
    story.apply(cluster, story.CHAT, namespace=_WITH)
    _follow(cluster, stage)
    stage.heading("5. What kubectl shows")
    stage.kubectl(cluster, "get infd,pplan")
    stage.kubectl(cluster, "get pods -o wide")
    stage.kubectl(cluster, "get events --field-selector involvedObject.kind=InferenceDeployment")
    stage.kubectl(cluster, "get events --field-selector reason=Moved")
    stage.kubectl(cluster, "bayplan explain pod chat-0-prefill-0")
    moved = next(pod for pod in story.pods(cluster, _WITH) if REPLACES in pod.annotations)
    stage.kubectl(cluster, f"bayplan explain pod {moved.name}")


def _follow(cluster: Cluster, stage: Stage) -> None:
    """Wait until every pod of the namespace runs, telling each new word of the plan's progress."""
    told = ""

    def done() -> bool:
        nonlocal told
        told = _tell_progress(cluster, stage, told)
        pods = story.pods(cluster, _WITH)
        chat = story.chat_pods(cluster, _WITH)
        return len(chat) == 6 and all(pod.phase == "Running" for pod in pods)

    eventually(done, what="every pod of chat and every small pod runs", timeout_s=60)


def _tell_progress(cluster: Cluster, stage: Stage, told: str) -> str:
    plans = story.plans(cluster)
    if not plans:
        return told
    newest, status = plans[-1], plans[-1].get("status", {})
    text = f"{newest['metadata']['name']}: {status.get('message', 'published')}"
    if text != told and newest["spec"]["counts"]["bound"] >= 6:
        stage.progress(text)
    return text


def _show_free(cluster: Cluster, stage: Stage, nodes: Sequence[str]) -> None:
    free = story.free_gpus(cluster, nodes)
    listed = "  ".join(f"{node}: {gpus}" for node, gpus in free.items())
    stage.say(f"Free GPUs: {listed}")
    stage.say(f"{sum(free.values())} in all, at most {max(free.values())} on one node.")


def _look_around(cluster: Cluster, stage: Stage) -> None:
    stage.heading("Look around, then press Ctrl-C")
    stage.say(f"export KUBECONFIG={cluster.kubeconfig}")
    stage.say(f"export PATH={_bin()}:{cluster.kubectl.parent}:$PATH")
    stage.say("kubectl get infd,pplan; kubectl describe infd chat; kubectl get pplan -o yaml")
    stage.say("kubectl scale infd/chat --replicas=1; kubectl bayplan explain pod NAME")
    stage.say(f"logs of every program: {cluster.logs}")
    signal.pause()


class _Settled:
    """True once the same thing has been seen for two seconds."""

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._last: object = None
        self._since = time.monotonic()

    def __call__(self) -> bool:
        seen = self._look()
        if seen != self._last:
            self._last, self._since = seen, time.monotonic()
        return time.monotonic() - self._since > 2


def _placement(cluster: Cluster, namespace: str) -> tuple[tuple[str, str], ...]:
    return tuple((pod.uid, pod.node) for pod in story.pods(cluster, namespace))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM clean up as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    assert threading.current_thread() is threading.main_thread()
    signal.signal(signal.SIGTERM, interrupt)
    yield


def _bin() -> Path:
    """Return the folder of `kubectl-bayplan`, which makes `kubectl bayplan` work."""
    return Path(sys.executable).parent


def _colours() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


if __name__ == "__main__":
    sys.exit(main())
