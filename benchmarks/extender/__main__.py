"""Pods bound per second: no extender, an empty one, ours with planned and with free pods.

All runs are of one unmodified kube-scheduler on one local control plane, one after the other, on
the same empty fake nodes with the same pods. Planned pods are pinned, and a PackingPlan gives them
their homes; free pods are neither. The rate of no extender is that of free pods. Every extender is
asked for the verbs `filter` and `preempt` alone, as the chart configures it. Reply times are those
that a client on loopback sees, calling one after the other.

    python -m benchmarks.extender --nodes 1000 --pods 2000 --json
"""

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from benchmarks.extender.run import (
    NAMESPACE,
    SIZES,
    Rate,
    make_pods,
    measure,
    plan_document,
    remove_pods,
)
from e2e.cluster import (
    Cluster,
    ProcessGroup,
    add_gpu_nodes,
    eventually,
    lease_port,
    open_cluster,
)
from e2e.cluster.nodes import GPU
from e2e.stack import Stack, install

#: Most actions of one plan object.
_MOST_PLANNED: Final = 2000

#: Calls of each verb whose reply is timed.
_CALLS: Final = 1000


def main() -> int:
    """Run the benchmark and print its result."""
    options = _options()
    with open_cluster() as cluster:
        if cluster.flavor != "local":
            raise SystemExit("this benchmark needs the local control plane: it starts schedulers")
        cluster.kubectl_run("create", "namespace", NAMESPACE)
        listed = [f"gpu-{i:05d}" for i in range(options.nodes)]
        nodes = add_gpu_nodes(cluster, names=listed, timeout_s=300.0)
        with install(cluster, programs=("webhook",)) as stack, ProcessGroup(cluster.logs) as group:
            result = _result(_runs(cluster, stack, group, nodes, options.pods))
            result["latency"] = _latency(_url(cluster), nodes)
    result = {"nodes": options.nodes, "pods": options.pods, **result}
    print(json.dumps(result) if options.json else yaml.safe_dump(result, sort_keys=False))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args()
    most = min(options.nodes * len(SIZES), _MOST_PLANNED)
    if not 20 <= options.pods <= most:
        parser.error(f"--pods must be between 20 and {most} for {options.nodes} nodes")
    return options


def _runs(
    cluster: Cluster, stack: Stack, group: ProcessGroup, nodes: Sequence[str], count: int
) -> dict[str, Rate]:
    """Return the rate of each run, by name."""
    webhook = {"webhook": stack.processes["webhook"]}
    port = lease_port()
    command = ["-m", "benchmarks.extender.empty", "--port", str(port.number)]
    empty = group.start("empty-extender", [sys.executable, *command])
    eventually(lambda: _answers(port.number), what="the empty extender listens")
    empty_url = f"http://127.0.0.1:{port.number}"
    runs: dict[str, Rate] = {}
    for name, url, programs, pinned in (
        ("none", "", {}, False),
        ("empty_planned", empty_url, {"extender": empty}, True),
        ("empty_free", empty_url, {"extender": empty}, False),
        ("planned", _url(cluster), webhook, True),
        ("free", _url(cluster), webhook, False),
    ):
        make_pods(cluster, nodes, count, pinned=pinned)
        if name == "planned":
            document = json.dumps(plan_document(cluster, nodes, count))
            cluster.kubectl_run("create", "-f", "-", input=document)
        runs[name] = measure(cluster, count, url=url, programs=programs)
        remove_pods(cluster)
        cluster.kubectl_run("delete", "packingplans", "--all")
    port.release()
    return runs


def _result(runs: dict[str, Rate]) -> dict[str, Any]:
    base = runs["none"].pods_per_s
    return {
        "pods_per_s": {name: rate.pods_per_s for name, rate in runs.items()},
        "ratio_planned": round(runs["planned"].pods_per_s / base, 2),
        "ratio_free": round(runs["free"].pods_per_s / base, 2),
        "ratio_empty_planned": round(runs["empty_planned"].pods_per_s / base, 2),
        "ratio_empty_free": round(runs["empty_free"].pods_per_s / base, 2),
        "cpu_ms_per_pod": {name: dict(rate.cpu_ms) for name, rate in runs.items()},
    }


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


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False


if __name__ == "__main__":
    raise SystemExit(main())
