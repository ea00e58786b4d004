"""Conditions: what is true of an object now, and why, in the form every Kubernetes tool reads.

Each kind with a status carries a list of them, keyed by type. Field texts here are those of
`kubectl explain`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from kube_custom_resource.schema import BaseModel
from pydantic import Field

from bayplan.api.schema import list_map


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(BaseModel):
    """One thing that is true of an object, or is not, or is not known."""

    type: str = Field(
        description="What is judged, in CamelCase, e.g. Ready.", min_length=1, max_length=316
    )
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(
        description="Why, as one CamelCase word that programs compare.",
        min_length=1,
        max_length=1024,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
    )
    message: str = Field(
        default="",
        description="Why, as a sentence that names the next action. Default: empty.",
        max_length=32768,
    )
    observed_generation: int | None = Field(
        default=None,
        description="The metadata.generation this was judged on; older means out of date.",
        ge=0,
    )
    last_transition_time: datetime = Field(description="When `status` last changed.")


Conditions = Annotated[list[Condition], Field(max_length=16, json_schema_extra=list_map("type"))]
