"""`python -m bayplan_extender planner`: the process that makes plans."""

import argparse
import os
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from bayplan_extender import health, logs
from bayplan_extender.kube import connect
from bayplan_extender.listening import listen
from bayplan_extender.planner.lease import lead, lease_of
from bayplan_extender.planner.loop import Loop
from bayplan_extender.planner.publisher import Publisher
from bayplan_extender.planner.recorder import Recorder
from bayplan_extender.sinks import reflectors
from bayplan_extender.view import View


def main(arguments: Sequence[str]) -> int:
    """Plan whenever we lead, until stopped; 1 when planning has failed."""
    parser = argparse.ArgumentParser(prog="bayplan_extender planner", description=__doc__)
    parser.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE", "bayplan-system"),
        help="namespace of the Lease (default: POD_NAMESPACE, else bayplan-system)",
    )
    parser.add_argument("--health-port", type=int, default=8082, help="port of /healthz, …")
    options = parser.parse_args(arguments)
    logs.configure()
    api, view, registry = connect(), View(planning=True), CollectorRegistry()
    registry.register(health.Failing(view))
    recorder = Recorder()
    watches = reflectors(view, api)
    for watch in watches:
        watch.start()
    routers = [health.router(view, registry, watches), recorder.router()]
    health.serve(routers, listen("", options.health_port))
    while not view.synced:  # a leader that sees nothing would keep gates from being lifted
        view.changed.wait(1.0)
        view.changed.clear()
    lease = lease_of(api, options.namespace)
    publisher = Publisher(api, leads=lease.is_ours)
    loop = Loop(view, publisher, recorder, registry, passed=lease.passed)
    lead(lease, loop.run, loop.stop)
    return 1
