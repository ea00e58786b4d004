"""What pods say of a replacement that starts before they go: the annotations, read.

`bayplan.inference.successors` writes them. Nobody has to believe what cannot be read: it says
nothing.
"""

from bayplan.api import names
from bayplan.codec.fields import DecodeError, Field, Raw, top


def moment_of(metadata: Field, annotation: str) -> int:
    """Return the seconds since the epoch that an annotation says; 0 where it says none."""
    field = metadata.get("annotations", annotation)
    return _instant(field) if field.value is not None else 0


def failed_move_of(metadata: Field) -> tuple[str, int]:
    """Return the plan that would have moved a pod, and when that was given up; "", 0 for none."""
    field = metadata.get("annotations", names.ANNOTATION_MOVE_FAILED)
    plan, _, at = str(field.value or "").rpartition(" ")
    return plan, _instant(Field(at, where=field.where)) if plan else 0


def failed_plan_of(raw: Raw) -> str:
    """Return the plan that last would have moved a pod and could not, or ""."""
    return failed_move_of(top(raw, "Pod").get("metadata"))[0]


def _instant(field: Field) -> int:
    try:
        return field.instant()
    except DecodeError:
        return 0
