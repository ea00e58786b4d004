"""One planner leads, over all replicas, and another one when it dies."""

import sys
from collections.abc import Iterator

import pytest

from e2e.cluster import Cluster, Process, ProcessGroup, eventually

#: A planner without its work: says when it begins to lead, and goes on for ever.
_LEADER = """
import sys, threading
from bayplan_extender.kube import connect
from bayplan_extender.planner.lease import lead
def work():
    print("leads", flush=True)
    threading.Event().wait()
connect()
lead(sys.argv[1], work)
"""


@pytest.fixture
def group(cluster: Cluster) -> Iterator[ProcessGroup]:
    """Return where processes are started that end with the test."""
    with ProcessGroup(cluster.logs) as made:
        yield made


def leads(process: Process) -> bool:
    """Return whether a planner has begun to lead."""
    return "leads" in process.log.read_text(errors="replace")


def test_one_leads_and_the_next_takes_over_when_it_dies(
    cluster: Cluster, group: ProcessGroup, namespace: str
) -> None:
    """Two planners would publish plans that overtake each other, or none would after a crash."""
    started = {
        name: group.start(
            f"leader-{name}",
            [sys.executable, "-c", _LEADER, namespace],
            env=cluster.env | {"POD_NAME": name},
        )
        for name in ("a", "b")
    }
    eventually(lambda: any(map(leads, started.values())), what="one of them leads", timeout_s=30)
    first = next(name for name, process in started.items() if leads(process))
    second = next(name for name in started if name != first)

    started[first].kill()

    # The lease of the dead one has to lapse before it can be taken.
    eventually(lambda: leads(started[second]), what="the other one leads", timeout_s=60)
    holder = cluster.kubectl_run(
        *("get", "lease", "bayplan-planner", "-n", namespace),
        *("-o", "jsonpath={.spec.holderIdentity}"),
    )
    assert holder == second
