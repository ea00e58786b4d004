"""Pools of an InferenceDeployment: which replicas a unit has, and how gateways reach them."""

from enum import StrEnum
from typing import Annotated, Final

from kube_custom_resource.schema import BaseModel
from pydantic import ConfigDict, Field

from bayplan.api.pod_template import PodTemplate
from bayplan.api.schema import rule, rules

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


#: Most pods in one unit.
MAX_UNIT: Final = 1024

#: Longest name of a deployment with that of a pool: together they name a Service (63 characters).
MAX_SERVICE_NAMES: Final = 62

#: The same where a replica has several pods: the pod's name is its host name.
MAX_HOST_NAMES: Final = 47


class Role(StrEnum):
    """What the replicas of a pool do."""

    PREFILL = "Prefill"
    DECODE = "Decode"
    AGGREGATED = "Aggregated"


#: A product as the labels of nodes have it: a label's value.
Product = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"),
]


class Pool(BaseModel):
    """Replicas of one role that are made from one template."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.workerTemplate) || self.podsPerReplica > 1",
                message="workerTemplate is for replicas of several pods: set podsPerReplica to 2"
                " or more, or remove it",
                field=".workerTemplate",
            ),
            rule(
                "!has(self.name) || self.name != 'peers'",
                message="'peers' names a Service of the operator: choose another name",
                field=".name",
            ),
            *(
                rule(
                    f"self.podsPerReplica == 1 || !has(self.{template}) ||"
                    f" (!has(self.{template}.spec.hostname) &&"
                    f" !has(self.{template}.spec.subdomain))",
                    message="hostname and subdomain are set by the operator where podsPerReplica is"
                    " above 1: remove them",
                    field=f".{template}",
                )
                for template in ("template", "workerTemplate")
            ),
        )
    )

    role: Role = Field(
        description="What the replicas do: Prefill, Decode, or Aggregated (both in one). A role may"
        " have several pools; Aggregated ones stand by themselves. It cannot be changed: give the"
        " pool another name."
    )
    name: str | None = Field(
        default=None,
        description="Name of the pool, unique here; part of its pods' names and labels."
        " Default: the role in lower case. A new name is rolled out like a new template.",
        min_length=1,
        max_length=40,
        pattern=_DNS_LABEL,
    )
    replicas: int | None = Field(
        default=None,
        description="Replicas of this pool in one unit. Those of the pools of a role add up to"
        " spec.ratio. Default: all of the role's; 1 for Aggregated; 1 to 256. A change is applied"
        " like one of spec.ratio.",
        ge=1,
        le=256,
    )
    pods_per_replica: int = Field(
        default=1,
        description="Pods that are one replica: a leader and workers, which start and fail together"
        " and find each other as in a LeaderWorkerSet (LWS_LEADER_ADDRESS, LWS_GROUP_SIZE,"
        " LWS_WORKER_INDEX). Default 1; 1 to 64. A change is rolled out like one of the template.",
        ge=1,
        le=64,
    )
    accelerators: list[Product] | None = Field(
        default=None,
        description="GPU products on which the pods may run, the most wanted first, as the node"
        " label nvidia.com/gpu.product (amd.com/gpu.product-name) has them; 1 to 8. Default: any."
        " A change is rolled out like one of the template.",
        min_length=1,
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    template: PodTemplate = Field(
        description="The pod of one replica, or its leader. GPUs, node selectors, tolerations and"
        " volumes are read from here and said nowhere else. A change makes waiting units anew at"
        " once and replaces running ones unit by unit, all pools of a unit together, as"
        " spec.rollout says."
    )
    worker_template: PodTemplate | None = Field(
        default=None,
        description="The other pods of a replica where they differ from the leader. Default: the"
        " template.",
    )


class InferencePool(BaseModel):
    """What the Gateway API Inference Extension is told."""

    endpoint_picker: str = Field(
        description="Service of the endpoint picker, in the same namespace.",
        min_length=1,
        max_length=63,
        pattern=_DNS_LABEL,
    )
    endpoint_picker_port: int = Field(
        default=9002,
        description="Port of that Service. Default 9002; 1 to 65535.",
        ge=1,
        le=65_535,
    )
    target_port: int = Field(
        description="Port on which the pods take requests; 1 to 65535.", ge=1, le=65_535
    )
