"""One measured run: a queue of pods, a kube-scheduler that is started on it, and their bindings.

The scheduler starts when all pods are there, so that what is measured is how fast a full queue is
emptied. Bindings are timed as a watch shows them; the rate is that of the middle 90 %, so that
neither the start nor the last stragglers count.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from kubernetes import client, config

from bayplan.api import names
from e2e.cluster import Cluster, Process, ProcessGroup, binaries, eventually
from e2e.cluster.nodes import GPU

NAMESPACE: Final = "bench"

#: The scheduler's name: not ours, so that no admission policy gates the pods.
SCHEDULER: Final = "bench"

#: GPUs of the pods that fill one 8-GPU node.
SIZES: Final = (4, 2, 1, 1)

_BATCH: Final = 250
_TIMEOUT_S: Final = 600.0
_BOUND: Final = re.compile(rb'"name":"(pod-\d+)".*"nodeName":"', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How fast a queue was emptied.

    Attributes:
        pods_per_s: Bindings a second over the middle 90 %.
        cpu_ms: Milliseconds of CPU per pod, by program.
    """

    pods_per_s: float
    cpu_ms: Mapping[str, float]


def make_pods(cluster: Cluster, nodes: Sequence[str], count: int, *, pinned: bool) -> None:
    """Create the pods; pinned ones fill node after node."""
    pods = [_pod(i, nodes[i // len(SIZES)] if pinned else "") for i in range(count)]
    batches = [pods[start : start + _BATCH] for start in range(0, count, _BATCH)]
    lists = [json.dumps({"apiVersion": "v1", "kind": "List", "items": batch}) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: cluster.kubectl_run("create", "-f", "-", input=text), lists))


def remove_pods(cluster: Cluster) -> None:
    """Delete all pods and wait until they have gone."""
    arguments = ("delete", "pods", "--all", "-n", NAMESPACE, "--grace-period=0", "--force")
    cluster.kubectl_run(*arguments, "--wait=false")
    eventually(
        lambda: cluster.kubectl_run("get", "pods", "-n", NAMESPACE, "-o", "name") == "",
        what="the pods have gone",
        timeout_s=_TIMEOUT_S,
        interval_s=0.5,
    )


def measure(cluster: Cluster, count: int, *, url: str, programs: Mapping[str, Process]) -> Rate:
    """Run a scheduler until all pods are bound; `url` is that of its extender, or ""."""
    bound: dict[bytes, float] = {}
    started = Event()
    watch = Thread(target=_note, args=(cluster, bound, count, started), daemon=True)
    before = {name: _cpu_s(process.pid) for name, process in programs.items()}
    with ProcessGroup(cluster.logs) as group:
        watch.start()
        started.wait(_TIMEOUT_S)
        arguments = ("--config", _config(cluster, url), "--secure-port", "0")
        scheduler = group.start("bench-scheduler", [binaries.path("kube-scheduler"), *arguments])
        watch.join(_TIMEOUT_S)
        spent = {name: _cpu_s(process.pid) - before[name] for name, process in programs.items()}
        spent["scheduler"] = _cpu_s(scheduler.pid)
        if len(bound) < count:
            raise RuntimeError(f"only {len(bound)} of {count} pods were bound; {scheduler.tail()}")
    return Rate(
        pods_per_s=round(_rate(sorted(bound.values())), 1),
        cpu_ms={name: round(1000 * seconds / count, 2) for name, seconds in spent.items()},
    )


def _pod(number: int, node: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "schedulerName": SCHEDULER,
        "containers": [
            {
                "name": "engine",
                "image": "registry.example/engine",
                "resources": {"limits": {GPU: str(SIZES[number % len(SIZES)])}},
            }
        ],
    }
    if node:
        pin = {"key": "metadata.name", "operator": "In", "values": [node]}
        required = {"nodeSelectorTerms": [{"matchFields": [pin]}]}
        spec["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
        }
    metadata = {"name": f"pod-{number:05d}", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _config(cluster: Cluster, url: str) -> Path:
    extender = {
        "urlPrefix": url,
        "filterVerb": "filter",
        "preemptVerb": "preempt",
        "nodeCacheCapable": True,
        "ignorable": False,
        "httpTimeout": "5s",
        "managedResources": [{"name": GPU, "ignoredByScheduler": False}],
    }
    configuration = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(cluster.kubeconfig), "qps": 5000, "burst": 5000},
        "leaderElection": {"leaderElect": False},
        "profiles": [{"schedulerName": SCHEDULER}],
        "extenders": [extender] if url else [],
    }
    path = cluster.run_dir / "bench-scheduler.json"
    path.write_text(json.dumps(configuration))
    return path


def _note(cluster: Cluster, bound: dict[bytes, float], count: int, started: Event) -> None:
    """Note when each pod is first seen with a node; `started` is set once all were seen without."""
    for seen, line in enumerate(_lines(cluster), start=1):
        at = time.monotonic()
        if seen == count:
            started.set()
        found = _BOUND.search(line)
        if found and found[1] not in bound:
            bound[found[1]] = at
            if len(bound) == count:
                return


def _lines(cluster: Cluster) -> Iterator[bytes]:
    """Return the events of the namespace's pods, raw: decoding them would cost what we measure.

    A watch that ends is begun anew, with everything there is.
    """
    api = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
    while True:
        stream: Any = api.list_namespaced_pod(NAMESPACE, watch=True, _preload_content=False)
        rest = b""
        for chunk in stream.stream(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines


def _rate(instants: Sequence[float]) -> float:
    first, last = len(instants) // 20, len(instants) - 1 - len(instants) // 20
    return (last - first) / (instants[last] - instants[first])


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plan_document(cluster: Cluster, nodes: Sequence[str], count: int) -> dict[str, Any]:
    """Return a PackingPlan that gives the pods the homes that they are pinned to."""
    listed = json.loads(cluster.kubectl_run("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
    uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in listed}
    actions = [
        {
            "type": "Bind",
            "pod": {"namespace": NAMESPACE, "name": f"pod-{i:05d}", "uid": uids[f"pod-{i:05d}"]},
            "node": nodes[i // len(SIZES)],
        }
        for i in range(count)
    ]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "PackingPlan",
        "metadata": {"name": "plan-00001"},
        "spec": {
            "sequence": 1,
            "order": "PlaceFirst",
            "inputDigest": "bench",
            "engine": "bench",
            "verdict": "Optimal",
            "counts": {"bound": count},
            "gap": 0,
            "solveSeconds": 0,
            "display": {"gap": "0.00%", "solve": "0.00s"},
            "stages": [],
            "actions": actions,
        },
    }
