"""Nothing waits for ever on us: gates without a planner, hopeless pins, and partial gangs.

A pass looks at the planner's lease; while it is silent for too long, or says that every pass fails,
the gates of waiting pods are lifted without a pin. It also calls partial gangs back whose rest
waits in vain (`plans.partial_gangs`), replaces pods whose pin cannot be kept (`pins`), and tells
pods what they wait for (`promises`).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from datetime import datetime
from typing import Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan import gates
from bayplan.api import names
from bayplan.api.packing_plan import Refuser
from bayplan.cluster.keys import PodKey
from bayplan.cluster.pods import Pod
from bayplan.codec import mistake_in, other_gates_in, oversight_in
from bayplan.codec.releases import ungate_patch
from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.kube import PODS, Kube, Raw, lease_path, pod_path
from bayplan_operator.cluster.observation import Observation, observe
from bayplan_operator.cluster.patches import note_failure
from bayplan_operator.cluster.policies import read_policy
from bayplan_operator.metrics import Metrics
from bayplan_operator.pins import Pins
from bayplan_operator.plans.memory import Plans
from bayplan_operator.plans.partial_gangs import PartialGangs
from bayplan_operator.plans.recalls import Recalls
from bayplan_operator.plans.rejections import Rejections
from bayplan_operator.promises import Promises

_log = structlog.get_logger()

#: Bounds of the seconds between two looks at the lease.
_MIN_LOOK_S: Final = 0.5
_MAX_LOOK_S: Final = 10.0


class Gates:
    """Watches the planner on behalf of the pods that wait for it.

    `away_s` is the time-out while no planner is alive, else 0; deployments tell it in their
    status. `rejections` is to be told of what becomes of pods.
    """

    def __init__(  # noqa: PLR0913 - what it works with, handed down once
        self,
        kube: Kube,
        plans: Plans,
        events: Events,
        metrics: Metrics,
        *,
        namespace: str,
        pool: Executor,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.away_s = 0.0
        self._kube = kube
        self._events = events
        self._metrics = metrics
        self._namespace = namespace
        self._pool = pool
        self._now = now
        self._clock = clock
        self._plans = plans
        self.rejections = Rejections(kube, now=now)
        self._recalls = Recalls(kube, plans, now=now)
        self._pins = Pins(kube, events, self._recalls, pool=pool)
        self._partial_gangs = PartialGangs(
            kube, plans, events, metrics, self._recalls, now=now, clock=clock
        )
        self._promises = Promises(kube, plans, metrics, pool=pool, clock=clock)
        self._watched_since = clock()
        self._renewal = ("", 0.0)
        self._seen_at: dict[str, float] = {}
        self._mistakes: Mapping[tuple[str, str], str] = {}

    def reconcile(self) -> float:
        """Do one pass; return the seconds after which another one is wanted."""
        now, at = self._now().timestamp(), self._clock()
        # 1. See whether a planner is alive, and who waits or is pinned.
        signs = self._signs(at)
        seen = observe(self._kube, self._pool, ())
        unbound = seen.unbound()
        self.away_s = signs.timeout_s if signs.away_s(at) else 0.0
        # 2. Lift the gates that have waited long enough.
        promised = self._plans.bound_by_open()
        free = [pod for pod in unbound if pod.uid not in promised]
        self._seen_at = {pod.uid: self._seen_at.get(pod.uid, at) for pod in free}
        overdue = gates.overdue(free, signs, self._seen_at, at=at, now=now)
        list(self._pool.map(lambda pod: self._lift(pod, seen.raws[pod.uid]), overdue))
        # 3. Remember whom kubelets refused, and forget whom nobody would refuse again.
        for pod, raw in self.rejections.take():
            self._recalls.note_one(pod, raw, by=Refuser.KUBELET)
        self._recalls.review(unbound, seen.raws)
        # 4. Call a partial gang back whose rest waits in vain, before any of that is made anew.
        self._pins.look(seen, at=at)
        stuck, refused = self._pins.stuck(at=at), self._pins.refused(at=at)
        partial_s = self._partial_gangs.reconcile(unbound, stuck, refused=refused)
        # 5. Replace pods whose pins cannot be kept.
        pin_s = self._pins.replace(seen.raws, at=at)
        # 6. Tell those who have a place what they wait for there.
        self._promises.tell(unbound, seen.raws)
        # 7. Tell on pods that cannot be read, or not in full, that nobody looks for, or that others
        # hold.
        self._tell_mistakes(seen)
        wanted = [_MAX_LOOK_S, signs.timeout_s / 4, partial_s, pin_s]
        return max(_MIN_LOOK_S, min(s for s in wanted if s is not None))

    def _signs(self, at: float) -> gates.PlannerSigns:
        """Return what the lease tells; only that it changes counts, not what its clock says.

        A renewal by one whose passes fail is no sign of life: nobody is helped by it.
        """
        lease = self._kube.get(lease_path(self._namespace)) or {}
        said = (lease.get("metadata") or {}).get("annotations") or {}
        renewed = (lease.get("spec") or {}).get("renewTime") or ""
        fails = said.get(names.ANNOTATION_PASSES) == names.PASSES_FAIL
        if renewed != self._renewal[0] and not fails:
            self._renewal = (renewed, at)
        return gates.PlannerSigns(
            renewed_at=self._renewal[1] if self._renewal[0] else None,
            watched_since=self._watched_since,
            timeout_s=read_policy(self._kube).gate_timeout_s,
        )

    def _lift(self, pod: Pod, raw: Raw) -> None:
        note = f"no planner has worked for {self.away_s:.0f} s: the default algorithm places it"
        patch = ungate_patch(raw, {names.ANNOTATION_DECISION: note})
        try:
            self._kube.patch(pod_path(pod.key), patch, manager=names.MANAGER_PODS)
        except ApiException as error:  # the next pass tries again, whatever it is
            note_failure(error, pod=pod.key, purpose="lift", metrics=self._metrics)
            return
        self._metrics.gates_lifted.inc()
        self._events.tell(About.pod(pod.key, pod.uid), "GatesLifted", "Lift", note, warning=True)
        _log.warning("gate_lifted", pod=str(pod.key), timeout_s=self.away_s)

    def _tell_mistakes(self, seen: Observation) -> None:
        overlooked = {raw["metadata"]["uid"]: raw for raw in self._overlooked()}
        waiting = {pod.uid: seen.raws[pod.uid] for pod in seen.unbound()}
        found = {(uid, "OtherGates"): other_gates_in(raw) for uid, raw in waiting.items()}
        found |= {(uid, "Unreadable"): mistake_in(raw) for uid, raw in waiting.items()}
        found |= {
            (uid, "Unreadable"): f"cannot be planned, correct it: {why}"
            for uid, why in seen.unreadable.items()
        }
        found |= {(uid, "Overlooked"): oversight_in(raw) for uid, raw in overlooked.items()}
        raws = {**seen.raws, **overlooked}
        for (uid, reason), note in found.items():
            if note and self._mistakes.get((uid, reason)) != note:
                self._tell_once(raws[uid]["metadata"], reason, note)
        self._mistakes = found

    def _tell_once(self, metadata: Raw, reason: str, note: str) -> None:
        pod = PodKey(namespace=metadata["namespace"], name=metadata["name"])
        about, wrong = About.pod(pod, metadata["uid"]), reason != "OtherGates"
        self._events.tell(about, reason, "Hold", note, warning=wrong)
        if wrong:
            _log.warning(f"pod_{reason.lower()}", pod=str(pod), problem=note)

    def _overlooked(self) -> Iterator[Raw]:
        """Yield the pods of our scheduler without a node that `observe` does not look for."""
        fields = f"spec.nodeName=,spec.schedulerName={names.SCHEDULER}"
        yield from self._kube.pages(PODS, labels=f"{names.LABEL_MANAGED}!=true", fields=fields)
