"""What the operator looks at: each InferenceDeployment, the plans, the gates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bayplan.api import names


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentKey:
    """One InferenceDeployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Whole:
    """Something of which a cluster has one."""

    name: str

    def __str__(self) -> str:
        return self.name


PLANS: Final = Whole("plans")
GATES: Final = Whole("gates")

Key = DeploymentKey | Whole


def owner_of(pod: Mapping[str, Any]) -> DeploymentKey | None:
    """Return the InferenceDeployment that has made a pod, if one has."""
    for owner in pod["metadata"].get("ownerReferences") or ():
        is_ours = (
            owner["kind"] == names.KIND_DEPLOYMENT and owner["apiVersion"] == names.API_VERSION
        )
        if owner.get("controller") and is_ours:
            return DeploymentKey(namespace=pod["metadata"]["namespace"], name=owner["name"])
    return None
