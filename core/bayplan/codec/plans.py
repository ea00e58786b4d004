"""Plans to PackingPlan objects and back.

The planner writes `plan_manifest`; the operator, the webhook and the command line read the
object through `published_plan_of`, so that they share one meaning of it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from bayplan.api import names
from bayplan.api.packing_plan import MAX_ACTIONS, MAX_MESSAGE
from bayplan.bounding import bounded
from bayplan.codec.fields import Field, Raw, top
from bayplan.plan import (
    Bind,
    Certificate,
    Evict,
    Hold,
    Move,
    Plan,
    Reason,
    Rejection,
    Result,
    Stage,
    Verdict,
)
from bayplan.policy import Order
from bayplan.snapshot import GangKey, NodeName, Owner, PodKey

#: Most bytes of what a plan lists, with how far each step is; etcd takes 1.5 MiB for all of it.
MAX_BYTES: Final = 1_200_000

#: Bytes in which the operator says how far a step is, without the names of its pod.
_REPORT_BYTES: Final = 300

#: Phases in which nothing more happens to a plan.
FINISHED = frozenset({"Completed", "Superseded", "Failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatus:
    """How far one action is, as the operator reported it.

    Attributes:
        pod: Namespace and name as "ns/name".
        type: Bind, Move or Evict.
        state: Waiting, Draining, Started, Done or Failed.
        message: The same in words.
    """

    pod: str
    type: str
    state: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPlan:
    """A PackingPlan as it stands in the API server.

    Attributes:
        name: The object's name.
        uid: Its identity, for events.
        sequence: Number of the pass; the highest is the newest.
        plan: The decision.
        phase: Pending, Executing, Completed, Superseded or Failed.
        created_at: Seconds since the epoch.
        message: How far it is, in words.
        steps: How far each action is.
        truncated: Whether more pods are held than the object lists.
    """

    name: str
    uid: str
    sequence: int
    plan: Plan
    phase: str = "Pending"
    created_at: int = 0
    message: str = ""
    steps: tuple[StepStatus, ...] = ()
    truncated: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to it."""
        return self.phase in FINISHED


def plan_manifest(result: Result, *, sequence: int) -> dict[str, Any]:
    """Return the PackingPlan object that publishes `result`."""
    plan, seconds = listed(result.plan), dict(result.seconds).get("total", 0.0)
    certificate = plan.certificate
    return {
        "apiVersion": names.API_VERSION,
        "kind": "PackingPlan",
        "metadata": {"name": f"plan-{sequence:05d}"},
        "spec": {
            "sequence": sequence,
            "order": certificate.order.value,
            "inputDigest": result.digest,
            "engine": result.engine,
            "verdict": certificate.verdict.value,
            "counts": _counts(plan, result.plan),
            "gap": round(certificate.gap, 4),
            "solveSeconds": round(seconds, 3),
            "display": {"gap": f"{certificate.gap:.2%}", "solve": f"{seconds:.2f}s"},
            "stages": [_stage_manifest(stage) for stage in certificate.stages],
            "actions": _actions(plan),
        },
    }


def listed(plan: Plan) -> Plan:
    """Return what of a plan its object lists: `MAX_ACTIONS` and `MAX_BYTES` at most.

    What would help is left out first, then actions as `bounded` chooses them.
    """
    kept = bounded(plan, MAX_ACTIONS)
    if _bytes(kept) > MAX_BYTES:
        kept = replace(kept, holds=tuple(replace(hold, remedy="") for hold in kept.holds))
    while _bytes(kept) > MAX_BYTES:
        kept = bounded(kept, len(_actions(kept)) * 9 // 10)
    return kept


def _bytes(plan: Plan) -> int:
    """Return about how much room a plan takes in its object, once it is carried out."""
    steps: tuple[Bind | Move | Evict, ...] = (*plan.binds, *plan.moves, *plan.evictions)
    reports = sum(len(str(step.pod)) + _REPORT_BYTES for step in steps)
    return len(json.dumps(_actions(plan), ensure_ascii=False).encode()) + reports


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
    actions = [_action(action) for action in spec.get("actions").items()]
    return PublishedPlan(
        name=root.get("metadata", "name").text(),
        uid=root.get("metadata", "uid").text(""),
        sequence=spec.get("sequence").integer(),
        plan=Plan(
            certificate=certificate,
            binds=tuple(a for a in actions if isinstance(a, Bind)),
            moves=tuple(a for a in actions if isinstance(a, Move)),
            evictions=tuple(a for a in actions if isinstance(a, Evict)),
            holds=tuple(a for a in actions if isinstance(a, Hold)),
        ),
        phase=root.get("status", "phase").text("Pending"),
        created_at=root.get("metadata", "creationTimestamp").instant(),
        message=root.get("status", "message").text(""),
        steps=tuple(_step_status(step) for step in root.get("status", "steps").items()),
        truncated=spec.get("counts", "held").integer(0)
        > sum(isinstance(action, Hold) for action in actions),
    )


def _step_status(field: Field) -> StepStatus:
    return StepStatus(
        pod=field.get("pod").text(),
        type=field.get("type").text(""),
        state=field.get("state").text(""),
        message=field.get("message").text(""),
    )


def _counts(listed: Plan, decided: Plan) -> dict[str, int]:
    """Return the counts; a pod whose bind is not listed is held until the next plan."""
    return {
        "bound": len(listed.binds),
        "moved": len(listed.moves),
        "evicted": len(listed.evictions),
        "held": len(decided.holds) + len(decided.binds) - len(listed.binds),
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


def _actions(plan: Plan) -> list[dict[str, Any]]:
    return [
        *(_evict_manifest(evict) for evict in plan.evictions),
        *(_move_manifest(move) for move in plan.moves),
        *(_bind_manifest(bind) for bind in plan.binds),
        *(_hold_manifest(hold) for hold in plan.holds),
    ]


def _pod(key: PodKey, uid: str) -> dict[str, str]:
    return {"namespace": key.namespace, "name": key.name, "uid": uid}


def _bind_manifest(bind: Bind) -> dict[str, Any]:
    action: dict[str, Any] = {
        "type": "Bind",
        "pod": _pod(bind.pod, bind.uid),
        "node": bind.node,
        "priority": bind.priority,
    }
    action |= {} if bind.device is None else {"gpuDevice": bind.device}
    return action | ({"gang": bind.gang.name} if bind.gang else {})


def _move_manifest(move: Move) -> dict[str, Any]:
    action = {
        "type": "Move",
        "pod": _pod(move.pod, move.uid),
        "node": move.target,
        "from": move.source,
        "priority": move.priority,
    }
    action |= {} if move.device is None else {"gpuDevice": move.device}
    return action | ({"owner": _owner_manifest(move.owner)} if move.owner else {})


def _owner_manifest(owner: Owner) -> dict[str, str]:
    return {
        "kind": owner.kind,
        "namespace": owner.namespace,
        "name": owner.name,
        "uid": owner.uid,
    }


def _evict_manifest(evict: Evict) -> dict[str, Any]:
    action: dict[str, Any] = {
        "type": "Evict",
        "pod": _pod(evict.pod, evict.uid),
        "node": evict.node,
        "priority": evict.priority,
    }
    action |= {"owner": _owner_manifest(evict.owner)} if evict.owner else {}
    return action | ({"gang": evict.gang.name} if evict.gang else {})


def _hold_manifest(hold: Hold) -> dict[str, Any]:
    action: dict[str, Any] = {
        "type": "Hold",
        "pod": _pod(hold.pod, hold.uid),
        "reason": hold.rejection.reason.value,
        "message": _clipped(hold.rejection.message),
        "resolvable": hold.rejection.resolvable,
    }
    action |= {"remedy": _clipped(hold.remedy)} if hold.remedy else {}
    return action | ({"gang": hold.gang.name} if hold.gang else {})


def _clipped(text: str) -> str:
    """Return the text as long as the object may hold it: a rule may list a hundred labels."""
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"


def _action(field: Field) -> Bind | Move | Evict | Hold:
    decoders: dict[str, Callable[[Field], Bind | Move | Evict | Hold]] = {
        "Bind": _bind,
        "Move": _move,
        "Evict": _evict,
        "Hold": _hold,
    }
    kind = field.get("type")
    if kind.text() not in decoders:
        raise kind.error(f"should be one of {', '.join(decoders)}, is {kind.value!r}")
    return decoders[kind.text()](field)


def _key(field: Field) -> PodKey:
    pod = field.get("pod")
    return PodKey(namespace=pod.get("namespace").text(), name=pod.get("name").text())


def _uid(field: Field) -> str:
    return field.get("pod", "uid").text()


def _gang_of(field: Field) -> GangKey | None:
    name = field.get("gang").text("")
    return GangKey(namespace=_key(field).namespace, name=name) if name else None


def _bind(field: Field) -> Bind:
    return Bind(
        pod=_key(field),
        uid=_uid(field),
        node=NodeName(field.get("node").text()),
        gang=_gang_of(field),
        priority=field.get("priority").integer(0),
        device=_device(field),
    )


def _move(field: Field) -> Move:
    owner = field.get("owner")
    return Move(
        pod=_key(field),
        uid=_uid(field),
        source=NodeName(field.get("from").text()),
        target=NodeName(field.get("node").text()),
        owner=_owner_of(owner) if owner.value else None,
        priority=field.get("priority").integer(0),
        device=_device(field),
    )


def _device(field: Field) -> int | None:
    number = field.get("gpuDevice")
    if number.value is not None and number.integer() < 0:
        raise number.error(f"should be the number of a GPU, 0 or more, is {number.value}")
    return None if number.value is None else number.integer()


def _owner_of(field: Field) -> Owner:
    return Owner(
        kind=field.get("kind").text(),
        namespace=field.get("namespace").text(),
        name=field.get("name").text(),
        uid=field.get("uid").text(""),
    )


def _evict(field: Field) -> Evict:
    owner = field.get("owner")
    return Evict(
        pod=_key(field),
        uid=_uid(field),
        node=NodeName(field.get("node").text()),
        priority=field.get("priority").integer(0),
        owner=_owner_of(owner) if owner.value else None,
        gang=_gang_of(field),
    )


def _hold(field: Field) -> Hold:
    rejection = Rejection(
        reason=field.get("reason").choice(Reason),
        message=field.get("message").text(""),
        resolvable=field.get("resolvable").flag(),
    )
    return Hold(
        pod=_key(field),
        uid=_uid(field),
        rejection=rejection,
        gang=_gang_of(field),
        remedy=field.get("remedy").text(""),
    )
