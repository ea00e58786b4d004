"""Telling pods that have a place in the plan at work what they wait for: who leaves, until when.

Called by the watch over gates, which looks at all pods that wait. Writes are bounded: most plans
are carried out before a pod is seen twice, who waits longer is told anew once a minute at most, but
for what hangs, and few are written in one pass, for each write is in the way of a release of that
pod.
"""

import math
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.cluster.pods import Pod
from bayplan.steps import HANGS
from bayplan.triggers import in_place_of_victims
from bayplan_operator.cluster.kube import Kube, Raw, pod_path
from bayplan_operator.cluster.patches import note_failure
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.memory import Decision, Plans

#: Seconds between two writes to a pod for one plan.
_AGAIN_S: Final = 60.0

#: Most pods that are told in one pass. The others come with the next.
_MOST: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What is known of a pod that has a place: of which plan, and what it was told last.

    `at` is when that was tried last.
    """

    plan: str
    text: str = ""
    at: float = -math.inf


class Promises:
    """Tells pods how far the step of the plan is that gives them a node.

    Those in the place of its victims are told that it goes first.
    """

    def __init__(
        self,
        kube: Kube,
        plans: Plans,
        metrics: Metrics,
        *,
        pool: Executor,
        clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._plans = plans
        self._metrics = metrics
        self._pool = pool
        self._clock = clock
        self._told: dict[str, _Told] = {}  # by uid

    def tell(self, waiting: Collection[Pod], raws: Mapping[str, Raw]) -> None:
        """Tell those of the pods that wait since the pass before for a place in the same plan."""
        newest = self._plans.newest()
        if newest is None or not newest.open:
            self._told = {}
            return
        plan, steps = newest.published.name, _steps(newest)
        held = {hold.uid for hold in newest.published.plan.holds}
        for pod in waiting:
            if pod.uid not in steps and pod.uid not in held:
                steps[pod.uid] = in_place_of_victims(pod, newest.published)
        there = {pod.uid: pod for pod in waiting if pod.waiting and steps.get(pod.uid)}
        known = {uid: told for uid, told in self._told.items() if told.plan == plan}
        self._told = {uid: known.get(uid, _Told(plan=plan)) for uid in there}
        late = [uid for uid in known if uid in there and self._is_late(known[uid], steps[uid])]
        late = sorted(late, key=lambda uid: known[uid].at)[:_MOST]
        done = self._pool.map(lambda uid: self._tell(there[uid], raws[uid], steps[uid]), late)
        for uid, is_told in zip(late, done, strict=True):
            text = steps[uid] if is_told else known[uid].text
            self._told[uid] = _Told(plan=plan, text=text, at=self._clock())

    def _is_late(self, told: _Told, text: str) -> bool:
        """Return whether a pod is to be told this now.

        Somebody may be at it to mend what hangs: that it does, and no longer, is told at once.
        """
        urgent = (HANGS in told.text) != (HANGS in text)
        return text != told.text and (urgent or self._clock() - told.at >= _AGAIN_S)

    def _tell(self, pod: Pod, raw: Raw, text: str) -> bool:
        """Tell a pod; return whether that was possible."""
        # As it was seen: it may be released at this moment, and is told its node then.
        version = raw["metadata"]["resourceVersion"]
        said = {names.ANNOTATION_DECISION: text}
        body = {"metadata": {"uid": pod.uid, "resourceVersion": version, "annotations": said}}
        try:
            self._kube.merge(pod_path(pod.key), body, manager=names.MANAGER_STATUS)
        except ApiException as error:
            note_failure(error, pod=pod.key, purpose="tell", metrics=self._metrics)
            return False
        return True


def _steps(decision: Decision) -> dict[str, str]:
    """Return how far the places are that a plan gives, in words, by the uid of the pod."""
    told = {
        step["pod"]: step["message"]
        for part in decision.parts
        for step in part.status.get("steps", ())
        if step["type"] == "Bind"
    }
    return {
        bind.uid: f"{decision.published.name} gives it {bind.node}: {told[str(bind.pod)]}"
        for bind in decision.published.plan.binds
        if str(bind.pod) in told
    }
