"""Leading: only the planner that holds the Lease publishes plans."""

import os
import socket
import threading
from collections.abc import Callable

import structlog
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from bayplan.api import names

_log = structlog.get_logger()

#: Seconds a lease counts without renewal, renewing may fail, and pass between two tries.
_DURATION_S, _DEADLINE_S, _RETRY_S = 15, 10, 2


def lead(namespace: str, work: Callable[[], None]) -> None:
    """Wait for the lease, then run `work` in a thread for as long as it is renewed.

    Returns when the lease is lost or `work` has failed: the process should end and be started
    anew.
    """
    identity = os.environ.get("POD_NAME") or socket.gethostname()
    lost = threading.Event()

    def stopped() -> None:
        lost.set()
        _log.error("leadership_lost", identity=identity)

    def started() -> None:
        _log.info("leading", identity=identity, lease=names.PLANNER_LEASE, namespace=namespace)
        work()

    config = electionconfig.Config(
        LeaseLock(names.PLANNER_LEASE, namespace, identity),
        lease_duration=_DURATION_S,
        renew_deadline=_DEADLINE_S,
        retry_period=_RETRY_S,
        onstarted_leading=started,
        onstopped_leading=stopped,
    )
    leaderelection.LeaderElection(config).run()
