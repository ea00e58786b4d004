"""The actions of a plan as a PackingPlan object has them: written, and read back."""

from collections.abc import Callable
from typing import Any

from bayplan.api.packing_plan import MAX_MESSAGE
from bayplan.cluster.keys import GangKey, NodeName, Owner, PodKey
from bayplan.codec.fields import Field
from bayplan.plan import (
    Action,
    Bind,
    Evict,
    Hold,
    Move,
    Reason,
    Rejection,
)


def action_manifest(action: Action) -> dict[str, Any]:
    """Return what the object says of one action."""
    match action:
        case Bind():
            return _bind_manifest(action)
        case Move():
            return _move_manifest(action)
        case Evict():
            return _evict_manifest(action)
        case Hold():
            return _hold_manifest(action)


def action_of(field: Field) -> Action:
    """Return the action that an object tells of.

    Raises:
        DecodeError: A field cannot be read.
    """
    decoders: dict[str, Callable[[Field], Action]] = {
        "Bind": _bind,
        "Move": _move,
        "Evict": _evict,
        "Hold": _hold,
    }
    kind = field.get("type")
    if kind.text() not in decoders:
        raise kind.error(f"should be one of {', '.join(decoders)}, is {kind.value!r}")
    return decoders[kind.text()](field)


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
    return Move(
        pod=_key(field),
        uid=_uid(field),
        source=NodeName(field.get("from").text()),
        target=NodeName(field.get("node").text()),
        owner=_owner_of(field),
        priority=field.get("priority").integer(0),
        device=_device(field),
    )


def _evict(field: Field) -> Evict:
    return Evict(
        pod=_key(field),
        uid=_uid(field),
        node=NodeName(field.get("node").text()),
        priority=field.get("priority").integer(0),
        owner=_owner_of(field),
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


def _key(field: Field) -> PodKey:
    pod = field.get("pod")
    return PodKey(namespace=pod.get("namespace").text(), name=pod.get("name").text())


def _uid(field: Field) -> str:
    return field.get("pod", "uid").text()


def _gang_of(field: Field) -> GangKey | None:
    name = field.get("gang").text("")
    return GangKey(namespace=_key(field).namespace, name=name) if name else None


def _device(field: Field) -> int | None:
    number = field.get("gpuDevice")
    if number.value is not None and number.integer() < 0:
        raise number.error(f"should be the number of a GPU, 0 or more, is {number.value}")
    return None if number.value is None else number.integer()


def _owner_of(field: Field) -> Owner | None:
    owner = field.get("owner")
    if not owner.value:
        return None
    return Owner(
        kind=owner.get("kind").text(),
        namespace=owner.get("namespace").text(),
        name=owner.get("name").text(),
        uid=owner.get("uid").text(""),
    )
