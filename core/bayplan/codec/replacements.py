"""What pods say of a replacement that starts before they go: the annotations, read.

`bayplan.inference.replacements` writes them. Nobody has to believe what cannot be read: it says
nothing.
"""

from dataclasses import dataclass

from bayplan.api import names
from bayplan.codec.fields import DecodeError, Field, Raw, top
from bayplan.inference.replacements import Failing


def moment_of(metadata: Field, annotation: str) -> int:
    """Return the seconds since the epoch that an annotation says; 0 where it says none."""
    field = metadata.get("annotations", annotation)
    return _instant(field) if field.value is not None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedMove:
    """A move of a pod whose replacement was given up.

    Attributes:
        plan: The plan that would have moved it, or "".
        at: When it was given up, in seconds since the epoch, or 0.
        why: Why.
    """

    plan: str = ""
    at: int = 0
    why: Failing = Failing.LATE


def failed_move_of(metadata: Field) -> FailedMove:
    """Return the last move of a pod that has failed, if any."""
    field = metadata.get("annotations", names.ANNOTATION_MOVE_FAILED)
    said = str(field.value or "").split()
    if len(said) not in {2, 3}:
        return FailedMove()
    plan, at, *why = said
    known = why and why[0] in set(Failing)
    return FailedMove(
        plan=plan,
        at=_instant(Field(at, where=field.where)),
        why=Failing(why[0]) if known else Failing.LATE,
    )


def failed_move_in(raw: Raw) -> FailedMove:
    """Return the last move of a pod as Kubernetes tells of it that has failed, if any."""
    return failed_move_of(top(raw, "Pod").get("metadata"))


def _instant(field: Field) -> int:
    try:
        return field.instant()
    except DecodeError:
        return 0
