"""The operator on a real API server: how fast it makes pods, and what it costs to keep them.

Many InferenceDeployments are created at once; it is measured when the last of their gated pods is
there, how long a pass over one deployment takes, and how much memory the operator has, alone and
beside many foreign pods. Before that the same pods are made from plain Deployments by the built-in
controllers, which are written in Go and may send as many requests as they like here
(`--kube-api-qps=2000`). No planner and no scheduler take part: pods are made, not placed.

    python -m benchmarks.operator --json
    python -m benchmarks.operator --deployments 20 --foreign 1000 --json

Needs the local control plane (`make e2e` builds it).
"""

import argparse
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from kubernetes import client, config
from prometheus_client.parser import text_string_to_metric_families

from bayplan.api import names
from bayplan_operator.cluster.kube import Kube, Raw
from e2e.cluster import Cluster, eventually, open_cluster
from e2e.stack import Stack, install

#: Pods of one deployment: two units of one prefill and four decode pods.
UNITS: Final = 2
DECODE: Final = 4
PODS: Final = UNITS * (1 + DECODE)

#: Requests that the benchmark itself sends at a time.
_PARALLEL: Final = 8

#: Seconds for which the operator may take its time.
_TIMEOUT_S: Final = 900.0

_KIND: Final = "/apis/apps/v1"
_OURS: Final = f"/apis/{names.API_VERSION}"


def measured(cluster: Cluster, *, deployments: int, foreign: int, soak_s: float) -> dict[str, Any]:
    """Return the figures of one run."""
    api = client.ApiClient(config.new_client_from_config(str(cluster.kubeconfig)).configuration)
    kube = Kube(api)
    plain_s = _plain(kube, deployments)
    with install(
        cluster, programs=("operator",), values=["policy.gateTimeoutSeconds=86400"]
    ) as stack:
        idle = _rss_mib(stack)
        ours_s = _ours(kube, deployments)
        alone = _memory(stack, soak_s)
        _come_and_go(kube, foreign)
        beside = _memory(stack, soak_s)
        passes = _passes(stack)
    return {
        "benchmark": "operator",
        "deployments": deployments,
        "pods": deployments * PODS,
        "foreign_pods": foreign,
        "apply_to_created_s": round(ours_s, 2),
        "plain_deployments_s": round(plain_s, 2),
        "ratio_to_deployments": round(plain_s / ours_s, 2),
        "reconcile_p50_ms": round(passes[0] * 1000, 1),
        "reconcile_p99_ms": round(passes[1] * 1000, 1),
        "passes": passes[2],
        "rss_mib_idle": idle,
        "rss_mib": alone[-1],
        "rss_mib_most": max(alone),
        "rss_mib_with_foreign": beside[0],
        "rss_mib_with_foreign_most": max(beside),
        "rss_mib_growth": round(beside[-1] - alone[0], 1),
        "soak_s": soak_s,
    }


def _ours(kube: Kube, deployments: int) -> float:
    """Return the seconds until every gated pod is there."""
    pools = [
        {"role": role, "template": {"spec": {"containers": [_container()]}}}
        for role in ("Prefill", "Decode")
    ]
    ratio = {"prefill": 1, "decode": DECODE}
    made = (
        {
            "apiVersion": names.API_VERSION,
            "kind": "InferenceDeployment",
            "metadata": {"name": f"d-{number}", "namespace": "bench"},
            "spec": {"replicas": UNITS, "ratio": ratio, "pools": pools},
        }
        for number in range(deployments)
    )
    path = f"{_OURS}/namespaces/bench/inferencedeployments"
    return _seconds_to(kube, path, made, namespace="bench", pods=deployments * PODS)


def _plain(kube: Kube, deployments: int) -> float:
    """Return the seconds in which the built-in controllers make the same pods."""
    made = (
        _deployment(f"d-{number}-{role}", replicas)
        for number in range(deployments)
        for role, replicas in (("prefill", UNITS), ("decode", UNITS * DECODE))
    )
    for namespace in ("plain", "bench", "foreign"):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        kube.create("/api/v1/namespaces", body)
        account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        eventually(lambda at=account: kube.get(at), what="the service account is there")  # type: ignore[misc] # bound here
    path = f"{_KIND}/namespaces/plain/deployments"
    seconds = _seconds_to(kube, path, made, namespace="plain", pods=deployments * PODS)
    raw = kube.get("/api/v1/namespaces/plain") or {}
    kube.delete("/api/v1/namespaces/plain", uid=raw["metadata"]["uid"])
    eventually(lambda: not _count(kube, "plain"), what="pods are gone", timeout_s=_TIMEOUT_S)
    return seconds


def _seconds_to(kube: Kube, path: str, made: Iterable[Raw], *, namespace: str, pods: int) -> float:
    started_at = time.monotonic()
    _each(lambda body: kube.create(path, body), made)
    eventually(
        lambda: _count(kube, namespace) >= pods,
        what=f"{pods} pods are made",
        timeout_s=_TIMEOUT_S,
        interval_s=0.1,
    )
    return time.monotonic() - started_at


def _come_and_go(kube: Kube, count: int) -> None:
    """Have so many pods that are not ours come; half of them go again."""
    path = "/api/v1/namespaces/foreign/pods"
    spec = {"schedulerName": "somebody-else", "containers": [_container()]}
    pods = (
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"f-{n}"}, "spec": spec}
        for n in range(count)
    )
    made: list[tuple[str, str]] = []

    def create(body: Raw) -> None:
        metadata = kube.create(path, body)["metadata"]
        made.append((metadata["name"], metadata["uid"]))

    _each(create, pods)
    _each(lambda pod: kube.delete(f"{path}/{pod[0]}", uid=pod[1]), made[: count // 2])


def _each(call: Callable[[Any], object], items: Iterable[Any]) -> None:
    with ThreadPoolExecutor(_PARALLEL) as pool:
        for _ in pool.map(call, items):
            pass


def _count(kube: Kube, namespace: str) -> int:
    """Return the number of pods of a namespace without reading them all."""
    answer = kube._send("GET", f"/api/v1/namespaces/{namespace}/pods", query={"limit": "1"})  # noqa: SLF001 - a count is no verb of the operator's
    return len(answer["items"]) + int(answer["metadata"].get("remainingItemCount") or 0)


def _memory(stack: Stack, soak_s: float) -> list[float]:
    """Return the memory, sampled while only the regular looks at everything happen."""
    samples = [_rss_mib(stack)]
    ends_at = time.monotonic() + soak_s
    while time.monotonic() < ends_at:
        threading.Event().wait(1.0)
        samples.append(_rss_mib(stack))
    return samples


def _rss_mib(stack: Stack) -> float:
    text = Path(f"/proc/{stack.processes['operator'].pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


def _passes(stack: Stack) -> tuple[float, float, int]:
    """Return p50 and p99 of a pass over one deployment in seconds, and how many there were."""
    with urllib.request.urlopen(f"{stack.figures['operator']}/metrics", timeout=5) as reply:  # noqa: S310 - our own, on loopback
        text = reply.read().decode()
    buckets: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            ours = sample.labels.get("kind") == "deployment"
            if ours and sample.name == "bayplan_operator_pass_duration_seconds_bucket":
                buckets[float(sample.labels["le"])] = sample.value
    return _quantile(buckets, 0.5), _quantile(buckets, 0.99), int(max(buckets.values()))


def _quantile(buckets: dict[float, float], share: float) -> float:
    """Return a quantile, taking observations as spread evenly over their bucket."""
    wanted = share * max(buckets.values())
    lower, below = 0.0, 0.0
    for upper, count in sorted(buckets.items()):
        if count >= wanted:
            return lower + (upper - lower) * (wanted - below) / max(1.0, count - below)
        lower, below = upper, count
    return lower


def _container() -> Raw:
    return {
        "name": "engine",
        "image": "registry.example/engine",
        "resources": {"limits": {"nvidia.com/gpu": 1}},
    }


def _deployment(name: str, replicas: int) -> Raw:
    labels = {"app": name}
    spec = {"schedulerName": "somebody-else", "containers": [_container()]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deployments", type=int, default=200, help="of ten pods each")
    parser.add_argument("--foreign", type=int, default=20_000, help="pods that are not ours")
    parser.add_argument("--soak", type=float, default=30.0, help="seconds of watching the memory")
    parser.add_argument("--json", action="store_true", help="print on one line")
    args = parser.parse_args()
    with open_cluster() as cluster:
        found = measured(
            cluster, deployments=args.deployments, foreign=args.foreign, soak_s=args.soak
        )
    print(json.dumps(found, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
