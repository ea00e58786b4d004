"""Plans made by hand for tests of `bayplan.steps`, and what is told of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bayplan import steps
from bayplan.cluster.keys import GangKey, NodeName, Owner, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.inference.drains import DrainState
from bayplan.plan import (
    Bind,
    Certificate,
    Evict,
    Hold,
    Move,
    Plan,
    Reason,
    Rejection,
    Verdict,
    plan_of,
)
from bayplan.policy import Order, Policy
from bayplan.steps import DrainPod, EvictPod, Progress, ReleasePod, Step
from tests.builders import pod, snapshot

CERTIFICATE = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)


def key(name: str) -> PodKey:
    """Return the key of a pod of the builders."""
    return PodKey(namespace="default", name=name)


def bind(name: str, on: str, gang: str | None = None) -> Bind:
    """Return a bind of the pod that `pod(name)` makes."""
    made = GangKey(namespace="default", name=gang) if gang else None
    return Bind(pod=key(name), uid=f"uid-{name}", node=NodeName(on), gang=made)


def move(name: str, source: str, target: str, owner: Owner | None = None) -> Move:
    """Return a move of the pod that `pod(name)` makes."""
    return Move(
        pod=key(name),
        uid=f"uid-{name}",
        source=NodeName(source),
        target=NodeName(target),
        owner=owner or Owner(kind="ReplicaSet", namespace="default", name=name, uid=name),
        priority=0,
    )


def evict(name: str, on: str, gang: str | None = None) -> Evict:
    """Return an eviction of the pod that `pod(name)` makes."""
    made = GangKey(namespace="default", name=gang) if gang else None
    return Evict(pod=key(name), uid=f"uid-{name}", node=NodeName(on), priority=0, gang=made)


def hold(name: str) -> Hold:
    """Return a hold of the pod that `pod(name)` makes."""
    rejection = Rejection(reason=Reason.NO_NODES, message="there are no nodes")
    return Hold(pod=key(name), uid=f"uid-{name}", rejection=rejection)


def plan(*actions: Bind | Move | Evict | Hold) -> Plan:
    """Return the plan of these actions."""
    return plan_of(CERTIFICATE, actions)


def advance(  # noqa: PLR0913 - each argument is one thing a test may be about
    made: Plan,
    *things: Node | Pod,
    idle_s: float = 0,
    max_parallel: int = 10,
    drains: Mapping[str, DrainState] | None = None,
    now: float = 0,
    stragglers: Sequence[int] = (),
) -> Progress:
    """Return the progress of a plan on the cluster of these nodes and pods.

    `drains` are by the names of pods.
    """
    policy = Policy(max_parallel_moves=max_parallel)
    by_uid = {f"uid-{name}": drain for name, drain in (drains or {}).items()}
    return steps.advance(
        *(made, snapshot(*things), policy),
        idle_s=idle_s,
        now=now,
        drains=by_uid,
        stragglers=stragglers,
    )


def told(progress: Progress) -> list[str]:
    """Return the reports as lines."""
    return [f"{r.type} {r.pod.name} {r.state}: {r.message}" for r in progress.reports]


def done(progress: Progress) -> list[str]:
    """Return the steps as lines."""
    return [_line(step) for step in progress.todo]


def _line(step: Step) -> str:
    if isinstance(step, EvictPod):
        return f"evict {step.pod.name} from {step.node}"
    if not isinstance(step, ReleasePod):
        return f"{'drain' if isinstance(step, DrainPod) else 'serve'} {step.pod.name}"
    tail = f" for {step.replaces}" if step.replaces else ""
    return f"release {step.pod.name} to {step.node}{tail}"


def pinned(name: str, on: str, **more: object) -> Pod:
    """Return a pod that was released to a node and is not bound yet."""
    return replace(pod(name, on=on, **more), bound=False, disruption=Disruption.FIXED)  # type: ignore[arg-type]


SERVES = DrainState()
BUSY = DrainState(begun=True, yields=True, ends_by=1_780_000_000, left_s=200)
IDLE = DrainState(begun=True, over=True, yields=True, ends_by=1_780_000_000)
