"""PodTemplate: the part of a pod that the user writes, and what of it is the operator's.

A template is kept as it is, in full. Only fields that the operator has a say in are named here, so
that a template that sets one of them is refused with a sentence instead of being overruled.
"""

from typing import Final

from kube_custom_resource.schema import BaseModel
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from bayplan.api import names
from bayplan.api.names import SCHEDULER
from bayplan.api.schema import list_map, rule, rules

#: What says which pod is which: a template that could set it would detach its pods.
OUR_LABELS: Final = (
    names.LABEL_MANAGED,
    names.LABEL_DEPLOYMENT,
    names.LABEL_POOL,
    names.LABEL_ROLE,
    names.LABEL_UNIT,
    names.LABEL_REPLICA,
    names.LABEL_WORKER,
    names.LABEL_REPLICA_SIZE,
    names.LABEL_REVISION,
    names.LABEL_GANG,
    names.LABEL_GANG_MIN_COUNT,
    names.LABEL_MIN_UNITS,
    names.LABEL_REPRESENTS,
)

#: What plans are told and tell; spec.placement is where users speak of topology.
OUR_ANNOTATIONS: Final = (
    names.ANNOTATION_TOPOLOGY_REQUIRED,
    names.ANNOTATION_TOPOLOGY_PREFERRED,
    names.ANNOTATION_PLAN,
    names.ANNOTATION_REPLACES,
    names.ANNOTATION_SERVES_BY,
    names.ANNOTATION_GIVES_WAY_BY,
    names.ANNOTATION_MOVE_FAILED,
    names.ANNOTATION_SHAPE,
    names.ANNOTATION_DECISION,
)


def _ours(field: str, keys: tuple[str, ...]) -> JsonDict:
    """Return the rule that a template leaves these keys of `field` alone."""
    listed = ", ".join(f"'{key}'" for key in keys)
    return rule(
        f"!has(self.{field}) || [{listed}].all(key, !(key in self.{field}))",
        message=f"{field} such as {keys[0]} are set by the operator: remove those under"
        f" {names.GROUP}",
        field=f".{field}",
    )


class PodMetadata(BaseModel, extra="allow"):
    """The part of a pod's metadata that a template may set."""

    model_config = ConfigDict(
        json_schema_extra=rules(_ours("labels", OUR_LABELS), _ours("annotations", OUR_ANNOTATIONS))
    )

    labels: dict[str, str] | None = Field(
        default=None,
        description="Labels of every pod of the pool. Those that the operator sets are refused.",
    )
    annotations: dict[str, str] | None = Field(
        default=None, description="Annotations of every pod of the pool."
    )


class Container(BaseModel, extra="allow"):
    """A container of the pod, as in core/v1; only the name is looked at here."""

    name: str = Field(
        description="Name of the container, unique in the pod.", min_length=1, max_length=63
    )


class SchedulingGate(BaseModel, extra="allow"):
    """A gate of a pod, as in core/v1."""


class PodSpec(BaseModel, extra="allow"):
    """A pod's spec as in core/v1; the named fields are those that the operator has a say in."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"!has(self.schedulerName) || self.schedulerName in ['', '{SCHEDULER}']",
                message=f"schedulerName is set by the operator: remove it, or say {SCHEDULER}",
                field=".schedulerName",
            ),
            rule(
                "!has(self.nodeName) || self.nodeName == ''",
                message="nodeName would bypass the plan: remove it (use nodeSelector or affinity"
                " to say where the pod may run)",
                field=".nodeName",
            ),
            rule(
                "!has(self.schedulingGates) || size(self.schedulingGates) == 0",
                message="schedulingGates are set by the operator: remove them",
                field=".schedulingGates",
            ),
            rule(
                "!has(self.restartPolicy) || self.restartPolicy == 'Always'",
                message="restartPolicy must be Always: remove it, that is the default",
                field=".restartPolicy",
            ),
            rule(
                "!has(self.priorityClassName) || self.priorityClassName == ''",
                message="priorityClassName belongs to the whole unit: remove it here and set"
                " spec.priorityClassName",
                field=".priorityClassName",
            ),
        )
    )

    containers: list[Container] = Field(
        description="At least one. What they ask for is what the plan reserves.",
        min_length=1,
        json_schema_extra=list_map("name"),
    )
    scheduler_name: str | None = Field(
        default=None, description=f"Set by the operator to {SCHEDULER}. Leave it out."
    )
    node_name: str | None = Field(
        default=None, description="Refused: the plan says where a pod runs."
    )
    scheduling_gates: list[SchedulingGate] | None = Field(
        default=None, description="Refused: the operator's to set and to lift."
    )
    restart_policy: str | None = Field(default=None, description="Always, or left out.")
    priority_class_name: str | None = Field(
        default=None, description="Refused: spec.priorityClassName holds for every pod of a unit."
    )
    hostname: str | None = Field(
        default=None, description="As in core/v1; refused where podsPerReplica is above 1."
    )
    subdomain: str | None = Field(
        default=None, description="As in core/v1; refused where podsPerReplica is above 1."
    )


class PodTemplate(BaseModel, extra="allow"):
    """A PodTemplateSpec of core/v1."""

    metadata: PodMetadata | None = Field(
        default=None, description="Labels and annotations of the pods."
    )
    spec: PodSpec = Field(
        description="The pod's spec as in core/v1, kept as it is. The API server checks it in full"
        " only when a pod is made; what it refuses then is told in the condition Degraded."
    )
