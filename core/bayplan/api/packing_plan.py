"""PackingPlan: one decision about the fleet, how good it is, and how far it is carried out.

The planner writes the spec once; the operator carries it out and reports in the status; the
webhook and the command line answer from it. Texts are those of `kubectl explain`.
"""

from datetime import datetime
from enum import StrEnum

from kube_custom_resource.schema import BaseModel
from pydantic import ConfigDict, Field

from bayplan.api.names import VERSION
from bayplan.api.resource import CustomResource, Scope, column
from bayplan.api.schema import rule, rules

#: Most actions in one object; a plan of more, or of large ones, is in several objects.
MAX_ACTIONS = 2000

#: Most objectives that a plan tells; beyond, some are told in one.
MAX_STAGES = 256

#: Most gangs that were called back of which a plan tells, and in how many bytes; beside the largest
#: plan, etcd takes 300,000 more. Of each, most nodes and templates.
MAX_RECALLED = 64
MAX_RECALLED_BYTES = 100_000
MAX_REFUSING = 16
MAX_REVISIONS = 16

#: Most characters of a sentence.
MAX_MESSAGE = 1024

_ATOMIC = "x-kubernetes-list-type"


class Order(StrEnum):
    """Which order of objectives a plan followed."""

    PLACE_FIRST = "PlaceFirst"
    PROTECT_FIRST = "ProtectFirst"
    DEFRAGMENT = "Defragment"


class Verdict(StrEnum):
    """How good a plan is, in one word."""

    OPTIMAL = "Optimal"
    IMPROVED = "Improved"
    UNCHANGED = "Unchanged"
    INFEASIBLE = "Infeasible"


class ActionType(StrEnum):
    """What happens to a pod."""

    BIND = "Bind"
    MOVE = "Move"
    EVICT = "Evict"
    HOLD = "Hold"


class Phase(StrEnum):
    """How far a plan is."""

    PENDING = "Pending"
    EXECUTING = "Executing"
    COMPLETED = "Completed"
    SUPERSEDED = "Superseded"
    FAILED = "Failed"


class StepState(StrEnum):
    """How far a step is."""

    WAITING = "Waiting"
    STARTING = "Starting"
    DRAINING = "Draining"
    STARTED = "Started"
    DONE = "Done"
    FAILED = "Failed"
    REFUSED = "Refused"


class PodRef(BaseModel):
    """A pod, told from a later one of the same name by its uid."""

    namespace: str = Field(description="Namespace of the pod.", min_length=1, max_length=63)
    name: str = Field(description="Name of the pod.", min_length=1, max_length=253)
    uid: str = Field(description="metadata.uid of the pod.", min_length=1, max_length=128)


class OwnerRef(BaseModel):
    """The controller that makes a pod again when it is gone."""

    kind: str = Field(description="Kind of the owner.", min_length=1, max_length=63)
    namespace: str = Field(description="Namespace of the owner.", max_length=63)
    name: str = Field(description="Name of the owner.", min_length=1, max_length=253)
    uid: str = Field(description="metadata.uid of the owner.", min_length=1, max_length=128)


class Action(BaseModel):
    """What happens to one pod."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.type == 'Hold' || has(self.node)",
                message="node is required for Bind, Move and Evict",
                field=".node",
                reason="FieldValueRequired",
            ),
            rule(
                "self.type != 'Move' || has(self.from)",
                message="from is required for Move",
                field=".from",
                reason="FieldValueRequired",
            ),
            rule(
                "self.type != 'Hold' || has(self.reason)",
                message="reason is required for Hold",
                field=".reason",
                reason="FieldValueRequired",
            ),
        )
    )

    type: ActionType = Field(
        description="Bind: a waiting pod gets a node. Move: a running pod gives up its node and its"
        " replacement gets another. Evict: a running pod gives up its node for a higher priority."
        " Hold: a waiting pod goes on waiting."
    )
    pod: PodRef = Field(description="The pod it happens to.")
    node: str | None = Field(
        default=None,
        description="Bind and Move: the node it gets. Evict: the node it gives up.",
        min_length=1,
        max_length=253,
    )
    gpu_device: int | None = Field(
        default=None,
        description="Bind and Move: the GPU of the node, by number, of which the pod gets its"
        " share. Equal numbers are one GPU; pods with whole GPUs get others.",
        ge=0,
    )
    source: str | None = Field(
        default=None,
        alias="from",
        description="Move: the node it gives up.",
        min_length=1,
        max_length=253,
    )
    gang: str | None = Field(
        default=None,
        description="The gang in the pod's namespace that is placed or evicted whole with it, if"
        " any.",
        max_length=253,
    )
    priority: int | None = Field(default=None, description="Priority of the pod.")
    owner: OwnerRef | None = Field(
        default=None, description="Move and Evict: who makes the pod again once it is gone."
    )
    reason: str | None = Field(
        default=None, description="Why, as one CamelCase word.", max_length=128
    )
    message: str | None = Field(
        default=None, description="Why, in a sentence.", max_length=MAX_MESSAGE
    )
    remedy: str | None = Field(
        default=None, description="Hold: what would help, in a sentence.", max_length=MAX_MESSAGE
    )
    resolvable: bool | None = Field(
        default=None,
        description="Hold: whether moving or evicting other pods could make room.",
    )


class Counts(BaseModel):
    """Actions by type."""

    bound: int = Field(default=0, description="Waiting pods that get a node.", ge=0)
    moved: int = Field(default=0, description="Running pods that change nodes.", ge=0)
    evicted: int = Field(default=0, description="Running pods that lose their node.", ge=0)
    held: int = Field(
        default=0,
        description="Waiting pods that go on waiting. Of more pods than eight objects hold,"
        " `actions` names a part.",
        ge=0,
    )


class Stage(BaseModel):
    """One objective of the order, as far as it was solved."""

    name: str = Field(description='What was counted, e.g. "place 1000".', max_length=128)
    value: int = Field(description="What the plan reaches.")
    bound: int = Field(description="What no plan can beat, given the stages before.")
    seconds: float = Field(default=0, description="Time spent.", ge=0)


class Display(BaseModel):
    """Figures as `kubectl get` shows them, which cannot format numbers itself."""

    gap: str = Field(default="", description='`gap` in per cent, e.g. "0%".', max_length=16)
    solve: str = Field(default="", description='`solveSeconds`, e.g. "0.42s".', max_length=16)


class PackingPlanSpec(BaseModel):
    """The decision, or one part of a large one; it never changes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self == oldSelf",
                message="spec is immutable: a new decision is a new PackingPlan",
                reason="FieldValueForbidden",
            )
        )
    )

    sequence: int = Field(description="Number of the plan; a higher one replaces it.", ge=0)
    part: int = Field(
        default=1,
        description="Which part of the plan this is. Each can be carried out on what those before"
        " it leave; all of them are carried out as one, once all are there.",
        ge=1,
    )
    parts: int = Field(
        default=1, description="How many objects of this sequence hold the plan.", ge=1
    )
    order: Order = Field(
        description="The order of objectives that the verdict refers to: that of the PackingPolicy,"
        " or Defragment, which makes room for whole slots before it disturbs little."
    )
    input_digest: str = Field(
        description="Fingerprint of the nodes and pods it was decided on.", max_length=128
    )
    engine: str = Field(description='What found it, e.g. "greedy" or "cp-sat".', max_length=32)
    verdict: Verdict = Field(
        description="Optimal: proved best for the order. Improved: better than doing nothing,"
        " `gap` says by how much a better one could beat it. Unchanged: nothing better found."
        " Infeasible: proved that nothing that waits can be placed."
    )
    counts: Counts = Field(description="Actions of this object by type.")
    gap: float = Field(
        default=0,
        description="Distance to the bound of the first stage that is not proved, as a fraction;"
        " 0 when all are.",
        ge=0,
    )
    solve_seconds: float = Field(default=0, description="Seconds the decision took.", ge=0)
    display: Display = Field(
        default=Display(), description="The figures as `kubectl get` shows them."
    )
    stages: list[Stage] | None = Field(
        default=None,
        description="The objectives in order, each with what was reached and proved; in the first"
        f" part of a plan. Where there are more than {MAX_STAGES}, some are told in one: how many"
        " of how many are proved.",
        max_length=MAX_STAGES,
        json_schema_extra={_ATOMIC: "atomic"},
    )
    actions: list[Action] | None = Field(
        default=None,
        description=f"What happens to each pod, at most {MAX_ACTIONS}.",
        max_length=MAX_ACTIONS,
        json_schema_extra={_ATOMIC: "atomic"},
    )


class Step(BaseModel):
    """How far one action is."""

    pod: str = Field(description="The pod as namespace/name.", max_length=317)
    type: ActionType = Field(description="What happens to it.")
    state: StepState = Field(
        description="How far it is. Refused: the API server does not admit it, so that for some"
        " time no plan asks for it again."
    )
    message: str | None = Field(
        default=None, description="What it waits for, or why it failed.", max_length=MAX_MESSAGE
    )


class RefusingNode(BaseModel):
    """A node on which kube-scheduler refused a pod."""

    name: str = Field(description="Name of the node.", min_length=1, max_length=253)
    state: str = Field(description="Fingerprint of what it was then.", max_length=64)


class Refuser(StrEnum):
    """Who refused a pod on the node that a plan gave it."""

    KUBE_SCHEDULER = "kube-scheduler"
    KUBELET = "kubelet"


class RefusedOwner(BaseModel):
    """The controller of pods that are of no gang."""

    kind: str = Field(description="Its kind.", min_length=1, max_length=63)
    name: str = Field(description="Its name.", min_length=1, max_length=253)
    uid: str = Field(description="Its uid.", max_length=63)


class Recalled(BaseModel):
    """Pods that are made anew, for one of them was refused on its node."""

    namespace: str = Field(description="Namespace of the pods.", min_length=1, max_length=63)
    gang: str | None = Field(
        default=None, description="Name of their gang, if they are of one.", max_length=253
    )
    owner: RefusedOwner | None = Field(default=None, description="Else who makes them.")
    by: Refuser | None = Field(
        default=None, description="Who refused the pod (default: kube-scheduler)."
    )
    pod: str = Field(description="The pod that was refused last.", max_length=253)
    message: str | None = Field(
        default=None, description="Why, in the words of who refused it.", max_length=MAX_MESSAGE
    )
    nodes: list[RefusingNode] = Field(
        description="The nodes that have refused it, the last one first. Others are tried before.",
        max_length=MAX_REFUSING,
        json_schema_extra={_ATOMIC: "atomic"},
    )
    revisions: list[str] = Field(
        description="Of which templates its pods were. With others it counts anew.",
        max_length=MAX_REVISIONS,
        json_schema_extra={_ATOMIC: "atomic"},
    )
    times: int = Field(
        description="How many times on end they were refused. Each doubles the pause.", ge=1
    )
    at: datetime = Field(description="When they were refused last.")


class PackingPlanStatus(BaseModel):
    """How far the plan is carried out."""

    phase: Phase | None = Field(
        default=None,
        description="Pending, Executing, Completed, Superseded (a newer plan took over) or Failed."
        " That of the first part is the plan's.",
    )
    message: str | None = Field(
        default=None, description="Why it is in that phase, in a sentence.", max_length=MAX_MESSAGE
    )
    done: int | None = Field(default=None, description="Steps that are done.", ge=0)
    total: int | None = Field(default=None, description="Steps there are.", ge=0)
    steps: list[Step] | None = Field(
        default=None,
        description=f"How far each Bind, Move and Evict is, at most {MAX_ACTIONS}.",
        max_length=MAX_ACTIONS,
        json_schema_extra={_ATOMIC: "atomic"},
    )
    recalled: list[Recalled] | None = Field(
        default=None,
        description="Gangs and owners of pods that kube-scheduler or a kubelet refused, at"
        f" most {MAX_RECALLED}, and fewer if their names are very long; in the newest plan that"
        " tells of any. Later plans wait before they try them again.",
        max_length=MAX_RECALLED,
        json_schema_extra={_ATOMIC: "atomic"},
    )
    started_at: datetime | None = Field(default=None, description="When the first step started.")
    finished_at: datetime | None = Field(
        default=None, description="When the plan was completed, failed or superseded."
    )


class PackingPlan(
    CustomResource,
    version=VERSION,
    scope=Scope.CLUSTER,
    short_names=["pplan"],
    subresources={"status": {}},
    printer_columns=[
        column("Verdict", ".spec.verdict", "How good the plan is"),
        column("Bound", ".spec.counts.bound", "Waiting pods that get a node", kind="integer"),
        column(
            "Evicted", ".spec.counts.evicted", "Running pods that lose their node", kind="integer"
        ),
        column("Moved", ".spec.counts.moved", "Running pods that change nodes", kind="integer"),
        column("Held", ".spec.counts.held", "Waiting pods that go on waiting", kind="integer"),
        column("Gap", ".spec.display.gap", "How far a proof is away"),
        column("Solve", ".spec.display.solve", "Time the decision took"),
        column("Phase", ".status.phase", "How far it is carried out"),
    ],
):
    """One decision about the fleet: who gets which node, who moves, who waits, and why."""

    spec: PackingPlanSpec = Field(description="The decision; it never changes.")
    status: PackingPlanStatus | None = Field(
        default=None, description="How far it is carried out; written by the operator."
    )
