"""Doing the steps that `bayplan.steps` decides: releasing, starting, draining, evicting.

Whoever is refused waits before it is tried again; nobody is disturbed for a pod that could not come
then, and nothing more is done for a plan as soon as there is a newer one.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from typing import Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan.codec import PublishedPlan, service
from bayplan.steps import (
    DrainPod,
    EvictPod,
    Progress,
    ReleasePod,
    Report,
    ServePod,
    StartPod,
    State,
    Step,
)
from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.evictions import evict
from bayplan_operator.cluster.kube import Kube, Raw, refusal_of
from bayplan_operator.cluster.refusals import Refusals
from bayplan_operator.cluster.removals import evict_as_seen
from bayplan_operator.cluster.service import put
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.memory import Plans
from bayplan_operator.plans.releases import Releases, in_batches, whole
from bayplan_operator.plans.surges import Surges

_log = structlog.get_logger()

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


class Actuator:
    """Does the steps of the plan at work.

    Attributes:
        refusals: Which steps were refused, and why, by the uids of pods.
    """

    def __init__(  # noqa: PLR0913 - what it works with, handed down once
        self,
        kube: Kube,
        plans: Plans,
        events: Events,
        metrics: Metrics,
        *,
        surges: Surges,
        pool: Executor,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self.refusals: Refusals[str] = Refusals(clock)
        self._kube = kube
        self._plans = plans
        self._events = events
        self._metrics = metrics
        self._surges = surges
        self._pool = pool
        self._now = now
        self._releases = Releases(kube, pool)

    def begin_anew(self) -> None:
        """Forget what was refused: another plan is worth another try."""
        self.refusals.clear()
        self._releases.forget()

    def do(
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
        due = [step for step in todo if self.refusals.is_due(step.uid)]
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
                self._note(step, refused)
        for batch in in_batches(whole(released, self.refusals.is_due), _BATCH):
            if not self._plans.is_newest(published):
                break  # what this plan gives away now, the newer one may give to others
            answers = [*self._releases.release(batch, plan, raws)]
            begun = {step.gang for step, message in answers if message == ""} - {None}
            for step, message in answers:
                again = again or message is None
                self._note(step, message, awaited=step.awaited or step.gang in begun)
        return again

    def _may_come(
        self, published: PublishedPlan, reports: Sequence[Report], raws: Mapping[str, Raw]
    ) -> bool:
        """Return whether the API server will let those go who wait for the room of others."""
        wait = {r.pod for r in reports if r.type == "Bind" and r.state is State.WAITING}
        late = [bind for bind in published.plan.binds if bind.pod in wait]
        if not all(self.refusals.is_due(bind.uid) for bind in late):
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

    def _note(self, step: Step, refused: str | None, *, awaited: bool = False) -> None:
        """Take why a step was refused, or "", or None where the pod was gone or had changed.

        `awaited` says that others of its gang have gone.
        """
        kind = _KINDS[type(step)]
        self._metrics.plan_steps.labels(kind, _result(refused)).inc()
        # Whether a pod may be put back into service says nothing about its going.
        told = str(refused or "") if kind == "serve" else refused or ""
        self.refusals.note(step.uid, told, awaited=awaited)
        if refused:
            _log.warning("step_refused", step=kind, pod=str(step.pod), error=refused)

    def _start(self, step: StartPod, plan: str, raw: Raw) -> str | None:
        refused = self._surges.start(step, plan, raw)
        if refused == "":
            note = f"{plan}: its replacement starts on {step.node}; it serves until that does"
            self._events.tell(About.pod(step.pod, step.uid), "Replacing", "Start", note)
        return refused

    def _drain(self, step: DrainPod, plan: str) -> str | None:
        note = f"{plan}: {step.because}"
        refused = self._put(step, service.yields(note, self._now()))
        if refused == "":
            self._events.tell(About.pod(step.pod, step.uid), "Draining", "Drain", note)
        return refused

    def _put(self, step: DrainPod | ServePod, condition: Raw) -> str | None:
        """Put a pod into service, or take it out; return why that is refused, or "".

        None when it is gone, or has changed since it was read.
        """
        try:
            put(self._kube, step.pod, step.uid, condition)
        except ApiException as error:
            return refusal_of(error)
        return ""

    def _evict(self, step: EvictPod, plan: str, drained: Raw | None) -> str | None:
        if drained is None:
            refused = evict(self._kube, step.pod, step.uid)
        else:
            refused = evict_as_seen(self._kube, step.pod, drained)
        if refused == "":
            reason, action = ("Moved", "Move") if step.target else ("Evicted", "Evict")
            self._metrics.victims.labels(reason.lower()).inc()
            note = f"{plan}: {step.because}"
            self._events.tell(About.pod(step.pod, step.uid), reason, action, note)
        return refused


def _result(refused: str | None) -> str:
    """Return what became of a step, as it is counted."""
    if refused is None:
        return "changed"
    return "refused" if refused else "done"
