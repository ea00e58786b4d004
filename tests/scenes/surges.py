"""Moves whose replacement starts first, on two nodes that are looked at once."""

from collections.abc import Iterable
from dataclasses import replace

from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.keys import NodeName, Owner
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.inference.drains import DrainState
from bayplan.inference.replacements import Failing, Outlook
from bayplan.plan import Move, Plan
from bayplan.policy import Policy
from bayplan.steps import (
    DrainPod,
    EvictPod,
    Progress,
    StartPod,
    SurgeContext,
    advance,
)
from tests.builders import node, pod, snapshot
from tests.scenes.steps import bind, plan

CHAT = Owner(kind="InferenceDeployment", namespace="default", name="chat", uid="chat")


def move(name: str, source: str, target: str, owner: Owner = CHAT) -> Move:
    """Return a move of the pod that `serving(name)` makes."""
    return Move(
        pod=pod(name).key,
        uid=f"uid-{name}",
        source=NodeName(source),
        target=NodeName(target),
        owner=owner,
        priority=0,
    )


def serving(name: str, on: str, *, gpus: int = 4, **fields: object) -> Pod:
    """Return a pod of `chat` on a node."""
    return replace(pod(name, gpus=gpus, on=on, owner="chat"), **fields)  # type: ignore[arg-type]


def starting(name: str, on: str, of: str, *, ready: bool = False, gpus: int = 4) -> Pod:
    """Return the replacement of a pod, bound to its node."""
    health = Health.READY if ready else Health.UNREADY
    made = serving(name, on, gpus=gpus, health=health, serves_by=900, replaces=f"uid-{of}")
    return replace(made, disruption=Disruption.FIXED)


def may(
    *names: str,
    left: int = 1,
    doubled: int = 0,
    why: Failing = Failing.LATE,
    **more: Iterable[str],
) -> SurgeContext:
    """Return that pods of `chat` may be doubled, so many of them now."""
    able = frozenset(f"uid-{name}" for name in names)
    fields = {key: [f"uid-{name}" for name in value] for key, value in more.items()}
    return SurgeContext(
        outlooks={"chat": Outlook(able=able, left=left, doubled=doubled)},
        failed=dict.fromkeys(fields.get("failed", ()), why),
        refused=frozenset(fields.get("refused", ())),
    )


def look(  # noqa: PLR0913 - each argument is one thing a test may be about
    made: Plan,
    *things: Node | Pod | Budget,
    surge: SurgeContext,
    idle_s: float = 0,
    max_parallel: int = 10,
    drains: dict[str, DrainState] | None = None,
    now: float = 0,
) -> Progress:
    """Return the progress of a plan; `drains` are by the names of pods."""
    return advance(
        made,
        snapshot(*things),
        Policy(max_parallel_moves=max_parallel),
        idle_s=idle_s,
        now=now,
        drains={f"uid-{name}": drain for name, drain in (drains or {}).items()},
        surge=surge,
    )


def done(progress: Progress) -> list[str]:
    """Return the steps in words."""
    verbs = {StartPod: "start", DrainPod: "drain", EvictPod: "evict"}
    return [f"{verbs.get(type(step), 'other')} {step.pod.name}" for step in progress.todo]


SERVES = DrainState()
DRAINS = DrainState(begun=True, ends_by=60, left_s=30)
HAS_DRAINED = DrainState(begun=True, over=True)

#: A pod that waits for a whole node, and the one that moves off it.
SCENE = (node("n1"), node("n2"), serving("v", "n1"), pod("w", gpus=8))
MADE = plan(bind("w", "n1"), move("v", "n1", "n2"))
