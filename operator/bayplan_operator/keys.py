"""What the operator looks at: each InferenceDeployment, the plans, the gates."""

from dataclasses import dataclass
from typing import Final


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
