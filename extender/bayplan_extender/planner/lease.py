"""Leading: only the planner that holds the Lease publishes plans.

The client library's election ends with the process when the API server cannot be reached, waits for
answers for ever, and measures by the clock on the wall. This one stops planning, and goes on when
it has the Lease again.

A renewal counts for us from the moment it was asked for, for others from when they first see it,
which is later, and longer:

    asked for      in force       seen by another
        |----------------|----------------|
        |== LEAD_S: ours ==|              |====== DURATION_S: not theirs ======|

So we stop before anybody else may begin, however long answers take and whatever clocks elsewhere
say; only that they run equally fast, to a fifth, is taken for granted.

A leader whose passes fail is of no use to pods that wait, nor is a whole row of leaders that each
fail, or die, before one is made. So the Lease says while that is so, and whoever takes it over goes
on saying it until a pass of its own was good; the operator takes such a Lease for silent:

    takes it              a pass fails          a pass is good
        | awaited ------------> | fail ------------> | (nothing)
        | fail, if it was not even nothing before ---^
"""

import math
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
from bayplan_extender.kube import FAILURES, brief, is_away, unretried

_log = structlog.get_logger()

#: Seconds for which a renewal counts for others, for us, and between two.
DURATION_S: Final = 15.0
LEAD_S: Final = 12.0
RETRY_S: Final = 2.0

#: Most seconds between two tries while answers are bad or do not come; where nobody takes the
#: connection it is `RETRY_S`.
_MOST_RETRY_S: Final = 8.0

#: How much of the time that is left an answer may take, and the least (seconds): one that is lost
#: must leave some for more. So who answers within a third of `LEAD_S` each time, on a connection
#: that is there, is good enough.
_ANSWER_SHARE: Final = 0.5
_LEAST_ANSWER_S: Final = 0.1

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
        self._written: Any = None
        self._seen: tuple[object, ...] = ()
        self._seen_at = 0.0
        self._ours_until = -math.inf
        self._passes = names.PASSES_AWAITED

    def passed(self, *, well: bool) -> None:
        """Note how a pass ended; the next renewal says so."""
        self._passes = "" if well else names.PASSES_FAIL

    @property
    def left_s(self) -> float:
        """For how many seconds it is ours without another word; not above 0 if it is not."""
        return self._ours_until - self._clock()

    def is_ours(self) -> bool:
        """Return whether nobody else can have it yet; any thread may ask."""
        return self.left_s > 0

    def hold(self) -> bool:
        """Take or renew it; return whether that was granted, which `is_ours` tells the end of.

        Another one's has lapsed when it has not changed for as long as it counts, by our clock:
        what clocks elsewhere say does not matter.

        Raises:
            Exception: One of `kube.FAILURES`; what we held before goes on to count.
        """
        try:
            return self._renew() if self._written is not None else self._take()
        except ApiException as error:
            self._written = None
            if error.status != _CONFLICT:
                raise
            return self._take()  # somebody wrote it at the same moment; perhaps it is theirs now
        except FAILURES:
            self._written = None  # it may have been written, and then it is another version
            raise

    def _renew(self) -> bool:
        """Write it once more; nobody has since, or the API server refuses."""
        self._write(self._written, since=self._written.spec.acquire_time)
        return True

    def _take(self) -> bool:
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
        if spec.holder_identity and not ours:
            self._ours_until = -math.inf
            if self._clock() - self._seen_at < counts_s:
                return False
        if not self.is_ours():  # our name may be on it from before a restart
            said = (found.metadata.annotations or {}).get(names.ANNOTATION_PASSES)
            self._passes = names.PASSES_FAIL if said else names.PASSES_AWAITED
        self._write(found, since=spec.acquire_time if ours else None)
        return True

    def _read(self) -> Any:  # noqa: ANN401 - the library's Lease
        # While it is not ours nothing is lost by waiting, and the first answer comes late: the
        # connection has to be made before, with answers of its own.
        answer_s = self._answer_s() if self.is_ours() else LEAD_S
        try:
            return self._leases.read_namespaced_lease(
                names.PLANNER_LEASE, self._namespace, _request_timeout=answer_s
            )
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    def _create(self) -> None:
        asked_at = self._clock()
        self._passes = names.PASSES_AWAITED
        said = {names.ANNOTATION_PASSES: self._passes}
        body = client.V1Lease(
            metadata=client.V1ObjectMeta(name=names.PLANNER_LEASE, annotations=said),
            spec=self._spec(None),
        )
        self._written = self._leases.create_namespaced_lease(
            self._namespace, body, _request_timeout=self._answer_s()
        )
        self._ours_until = asked_at + LEAD_S

    def _write(self, found: Any, *, since: datetime | None) -> None:  # noqa: ANN401 - the same
        asked_at = self._clock()
        found.spec = self._spec(since)
        said = {names.ANNOTATION_PASSES: self._passes} if self._passes else {}
        others = found.metadata.annotations or {}
        kept = {name: of for name, of in others.items() if name != names.ANNOTATION_PASSES}
        found.metadata.annotations = kept | said
        self._written = self._leases.replace_namespaced_lease(
            names.PLANNER_LEASE, self._namespace, found, _request_timeout=self._answer_s()
        )
        self._ours_until = asked_at + LEAD_S

    def _answer_s(self) -> float:
        """Return how long an answer may take now (seconds)."""
        return max(_LEAST_ANSWER_S, _ANSWER_SHARE * (self.left_s if self.is_ours() else LEAD_S))

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


def lease_of(api: client.ApiClient, namespace: str) -> Lease:
    """Return the planner's Lease as this process sees it."""
    leases = client.CoordinationV1Api(unretried(api))
    return Lease(leases, namespace, os.environ.get("POD_NAME") or socket.gethostname())


def lead(lease: Lease, work: Callable[[], None], stop: Callable[[], None]) -> None:
    """Have `work` done, in a thread, whenever the lease is ours; `stop` makes it end.

    Returns when `work` has ended by itself: then it has failed, and the process should end and be
    started anew.
    """
    while _serve(lease, work, stop):
        pass


def _serve(lease: Lease, work: Callable[[], None], stop: Callable[[], None]) -> bool:
    """Lead once; return whether it ended because the lease was lost."""
    _await(lease)
    _log.info("leading", identity=lease.identity, lease=names.PLANNER_LEASE)
    worker = threading.Thread(target=_logged, args=(work,), name="planning", daemon=True)
    worker.start()
    why = _keep(lease, worker)
    if why is None:
        _log.error("leadership_lost", identity=lease.identity, error="planning has ended")
        return False
    _log.error("leadership_lost", identity=lease.identity, error=why, action="tries again")
    stop()
    worker.join()
    return True


def _await(lease: Lease) -> None:
    """Wait until the lease is ours."""
    pause_s, told = RETRY_S, False
    while True:
        try:
            if lease.hold() and lease.is_ours():
                return
            pause_s, told = RETRY_S, False
        except FAILURES as error:
            if not told:  # once for each time that it is away
                _log.warning("lease_not_reached", identity=lease.identity, error=brief(error))
            told = True
            pause_s = RETRY_S if is_away(error) else min(_MOST_RETRY_S, 2 * pause_s)
        time.sleep(pause_s)  # nothing tells that another's lease has lapsed


def _keep(lease: Lease, worker: threading.Thread) -> str | None:
    """Renew the lease while the worker works; return why it is lost, None if it ended first."""
    error, pause_s = "no answer in time", RETRY_S
    while True:
        worker.join(max(0.0, min(pause_s, lease.left_s)))
        if not worker.is_alive():
            return None
        if not lease.is_ours():
            return f"not renewed for {LEAD_S:.0f} s: {error}"
        asked_at = time.monotonic()
        try:
            if not lease.hold():
                return "another planner has it"
        except FAILURES as unanswered:
            error = brief(unanswered)
        pause_s = RETRY_S - (time.monotonic() - asked_at)  # none where answers are slow


def _logged(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:  # noqa: BLE001 - whatever it is, planning has ended, and so does the lead
        _log.exception("planning_failed")


def _stamp(instant: datetime) -> str:
    """Return an instant as the API server wants it."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
