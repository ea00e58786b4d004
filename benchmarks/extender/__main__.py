"""Pods bound per second: no extender, an empty one, ours with planned and with free pods.

All runs are of one unmodified kube-scheduler on one local control plane, one after the other, on
the same empty fake nodes with the same pods. Only the programs that a run is about are running.

    none                no extender, free pods
    empty_planned/free  an extender that agrees with whatever it is asked
    planned             pods that are pinned, with a PackingPlan that gives them their homes
    free                pods that are neither
    path_none, path     from the first creation to the last binding: without an extender, and
                        through admission, gate, planner, operator and webhook
    path_bare           the same through admission and gate, with a loop instead of ours that pins
                        each pod to a node by its number, and the extender that agrees

One run takes seconds, and its rate varies by a quarter. So all runs are made once a round, each
ratio is of two runs of one round, and what is reported is the median of the rounds, and the lowest
and the highest.

Every extender is asked for the verbs `filter` and `preempt` alone, as the chart configures it.
Reply times are those that a client on loopback sees, calling one after the other;
`created_to_bound_ms` is of single pods arriving one a second.

    python -m benchmarks.extender --nodes 1000 --pods 1000 --json
"""

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from bayplan.api import names
from benchmarks.extender.run import (
    NAMESPACE,
    SCHEDULER,
    SIZES,
    Rate,
    free_pods,
    make_pods,
    measure,
    measure_path,
    measure_single,
    node_name,
    pinned_pods,
    plan_document,
    remove_pods,
    settle,
)
from e2e.cluster import (
    Cluster,
    Process,
    ProcessGroup,
    add_gpu_nodes,
    eventually,
    lease_port,
)
from e2e.cluster.local import open_local
from e2e.cluster.nodes import GPU
from e2e.cluster.progress import to_stderr
from e2e.stack import Stack, install

#: Most actions of one plan object.
_MOST_PLANNED: Final = 2000

#: Programs of ours that runs are about; the schedulers are started by the runs.
_PROGRAMS: Final = ("webhook", "planner", "operator")

#: Most single pods.
_SINGLES: Final = 60

#: Heartbeats a second of all nodes together: what 1,000 kubelets send. Every one is a write.
_MOST_HEARTBEATS: Final = 100

#: Seconds until all nodes are ready: 5,000 take a few minutes of a busy machine.
_NODES_TIMEOUT_S: Final = 900.0

#: The ratios, and the two runs that each is of.
_RATIOS: Final = {
    "planned": ("planned", "none"),
    "free": ("free", "none"),
    "whole_path": ("path", "path_none"),
    "bare_path": ("path_bare", "path_none"),
    "empty_planned": ("empty_planned", "none"),
    "empty_free": ("empty_free", "none"),
}

#: Calls of each verb whose reply is timed.
_CALLS: Final = 1000


def main() -> int:
    """Run the benchmark and print its result."""
    options = _options()
    heartbeat_s = max(10, options.nodes // _MOST_HEARTBEATS)
    with open_local(heartbeat_s=heartbeat_s) as cluster:
        cluster.kubectl_run("create", "namespace", NAMESPACE)
        listed = [node_name(i) for i in range(options.nodes)]
        to_stderr(f"making {options.nodes} nodes")
        nodes = add_gpu_nodes(cluster, names=listed, timeout_s=_NODES_TIMEOUT_S)
        with install(cluster, programs=_PROGRAMS) as stack, ProcessGroup(cluster.logs) as group:
            bench = _Bench(stack, group, options.pods)
            result = _result([bench.round() for _ in range(options.rounds)])
            result["verbs"] = _latency(bench.url, nodes)
            result["created_to_bound_ms"] = bench.singles()
    sizes = {"nodes": options.nodes, "pods": options.pods, "rounds": options.rounds}
    result = {**sizes, **result}
    print(json.dumps(result) if options.json else yaml.safe_dump(result, sort_keys=False))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args()
    # On nodes that are nearly full some pods would have to wait for others, for ever.
    most = min(options.nodes * len(SIZES) // 2, _MOST_PLANNED)
    if not 20 <= options.pods <= most:
        parser.error(f"--pods must be between 20 and {most} for {options.nodes} nodes")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


class _Bench:
    """The runs, one after the other, on one cluster.

    Attributes:
        url: Where the webhook listens.
    """

    def __init__(self, stack: Stack, group: ProcessGroup, count: int) -> None:
        self.url = _url(stack.cluster)
        self._cluster = stack.cluster
        self._stack = stack
        self._group = group
        self._count = count

    def round(self) -> dict[str, Rate]:
        """Return the rate of each run, by name; all programs run afterwards."""
        for program in _PROGRAMS:
            self._stack.stop(program)
        runs = {"none": self._queue(pinned=False), **self._empty()}
        self._start("webhook")
        runs["planned"] = self._queue(pinned=True, url=self.url, planned=True)
        runs["free"] = self._queue(pinned=False, url=self.url)
        self._stack.stop("webhook")
        runs["path_none"] = self._path(SCHEDULER, "")
        self._start(*_PROGRAMS)
        runs["path"] = self._path(names.SCHEDULER, self.url)
        return runs

    def singles(self) -> dict[str, dict[str, float]]:
        """Return p50 and p99 of single pods, without an extender and all the way through ours."""
        result: dict[str, dict[str, float]] = {}
        for run, name, url in (("none", SCHEDULER, ""), ("ours", names.SCHEDULER, self.url)):
            times = measure_single(self._cluster, min(self._count, _SINGLES), name=name, url=url)
            marks = statistics.quantiles(times, n=100, method="inclusive")
            result[run] = {"p50": round(marks[49], 1), "p99": round(marks[98], 1)}
            remove_pods(self._cluster)
        return result

    def _empty(self) -> dict[str, Rate]:
        """Return the rates beside an extender that does nothing, and a loop that only pins."""
        port = lease_port()
        command = ["-m", "benchmarks.extender.empty", "--port", str(port.number)]
        empty = self._group.start("empty-extender", [sys.executable, *command])
        eventually(lambda: _answers(port.number), what="the empty extender listens")
        url = f"http://127.0.0.1:{port.number}"
        runs = {
            "empty_planned": self._queue(pinned=True, url=url, extra={"extender": empty}),
            "empty_free": self._queue(pinned=False, url=url, extra={"extender": empty}),
        }
        files = ["--kubeconfig", str(self._cluster.kubeconfig)]
        pins = self._group.start("bare", [sys.executable, "-m", "benchmarks.extender.bare", *files])
        extra = {"extender": empty, "bare": pins}
        runs["path_bare"] = self._path(names.SCHEDULER, url, extra=extra)
        pins.stop()
        empty.stop()
        port.release()
        return runs

    def _queue(
        self,
        *,
        pinned: bool,
        url: str = "",
        planned: bool = False,
        extra: Mapping[str, Process] = MappingProxyType({}),
    ) -> Rate:
        """Return how fast a full queue is emptied."""
        cluster, count = self._cluster, self._count
        make_pods(cluster, pinned_pods(count) if pinned else free_pods(count))
        if planned:
            document = json.dumps(plan_document(cluster, count))
            cluster.kubectl_run("create", "-f", "-", input=document)
        return self._told(measure(cluster, count, url=url, programs={**self._running(), **extra}))

    def _path(
        self, name: str, url: str, *, extra: Mapping[str, Process] = MappingProxyType({})
    ) -> Rate:
        """Return how fast pods come from their creation to their nodes."""
        running = {**self._running(), **extra}
        return self._told(
            measure_path(self._cluster, self._count, name=name, url=url, programs=running)
        )

    def _told(self, rate: Rate) -> Rate:
        """Return the rate of a run, and clear away what it was about."""
        to_stderr(f"{rate.pods_per_s} pods/s with {', '.join(rate.cpu_ms)}")
        remove_pods(self._cluster)
        self._cluster.kubectl_run("delete", "packingplans", "--all")
        return rate

    def _running(self) -> dict[str, Process]:
        """Return all programs whose CPU counts: ours, and those of the control plane."""
        programs = {**self._stack.processes, **self._cluster.components}
        return {name: process for name, process in programs.items() if process.alive}

    def _start(self, *programs: str) -> None:
        for program in programs:
            self._stack.start(program)
        for program in programs:
            port = urlsplit(self._stack.health[program]).port
            path = "/healthz" if program == "operator" else "/readyz"
            eventually(
                partial(_answers, port, path),
                what=f"the {program} is ready",
                timeout_s=60.0,
            )
        settle({program: self._stack.processes[program] for program in programs})


def _result(rounds: Sequence[Mapping[str, Rate]]) -> dict[str, Any]:
    rates = {run: [each[run].pods_per_s for each in rounds] for run in rounds[0]}
    result: dict[str, Any] = {
        "pods_per_s": {run: round(statistics.median(values), 1) for run, values in rates.items()}
    }
    for name, (run, base) in _RATIOS.items():
        ratios = [a / b for a, b in zip(rates[run], rates[base], strict=True)]
        result[f"ratio_{name}"] = round(statistics.median(ratios), 2)
        result[f"range_{name}"] = [round(min(ratios), 2), round(max(ratios), 2)]
    result["cpu_ms_per_pod"] = {
        run: {
            program: round(statistics.median(each[run].cpu_ms[program] for each in rounds), 2)
            for program in rounds[0][run].cpu_ms
        }
        for run in rounds[0]
    }
    return result


def _latency(url: str, nodes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return p50_ms and p99_ms of each verb for a pod that may go to any node."""
    container = {"name": "c", "resources": {"limits": {GPU: "1"}}}
    metadata = {"name": "probe", "namespace": NAMESPACE, "uid": "uid-probe"}
    pod = {"metadata": metadata, "spec": {"containers": [container]}, "status": {}}
    victims = {name: {"Pods": [{"UID": "uid"}], "NumPDBViolations": 0} for name in nodes[:100]}
    asked = {"Pod": pod, "Nodes": None, "NodeNames": list(nodes)}
    bodies = {
        "filter": asked,
        "filter_pinned": asked | {"NodeNames": [nodes[0]]},
        "prioritize": asked,
        "preempt": {"Pod": pod, "NodeNameToMetaVictims": victims},
    }
    return {verb: _timed(url, verb, json.dumps(body)) for verb, body in bodies.items()}


def _timed(url: str, verb: str, body: str) -> dict[str, float]:
    connection = http.client.HTTPConnection(str(urlsplit(url).netloc))
    times = []
    for _ in range(_CALLS):
        started_at = time.perf_counter()
        connection.request("POST", f"/{verb.partition('_')[0]}", body)
        connection.getresponse().read()
        times.append(1000 * (time.perf_counter() - started_at))
    connection.close()
    marks = statistics.quantiles(times, n=100)
    return {"p50_ms": round(marks[49], 3), "p99_ms": round(marks[98], 3)}


def _url(cluster: Cluster) -> str:
    """Return where the webhook listens, as the chart tells the scheduler."""
    path = "jsonpath={.data.config\\.yaml}"
    arguments = ("get", "configmap", "bayplan-scheduler", "-n", "bayplan-system", "-o", path)
    url: str = yaml.safe_load(cluster.kubectl_run(*arguments))["extenders"][0]["urlPrefix"]
    return url


def _answers(port: int | None, path: str = "/") -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False


if __name__ == "__main__":
    raise SystemExit(main())
