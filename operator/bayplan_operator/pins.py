"""Pins that have become traps: since when they are, and a fresh pod in the place of each.

`bayplan.gates` decides which pins can never be kept; kube-scheduler says which it refuses. Both may
pass, so there is a time of grace. It is short for pods of gangs, for others of them may run
meanwhile and be of no use. There is none where somebody has shut the node, which lasts: of broken
hardware only our webhook knows, and kube-scheduler asks it again at each event of the cluster.
A pod that is merely queued in a slow scheduler is in no trap at all.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import structlog

from bayplan import gates
from bayplan.api import names
from bayplan.api.packing_plan import Refuser
from bayplan.cluster.pods import Pod
from bayplan.steps import STALL_S
from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.evictions import evict
from bayplan_operator.cluster.kube import Kube, Raw
from bayplan_operator.cluster.observation import Observation, observe
from bayplan_operator.plans.recalls import Recalls

_log = structlog.get_logger()

#: Seconds for which a pin must have been hopeless before its pod is replaced, and one of a gang.
_STRANDED_GRACE_S: Final = 30.0
_STRANDED_GANG_S: Final = 5.0

#: The first for a pin that kube-scheduler refuses, where it may accept it yet while the plan waits:
#: until a volume or a device is there, a pod that is not wanted beside it has left, or others of
#: its plan are bound. What it says of one that was offered to node autoscalers may be from before
#: it had a home. Any other one has been tried again by then, ten seconds after the last time at
#: most.
_REFUSED_GRACE_S: Final = STALL_S + _STRANDED_GRACE_S

#: Seconds after which kube-scheduler's refusal of one keeps a gang from becoming whole: as long as
#: it waits at most until it tries a pod again. One that was offered gets all of the time here, too.
_REFUSED_GANG_S: Final = 10.0

#: Owners to whom it is no failure that a pod is evicted which never ran. A Job counts it, and is
#: over if its `backoffLimit` says so; what others make of it is not known: all of the time.
_FORGIVING: Final = frozenset({"ReplicaSet", "StatefulSet", names.KIND_DEPLOYMENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trap:
    """What is wrong with a pod's pin, and after how many seconds it is replaced, and is stuck.

    `refused` says that only kube-scheduler knows what is wrong.
    """

    pod: Pod
    why: str
    replaced_s: float
    stuck_s: float
    refused: bool = False


class Pins:
    """Knows the pins that are hopeless as of the last look, and since when."""

    def __init__(self, kube: Kube, events: Events, recalls: Recalls, *, pool: Executor) -> None:
        self._kube = kube
        self._events = events
        self._recalls = recalls
        self._pool = pool
        self._traps: tuple[tuple[_Trap, float], ...] = ()
        self._reported: set[str] = set()
        self._refused: dict[str, float] = {}

    def look(self, seen: Observation, *, at: float) -> None:
        """See which pins are hopeless; `at` is in seconds of a clock that never jumps."""
        pinned = [pod for pod in seen.unbound() if _is_pinned_by_us(pod, seen.raws)]
        self._reported &= {pod.uid for pod in pinned}
        # What is wrong may be another thing in each look: none of them lasts, and the pod waits on.
        self._refused = {p.uid: self._refused.get(p.uid, at) for p in pinned if p.refused}
        before = {_same(trap): since for trap, since in self._traps}
        found = self._found(pinned, seen.raws)
        self._traps = tuple((trap, before.get(_same(trap), at)) for trap in found)

    def stuck(self, *, at: float) -> Mapping[str, str]:
        """Return why pods of gangs cannot be bound, and have not been for some time, by uid."""
        return {trap.pod.uid: trap.why for trap in self._stuck(at)}

    def refused(self, *, at: float) -> frozenset[str]:
        """Return the uids of those of them of which only kube-scheduler knows why."""
        return frozenset(trap.pod.uid for trap in self._stuck(at) if trap.refused)

    def replace(self, raws: Mapping[str, Raw], *, at: float) -> float | None:
        """Replace the pods whose time of grace is over.

        Return the seconds until the next one's is, or it counts as stuck; None without any.
        """
        overdue = {
            trap.pod.uid: trap
            for trap, since in self._traps
            if at - since >= trap.replaced_s or self._is_refused_for_long(trap.pod, at)
        }
        for uid, trap in overdue.items():
            if trap.pod.owner is not None:
                self._replace(trap, raws[uid])
            elif uid not in self._reported:
                self._report(trap)
        ends = (since + s for trap, since in self._traps for s in (trap.stuck_s, trap.replaced_s))
        return min((end - at for end in ends if end > at), default=None)

    def _is_refused_for_long(self, pod: Pod, at: float) -> bool:
        return at - self._refused.get(pod.uid, at) >= _REFUSED_GRACE_S

    def _stuck(self, at: float) -> Iterator[_Trap]:
        for trap, since in self._traps:
            if trap.pod.gang is not None and at - since >= trap.stuck_s:
                yield trap

    def _found(self, pinned: Iterable[Pod], raws: Mapping[str, Raw]) -> Iterator[_Trap]:
        pods = {pod.uid: pod for pod in pinned}
        nodes = {pod.node for pod in pods.values() if pod.node is not None}
        if not nodes:
            return
        there = observe(self._kube, self._pool, nodes).snapshot
        shut_out = gates.shut_out(there, pods.values())
        stranded = gates.stranded(there, pods.values())
        ill = {node.name for node in there.nodes if not node.ready}
        for uid, why in stranded.items():
            grace_s = 0.0 if uid in shut_out else _grace_s(pods[uid], ill)
            yield _Trap(pod=pods[uid], why=why, replaced_s=grace_s, stuck_s=grace_s)
        left = {pod.node for pod in there.pods if pod.terminating or pod.gives_way_by}
        # Where it is known what is wrong, that is no riddle of kube-scheduler's to be remembered.
        for pod in (pod for uid, pod in pods.items() if pod.refused and uid not in stranded):
            why = f"kube-scheduler refuses it there: {pod.refused}"[:300].rstrip(".")
            stuck_s = _REFUSED_GRACE_S if pod.offered else _REFUSED_GANG_S
            is_left = pod.gang is None and pod.node in left
            waits = is_left or _may_pass(pod, raws[pod.uid]) or _is_counted(pod)
            replaced_s = _REFUSED_GRACE_S if waits else _STRANDED_GRACE_S
            yield _Trap(pod=pod, why=why, replaced_s=replaced_s, stuck_s=stuck_s, refused=True)

    def _report(self, trap: _Trap) -> None:
        """Tell of a pod that never runs where it is pinned, and would be lost if it were evicted.

        Once, for as long as we live: its reason may be another one in each pass.
        """
        self._reported.add(trap.pod.uid)
        note = (
            f"it cannot be bound where it is pinned: {trap.why}; nobody makes it again, so it is"
            " left there: delete it and make it anew"
        )
        about = About.pod(trap.pod.key, trap.pod.uid)
        self._events.tell(about, "Stranded", "Hold", note, warning=True)
        _log.warning("stranded_pod_left", pod=str(trap.pod.key), reason=trap.why)

    def _replace(self, trap: _Trap, raw: Raw) -> None:
        """Evict a pod that never ran, so that its owner makes a gated one.

        Only as it was seen: it may be bound at this moment. The planner knows where not to put the
        other one before that is there.
        """
        pod, version, why = trap.pod, raw["metadata"]["resourceVersion"], trap.why
        if trap.refused:
            if evict(self._kube, pod.key, pod.uid, version=version, rehearse=True) != "":
                return  # nothing to remember yet: looked at again in the next pass
            why = self._recalls.note_one(pod, raw, by=Refuser.KUBE_SCHEDULER)
        if evict(self._kube, pod.key, pod.uid, version=version) != "":
            return  # refused, or changed meanwhile
        note = f"it could not be bound where it was pinned: {why}"
        self._events.tell(About.pod(pod.key, pod.uid), "Evicted", "Evict", note)
        _log.info("stranded_pod_replaced", pod=str(pod.key), reason=trap.why)


def _same(trap: _Trap) -> tuple[str, float, bool]:
    """Return what is equal for what is wrong with a pod in one look and in the next.

    What was wrong with its node is no refusal: kube-scheduler tries it again when that is over.
    """
    return trap.pod.uid, trap.replaced_s, trap.refused


def _grace_s(pod: Pod, ill: Collection[str]) -> float:
    """Return for how many seconds a pin must have been hopeless; who is `ill` may get well."""
    if pod.gang is not None:
        return _STRANDED_GANG_S
    return _REFUSED_GRACE_S if pod.node in ill and _is_counted(pod) else _STRANDED_GRACE_S


def _may_pass(pod: Pod, raw: Raw) -> bool:
    """Return whether kube-scheduler may refuse a pod for something that passes in a minute or two.

    It says so until the pod is bound, also while a volume is being made for it, or until the driver
    of a device that it claims has told of that.
    """
    claims = bool(pod.claims or raw["spec"].get("resourceClaims"))
    return pod.offered or claims or pod.constraints.peers is not None


def _is_counted(pod: Pod) -> bool:
    """Return whether its owner may count a pod as failed that is evicted before it ran."""
    return pod.owner is not None and pod.owner.kind not in _FORGIVING


def _is_pinned_by_us(pod: Pod, raws: Mapping[str, Raw]) -> bool:
    """Return whether a plan pinned a pod that is not bound yet."""
    annotations = raws[pod.uid]["metadata"].get("annotations") or {}
    pinned = pod.node is not None and not pod.terminating
    return pinned and names.ANNOTATION_PLAN in annotations
