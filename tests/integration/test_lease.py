"""One planner leads, over all replicas, another one when it dies, and again after an outage."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from e2e.cluster import Cluster, Process, ProcessGroup, eventually
from e2e.cluster.ports import lease_port

#: A planner without its work: says when it begins to plan, and when it ends. Its lease lapses in
#: half the time that it has in earnest, of which more is left to whoever has to stop before.
_LEADER = """
import sys, threading
from bayplan_extender.kube import connect
from bayplan_extender.planner import lease
from bayplan_extender.planner.lease import lead
assert (lease.DURATION_S, lease.DEADLINE_S, lease.RETRY_S) == (15, 10, 2)
lease.DURATION_S, lease.DEADLINE_S, lease.RETRY_S = 7.0, 3.0, 0.5
stopped = threading.Event()
def work():
    print("plans", flush=True)
    stopped.wait()
    stopped.clear()
    print("rests", flush=True)
lead(connect(), sys.argv[1], work, stopped.set)
"""

#: Passes connections on to another port.
_FORWARDER = """
import asyncio, sys
async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def forward(reader, writer):
    there = await asyncio.open_connection(sys.argv[2], int(sys.argv[3]))
    await asyncio.gather(copy(reader, there[1]), copy(there[0], writer), return_exceptions=True)
async def main():
    await (await asyncio.start_server(forward, "127.0.0.1", int(sys.argv[1]))).serve_forever()
asyncio.run(main())
"""


@pytest.fixture
def group(cluster: Cluster) -> Iterator[ProcessGroup]:
    """Return where processes are started that end with the test."""
    with ProcessGroup(cluster.logs) as made:
        yield made


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port that nobody else takes meanwhile."""
    lease = lease_port()
    yield lease.number
    lease.release()


def start(
    group: ProcessGroup, cluster: Cluster, namespace: str, name: str, kubeconfig: Path | None = None
) -> Process:
    """Start a planner."""
    env = cluster.env | {"POD_NAME": name}
    if kubeconfig is not None:
        env |= {"KUBECONFIG": str(kubeconfig)}
    argv = [sys.executable, "-c", _LEADER, namespace]
    return group.start(f"leader-{namespace}-{name}", argv, env=env)


def said(process: Process) -> list[str]:
    """Return when a planner began and ended to plan, in order."""
    lines = process.log.read_text(errors="replace").splitlines()
    return [line for line in lines if line in {"plans", "rests"}]


def holder(cluster: Cluster, namespace: str) -> str:
    """Return who has the lease."""
    lease = cluster.read("lease/bayplan-planner", namespace=namespace)
    return str(lease["spec"]["holderIdentity"])


def test_one_leads_and_the_next_takes_over_when_it_dies(
    cluster: Cluster, group: ProcessGroup, namespace: str
) -> None:
    """Two planners would publish plans that overtake each other, or none would after a crash."""
    started = {name: start(group, cluster, namespace, name) for name in ("a", "b")}
    eventually(lambda: any(map(said, started.values())), what="one of them leads", timeout_s=30)
    first = next(name for name, process in started.items() if said(process))
    second = next(name for name in started if name != first)

    started[first].kill()

    # The lease of the dead one has to lapse before it can be taken.
    eventually(lambda: said(started[second]), what="the other one leads", timeout_s=60)
    assert holder(cluster, namespace) == second


@pytest.mark.parametrize("silent", [False, True], ids=["connections are refused", "no answer"])
def test_who_cannot_reach_the_api_server_stops_planning_and_leads_again_later(  # noqa: PLR0913
    cluster: Cluster,
    group: ProcessGroup,
    namespace: str,
    port: int,
    tmp_path: Path,
    *,
    silent: bool,
) -> None:
    """The process ended with a traceback, and who is cut off must not plan beside the next one."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    there = config["clusters"][0]["cluster"]
    url = urlsplit(there["server"])
    there["server"] = f"https://127.0.0.1:{port}"
    there["tls-server-name"] = url.hostname
    kubeconfig = tmp_path / "forwarded.kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    argv = [sys.executable, "-c", _FORWARDER, str(port), url.hostname or "", str(url.port)]
    line = group.start(f"forwarder-{namespace}", argv)
    cut_off = start(group, cluster, namespace, "cut-off", kubeconfig)
    eventually(lambda: said(cut_off) == ["plans"], what="it leads", timeout_s=30)
    other = start(group, cluster, namespace, "other")

    if silent:
        os.kill(line.pid, signal.SIGSTOP)
    else:
        line.kill()

    eventually(lambda: said(cut_off) == ["plans", "rests"], what="it stops", timeout_s=30)
    assert not said(other), "it stops before another one may begin"
    eventually(lambda: said(other) == ["plans"], what="the other one leads", timeout_s=60)
    other.kill()
    if silent:
        os.kill(line.pid, signal.SIGCONT)
    else:
        line.start()
    eventually(
        lambda: said(cut_off) == ["plans", "rests", "plans"], what="it leads again", timeout_s=60
    )
    assert holder(cluster, namespace) == "cut-off"
    log = cut_off.log.read_text(errors="replace")
    assert "Traceback" not in log
    assert log.count("leadership_lost") == 1
