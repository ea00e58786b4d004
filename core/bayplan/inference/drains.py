"""Taking units out of service before they go: no new requests, then no requests, then no pods.

    serves ──in-service: False──▶ gateways stop sending ──engine is idle, or time is up──▶ deleted

The pods of a deployment have a readiness gate, the condition `bayplan.dev/in-service`. It is True
from the moment a pod has a node; it is set to False to take the pod out of every Service and
gateway while its engine goes on. When that was is kept in the condition, so that nothing is
forgotten when the operator is started anew; a unit that is wanted again is put back.

Two decide on it. Units that are to go are taken out here; what a plan makes leave is taken out by
who carries the plan out (`drain_state`), and the condition says so: such a pod *yields*. As long as
that plan is at work it is left alone here, and then put back.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment

#: Seconds that gateways get to notice, whatever the engines say.
NOTICE_S: Final = 5

#: Seconds between two looks at the engines of a unit that is out of service.
LOOK_S: Final = 2

#: Seconds by which a pod may have been taken out of service after the instant that its condition
#: says: instants of Kubernetes are cut off to whole seconds.
_CUT_OFF_S: Final = 1

#: Seconds after which a PodDisruptionBudget surely tells that a pod is not ready: its controller
#: has counted again. Mostly that takes less than one.
_COUNT_S: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Drains:
    """What to do about units that are to go.

    Attributes:
        delete: Pods that nothing keeps any more.
        drain: Pods to take out of service now.
        again_at: When to look again, in seconds since the epoch.
    """

    delete: tuple[Child, ...] = ()
    drain: tuple[Child, ...] = ()
    again_at: float | None = None


def drained(
    deployment: Deployment,
    going: Iterable[Sequence[Child]],
    loads: Mapping[str, int | None],
    *,
    now: float,
) -> Drains:
    """Return which pods of those that are `going` to delete, and which to let finish first.

    Those of one unit end together: its decode pods need its prefill pods until the last request is
    done.
    """
    delete: list[Child] = []
    drain: list[Child] = []
    again_at = math.inf
    for pods in going:
        serving = [pod for pod in pods if pod.switched and pod.serves]
        until = _until(deployment.drain_s, serving, loads)
        if now >= until:
            delete += pods
            continue
        drain += [pod for pod in serving if not pod.drains_since]
        again_at = min(again_at, until, now + LOOK_S)
    return Drains(
        delete=tuple(delete),
        drain=tuple(drain),
        again_at=again_at if again_at < math.inf else None,
    )


def to_serve(
    stay: Iterable[Child], *, but: Collection[str], leaving: Collection[str]
) -> tuple[Child, ...]:
    """Return the pods, of those that stay, which are to be put into service, or back into it.

    `but` are uids of those that are to go. Those that yield to a plan at work, which makes the pods
    with the uids `leaving` leave, are left alone.
    """
    pods = (pod for pod in stay if pod.switched and not pod.ended)
    out = (pod for pod in pods if pod.node is not None and not pod.in_service)
    kept = (pod for pod in out if pod.uid not in but)
    return tuple(pod for pod in kept if not (pod.yields and pod.uid in leaving))


def to_serve_whatever_is_asked(
    pods: Iterable[Child], leaving: Collection[str]
) -> tuple[Child, ...]:
    """Return the pods to put into service while nobody can read what their deployment asks.

    Those that a plan took out which does not make them leave any more, as `leaving` says, and those
    that have come to run meanwhile. What its unit took out may be wanted or not, and stays out.
    """
    live = (pod for pod in pods if pod.switched and pod.counts and pod.node is not None)
    out = (pod for pod in live if not pod.in_service and (pod.yields or not pod.drains_since))
    return tuple(pod for pod in out if not (pod.yields and pod.uid in leaving))


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainState:
    """How far a pod is that finishes its requests before a plan makes it leave.

    Attributes:
        begun: Whether it was taken out of service.
        over: Whether nothing keeps it any more.
        yields: Whether it was taken out for a plan, which puts it back if it may stay.
        counted: Whether it is not ready, and its PodDisruptionBudget has had the time to notice.
        ends_by: When it is over at the latest, in seconds since the epoch; 0 before it has begun.
        left_s: Seconds until then.
    """

    begun: bool = False
    over: bool = False
    yields: bool = False
    counted: bool = False
    ends_by: int = 0
    left_s: float = 0


def drain_state(
    pod: Child, loads: Mapping[str, int | None], *, drain_s: int, now: float
) -> DrainState:
    """Return how far a pod is that may take `drain_s` seconds; one that does not serve is over."""
    serving = [pod] if pod.switched and pod.serves else []
    ends_by = pod.drains_since + _CUT_OFF_S + drain_s if pod.drains_since else 0
    return DrainState(
        begun=bool(pod.drains_since),
        over=now >= _until(drain_s, serving, loads),
        yields=pod.yields,
        counted=not pod.ready and now >= max(pod.drains_since, pod.unready_since) + _COUNT_S,
        ends_by=ends_by,
        left_s=max(0.0, ends_by - now),
    )


def _until(drain_s: int, serving: Sequence[Child], loads: Mapping[str, int | None]) -> float:
    """Return the instant until which pods are kept, as far as one knows now."""
    if not serving or not drain_s:
        return -math.inf
    if not all(pod.drains_since for pod in serving):
        return math.inf
    since = max(pod.drains_since for pod in serving) + _CUT_OFF_S
    busy = any(loads.get(pod.uid, 0) != 0 for pod in serving)
    return since + (drain_s if busy else min(NOTICE_S, drain_s))
