"""Leading: only the planner that holds the Lease publishes plans.

The client library's election ends with the process when the API server cannot be reached, waits for
answers for ever, and measures by the clock on the wall. This one stops planning, and goes on when
it has the Lease again. Who holds it stops well before others count it as lapsed.
"""

import copy
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan_extender.kube import FAILURES, brief

_log = structlog.get_logger()

#: Seconds a lease counts without renewal, renewing may fail, and pass between two tries.
DURATION_S: Final = 15.0
DEADLINE_S: Final = 10.0
RETRY_S: Final = 2.0

#: Most seconds between two tries while nobody answers.
_MOST_RETRY_S: Final = 8.0

#: Seconds to wait for an answer: the last try to renew must end before the lease does.
_ANSWER_S: Final = 1.0

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409


class Lease:
    """The planner's Lease, as one of those who want it sees it."""

    def __init__(
        self,
        leases: client.CoordinationV1Api,
        namespace: str,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self._leases = leases
        self._namespace = namespace
        self._clock = clock
        self._seen: tuple[object, ...] = ()
        self._seen_at = 0.0

    def hold(self) -> bool:
        """Take or renew it; return whether it is ours now.

        Another one's has lapsed when it has not changed for as long as it counts, by our clock:
        what clocks elsewhere say does not matter.

        Raises:
            Exception: One of `kube.FAILURES`.
        """
        try:
            return self._hold()
        except ApiException as error:
            if error.status != _CONFLICT:
                raise
            return self._hold()  # somebody wrote it at the same moment; perhaps it is theirs now

    def _hold(self) -> bool:
        found = self._read()
        if found is None:
            self._create()
            return True
        spec = found.spec or client.V1LeaseSpec()
        ours = spec.holder_identity == self.identity
        seen = (spec.holder_identity, spec.renew_time)
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        counts_s = spec.lease_duration_seconds or DURATION_S
        if spec.holder_identity and not ours and self._clock() - self._seen_at < counts_s:
            return False
        found.spec = self._spec(spec.acquire_time if ours else None)
        self._leases.replace_namespaced_lease(
            names.PLANNER_LEASE, self._namespace, found, _request_timeout=_ANSWER_S
        )
        return True

    def _read(self) -> Any:  # noqa: ANN401 - the library's Lease
        try:
            return self._leases.read_namespaced_lease(
                names.PLANNER_LEASE, self._namespace, _request_timeout=_ANSWER_S
            )
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    def _create(self) -> None:
        body = client.V1Lease(
            metadata=client.V1ObjectMeta(name=names.PLANNER_LEASE),
            spec=self._spec(None),
        )
        self._leases.create_namespaced_lease(self._namespace, body, _request_timeout=_ANSWER_S)

    def _spec(self, since: datetime | None) -> client.V1LeaseSpec:
        now = datetime.now(UTC)
        # As text: the library leaves out microseconds where there are none, which is refused.
        acquired: Any = _stamp(since or now)
        renewed: Any = _stamp(now)
        return client.V1LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=int(DURATION_S),
            acquire_time=acquired,
            renew_time=renewed,
        )


def lead(
    api: client.ApiClient, namespace: str, work: Callable[[], None], stop: Callable[[], None]
) -> None:
    """Have `work` done, in a thread, whenever the lease is ours; `stop` makes it end.

    Returns when `work` has ended by itself: then it has failed, and the process should end and be
    started anew.
    """
    configuration = copy.deepcopy(api.configuration)
    configuration.retries = False  # each would wait for an answer once more
    leases = client.CoordinationV1Api(client.ApiClient(configuration))
    lease = Lease(leases, namespace, os.environ.get("POD_NAME") or socket.gethostname())
    while _serve(lease, work, stop):
        pass


def _serve(lease: Lease, work: Callable[[], None], stop: Callable[[], None]) -> bool:
    """Lead once; return whether it ended because the lease was lost."""
    renewed_at = _await(lease)
    _log.info("leading", identity=lease.identity, lease=names.PLANNER_LEASE)
    worker = threading.Thread(target=_logged, args=(work,), name="planning", daemon=True)
    worker.start()
    why = _keep(lease, worker, renewed_at)
    if why is None:
        _log.error("leadership_lost", identity=lease.identity, error="planning has ended")
        return False
    _log.error("leadership_lost", identity=lease.identity, error=why, action="tries again")
    stop()
    worker.join()
    return True


def _await(lease: Lease) -> float:
    """Wait until the lease is ours; return when it was asked for."""
    pause_s = RETRY_S
    while True:
        asked_at = time.monotonic()
        try:
            if lease.hold():
                return asked_at
            pause_s = RETRY_S
        except FAILURES as error:
            if pause_s == RETRY_S:  # once for each time that it is away
                _log.warning("lease_not_reached", identity=lease.identity, error=brief(error))
            pause_s = min(_MOST_RETRY_S, 2 * pause_s)
        time.sleep(pause_s)  # nothing tells that another's lease has lapsed


def _keep(lease: Lease, worker: threading.Thread, renewed_at: float) -> str | None:
    """Renew the lease while the worker works; return why it is lost, None if it ended first."""
    error = ""
    while True:
        worker.join(RETRY_S)
        if not worker.is_alive():
            return None
        asked_at = time.monotonic()
        if asked_at - renewed_at >= DEADLINE_S:  # no more tries: the last might end too late
            return f"not renewed for {asked_at - renewed_at:.0f} s: {error}"
        try:
            if not lease.hold():
                return "another planner has it"
            renewed_at = asked_at
        except FAILURES as unanswered:
            error = brief(unanswered)


def _logged(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:  # noqa: BLE001 - whatever it is, planning has ended, and so does the lead
        _log.exception("planning_failed")


def _stamp(instant: datetime) -> str:
    """Return an instant as the API server wants it."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
