"""A pass on record: what it decided on, as JSON, so that it can be made again elsewhere.

A recording holds the snapshot, the policy and the seed of a pass, with the fingerprints of the
snapshot and of the plan. The values of the core are written field by field as their types say, so
that a field added to a pod is in the next recording without a word here; what has its default is
left out.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from dataclasses import Field as Attribute
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from bayplan.cluster import units
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec.fields import DecodeError, Field, Raw
from bayplan.policy import Policy

#: The version that is written, and the only one that is read.
VERSION: Final = 1

_KIND: Final = "Recording"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One pass.

    Attributes:
        snapshot: What it decided on.
        policy: What it was allowed to do.
        seed: Where its searches started.
        digest: Fingerprint of the snapshot.
        plan_digest: Fingerprint of the plan that came out.
    """

    snapshot: Snapshot
    policy: Policy
    seed: int
    digest: str
    plan_digest: str


def recording_document(recording: Recording) -> dict[str, Any]:
    """Return the recording as a JSON document."""
    return {"kind": _KIND, "version": VERSION, **_document(recording)}


def recording_of(raw: object) -> Recording:
    """Return the recording that a JSON document holds.

    Raises:
        DecodeError: It is no recording, is of another version, or a field cannot be read.
    """
    if not isinstance(raw, Mapping) or raw.get("kind") != _KIND:
        raise DecodeError(_KIND, "kind", f"should be {_KIND}: the file was not written by --dump")
    root = Field(raw, where=_KIND)
    version = root.get("version").integer()
    if version != VERSION:
        problem = f"is {version}; this program reads {VERSION}: dump it again with this version"
        raise root.get("version").error(problem)
    said: Raw = {key: value for key, value in raw.items() if key not in {"kind", "version"}}
    read = _value_of(Field(said, where=_KIND), Recording)
    assert isinstance(read, Recording)  # noqa: S101 - what was asked for
    _check_snapshot(read.snapshot)
    _check_policy(read.policy)
    return read


def _check_snapshot(snapshot: Snapshot) -> None:
    """Refuse what no cluster can be: names that come twice, pods that run and wait."""
    for thing, names in (
        ("node", [str(node.name) for node in snapshot.nodes]),
        ("pod", [str(pod.key) for pod in snapshot.pods]),
        ("pod uid", [pod.uid for pod in snapshot.pods]),
    ):
        twice = _twice(names)
        if twice is not None:
            raise DecodeError(_KIND, "snapshot", f"has the {thing} {twice} twice")
    for pod in snapshot.pods:
        if pod.waiting and pod.node is not None:
            raise DecodeError(_KIND, "snapshot.pods", f"{pod.key} waits and runs on {pod.node}")


def _twice(names: Iterable[str]) -> str | None:
    """Return the first name that comes again."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _check_policy(policy: Policy) -> None:
    if policy.time_limit_s <= 0:
        raise DecodeError(
            _KIND, "policy.time_limit_s", f"is {policy.time_limit_s}; 0 is too little"
        )
    for name in ("max_moves", "max_evictions", "max_parallel_moves"):
        if getattr(policy, name) < 0:
            raise DecodeError(_KIND, f"policy.{name}", f"is negative ({getattr(policy, name)})")


def _document(value: object) -> Any:  # noqa: ANN401 - JSON is anything
    """Return a value of the core as JSON."""
    if isinstance(value, Resources):
        return dict(value.items)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _document(getattr(value, name)) for name in value._fields}
    if is_dataclass(value):
        told = ((each, getattr(value, each.name)) for each in fields(value) if each.init)
        return {each.name: _document(mine) for each, mine in told if mine != _default(each)}
    if isinstance(value, tuple):
        return [_document(item) for item in value]
    return value.value if isinstance(value, StrEnum) else value


def _default(attribute: "Attribute[Any]") -> object:
    """Return the default of a dataclass's field; `MISSING` where it must be given."""
    if attribute.default_factory is not MISSING:
        return attribute.default_factory()
    return attribute.default


@cache
def _attributes(kind: type) -> dict[str, tuple[object, bool]]:
    """Return type and need of each field of a dataclass or named tuple."""
    hints = get_type_hints(kind)
    if not is_dataclass(kind):
        return {name: (hint, True) for name, hint in hints.items()}
    return {f.name: (hints[f.name], _default(f) is MISSING) for f in fields(kind) if f.init}


def _value_of(field: Field, kind: Any) -> object:  # noqa: ANN401 - any type of the core
    """Return the value of type `kind` that the field holds.

    Raises:
        DecodeError: It holds something else.
        TypeError: The core has a type that no recording has met yet.
    """
    while hasattr(kind, "__supertype__"):
        kind = kind.__supertype__
    origin = get_origin(kind)
    if origin in {Union, UnionType}:
        return _optional(field, kind)
    if origin is tuple:
        return _tuple(field, get_args(kind))
    if kind is Resources:
        return _resources(field)
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        return _named(field, kind)
    return _plain(field, kind)


def _optional(field: Field, kind: object) -> object:
    if field.value is None:
        return None
    some = [each for each in get_args(kind) if each is not NoneType]
    return _value_of(field, some[0])


def _tuple(field: Field, kinds: tuple[Any, ...]) -> tuple[object, ...]:
    items = list(field.items())
    if len(kinds) == 2 and kinds[1] is Ellipsis:  # noqa: PLR2004 - tuple[X, ...]
        return tuple(_value_of(item, kinds[0]) for item in items)
    if len(items) != len(kinds):
        raise field.error(f"should have {len(kinds)} items, has {len(items)}")
    return tuple(_value_of(item, kind) for item, kind in zip(items, kinds, strict=True))


def _resources(field: Field) -> Resources:
    if not isinstance(field.value, Mapping):
        raise field.error("should be an object of amounts by resource")
    amounts = {str(name): field.get(str(name)) for name in field.value}
    for amount in amounts.values():
        if amount.integer() < 0:
            raise amount.error(f"is negative ({amount.value})")
    return Resources.of({name: amount.integer() for name, amount in amounts.items()})


def _within(field: Field, number: float) -> float:
    """Return the number if it is one that can be meant."""
    if not math.isfinite(number) or abs(number) > units.MAX_AMOUNT:
        raise field.error(f"should be a number up to {units.MAX_AMOUNT}, is {number}")
    return number


def _named(field: Field, kind: type) -> object:
    known = _attributes(kind)
    if not isinstance(field.value, Mapping):
        raise field.error(f"should be an object ({kind.__name__})")
    for name in field.value:
        if name not in known:
            raise field.get(str(name)).error(f"is no field of {kind.__name__} in this version")
    said: dict[str, object] = {}
    for name, (of, needed) in known.items():
        if name in field.value:
            said[name] = _value_of(field.get(name), of)
        elif needed:
            raise field.get(name).error("is missing")
    return kind(**said)


def _plain(field: Field, kind: Any) -> object:  # noqa: ANN401 - any type of the core
    if kind is bool:
        return field.flag()
    if kind is int:
        return field.integer()
    if kind is float:
        return _within(field, field.number(0.0))
    if kind is str:
        return field.text()
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return field.choice(kind)
    raise TypeError(f"recordings cannot hold {kind!r}")
