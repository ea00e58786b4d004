"""Units of an InferenceDeployment by how far they are, and what is to happen to them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bayplan.api.pools import Role
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.resources import Resources
from bayplan.inference import readiness, rollout
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment, Pool, Rollout
from bayplan.inference.rollout import Changes
from bayplan.inference.tally import News, Tally
from bayplan.inference.units import Around
from bayplan.plan import Hold, Reason, Rejection
from tests.scenes.children import fill, unit_slots

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
NODE = NodeName("n1")


def chat(version: str, *, replicas: int = 3, **how: Any) -> Deployment:  # noqa: ANN401 - fields
    """Return a deployment of units of one prefill and one decode pod."""
    pools = tuple(
        Pool(name=role.lower(), role=role, count=1, template={"spec": version}, requests=_NONE)
        for role in (Role.PREFILL, Role.DECODE)
    )
    return Deployment(
        namespace="ns",
        name="chat",
        uid="u-chat",
        replicas=replicas,
        min_replicas=replicas,
        pools=pools,
        rollout=Rollout(**how),
    )


_NONE = Resources()


def unit(of: Deployment, index: int, **state: Any) -> list[Child]:  # noqa: ANN401 - fields of Child
    """Return the pods of one unit, serving unless something else is said."""
    state = {"node": NODE, "ready": True, "created_at": NOW_S - 60, **state}
    return [
        fill(slot, **{"uid": f"{slot.name}-{of.revision}", **state})
        for slot in unit_slots(of, index, of.revision)
    ]


def waiting(of: Deployment, index: int) -> list[Child]:
    """Return the gated pods of one unit."""
    return unit(of, index, node=None, ready=False)


def units(of: Deployment, *indices: int) -> list[Child]:
    """Return units that serve."""
    return [pod for index in indices for pod in unit(of, index)]


def uids(pods: Iterable[Child]) -> set[str]:
    """Return the uids of pods."""
    return {pod.uid for pod in pods}


def told(
    of: Deployment,
    seen: list[Child],
    **state: Any,  # noqa: ANN401 - fields of News
) -> tuple[str, str, str]:
    """Return the condition Progressing."""
    status = status_of(of, seen, **state)
    condition = next(c for c in status["conditions"] if c["type"] == "Progressing")
    return condition["status"], condition["reason"], condition["message"]


def status_of(
    of: Deployment,
    seen: list[Child],
    **state: Any,  # noqa: ANN401 - fields of News
) -> dict[str, Any]:
    """Return the status that the operator would write."""
    rolled_out = state.pop("rolled_out", "")
    news = News(**state)
    held = {hold.uid for hold in news.holds}
    around = Around(held=held, cordoned={LEFT}, away={AWAY})
    found = rollout.changes(of, seen, around=around, now=NOW_S)
    tally = Tally.of(of, seen, around)
    return readiness.status(tally, found, news, before={"revision": rolled_out}, now=NOW)


def hold(pod: Child) -> Hold:
    """Return what a plan says about a pod that does not fit."""
    rejection = Rejection(reason=Reason.GANG_DOES_NOT_FIT, message="needs 8 GPUs; none is free")
    return Hold(pod=PodKey(namespace="ns", name=pod.name), uid=pod.uid, rejection=rejection)


OLD, NEW = chat("old"), chat("new")


def going(found: Changes) -> set[int]:
    """Return the units of which pods are deleted."""
    return {pod.unit for pod in found.delete}


def coming(found: Changes) -> set[int]:
    """Return the units of which pods are made."""
    return {slot.unit for slot in found.create}


LEFT, AWAY = NodeName("left"), NodeName("away")


def on(node: NodeName, of: Deployment, *indices: int) -> list[Child]:
    """Return units that serve on a node."""
    return [pod for index in indices for pod in unit(of, index, node=node)]


def out(index: int, *, since: int) -> list[Child]:
    """Return a unit that was taken out of service some seconds ago."""
    return unit(NEW, index, ready=False, switched=True, drains_since=NOW_S - since)


def in_service(*indices: int) -> list[Child]:
    """Return units in service."""
    return [p for n in indices for p in unit(NEW, n, switched=True, in_service=True)]


def yielding(index: int, *, since: int) -> list[Child]:
    """Return a unit that was taken out of service some seconds ago, for a plan."""
    return [replace(pod, yields=True) for pod in out(index, since=since)]
