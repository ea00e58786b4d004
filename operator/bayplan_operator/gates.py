"""Nothing waits for ever on us: gates without a planner, and pins that have become traps.

A pass looks at the planner's lease; while it is silent for too long, or says that every pass fails,
the gates of waiting pods are lifted without a pin. It also replaces pods whose pin cannot be kept
(`bayplan.gates` decides), calls half a gang back whose rest waits in vain, and tells pods what they
wait for.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from datetime import datetime
from typing import Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan import gates
from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan.cluster.snapshot import Pod
from bayplan.codec import mistake_in, other_gates_in, oversight_in
from bayplan.codec.releases import ungate_patch
from bayplan.steps import STALL_S
from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.evictions import evict
from bayplan_operator.cluster.kube import PODS, Kube, Raw, lease_path, pod_path
from bayplan_operator.cluster.observation import Observation, observe
from bayplan_operator.cluster.patches import note_failure
from bayplan_operator.cluster.policies import read_policy
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.halves import Halves
from bayplan_operator.plans.memory import Plans
from bayplan_operator.promises import Promises

_log = structlog.get_logger()

#: Seconds for which a pin must have been hopeless before its pod is replaced.
_STRANDED_GRACE_S: Final = 30.0

#: The same for a pin that kube-scheduler refuses, which it may yet accept while the plan waits.
_REFUSED_GRACE_S: Final = STALL_S + _STRANDED_GRACE_S

#: Bounds of the seconds between two looks at the lease.
_MIN_LOOK_S: Final = 0.5
_MAX_LOOK_S: Final = 10.0


class Gates:
    """Watches the planner on behalf of the pods that wait for it.

    `away_s` is the time-out while no planner is alive, else 0; deployments tell it in their
    status.
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
        self._halves = Halves(kube, plans, events, metrics, clock=clock)
        self._promises = Promises(kube, plans, metrics, pool=pool, clock=clock)
        self._watched_since = clock()
        self._renewal = ("", 0.0)
        self._seen_at: dict[str, float] = {}
        self._hopeless_since: dict[tuple[str, float], float] = {}
        self._mistakes: Mapping[tuple[str, str], str] = {}
        self._mourned: set[str] = set()

    def reconcile(self) -> float:
        """Do one pass; return the seconds after which another one is wanted."""
        now, at = self._now().timestamp(), self._clock()
        # 1. See whether a planner is alive, and who waits or is pinned.
        signs = self._signs(at)
        seen = observe(self._kube, self._pool, ())
        self.away_s = signs.timeout_s if signs.away_s(at) else 0.0
        # 2. Lift the gates that have waited long enough.
        promised = self._plans.bound_by_open()
        free = [pod for pod in seen.unbound() if pod.uid not in promised]
        self._seen_at = {pod.uid: self._seen_at.get(pod.uid, at) for pod in free}
        overdue = gates.overdue(free, signs, self._seen_at, at=at, now=now)
        list(self._pool.map(lambda pod: self._lift(pod, seen.raws[pod.uid]), overdue))
        # 3. Replace pods whose pins cannot be kept.
        self._replace_stranded(seen, at=at)
        # 4. Call half a gang back for which there is no rest.
        self._halves.reconcile(seen.unbound())
        # 5. Tell those who have a place what they wait for there.
        self._promises.tell(seen.unbound(), seen.raws)
        # 6. Tell on pods that cannot be read, or not in full, that nobody looks for, or that others
        # hold.
        self._tell_mistakes(seen)
        return min(_MAX_LOOK_S, max(_MIN_LOOK_S, signs.timeout_s / 4))

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

    def _replace_stranded(self, seen: Observation, *, at: float) -> None:
        pinned = {p.uid: p for p in seen.unbound() if _is_pinned_by_us(p, seen.raws)}
        self._mourned &= pinned.keys()
        refusals = {uid: _refused(pod) for uid, pod in pinned.items() if pod.refused}
        stranded = self._stranded(pinned.values())
        reasons = {(uid, _REFUSED_GRACE_S): why for uid, why in refusals.items()}
        reasons |= {(uid, _STRANDED_GRACE_S): why for uid, why in stranded.items()}
        self._hopeless_since = {about: self._hopeless_since.get(about, at) for about in reasons}
        overdue = {
            uid: reasons[uid, grace_s]
            for (uid, grace_s), since in self._hopeless_since.items()
            if at - since >= grace_s
        }
        for uid, why in overdue.items():
            if pinned[uid].owner is not None:
                self._replace(pinned[uid], why, seen.raws[uid])
            elif uid not in self._mourned:
                self._mourn(pinned[uid], why)

    def _stranded(self, pinned: Iterable[Pod]) -> Mapping[str, str]:
        nodes = {pod.node for pod in pinned if pod.node is not None}
        if not nodes:
            return {}
        return gates.stranded(observe(self._kube, self._pool, nodes).snapshot, pinned)

    def _mourn(self, pod: Pod, reason: str) -> None:
        """Tell of a pod that never runs where it is pinned, and would be lost if it were evicted.

        Once, for as long as we live: its reason may be another one in each pass.
        """
        self._mourned.add(pod.uid)
        note = (
            f"it cannot be bound where it is pinned: {reason}; nobody makes it again, so it is left"
            " there: delete it and make it anew"
        )
        self._events.tell(About.pod(pod.key, pod.uid), "Stranded", "Hold", note, warning=True)
        _log.warning("stranded_pod_left", pod=str(pod.key), reason=reason)

    def _replace(self, pod: Pod, reason: str, raw: Raw) -> None:
        """Evict a pod that never ran, so that its owner makes a gated one.

        Only as it was seen: it may be bound at this moment.
        """
        version = raw["metadata"]["resourceVersion"]
        if evict(self._kube, pod.key, pod.uid, version=version) != "":
            return  # refused, or changed meanwhile: looked at again in the next pass
        note = f"it could not be bound where it was pinned: {reason}"
        self._events.tell(About.pod(pod.key, pod.uid), "Evicted", "Evict", note)
        _log.info("stranded_pod_replaced", pod=str(pod.key), reason=reason)


def _refused(pod: Pod) -> str:
    return f"kube-scheduler refuses it there: {pod.refused}"[:300]


def _is_pinned_by_us(pod: Pod, raws: Mapping[str, Raw]) -> bool:
    """Return whether a plan pinned a pod that is not bound yet."""
    annotations = raws[pod.uid]["metadata"].get("annotations") or {}
    pinned = pod.node is not None and not pod.terminating
    return pinned and names.ANNOTATION_PLAN in annotations
