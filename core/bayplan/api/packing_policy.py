"""PackingPolicy: what the administrator allows a plan to do.

One object named `default` counts; without it the same built-in defaults hold
(`bayplan.policy.Policy`, a test compares them). Texts are those of `kubectl explain`.
"""

from enum import StrEnum

from kube_custom_resource.schema import BaseModel
from pydantic import ConfigDict, Field

from bayplan.api.names import VERSION
from bayplan.api.resource import CustomResource, Scope, column
from bayplan.api.schema import rule, rules


class Order(StrEnum):
    """Which order of objectives a plan follows."""

    PLACE_FIRST = "PlaceFirst"
    PROTECT_FIRST = "ProtectFirst"


class Day(StrEnum):
    """A day of the week."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


class Window(BaseModel):
    """A time that comes again each week, in UTC."""

    days: list[Day] = Field(
        default=[],
        description="The days on which it opens. Default: every day.",
        max_length=7,
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    start: str = Field(
        description='When it opens, in UTC, e.g. "02:30".',
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
    )
    duration_minutes: int = Field(
        description="How long it stays open; it may pass midnight. 1 to 1440. When it closes, moves"
        " that have not begun are given up; what has begun is finished.",
        ge=1,
        le=1440,
    )


class Defragmentation(BaseModel):
    """When pods are moved so that whole slots come free, and what that may cost."""

    windows: list[Window] = Field(
        default=[],
        description="When it is done. Default: never.",
        max_length=50,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    max_moves: int = Field(
        default=20,
        description="Most pods that are moved while a window is open, those that are moved for"
        " waiting pods included. Nobody is evicted. Default 20; 0 to 500.",
        ge=0,
        le=500,
    )
    moves_per_slot: int = Field(
        default=8,
        description="Most pods that may be moved for one slot of the largest size that comes free"
        " (8, 4, 2 or 1 GPUs); a pod counts as often as its bayplan.dev/move-cost says. A plan"
        " that costs more is not carried out. Default 8; 1 to 1000.",
        ge=1,
        le=1000,
    )


class NodeProvisioning(StrEnum):
    """Which waiting pods node autoscalers get to see."""

    NEVER = "Never"
    WHEN_INFEASIBLE = "WhenInfeasible"


class PackingPolicySpec(BaseModel):
    """Limits and budgets of one plan."""

    time_limit_seconds: float = Field(
        default=10,
        description="Wall-clock seconds a plan may take; the best one found by then counts."
        " Default 10; 1 to 600. Running pods are not affected.",
        ge=1,
        le=600,
    )
    max_moves: int = Field(
        default=100,
        description="Most running pods that one plan moves to another node. Default 100;"
        " 0 to 500; 0 moves none.",
        ge=0,
        le=500,
    )
    max_evictions: int = Field(
        default=100,
        description="Most running pods that one plan evicts for a higher priority without another"
        " place for them. Default 100; 0 to 500; 0 evicts none.",
        ge=0,
        le=500,
    )
    max_parallel_moves: int = Field(
        default=10,
        description="Most pods that are on their way out at a time, those included that leave for"
        " older plans; a larger gang that is evicted goes whole when nobody else is on the way."
        " Default 10; 1 to 500.",
        ge=1,
        le=500,
    )
    gate_timeout_seconds: float = Field(
        default=60,
        description="Seconds without a living planner after which waiting pods are given to the"
        " scheduler without a plan. Default 60; 20 to 86400: another replica of the planner may"
        " take 17 to lead. Running pods are not affected.",
        ge=20,
        le=86_400,
    )
    order: Order = Field(
        default=Order.PLACE_FIRST,
        description="The order of objectives. PlaceFirst: place as many pods as possible, highest"
        " priority first; among those plans disturb the fewest running pods. ProtectFirst: the"
        " same priority by priority, so that no pod is moved or evicted for one of a lower"
        " priority, even if more pods would fit then. Default PlaceFirst.",
    )
    cooldown_seconds: float = Field(
        default=600,
        description="Seconds from its start in which a pod that was moved is neither moved nor"
        " evicted again. Default 600; 0 to 86400; 0 means none.",
        ge=0,
        le=86_400,
    )
    defragmentation: Defragmentation = Field(
        default=Defragmentation(),
        description="When pods are moved so that whole slots come free for large pods to come, and"
        " what that may cost. Default: never.",
    )
    node_provisioning: NodeProvisioning = Field(
        default=NodeProvisioning.NEVER,
        description="Which waiting pods Karpenter and Cluster Autoscaler get to see; they overlook"
        " pods behind scheduling gates. WhenInfeasible: the gates of pods that are proved not to"
        " fit are lifted, whole gangs at once; the webhook keeps them off every node until a plan"
        " has room for all of them. Never: none. Default Never.",
    )


class PackingPolicy(
    CustomResource,
    version=VERSION,
    scope=Scope.CLUSTER,
    plural_name="packingpolicies",
    short_names=["ppolicy"],
    printer_columns=[
        column("Order", ".spec.order", "The order of objectives"),
        column("Limit", ".spec.timeLimitSeconds", "Seconds a plan may take", kind="number"),
        column("Moves", ".spec.maxMoves", "Most pods one plan moves", kind="integer"),
        column("Evictions", ".spec.maxEvictions", "Most pods one plan evicts", kind="integer"),
    ],
):
    """What a plan may do: its time, and how many running pods it may touch."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.metadata.name == 'default'",
                message="metadata.name must be default: one policy holds for the cluster, and"
                " nothing would read another one",
            )
        )
    )

    spec: PackingPolicySpec = Field(
        default=PackingPolicySpec(),
        description="Limits and budgets; they hold from the next plan on.",
    )
