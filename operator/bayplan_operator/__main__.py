"""`python -m bayplan_operator`: put the operator together and run it until it is told to stop."""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import kopf
import structlog
from kubernetes import client
from kubernetes.config import ConfigException

from bayplan_operator import logs
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.connection import POOL_SIZE, configuration
from bayplan_operator.cluster.events import Events
from bayplan_operator.cluster.kube import Kube
from bayplan_operator.cluster.nodes import Nodes
from bayplan_operator.deployments.reconciler import Deployments
from bayplan_operator.dispatcher import Dispatcher, Workers
from bayplan_operator.gates import Gates
from bayplan_operator.handlers import registry_for, settings
from bayplan_operator.health import serve_health, serve_metrics
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.execution import Execution
from bayplan_operator.plans.memory import Plans

_log = structlog.get_logger()

#: Threads that look at keys, and those that watch pods, watch nodes and write events; the other
#: connections are for parallel calls.
_THREADS = 8
_BESIDES = 3

#: Seconds for kopf to say why it ends when something else has ended.
_LAST_WORDS_S = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the operator; return the exit code: 2 when it cannot know where the API server is."""
    options = _options(argv)
    logs.configure()
    try:
        access = configuration()
    except (ConfigException, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    metrics = Metrics()
    serve_metrics(options.metrics_port, metrics.registry)
    workers = _workers(access, metrics, namespace=options.namespace)
    _log.info("operator_started", server=access.host, namespace=options.namespace)
    asyncio.run(_run(Dispatcher(workers), access, health_port=options.health_port))
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bayplan_operator", description=__doc__)
    parser.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE") or "bayplan-system",
        help="where the planner's lease is: the release's namespace (default: $POD_NAMESPACE)",
    )
    parser.add_argument("--health-port", type=int, default=8081, help="serves /healthz and /readyz")
    parser.add_argument("--metrics-port", type=int, default=9090, help="serves /metrics")
    return parser.parse_args(argv)


def _workers(access: client.Configuration, metrics: Metrics, *, namespace: str) -> Workers:
    kube = Kube(client.ApiClient(access))
    pool = ThreadPoolExecutor(POOL_SIZE - _THREADS - _BESIDES, thread_name_prefix="calls")
    instance = os.environ.get("POD_NAME") or socket.gethostname()
    events = Events(kube, instance=instance, now=_now)
    plans = Plans(kube)
    nodes, claims = Nodes(kube), Claims()
    gates = Gates(kube, plans, events, metrics, namespace=namespace, pool=pool, now=_now)
    return Workers(
        kube=kube,
        deployments=Deployments(
            *(kube, plans, gates, nodes, events),
            metrics=metrics,
            claims=claims,
            pool=pool,
            now=_now,
        ),
        execution=Execution(kube, plans, events, metrics, claims=claims, pool=pool, now=_now),
        gates=gates,
        nodes=nodes,
        plans=plans,
        metrics=metrics,
        threads=ThreadPoolExecutor(_THREADS, thread_name_prefix="passes"),
    )


async def _run(dispatcher: Dispatcher, access: client.Configuration, *, health_port: int) -> None:
    """Run kopf, the queue and the probes' endpoint together; the end of one is that of all.

    Raises:
        Exception: One of them has failed; kopf does with an error in the middle of a watch.
    """
    work = asyncio.create_task(dispatcher.run(), name="queue")
    watch = asyncio.create_task(
        kopf.operator(
            registry=registry_for(dispatcher, access),
            settings=settings(),
            standalone=True,
            clusterwide=True,
        ),
        name="watches",
    )
    health = asyncio.create_task(serve_health(health_port, dispatcher.unready), name="health")
    tasks = (watch, work, health)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    # kopf cancels all tasks that began after it, ours too, before it says what it has failed by.
    await asyncio.wait({watch}, timeout=_LAST_WORDS_S)
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
