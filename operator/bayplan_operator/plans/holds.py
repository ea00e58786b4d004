"""Telling pods why they wait, and showing those that do not fit to node autoscalers.

Each pod that the newest plan holds is told in an annotation, and in an event when what it is told
is new, once in a while for the same kind of reason. Writes are bounded: nothing is written twice,
and rounds keep a distance, so that a cluster in which the numbers change all the time does not
rewrite every waiting pod for it.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

from kubernetes.client.exceptions import ApiException

from bayplan import gates
from bayplan.api import names
from bayplan.codec import PublishedPlan
from bayplan.codec.releases import offer_patch
from bayplan.plan import Hold, Reason
from bayplan_operator.cluster.damper import Damper
from bayplan_operator.cluster.events import MAX_NOTE, About, Events
from bayplan_operator.cluster.kube import Kube, Raw, pod_path
from bayplan_operator.cluster.observation import observe
from bayplan_operator.cluster.patches import note_failure
from bayplan_operator.cluster.policies import read_policy
from bayplan_operator.metrics import Metrics

#: Seconds between two rounds.
_ROUND_S: Final = 3.0

#: The answer to a write to a pod that has changed since it was read.
_CONFLICT: Final = 409


class Holds:
    """Tells the holds of one plan after the other."""

    def __init__(self, kube: Kube, events: Events, metrics: Metrics, *, pool: Executor) -> None:
        self._kube = kube
        self._events = events
        self._metrics = metrics
        self._pool = pool
        self._told: tuple[str, bool] | None = None
        self._next_at = 0.0
        self._incomplete: frozenset[str] = frozenset()
        self._damper = Damper(time.monotonic)

    def tell(self, published: PublishedPlan) -> bool:
        """Tell each pod that the plan holds what is news to it; return whether that is done."""
        holds = {hold.uid: hold for hold in published.plan.holds}
        offered = gates.to_offer(holds.values(), read_policy(self._kube)) if holds else frozenset()
        news = (published.uid, bool(offered))  # the policy may say otherwise by now
        if self._told == news:
            return True
        if time.monotonic() < self._next_at:
            return False
        if holds:
            self._next_at = time.monotonic() + _ROUND_S
            seen = observe(self._kube, self._pool, ())
            raws = seen.raws
            # One whose gate was lifted meanwhile was told so, and is no matter of plans any more.
            waiting = {pod.uid for pod in seen.snapshot.waiting()}
            there = [hold for uid, hold in holds.items() if uid in waiting]
            early = self._not_missed_yet(there)
            late = (hold for hold in there if hold.uid not in early)
            told = self._pool.map(lambda h: self._tell(raws[h.uid], h, h.uid in offered), late)
            if not all([*told]) or early:
                return False
        self._told = news
        return True

    def _not_missed_yet(self, holds: Sequence[Hold]) -> frozenset[str]:
        """Return the pods of incomplete gangs that no earlier round has seen, by uid.

        Gangs come pod by pod: most are whole by the next round, and nobody has to do anything.
        """
        before = self._incomplete
        incomplete = (h for h in holds if h.rejection.reason is Reason.GANG_INCOMPLETE)
        self._incomplete = frozenset(hold.uid for hold in incomplete)
        return self._incomplete - before

    def _tell(self, raw: Raw, hold: Hold, offer: bool) -> bool:  # noqa: FBT001 - private, one caller
        """Tell one pod; return False where another round should try again."""
        reason = str(hold.rejection.reason)
        told = hold.told_within(MAX_NOTE)
        text = f"{reason}: {told}"
        before = (raw["metadata"].get("annotations") or {}).get(names.ANNOTATION_DECISION, "")
        try:
            if offer and raw["spec"].get("schedulingGates"):
                self._offer(raw, hold, text)
            elif before != text:
                self._annotate(raw, hold, text)
        except ApiException as error:
            if error.status == _CONFLICT:
                return False
            if note_failure(error, pod=hold.pod, purpose="tell", metrics=self._metrics):
                return False
            # One that takes no annotation can have an event.
        if before != text and self._damper.is_news(hold.uid, reason):
            about = About.pod(hold.pod, hold.uid)
            self._events.tell(about, reason, "Hold", told, warning=True)
        return True

    def _annotate(self, raw: Raw, hold: Hold, text: str) -> None:
        # As it was seen: its gate may be lifted at this moment, and it is told why.
        version = raw["metadata"]["resourceVersion"]
        said = {names.ANNOTATION_DECISION: text}
        body = {"metadata": {"uid": hold.uid, "resourceVersion": version, "annotations": said}}
        self._kube.merge(pod_path(hold.pod), body, manager=names.MANAGER_STATUS)

    def _offer(self, raw: Raw, hold: Hold, text: str) -> None:
        patch = offer_patch(raw, {names.ANNOTATION_DECISION: text})
        self._kube.patch(pod_path(hold.pod), patch, manager=names.MANAGER_PODS)
        self._metrics.pods_offered.inc()
        about, note = About.pod(hold.pod, hold.uid), "shown to node autoscalers: it does not fit"
        self._events.tell(about, "Offered", "Offer", note)
