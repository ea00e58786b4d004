"""One PackingPlan object: what is written, and what is read back.

Who writes and reads plans sees whole ones, through `bayplan.codec.parts`; an object holds one, or
a part of one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bayplan.api import names
from bayplan.cluster.units import whole_number
from bayplan.codec.actions import action_manifest, action_of
from bayplan.codec.fields import Field, Raw, top
from bayplan.codec.recalls import Recall, recalled_in
from bayplan.codec.stages import folded
from bayplan.plan import (
    Certificate,
    Hold,
    Plan,
    Result,
    Stage,
    Verdict,
    actions_of,
    plan_of,
)
from bayplan.policy import Order

#: Phases in which nothing more happens to a plan.
FINISHED = frozenset({"Completed", "Superseded", "Failed"})

#: The state of a step that the API server does not admit.
_REFUSED = "Refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatus:
    """How far one action is, as the operator reported it.

    Attributes:
        pod: Namespace and name as "ns/name".
        type: Bind, Move or Evict.
        state: Waiting, Draining, Started, Done, Failed or Refused.
        message: The same in words.
    """

    pod: str
    type: str
    state: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPlan:
    """A plan as it stands in the API server, or the part of one that an object holds.

    Attributes:
        name: The object's name.
        uid: Its identity, for events.
        sequence: Number of the pass; the highest is the newest.
        plan: The decision, or the part of it.
        part: Which part it is, from 1; the first one's phase is that of the plan.
        parts: How many objects hold the plan.
        phase: Pending, Executing, Completed, Superseded or Failed.
        created_at: Seconds since the epoch.
        message: How far it is, in words.
        steps: How far each action is.
        truncated: Whether more pods are held than the objects list.
        finished_at: When nothing more was to be done, in seconds since the epoch; 0 before.
        refused: What the API server does not admit, by the uid of the pod that it is about.
        recalled: All who had been refused when this was the newest plan; None if that
            was not told then, and an older one tells it.
    """

    name: str
    uid: str
    sequence: int
    plan: Plan
    part: int = 1
    parts: int = 1
    phase: str = "Pending"
    created_at: int = 0
    message: str = ""
    steps: tuple[StepStatus, ...] = ()
    truncated: bool = False
    finished_at: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)
    recalled: tuple[Recall, ...] | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to it."""
        return self.phase in FINISHED


def plan_manifest(
    result: Result, *, sequence: int, part: int = 1, parts: int = 1, unlisted: int = 0
) -> dict[str, Any]:
    """Return the PackingPlan object of `result`, however large, or of one part of it.

    `unlisted` is the number of pods that are held beside those of the plan. Only the first part
    tells the stages.
    """
    plan, seconds = result.plan, dict(result.seconds).get("total", 0.0)
    certificate = plan.certificate
    stages = folded(certificate.stages) if part == 1 else ()
    return {
        "apiVersion": names.API_VERSION,
        "kind": "PackingPlan",
        "metadata": {"name": _name(sequence, part)},
        "spec": {
            "sequence": sequence,
            "part": part,
            "parts": parts,
            "order": certificate.order.value,
            "inputDigest": result.digest,
            "engine": result.engine,
            "verdict": certificate.verdict.value,
            "counts": _counts(plan, unlisted),
            "gap": round(certificate.gap, 4),
            "solveSeconds": round(seconds, 3),
            "display": {"gap": f"{certificate.gap:.2%}", "solve": f"{seconds:.2f}s"},
            "stages": [_stage_manifest(stage) for stage in stages],
            "actions": [action_manifest(action) for action in actions_of(plan)],
        },
    }


def _name(sequence: int, part: int) -> str:
    """Return the name of a plan, which is that of its first part, or of a further part."""
    return f"plan-{sequence:05d}" + (f"-part-{part}" if part > 1 else "")


def sequence_in(name: str) -> int:
    """Return the number of the plan in the name of an object; 0 where it is none of ours."""
    number = name.removeprefix("plan-").partition("-part-")[0]
    return whole_number(number) or 0


def published_plan_of(raw: Raw) -> PublishedPlan:
    """Return the plan that a PackingPlan object holds.

    Raises:
        DecodeError: A field cannot be read.
    """
    root = top(raw, "PackingPlan")
    spec = root.get("spec")
    certificate = Certificate(
        order=spec.get("order").choice(Order),
        verdict=spec.get("verdict").choice(Verdict),
        stages=tuple(_stage(stage) for stage in spec.get("stages").items()),
    )
    actions = [action_of(action) for action in spec.get("actions").items()]
    decided = PublishedPlan(
        name=root.get("metadata", "name").text(),
        uid=root.get("metadata", "uid").text(""),
        sequence=spec.get("sequence").integer(),
        plan=plan_of(certificate, actions),
        part=spec.get("part").integer(1),
        parts=spec.get("parts").integer(1),
        created_at=root.get("metadata", "creationTimestamp").instant(),
        truncated=spec.get("counts", "held").integer(0)
        > sum(isinstance(action, Hold) for action in actions),
    )
    return as_far_as(decided, raw)


def as_far_as(decided: PublishedPlan, raw: Raw) -> PublishedPlan:
    """Return a plan as far as its object says now that it is; what it decides never changes.

    Raises:
        DecodeError: A field of the status cannot be read.
    """
    status = top(raw, "PackingPlan").get("status")
    steps = tuple(_step_status(step) for step in status.get("steps").items())
    return replace(
        decided,
        phase=status.get("phase").text("Pending"),
        message=status.get("message").text(""),
        steps=steps,
        finished_at=status.get("finishedAt").instant(),
        refused=_refused(steps, decided.plan),
        recalled=recalled_in(raw),
    )


def _step_status(field: Field) -> StepStatus:
    return StepStatus(
        pod=field.get("pod").text(),
        type=field.get("type").text(""),
        state=field.get("state").text(""),
        message=field.get("message").text(""),
    )


def _refused(steps: Iterable[StepStatus], plan: Plan) -> dict[str, str]:
    told = {(step.pod, step.type): step.message for step in steps if step.state == _REFUSED}
    if not told:
        return {}
    actions = (*plan.binds, *plan.victims)
    about = ((action, (str(action.pod), type(action).__name__)) for action in actions)
    return {action.uid: told[key] for action, key in about if key in told}


def _counts(plan: Plan, unlisted: int) -> dict[str, int]:
    return {
        "bound": len(plan.binds),
        "moved": len(plan.moves),
        "evicted": len(plan.evictions),
        "held": len(plan.holds) + unlisted,
    }


def _stage_manifest(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "value": stage.value,
        "bound": stage.bound,
        "seconds": round(stage.seconds, 3),
    }


def _stage(field: Field) -> Stage:
    return Stage(
        name=field.get("name").text(),
        value=field.get("value").integer(),
        bound=field.get("bound").integer(),
        seconds=field.get("seconds").number(0.0),
    )
