"""The condition by which a pod is in service or out of it, as it stands on the pod."""

from datetime import UTC, datetime
from typing import Final

from bayplan.api import names

#: Reason of the condition on a pod that a plan makes leave: whoever carries that out took it out.
YIELDS: Final = "Yields"


def serves(at: datetime) -> dict[str, str]:
    """Return the condition of a pod that takes requests."""
    return _condition(in_service=True, reason="Serves", message="", at=at)


def drains(at: datetime) -> dict[str, str]:
    """Return the condition of a pod whose unit is to go."""
    message = "it finishes its requests, and is to go then"
    return _condition(in_service=False, reason="Drains", message=message, at=at)


def yields(because: str, at: datetime) -> dict[str, str]:
    """Return the condition of a pod that a plan makes leave, which `because` says in words."""
    message = f"it finishes its requests, and leaves then: {because}"
    return _condition(in_service=False, reason=YIELDS, message=message, at=at)


def _condition(*, in_service: bool, reason: str, message: str, at: datetime) -> dict[str, str]:
    return {
        "type": names.CONDITION_IN_SERVICE,
        "status": str(in_service),
        "reason": reason,
        "message": message,
        "lastTransitionTime": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
