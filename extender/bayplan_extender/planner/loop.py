"""The planner's loop: wait for a change, let it settle, plan if one is due, publish.

No plan follows another before the operator has taken that one up, that is, released all pods that
have room now: each would plan the same pods anew and stop the operator half way. Pods that come
meanwhile are the next batch. An operator that is away or slow is not waited for long. Nor does the
next plan follow at once: each has its price whatever its size, so batches grow with the load.

A plan that is being carried out is left alone while it covers every waiting pod
(`bayplan.triggers`). With nobody waiting, and a window for defragmentation open, it looks for
slots to win. A pass whose input has become useless is broken off. Whatever fails is logged and
tried again after the next change or a second; not for ever, so that a planner which can publish
nothing does not lead on.
"""

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry

from bayplan import planner, windows
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan
from bayplan.plan import Result
from bayplan.policy import Policy
from bayplan.triggers import (
    MAKING_S,
    are_being_made,
    is_defragmentation_due,
    is_due,
    repeats,
)
from bayplan.truncation import publishable
from bayplan_extender.kube import FAILURES, brief
from bayplan_extender.planner.metrics import Metrics
from bayplan_extender.planner.publisher import Dropped, Publisher
from bayplan_extender.planner.recorder import Pass, Recorder
from bayplan_extender.planner.relevance import BrokenOff, Relevance
from bayplan_extender.planner.watchdog import limited
from bayplan_extender.view import View

_log = structlog.get_logger()

#: Seconds without a change after which pods that arrive together count as all there.
SETTLE_S = 0.03

#: Seconds after which a plan is made even while changes keep coming.
PATIENCE_S = 0.3

#: Seconds for which the operator may be doing what a plan has for it now, before the next is made.
TAKE_UP_S = 5.0

#: The most seconds of rest after a plan is taken up; else it is as long as that took.
REST_S = 1.0

#: Seconds from a plan's creation in which its failure is not answered with another one.
RETRY_FAILED_S = 3.0

#: Seconds after a refusal of the API server until the next try, and refusals on end that are taken.
RETRY_S = 1.0
MAX_REFUSALS = 30

#: Seconds after which everything is looked at again, change or not.
RESYNC_S = 30.0

#: Time limits, and seconds beside them, after which a pass counts as hung: some make several plans.
_MOST_LIMITS = 6
_MOST_BESIDES_S = 120.0

#: Seconds between two looks for slots to win: what a busy cluster changes meanwhile counts once.
DEFRAGMENT_EVERY_S = 20.0


class Passed(Protocol):
    """Takes how a pass ended; one with nothing to do has ended well."""

    def __call__(self, *, well: bool) -> None:
        """Take it."""


class Stale(Exception):  # noqa: N818 - not an error of ours
    """What is known of the cluster is too old to plan on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What a pass decides on; `last` is the highest number that a plan has, readable or not."""

    snapshot: Snapshot
    newest: PublishedPlan | None
    last: int
    policy: Policy
    now: float

    @property
    def digest(self) -> str:
        """What a plan depends on: the cluster, and what the policy allows."""
        return f"{self.snapshot.digest} {self.policy}"


class Loop:
    """Plans whenever one is due, until stopped."""

    def __init__(
        self,
        view: View,
        publisher: Publisher,
        recorder: Recorder,
        registry: CollectorRegistry,
        *,
        passed: Passed,
    ) -> None:
        self._view = view
        self._publisher = publisher
        self._recorder = recorder
        self._passed = passed
        self._metrics = Metrics(registry)
        self._relevance = Relevance(view)
        self._stop = threading.Event()
        self._last_digest = ""
        self._last_sequence = 0
        self._last_window = ("", -math.inf)
        self._published = ""
        self._published_at = -math.inf
        self._rests_until = -math.inf
        self._looks_by = math.inf

    def stop(self) -> None:
        """End the loop after the pass it is in, which publishes nothing any more.

        One that has not begun yet ends as soon as it does.
        """
        self._stop.set()
        self._view.changed.set()

    def run(self) -> None:
        """Plan until stopped; it may be run again then.

        Raises:
            Exception: The API server has refused `MAX_REFUSALS` passes on end, or not answered
                (`kube.FAILURES`), or taken plans of others (`Dropped`), or told nothing of the
                cluster (`Stale`), or as many have failed by a fault of ours; whoever leads should
                give up the lease, or no gate is ever lifted.
        """
        refusals = 0
        self._last_digest = ""  # another planner may have led meanwhile
        for _ in self._changes():
            try:
                self._pass()
                self._passed(well=True)
                refusals = 0
            except BrokenOff:
                self._metrics.broken_off.inc()
                _log.info("plan_broken_off", reason="what it was made for has changed")
                self._view.changed.set()
            except Exception as error:
                # One pod that a pass stumbles over may be gone a moment later.
                if isinstance(error, (*FAILURES, Dropped, Stale)):
                    _log.warning("plan_not_published", error=brief(error))
                else:
                    _log.exception("pass_failed")
                self._passed(well=False)
                self._last_digest = ""
                refusals += 1
                if refusals >= MAX_REFUSALS:
                    raise
                self._stop.wait(RETRY_S)
                self._view.changed.set()
        self._stop.clear()

    def _changes(self) -> Iterator[None]:
        """Yield once for every batch of changes that has settled.

        After a look it rests for as long as that took: one at a large cluster is not to be
        repeated all the time, but who comes to a quiet one is not to wait for that.
        """
        while not self._stop.is_set():
            self._view.changed.wait(min(RESYNC_S, max(0.0, self._looks_by - time.monotonic())))
            self._looks_by = math.inf
            patience = time.monotonic() + PATIENCE_S
            while self._view.changed.is_set() and time.monotonic() < patience:
                self._view.changed.clear()
                self._stop.wait(SETTLE_S)
            self._await_operator()
            self._stop.wait(max(0.0, self._rests_until - time.monotonic()))
            self._view.changed.clear()
            if self._view.synced and not self._stop.is_set():
                started_at = time.monotonic()
                yield
                self._rest(started_at, most_s=PATIENCE_S)

    def _rest(self, began_at: float, *, most_s: float) -> None:
        """Have the next look wait for as long as what began then has taken by now."""
        now = time.monotonic()
        self._rests_until = max(self._rests_until, now + min(most_s, now - began_at))

    def _await_operator(self) -> None:
        """Wait until the plan published last is taken up, or has been there for long enough."""
        patience = self._published_at + TAKE_UP_S
        while (left_s := patience - time.monotonic()) > 0:
            self._view.changed.clear()
            if self._stop.is_set():
                return
            if self._is_taken_up():
                self._rest(self._published_at, most_s=REST_S)
                self._published_at = -math.inf
                return
            self._view.changed.wait(left_s)

    def _is_taken_up(self) -> bool:
        """Return whether the plan published last is begun, ended or overtaken, for all we see."""
        with self._view.lock:
            plan, newest = self._view.plans.get(self._published), self._view.newest_page()
        if plan is None or newest is None:
            return False  # the watch has yet to show it
        return plan.phase != "Pending" or newest.sequence > plan.sequence

    def _pass(self) -> None:
        # 1. See: one frozen snapshot, the newest plan, the policy; none of it long out of date.
        if stale := self._view.stale():
            raise Stale(f"stale: {'; '.join(stale)}")
        seen = self._read()
        self._metrics.see(seen.snapshot, seen.newest)
        if self._has_just_failed(seen):
            return
        # 2. Plan, if something is due.
        with limited(_MOST_LIMITS * seen.policy.time_limit_s + _MOST_BESIDES_S):
            done = self._place(seen) or self._defragment(seen)
            result = None if done is None else self._publishable(done)
        if result is not None:
            self._relevance.finished()
        if result is None or self._stop.is_set():
            return
        # 3. Publish, unless it only says again what already stands there.
        name = "" if repeats(seen.newest, result.plan) else self._publish(seen, result)
        self._metrics.made(result, published=bool(name))
        _report(result, name)

    def _read(self) -> _Seen:
        now = time.time()
        with self._view.lock:
            return _Seen(
                snapshot=self._view.snapshot(now),
                newest=self._view.newest_plan(),
                last=self._view.last_number,
                policy=self._view.policy,
                now=now,
            )

    def _look_by(self, seen: _Seen, at: float) -> None:
        """Look again at an instant at the latest: nothing in the cluster tells of it."""
        self._looks_by = min(self._looks_by, time.monotonic() + max(0.0, at - seen.now))

    def _place(self, seen: _Seen) -> Pass | None:
        """Return a plan for the pods that wait, if one is due."""
        snapshot = seen.snapshot
        if not snapshot.waiting():
            return None
        with self._view.lock:
            self._look_by(seen, self._view.next_instant(snapshot, seen.now))
        sequence = seen.newest.sequence if seen.newest is not None else 0
        if sequence < self._last_sequence:
            self._last_digest = ""  # somebody deleted the plan that decided on those who wait
        self._last_sequence = sequence
        if are_being_made(snapshot, seen.now):
            self._look_by(seen, seen.now + MAKING_S)
            return None
        if not is_due(
            snapshot, seen.newest, digest=lambda: seen.digest, last_digest=self._last_digest
        ):
            return None
        done = self._place_at_once(seen)
        if done is None:
            clock = self._relevance.clock(snapshot, limit_s=seen.policy.time_limit_s)
            result = planner.plan(snapshot, seen.policy, clock=clock)
            clock.check()
            done = Pass(snapshot=snapshot, policy=seen.policy, result=result)
        self._last_digest = seen.digest
        return self._recorder.keep(done)

    def _place_at_once(self, seen: _Seen) -> Pass | None:
        """Return a plan that places everybody without waiting for those that are leaving, if any.

        Who leaves may take an hour for it, and its room looks as good as any once it has left.
        """
        with self._view.lock:
            before = self._view.before_leaving(seen.now)
        if before is None:
            return None
        clock = self._relevance.clock(before, limit_s=seen.policy.time_limit_s)
        found = planner.at_once(before, seen.policy, clock=clock)
        clock.check()
        if found is None:
            return None
        gentle, result = found
        return Pass(snapshot=before, policy=gentle, result=result)

    def _defragment(self, seen: _Seen) -> Pass | None:
        """Return a plan that wins slots, if a window is open and there are any worth it."""
        settings, (last_digest, looked_at) = seen.policy.defragmentation, self._last_window
        self._look_by(seen, windows.next_opening(settings.windows, seen.now))
        moves = windows.moves_left(seen.snapshot, settings, seen.now)
        if not moves:
            # What a window that has closed left undone may be done in the next one.
            self._last_window = ("", looked_at)
            return None
        if time.monotonic() - looked_at < DEFRAGMENT_EVERY_S:
            return None
        digest = seen.digest
        if not is_defragmentation_due(
            seen.newest, moves=moves, digest=digest, last_digest=last_digest
        ):
            return None
        self._last_window = (digest, time.monotonic())
        clock = self._relevance.clock(seen.snapshot, limit_s=seen.policy.time_limit_s)
        found = planner.defragment(seen.snapshot, seen.policy, max_moves=moves, clock=clock)
        clock.check()
        if found is None:
            self._relevance.finished()
            _log.info("no_slots_to_win", moves_left=moves)
            return None
        allowed, result = found
        return self._recorder.keep(Pass(snapshot=seen.snapshot, policy=allowed, result=result))

    def _publishable(self, done: Pass) -> Result:
        """Return what of a plan its objects have room for."""
        clock = self._relevance.clock(done.snapshot, limit_s=done.policy.time_limit_s)
        return publishable(done.snapshot, done.policy, done.result, clock=clock)

    def _has_just_failed(self, seen: _Seen) -> bool:
        """Return whether the newest plan failed a moment ago; then come back a moment later.

        What made it fail may need that moment to show in the watch, and plans that fail one
        after the other must not follow each other in a hot loop. If it disturbed nobody, and none
        waits for whom it had a home, its failure is no matter of those who wait.
        """
        newest = seen.newest
        if newest is None or newest.phase != "Failed":
            return False
        homes = {bind.uid for bind in newest.plan.binds}
        if not newest.plan.victims and not any(p.uid in homes for p in seen.snapshot.waiting()):
            return False
        # The API server's clock may be far ahead of ours; then the plan seems to be of the future.
        if abs(time.time() - newest.created_at) >= RETRY_FAILED_S:
            return False
        self._stop.wait(SETTLE_S)
        self._view.changed.set()
        return True

    def _publish(self, seen: _Seen, result: Result) -> str:
        name = self._publisher.publish(result, sequence=seen.last + 1)
        self._published, self._published_at = name, time.monotonic()
        with self._view.lock:
            plans = tuple(self._view.plans.values())
        self._publisher.clear_away(plans)
        return name


def _report(result: Result, name: str) -> None:
    plan, certificate = result.plan, result.plan.certificate
    _log.info(
        "plan_published" if name else "plan_repeats",
        plan=name,
        order=certificate.order.value,
        verdict=certificate.verdict.value,
        bound=len(plan.binds),
        moved=len(plan.moves),
        evicted=len(plan.evictions),
        held=len(plan.holds),
        gap=round(certificate.gap, 4),
        engine=result.engine,
        duration_s=round(dict(result.seconds).get("total", 0.0), 3),
    )
    for wrong in result.refused:
        _log.error("plan_not_valid", plan=name, engine=result.engine, error=wrong)
