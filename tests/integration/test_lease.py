"""One planner leads, over all replicas, another one when it dies, and again after an outage."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from bayplan_extender.planner.lease import DURATION_S, LEAD_S, RETRY_S
from e2e.cluster import Cluster, Process, ProcessGroup, eventually
from e2e.cluster.ports import lease_port

#: A planner without its work: says when it begins to plan, and when it ends, by the clock that all
#: processes of a machine share. Its lease lapses in a part of the time that it has in earnest.
_LEADER = """
import sys, threading, time
from bayplan_extender.kube import connect
from bayplan_extender.planner import lease
from bayplan_extender.planner.lease import lead, lease_of
part = float(sys.argv[2])
lease.DURATION_S, lease.LEAD_S, lease.RETRY_S = (
    part * lease.DURATION_S, part * lease.LEAD_S, part * lease.RETRY_S
)
stopped = threading.Event()
def work():
    print("plans", time.monotonic(), flush=True)
    stopped.wait()
    stopped.clear()
    print("rests", time.monotonic(), flush=True)
lead(lease_of(connect(), sys.argv[1]), work, stopped.set)
"""

#: The part of its time that a lease has here, where nothing else is said: who is cut off has to
#: stop 1.5 s before the other one may begin.
HALF = 0.5

#: How late answers are that a planner has to live with, in seconds: half of what is promised, a
#: third of `LEAD_S`. A renewal may take half of what is left, 5 of 10 s; 3 are for the machine.
LATE_S = LEAD_S / 6

#: Passes connections on to another port; what comes back is as many seconds late as is said.
_FORWARDER = """
import asyncio, sys
late_s = float(sys.argv[4])
async def copy(reader, write, close, late_s):
    loop = asyncio.get_running_loop()
    while data := await reader.read(65536):
        loop.call_later(late_s, write, data)
    loop.call_later(late_s, close)
async def forward(reader, writer):
    answers, there = await asyncio.open_connection(sys.argv[2], int(sys.argv[3]))
    await asyncio.gather(
        copy(reader, there.write, there.close, 0.0),
        copy(answers, writer.write, writer.close, late_s),
        return_exceptions=True,
    )
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


def start(  # noqa: PLR0913 - what a planner has to know
    group: ProcessGroup,
    cluster: Cluster,
    namespace: str,
    name: str,
    kubeconfig: Path | None = None,
    *,
    part: float = HALF,
) -> Process:
    """Start a planner whose lease has this part of its time."""
    env = cluster.env | {"POD_NAME": name}
    if kubeconfig is not None:
        env |= {"KUBECONFIG": str(kubeconfig)}
    argv = [sys.executable, "-c", _LEADER, namespace, str(part)]
    return group.start(f"leader-{namespace}-{name}", argv, env=env)


def through(port: int, cluster: Cluster, folder: Path) -> Path:
    """Return a kubeconfig that goes through a port of this machine."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    there = config["clusters"][0]["cluster"]
    there["tls-server-name"] = urlsplit(there["server"]).hostname
    there["server"] = f"https://127.0.0.1:{port}"
    kubeconfig = folder / "forwarded.kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    return kubeconfig


def forwarder(group: ProcessGroup, cluster: Cluster, port: int, *, late_s: float = 0) -> Process:
    """Start who passes on what comes to that port."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    url = urlsplit(config["clusters"][0]["cluster"]["server"])
    there = (str(port), url.hostname or "", str(url.port), str(late_s))
    return group.start(f"forwarder-{port}", [sys.executable, "-c", _FORWARDER, *there])


def said(process: Process) -> list[str]:
    """Return that a planner began and ended to plan, in order."""
    return [word for word, _ in _told(process)]


def said_at(process: Process) -> list[float]:
    """Return when it did, in seconds by the clock of the machine."""
    return [float(at) for _, at in _told(process)]


def _told(process: Process) -> list[tuple[str, str]]:
    lines = process.log.read_text(errors="replace").splitlines(keepends=True)
    told = [tuple(line.split()) for line in lines if line.endswith("\n")]
    return [(line[0], line[1]) for line in told if line and line[0] in {"plans", "rests"}]


def holder(cluster: Cluster, namespace: str) -> str:
    """Return who has the lease."""
    lease = cluster.read("lease/bayplan-planner", namespace=namespace)
    return str(lease["spec"]["holderIdentity"])


def test_one_leads_and_the_next_takes_over_when_it_dies(
    cluster: Cluster, group: ProcessGroup, namespace: str
) -> None:
    """Two planners would publish plans that overtake each other, or none would after a crash."""
    started = {name: start(group, cluster, namespace, name) for name in ("a", "b")}
    eventually(lambda: any(map(said, started.values())), what="one of them leads")
    first = next(name for name, process in started.items() if said(process))
    second = next(name for name in started if name != first)

    started[first].kill()

    # The lease of the dead one has to lapse before it can be taken.
    eventually(lambda: said(started[second]), what="the other one leads")
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
    kubeconfig, line = through(port, cluster, tmp_path), forwarder(group, cluster, port)
    cut_off = start(group, cluster, namespace, "cut-off", kubeconfig)
    eventually(lambda: said(cut_off) == ["plans"], what="it leads")
    other = start(group, cluster, namespace, "other")

    if silent:
        os.kill(line.pid, signal.SIGSTOP)
    else:
        line.kill()

    eventually(lambda: said(cut_off) == ["plans", "rests"], what="it stops")
    eventually(lambda: said(other) == ["plans"], what="the other one leads")
    assert said_at(cut_off)[-1] < said_at(other)[0], "it stops before another one may begin"
    other.kill()
    if silent:
        os.kill(line.pid, signal.SIGCONT)
    else:
        line.start()
    eventually(lambda: said(cut_off) == ["plans", "rests", "plans"], what="it leads again")
    assert holder(cluster, namespace) == "cut-off"
    log = cut_off.log.read_text(errors="replace")
    assert "Traceback" not in log
    assert log.count("leadership_lost") == 1


def test_an_api_server_that_takes_seconds_to_answer_lets_somebody_lead(
    cluster: Cluster, group: ProcessGroup, namespace: str, port: int, tmp_path: Path
) -> None:
    """With more than one for each write nobody led, and all gates were lifted without a plan."""
    kubeconfig = through(port, cluster, tmp_path)
    forwarder(group, cluster, port, late_s=LATE_S)
    slow = start(group, cluster, namespace, "slow", kubeconfig, part=1.0)
    eventually(lambda: said(slow), what="it leads")
    other = start(group, cluster, namespace, "other", part=1.0)

    # Longer than a lease counts that is not renewed.
    enough_s = DURATION_S + RETRY_S
    eventually(lambda: held_s(cluster, namespace) > enough_s, what="it leads on")

    assert (said(slow), said(other)) == (["plans"], [])


def held_s(cluster: Cluster, namespace: str) -> float:
    """Return for how long the lease was held by whoever has it, when that was said last."""
    spec = cluster.read("lease/bayplan-planner", namespace=namespace)["spec"]
    since, last = (datetime.fromisoformat(spec[name]) for name in ("acquireTime", "renewTime"))
    return (last - since).total_seconds()
