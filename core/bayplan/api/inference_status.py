"""The status of an InferenceDeployment: how far its units and pods are, written by the operator."""

from datetime import datetime

from kube_custom_resource.schema import BaseModel
from pydantic import Field

from bayplan.api.conditions import Conditions
from bayplan.api.pools import (
    Role,
)
from bayplan.api.schema import list_map


class Units(BaseModel):
    """Units by how far they are."""

    desired: int = Field(default=0, description="Units asked for.", ge=0)
    scheduled: int = Field(
        default=0, description="Units with a node for every pod that makes them whole.", ge=0
    )
    ready: int = Field(
        default=0, description="Units of which every pod that makes them whole is ready.", ge=0
    )
    updated: int = Field(
        default=0, description="Units made from the newest template, waiting ones included.", ge=0
    )


class PoolStatus(BaseModel):
    """Pods of one pool by how far they are."""

    name: str = Field(description="Name of the pool.", min_length=1, max_length=40)
    role: Role = Field(description="Role of the pool.")
    desired: int = Field(default=0, description="Pods asked for.", ge=0)
    scheduled: int = Field(default=0, description="Pods that have a node.", ge=0)
    ready: int = Field(default=0, description="Pods that are ready.", ge=0)
    updated: int = Field(
        default=0, description="Pods made from the newest template, waiting ones included.", ge=0
    )


class Failures(BaseModel):
    """A pod that has failed and was made anew."""

    pod: str = Field(description="Name of the pod.", min_length=1, max_length=253)
    times: int = Field(
        description="How many times in a row; forgotten once a pod of the name has lived ten"
        " minutes.",
        ge=1,
    )


class Decision(BaseModel):
    """One thing that was decided about this deployment."""

    time: datetime = Field(description="When it was decided.")
    reason: str = Field(description="What was decided, as one CamelCase word.", max_length=128)
    message: str = Field(description="What was decided and why, in a sentence.", max_length=1024)


class InferenceDeploymentStatus(BaseModel):
    """What is there, written by the operator."""

    observed_generation: int | None = Field(
        default=None, description="The metadata.generation this status describes.", ge=0
    )
    conditions: Conditions | None = Field(
        default=None,
        description="Ready (a whole unit can serve), Scheduled, RatioWithinBand, Progressing,"
        " Degraded, Exposed.",
    )
    units: Units | None = Field(default=None, description="Units by how far they are.")
    pools: list[PoolStatus] | None = Field(
        default=None,
        description="Pods of each pool by how far they are.",
        max_length=16,
        json_schema_extra=list_map("name"),
    )
    ready: str | None = Field(
        default=None, description='Ready and desired units for the READY column, e.g. "1/2".'
    )
    ratio: str | None = Field(
        default=None,
        description='Running prefill and decode replicas for the P:D column, e.g. "2:4".',
    )
    gpus: int | None = Field(
        default=None, description="GPUs that all desired pods ask for together.", ge=0
    )
    reason: str | None = Field(
        default=None,
        description="Why it is as it is, as one CamelCase word for the REASON column.",
        max_length=128,
    )
    replicas: int | None = Field(
        default=None, description="Units that exist, for `kubectl scale` and autoscalers.", ge=0
    )
    selector: str | None = Field(
        default=None,
        description="Label selector that matches one pod per unit, for autoscalers.",
        max_length=1024,
    )
    revision: str | None = Field(
        default=None,
        description="Revision of the templates that every unit was last known to run.",
        max_length=63,
    )
    failures: list[Failures] | None = Field(
        default=None,
        description="Pods that have failed and were made anew, at most 64.",
        max_length=64,
        json_schema_extra=list_map("pod"),
    )
    decisions: list[Decision] | None = Field(
        default=None,
        description="The last decisions, newest first, at most 10.",
        max_length=10,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
