"""Carrying out the newest plan: look afresh, decide the next steps, do them, say how far it is.

`bayplan.steps` decides; nothing is remembered here but how long the plan has stood still, which
evictions were refused, and who is on the way to a node, and losing that only costs time. Plans that
a newer one has overtaken are marked so and left alone. A plan in several objects is carried out as
one; each object tells of its own steps, and the first one, which is written last, of the plan.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan import steps
from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan, service
from bayplan.inference.drains import LOOK_S, Farewell
from bayplan.plan import Plan
from bayplan.policy import Policy
from bayplan.steps import (
    Beside,
    DrainPod,
    EvictPod,
    Phase,
    Progress,
    ReleasePod,
    Report,
    ServePod,
    StartPod,
    State,
    Step,
)
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.evictions import evict
from bayplan_operator.cluster.kube import OVERTAKEN, Kube, Raw, plan_path, refusal_of
from bayplan_operator.cluster.observation import observe
from bayplan_operator.cluster.policies import read_policy
from bayplan_operator.cluster.refusals import Refusals
from bayplan_operator.cluster.removals import evict_as_seen
from bayplan_operator.cluster.service import put
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.arrivals import Arrivals
from bayplan_operator.plans.budgets import budgets_over
from bayplan_operator.plans.farewells import Farewells
from bayplan_operator.plans.holds import Holds
from bayplan_operator.plans.memory import Decision, Entry, Plans
from bayplan_operator.plans.releases import Releases, in_batches, whole
from bayplan_operator.plans.starts import Starts
from bayplan_operator.plans.stillness import Stillness

_log = structlog.get_logger()

#: Bounds of the seconds between two passes over a plan at work when no event asks for one
#: earlier, and the part of its standstill that lies between: a pass over many nodes is dear.
_MIN_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 2.0
_PAUSE_PART: Final = 0.1

#: The least while the scheduler alone has something to do.
_BINDING_PAUSE_S: Final = 2.0

#: Pods that are released before the next look for a newer plan.
_BATCH: Final = 64

#: Steps in metrics and logs.
_KINDS: Final = {
    StartPod: "start",
    DrainPod: "drain",
    ServePod: "serve",
    EvictPod: "evict",
    ReleasePod: "release",
}

#: Longest message in a status.
_MAX_MESSAGE: Final = 1000


class Execution:
    """Carries out one plan at a time.

    Attributes:
        arrivals: Who was released and is on its way; the watch of pods is to tell it.
    """

    def __init__(  # noqa: PLR0913 - what it works with, handed down once
        self,
        kube: Kube,
        plans: Plans,
        events: Events,
        metrics: Metrics,
        *,
        claims: Claims,
        pool: Executor,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.arrivals = Arrivals(clock)
        self._kube = kube
        self._plans = plans
        self._events = events
        self._metrics = metrics
        self._pool = pool
        self._now = now
        self._farewells = Farewells(kube, now=now, clock=clock)
        self._starts = Starts(kube, claims, now=now, clock=clock)
        self._stillness = Stillness(clock)
        self._refusals: Refusals[str] = Refusals(clock)  # by the uids of pods
        self._releases = Releases(kube, pool)
        self._holds = Holds(kube, events, metrics, pool=pool)
        self._last: Progress | None = None

    def reconcile(self) -> float | None:
        """Do one pass; return the seconds after which another one is wanted, or None."""
        self._plans.look_again()
        newest = self._plans.newest()
        if newest is None:
            return None
        pause_s = self._go_on(newest) if newest.open else None
        for entry in self._plans.overtaken():
            self._supersede(entry)
        told = self._holds.tell(newest.published)
        return pause_s if told else pause_s or _MIN_PAUSE_S

    def _go_on(self, decision: Decision) -> float:
        """Do a pass over the plan at work, unless the watch of pods tells enough."""
        published, last = decision.published, self._last
        if last is not None and self.arrivals.are_all_there(published.uid):
            self._tell(decision, steps.arrived(published.plan, last), time.monotonic())
            return _MIN_PAUSE_S
        if self.arrivals.go_on(published.uid):
            return _BINDING_PAUSE_S
        return self._pass(decision)

    def _pass(self, decision: Decision) -> float:
        """Do what can be done now for the plan at work; return when to look again, in seconds."""
        started_at = time.monotonic()
        published = decision.published
        # 1. See.
        asked = self._pool.submit(read_policy, self._kube)  # meanwhile
        budgets = budgets_over(self._kube, published.plan)
        seen = observe(
            *(self._kube, self._pool, steps.nodes_of(published.plan)),
            about={victim.uid for victim in published.plan.victims},
        )
        farewells = self._farewells.of(published.plan, seen.raws)
        beside = self._starts.of(published, seen.raws)
        # 2. Decide.
        there = seen.snapshot.without_overdue(self._now().timestamp())
        snapshot = replace(there, budgets=budgets)
        progress = self._decide(published, snapshot, asked.result(), farewells, beside)
        self._expect(published, progress)
        # 3. Act.
        # A pod that drains is evicted as it was seen: if it serves again, it drains again first.
        drained = {uid: seen.raws[uid] for uid in farewells}
        again = self._do(progress, published, seen.raws, drained)
        if again or any(step.uid in self._refusals for step in progress.todo):
            self.arrivals.forget()
        # 4. Say how far it is.
        self._tell(decision, progress, started_at)
        return _MIN_PAUSE_S if again else self._pause_s(published, progress)

    def _expect(self, published: PublishedPlan, progress: Progress) -> None:
        """Wait for the pods that are left to the scheduler, if nothing else is to be done."""
        self._last = progress
        started = {r.pod for r in progress.reports if r.state is State.STARTED}
        if progress.patient or not started or not steps.is_left_to_scheduler(progress):
            self.arrivals.forget()
            return
        binds = published.plan.binds
        self.arrivals.expect(
            published.uid,
            {bind.uid: bind.node for bind in binds},
            (bind.uid for bind in binds if bind.pod in started),
        )

    def _tell(self, decision: Decision, progress: Progress, started_at: float) -> None:
        """Report how far the plan is, and log and count it where that has changed."""
        published = decision.published
        if self._report(decision, progress):
            self._count_ended(published, progress)
            _log.info(
                "plan_advanced",
                plan=published.name,
                phase=progress.phase.value,
                done=progress.done,
                total=len(progress.reports),
                steps=len(progress.todo),
                message=progress.message,
                duration_s=round(time.monotonic() - started_at, 3),
            )

    def _pause_s(self, published: PublishedPlan, progress: Progress) -> float:
        """Return the seconds until the next look at what tells us nothing by events."""
        if progress.patient and all(step.uid in self._refusals for step in progress.todo):
            return LOOK_S
        binding = steps.is_left_to_scheduler(progress)
        least = _BINDING_PAUSE_S if binding else _MIN_PAUSE_S
        part = _PAUSE_PART * self._stillness.of(published.uid)
        return min(_MAX_PAUSE_S, max(least, part))

    def _count_ended(self, published: PublishedPlan, progress: Progress) -> None:
        if progress.phase is Phase.EXECUTING:
            return
        self._metrics.plans.labels(progress.phase.value).inc()
        self._metrics.plan_seconds.observe(max(0.0, self._now().timestamp() - published.created_at))

    def _decide(
        self,
        published: PublishedPlan,
        seen: Snapshot,
        policy: Policy,
        farewells: Mapping[str, Farewell],
        beside: Beside,
    ) -> Progress:
        if not self._stillness.knows(published.uid):
            self._refusals.clear()  # another plan: worth another try
            self._releases.forget()
        look = partial(
            steps.advance,
            *(published.plan, seen, policy),
            farewells=farewells,
            beside=beside,
            denied=self._refusals.denied(),
        )
        # What has happened since the last look is no standstill, and what is given up for having
        # been waited for is nothing that has happened.
        progress = look(idle_s=0)
        # One that has drained and may not leave is not out of service until all have drained.
        stuck = any(isinstance(s, EvictPod) and s.uid in self._refusals for s in progress.todo)
        self._stillness.note(published.uid, progress, drains=progress.patient and not stuck)
        idle_s = self._stillness.of(published.uid)
        return look(idle_s=idle_s) if idle_s >= steps.REPLACEMENT_GRACE_S else progress

    def _do(
        self,
        progress: Progress,
        published: PublishedPlan,
        raws: Mapping[str, Raw],
        drained: Mapping[str, Raw],
    ) -> bool:
        """Do the steps; return whether a pod had changed, so that its step is to be tried at once.

        One that is refused waits before it is tried again.
        """
        plan, todo = published.name, progress.todo
        due = [step for step in todo if self._refusals.is_due(step.uid)]
        for step in due:
            if isinstance(step, ServePod):
                self._note(step, self._put(step, service.serves(self._now())))
        released = [step for step in todo if isinstance(step, ReleasePod)]
        starts = [step for step in due if isinstance(step, StartPod)]
        # Nobody is disturbed for a pod that could not come then.
        disturbs = any(isinstance(step, EvictPod | DrainPod | StartPod) for step in todo)
        welcome = not disturbs or self._may_come(published, progress.reports, raws)
        # Who has drained need not wait for those that may not drain yet.
        for kind in (EvictPod, DrainPod):
            victims = [step for step in todo if isinstance(step, kind)]
            now = welcome and all(step in due for step in victims)
            if now and self._plans.is_newest(published):
                self._clear(victims, plan, drained)
        again = False
        for step in starts if welcome else ():
            if self._plans.is_newest(published):
                refused = self._start(step, plan, raws[step.uid])
                again = again or refused is None
                self._note(step, refused or "")
        for batch in in_batches(whole(released, self._refusals.is_due), _BATCH):
            if not self._plans.is_newest(published):
                break  # what this plan gives away now, the newer one may give to others
            for step, message in self._releases.release(batch, plan, raws):
                again = again or message is None
                self._note(step, message or "")
        return again

    def _may_come(
        self, published: PublishedPlan, reports: Sequence[Report], raws: Mapping[str, Raw]
    ) -> bool:
        """Return whether the API server will let those go who wait for the room of others."""
        wait = {r.pod for r in reports if r.type == "Bind" and r.state is State.WAITING}
        late = [bind for bind in published.plan.binds if bind.pod in wait]
        if not all(self._refusals.is_due(bind.uid) for bind in late):
            return False
        refused = self._releases.rehearse(late, published.name, raws)
        for step, why in refused:
            self._note(step, why)
        return not refused

    def _clear(
        self, victims: Sequence[EvictPod | DrainPod], plan: str, drained: Mapping[str, Raw]
    ) -> None:
        """Make the victims go, or none of them: half of a node's room would help nobody.

        Nor is anybody drained who could not be evicted then.
        """
        asked = self._pool.map(
            lambda step: evict(self._kube, step.pod, step.uid, rehearse=True), victims
        )
        refused = {step: why for step, why in zip(victims, asked, strict=True) if why}
        for step, why in refused.items():
            self._note(step, why)
        # One by one, so that each sees the budget that the one before has left.
        for step in () if refused else victims:
            if isinstance(step, DrainPod):
                self._note(step, self._drain(step, plan))
            else:
                self._note(step, self._evict(step, plan, drained.get(step.uid)))

    def _note(self, step: Step, refused: str) -> None:
        kind = _KINDS[type(step)]
        self._metrics.plan_steps.labels(kind, "refused" if refused else "done").inc()
        # Whether a pod may be put back into service says nothing about its going.
        told = str(refused) if kind == "serve" else refused
        awaited = isinstance(step, ReleasePod) and step.awaited
        self._refusals.note(step.uid, told, awaited=awaited)
        if refused:
            _log.warning("step_refused", step=kind, pod=str(step.pod), error=refused)

    def _start(self, step: StartPod, plan: str, raw: Raw) -> str | None:
        refused = self._starts.start(step, plan, raw)
        if refused == "":
            note = f"{plan}: its replacement starts on {step.node}; it serves until that does"
            self._events.tell(About.pod(step.pod, step.uid), "Replacing", "Start", note)
        return refused

    def _drain(self, step: DrainPod, plan: str) -> str:
        note = f"{plan}: {step.because}"
        refused = self._put(step, service.yields(note, self._now()))
        if not refused:
            self._events.tell(About.pod(step.pod, step.uid), "Draining", "Drain", note)
        return refused

    def _put(self, step: DrainPod | ServePod, condition: Raw) -> str:
        """Put a pod into service, or take it out; return why that is refused, or ""."""
        try:
            put(self._kube, step.pod, step.uid, condition)
        except ApiException as error:
            return refusal_of(error) or ""
        return ""

    def _evict(self, step: EvictPod, plan: str, drained: Raw | None) -> str:
        if drained is None:
            refused = evict(self._kube, step.pod, step.uid)
        else:
            refused = evict_as_seen(self._kube, step.pod, drained)
        if refused == "":
            reason, action = ("Moved", "Move") if step.target else ("Evicted", "Evict")
            self._metrics.victims.labels(reason.lower()).inc()
            note = f"{plan}: {step.because}"
            self._events.tell(About.pod(step.pod, step.uid), reason, action, note)
        return refused or ""

    def _report(self, decision: Decision, progress: Progress) -> bool:
        """Write what has changed of the plan's status; return whether anything had.

        The first object comes last: the plan ends with it, and goes on if we end before that.
        """
        written = [
            self._write(part, self._status(part, decision, progress))
            for part in reversed(decision.parts)
        ]
        return any(written)

    def _status(self, part: Entry, decision: Decision, progress: Progress) -> dict[str, Any]:
        """Return the status of one object."""
        reports, message = progress.reports, progress.message
        if len(decision.parts) > 1:
            own = _steps_of(part.published.plan)
            reports = tuple(r for r in progress.reports if (r.pod, r.type) in own)
        if part.published.part > 1:
            message = f"{decision.published.name} tells how far the plan is"
        status: dict[str, Any] = {
            "phase": progress.phase.value,
            "message": message[:_MAX_MESSAGE],
            "done": sum(report.state is State.DONE for report in reports),
            "total": len(reports),
            "startedAt": part.status.get("startedAt") or self._instant(),
        }
        if reports:
            actions = (*part.published.plan.binds, *part.published.plan.victims)
            uids = {action.pod: action.uid for action in actions}
            uids |= {step.pod: step.uid for step in progress.todo}
            status["steps"] = [self._step(report, uids.get(report.pod, "")) for report in reports]
        if progress.phase is not Phase.EXECUTING:
            status["finishedAt"] = self._instant()
        return status

    def _step(self, report: Report, uid: str) -> dict[str, str]:
        """Return what is said of an action; `uid` is that of the pod with which it goes on."""
        message = report.message
        refusal = self._refusals.of(uid)
        if refusal is not None and report.state not in {State.DONE, State.REFUSED}:
            message = f"{message}, but that is refused: {refusal.message}"
        return {
            "pod": str(report.pod),
            "type": report.type,
            "state": report.state.value,
            "message": message[:_MAX_MESSAGE],
        }

    def _supersede(self, entry: Entry) -> None:
        newest = self._plans.newest()
        name = newest.published.name if newest is not None else "a newer plan"
        status = {
            **entry.status,
            "phase": "Superseded",
            "message": f"{name} took over{_going_on(entry.status)}",
            "finishedAt": self._instant(),
        }
        if self._write(entry, status) and entry.published.part == 1:
            self._metrics.plans.labels("Superseded").inc()
            _log.info("plan_superseded", plan=entry.published.name, by=name)

    def _write(self, entry: Entry, status: dict[str, Any]) -> bool:
        if status == entry.status:
            return False
        name = entry.published.name
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "PackingPlan",
            "metadata": {"name": name, "uid": entry.published.uid},
            "status": status,
        }
        self._plans.writes(name, status)
        try:
            version = self._kube.apply(
                f"{plan_path(name)}/status", body, manager=names.MANAGER_STEPS
            )
        except ApiException as error:
            if error.status not in OVERTAKEN:
                raise
            self._plans.forget(name, entry.published.uid)  # it was deleted
            return False
        self._plans.wrote(entry, status, version)
        return True

    def _instant(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _steps_of(plan: Plan) -> AbstractSet[tuple[PodKey, str]]:
    """Return what identifies the reports on a part of a plan."""
    return {
        *((bind.pod, "Bind") for bind in plan.binds),
        *((move.pod, "Move") for move in plan.moves),
        *((evict.pod, "Evict") for evict in plan.evictions),
    }


def _going_on(status: Mapping[str, Any]) -> str:
    """Return what of a plan still happens when another one takes over: pins are for good."""
    ends = ((step["type"], step["state"]) for step in status.get("steps", ()))
    released = sum(end == ("Bind", State.STARTED) for end in ends)
    return f"; released to their nodes and not seen there yet: {released}" if released else ""
