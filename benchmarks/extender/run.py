"""One measured run: pods, a kube-scheduler, and their bindings, timed as a watch shows them.

`measure` starts the scheduler when all pods are there, so that what is measured is how fast a full
queue is emptied: the rate of the middle 90 %, so that neither the start nor the last stragglers
count. `measure_path` has the scheduler wait for the pods and counts from the first creation to the
last binding; `measure_single` has pods come one a second.
"""

import itertools
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
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from e2e.cluster import Cluster, Process, ProcessGroup, binaries, eventually
from e2e.cluster.nodes import GPU

NAMESPACE: Final = "bench"

#: The scheduler's name: not ours, so that no admission policy gates the pods.
SCHEDULER: Final = "bench"

#: GPUs of the pods that fill one 8-GPU node.
SIZES: Final = (4, 2, 1, 1)

#: Each run's pods have names of their own: a busy kwok goes on removing those of the run before by
#: their names, after they have gone.
_SERIES: Final = itertools.count()

#: Seconds in which programs that have done with their start take less than this part of a core:
#: kopf ends what it has for each object five seconds after it has read it.
_QUIET_S: Final = 6.0
_QUIET_PART: Final = 0.01

#: Digits of a pod's number in its name, after those of its series.
_DIGITS: Final = 5

_BATCH: Final = 250
_TIMEOUT_S: Final = 600.0
_NAME: Final = re.compile(rb'"name":"(pod-\d+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How fast a queue was emptied.

    Attributes:
        pods_per_s: Bindings a second over the middle 90 %.
        cpu_ms: Milliseconds of CPU per pod, by program.
    """

    pods_per_s: float
    cpu_ms: Mapping[str, float]


def make_pods(cluster: Cluster, pods: Sequence[Mapping[str, Any]]) -> None:
    """Create the pods, several at a time."""
    batches = [pods[start : start + _BATCH] for start in range(0, len(pods), _BATCH)]
    lists = [json.dumps({"apiVersion": "v1", "kind": "List", "items": batch}) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: cluster.kubectl_run("create", "-f", "-", input=text), lists))


def free_pods(count: int, scheduler: str = SCHEDULER) -> list[dict[str, Any]]:
    """Return pods that may go to any node."""
    series = next(_SERIES)
    return [_pod(_name(series, i), i, "", scheduler) for i in range(count)]


def pinned_pods(count: int) -> list[dict[str, Any]]:
    """Return pods that are pinned to nodes, and fill node after node."""
    series = next(_SERIES)
    listed = [_name(series, i) for i in range(count)]
    return [_pod(name, i, home_of(name), SCHEDULER) for i, name in enumerate(listed)]


def node_name(number: int) -> str:
    """Return the name of a node."""
    return f"gpu-{number:05d}"


def home_of(pod: str) -> str:
    """Return the node of a pinned pod: by its number, so that node after node is filled."""
    return node_name(int(pod[-_DIGITS:]) // len(SIZES))


def remove_pods(cluster: Cluster) -> None:
    """Delete all pods and wait until they have gone."""
    core = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))

    def gone() -> bool:
        core.delete_collection_namespaced_pod(NAMESPACE, grace_period_seconds=0)
        return cluster.kubectl_run("get", "pods", "-n", NAMESPACE, "-o", "name") == ""

    # The API server gives up a long collection after a minute: the next call goes on.
    eventually(
        gone,
        what="the pods have gone",
        timeout_s=_TIMEOUT_S,
        interval_s=0.5,
        retry_on=(ApiException,),
    )


def settle(programs: Mapping[str, Process]) -> None:
    """Wait until programs have done with their start: what that costs is no cost of a pod.

    The operator is ready before it has read all nodes, each of which takes it up to a millisecond.
    """
    eventually(
        lambda: max(_spent_in(programs, _QUIET_S).values()) < _QUIET_PART * _QUIET_S,
        what=f"{', '.join(programs)} have settled",
        timeout_s=_TIMEOUT_S,
    )


def measure(cluster: Cluster, count: int, *, url: str, programs: Mapping[str, Process]) -> Rate:
    """Run a scheduler until all pods are bound; `url` is that of its extender, or ""."""
    watch = _Watch(cluster, count)
    before = _cpu_of(programs)
    with ProcessGroup(cluster.logs) as group:
        watch.all_there.wait(_TIMEOUT_S)
        scheduler = _scheduler(cluster, group, SCHEDULER, url)
        bound = watch.wait(scheduler)
        spent = {**_spent(programs, before), "scheduler": _cpu_s(scheduler.pid)}
    return Rate(pods_per_s=round(_rate(bound), 1), cpu_ms=_per_pod(spent, count))


def measure_path(
    cluster: Cluster, count: int, *, name: str, url: str, programs: Mapping[str, Process]
) -> Rate:
    """Create pods for the scheduler `name`, and count until the last one is bound."""
    watch = _Watch(cluster, count)
    before = _cpu_of(programs)
    with ProcessGroup(cluster.logs) as group:
        scheduler = _ready_scheduler(cluster, group, name, url)
        started_at = time.monotonic()
        make_pods(cluster, free_pods(count, name))
        took = watch.wait(scheduler)[-1] - started_at
        spent = {**_spent(programs, before), "scheduler": _cpu_s(scheduler.pid)}
    return Rate(pods_per_s=round(count / took, 1), cpu_ms=_per_pod(spent, count))


def measure_single(cluster: Cluster, count: int, *, name: str, url: str) -> Sequence[float]:
    """Create a pod each second; return the milliseconds from each creation to its binding."""
    watch = _Watch(cluster, count)
    core = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
    created: dict[bytes, float] = {}
    with ProcessGroup(cluster.logs) as group:
        scheduler = _ready_scheduler(cluster, group, name, url)
        tick = Event()
        pod: Any  # raw: the library would have a model of it
        for pod in free_pods(count, name):
            created[pod["metadata"]["name"].encode()] = time.monotonic()
            core.create_namespaced_pod(NAMESPACE, pod)
            tick.wait(1.0)  # never set: the interval between two arrivals
        watch.wait(scheduler)
    return sorted(1000 * (watch.bound[name] - at) for name, at in created.items())


def _ready_scheduler(cluster: Cluster, group: ProcessGroup, name: str, url: str) -> Process:
    """Start a scheduler and wait until it has bound a pod."""
    scheduler = _scheduler(cluster, group, name, url)
    probe = f"probe-{next(_SERIES):0{_DIGITS}d}"
    make_pods(cluster, [_pod(probe, 0, "", name)])
    path = ("get", "pod", probe, "-n", NAMESPACE, "-o", "jsonpath={.spec.nodeName}")
    eventually(lambda: cluster.kubectl_run(*path), what="a first pod is bound", timeout_s=60.0)
    cluster.kubectl_run("delete", "pod", probe, "-n", NAMESPACE, "--grace-period=0", "--force")
    return scheduler


def _scheduler(cluster: Cluster, group: ProcessGroup, name: str, url: str) -> Process:
    arguments = ("--config", _config(cluster, name, url), "--secure-port", "0")
    return group.start("bench-scheduler", [binaries.path("kube-scheduler"), *arguments])


def _name(series: int, number: int) -> str:
    return f"pod-{series:03d}{number:0{_DIGITS}d}"


def _pod(name: str, number: int, node: str, scheduler: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "schedulerName": scheduler,
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
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _config(cluster: Cluster, name: str, url: str) -> Path:
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
        "profiles": [{"schedulerName": name}],
        "extenders": [extender] if url else [],
    }
    path = cluster.run_dir / "bench-scheduler.json"
    path.write_text(json.dumps(configuration))
    return path


class _Watch:
    """Notes when each pod is first seen with a node.

    Attributes:
        bound: The instant of each pod's binding, by name.
        all_there: Set once all pods were seen.
    """

    def __init__(self, cluster: Cluster, count: int) -> None:
        self.bound: dict[bytes, float] = {}
        self.all_there = Event()
        self._cluster = cluster
        self._count = count
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, scheduler: Process) -> list[float]:
        """Wait until all pods are bound; return when each was."""
        self._thread.join(_TIMEOUT_S)
        if len(self.bound) < self._count:
            have = f"only {len(self.bound)} of {self._count} pods were bound"
            raise RuntimeError(f"{have}; {scheduler.tail()}")
        return sorted(self.bound.values())

    def _run(self) -> None:
        seen = set[bytes]()
        for line in _lines(self._cluster):
            at = time.monotonic()
            named = _NAME.search(line)
            if named is None:
                continue
            seen.add(named[1])
            if len(seen) == self._count:
                self.all_there.set()
            if named[1] not in self.bound and b'"nodeName":"' in line:
                self.bound[named[1]] = at
                if len(self.bound) == self._count:
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


def _cpu_of(programs: Mapping[str, Process]) -> dict[str, float]:
    return {name: _cpu_s(process.pid) for name, process in programs.items()}


def _spent(programs: Mapping[str, Process], before: Mapping[str, float]) -> dict[str, float]:
    return {name: seconds - before[name] for name, seconds in _cpu_of(programs).items()}


def _spent_in(programs: Mapping[str, Process], seconds: float) -> dict[str, float]:
    """Return the seconds of CPU that programs take in the next `seconds`."""
    before = _cpu_of(programs)
    Event().wait(seconds)  # never set
    return _spent(programs, before)


def _per_pod(spent: Mapping[str, float], count: int) -> dict[str, float]:
    return {name: round(1000 * seconds / count, 2) for name, seconds in spent.items()}


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plan_document(cluster: Cluster, count: int) -> dict[str, Any]:
    """Return a PackingPlan that gives the pods the homes that they are pinned to."""
    listed = json.loads(cluster.kubectl_run("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
    pods = [(pod["metadata"]["name"], pod["metadata"]["uid"]) for pod in listed]
    actions = [
        {
            "type": "Bind",
            "pod": {"namespace": NAMESPACE, "name": name, "uid": uid},
            "node": home_of(name),
        }
        for name, uid in pods
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
