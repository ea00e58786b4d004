"""InferenceDeployment: prefill and decode replicas of one model, in a ratio that is kept.

The user says how many units, in what ratio, at what priority, and gives one pod template per
pool; the operator makes the pods and reports in the status. Texts are those of `kubectl explain`.
"""

from enum import StrEnum
from typing import Final

from kube_custom_resource.schema import BaseModel
from pydantic import ConfigDict, Field

from bayplan.api.inference_status import InferenceDeploymentStatus
from bayplan.api.names import VERSION
from bayplan.api.pools import (
    MAX_HOST_NAMES,
    MAX_SERVICE_NAMES,
    MAX_UNIT,
    InferencePool,
    Pool,
    Role,
)
from bayplan.api.ratio import Ratio
from bayplan.api.resource import CustomResource, Scope, column
from bayplan.api.schema import list_map, rule, rules

#: What a deployment's name looks like so that it can begin that of a Service.
SERVICE_NAME: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


def _name(pool: str) -> str:
    """Return the CEL expression of a pool's name."""
    return f"(has({pool}.name) ? {pool}.name : {pool}.role.lowerAscii())"


#: The CEL expression of how many replicas of the pool `p` a unit has.
_REPLICAS: Final = (
    "(has(p.replicas) ? p.replicas : (p.role == 'Prefill' ? self.ratio.prefill :"
    " (p.role == 'Decode' ? self.ratio.decode : 1)))"
)


def _sum(role: str, ratio: str) -> str:
    """Return the CEL expression of the replicas of one role in a unit."""
    replicas = f"has(p.replicas) ? p.replicas : self.ratio.{ratio}"
    return f"self.pools.filter(p, p.role == '{role}').map(p, {replicas}).sum()"


class Rollout(BaseModel):
    """How a new template reaches the units."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.maxUnavailable + self.maxSurge > 0",
                message="spec.rollout.maxUnavailable and spec.rollout.maxSurge must not both be 0,"
                " no unit could ever be replaced: set one of them to at least 1",
                field=".maxUnavailable",
            )
        )
    )

    max_unavailable: int = Field(
        default=1,
        description="Units of those asked for that may be missing or not ready because they are"
        " being replaced. Default 1; 0 to 100000. With 0, a unit is only replaced once its"
        " successor serves, which needs free room. A change touches no pod by itself.",
        ge=0,
        le=100_000,
    )
    max_surge: int = Field(
        default=1,
        description="Units beyond `replicas` that may be made so that they serve before old ones"
        " go. Where the plan finds no room for them, old units go first, within maxUnavailable."
        " They have the priority of all others and may take room from lower ones; 0 forbids that."
        " So many pods that a plan moves may start at their new place before they leave, too."
        " Default 1; 0 to 100000. A change touches no pod by itself.",
        ge=0,
        le=100_000,
    )
    paused: bool = Field(
        default=False,
        description="Whether whole units of an older template stay as they are. What has to be made"
        " anyway is made from the newest one: units added, and units that have lost a pod."
        " Default false; true stops a rollout where it is, false lets it go on.",
    )


class Sharing(StrEnum):
    """Whether the pods of a unit must share a domain."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"


class Topology(BaseModel):
    """A label of nodes of which the pods of one unit share a value."""

    key: str = Field(
        description="Label of nodes, such as topology.kubernetes.io/zone. Nodes with the same value"
        " are one domain; a node without it is in none.",
        min_length=1,
        max_length=317,
    )
    mode: Sharing = Field(
        default=Sharing.PREFERRED,
        description="Required: a unit waits until one domain has room for all its pods. Preferred:"
        " among equally good plans, the one with the most units in one domain. Default Preferred.",
    )


class Placement(BaseModel):
    """Where the pods of one unit are to be with respect to each other."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.topology.filter(t, t.mode == 'Required').size() <= 1",
                message="spec.placement.topology must not require two labels: require the one"
                " with the smaller domains, they lie within those of the other",
                field=".topology",
            )
        )
    )

    topology: list[Topology] = Field(
        description="Labels that tell how near nodes are to each other, the fastest link first,"
        " 1 to 8. Those preferred are tried in this order, within the required one.",
        min_length=1,
        max_length=8,
        json_schema_extra=list_map("key"),
    )


class Disruption(BaseModel):
    """What it means to disturb the running pods."""

    cold_start_seconds: int | None = Field(
        default=None,
        description="Seconds from a pod's start until it serves: what a move of it costs. Plans"
        " move pods that start sooner instead, where they can. A pod that is moved gets twice that"
        " to serve at its new place, but no more than an hour longer, and ten minutes at least."
        " 1 to 86400; beyond 3000 it costs as much as 3000. Default: as cheap as a move gets. A"
        " change holds for pods that are made later.",
        ge=1,
        le=86_400,
    )
    drain_timeout_seconds: int | None = Field(
        default=None,
        description="Most seconds for which a unit that is to go (scaled down, or replaced), or a"
        " pod that a plan moves or evicts, is kept out of service, so that it gets no new requests"
        " while it finishes those it has. It goes sooner when the engines say that they have none"
        " left: on the port of the annotation prometheus.io/port; without it, after 5 seconds. Then"
        " its pods get their terminationGracePeriodSeconds. Default 120; 0 to 86400; 0 deletes at"
        " once.",
        ge=0,
        le=86_400,
    )


class InferenceDeploymentSpec(BaseModel):
    """What the user asks for."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.minReplicas) || self.minReplicas <= self.replicas",
                message="spec.minReplicas must not be above spec.replicas: lower it or raise"
                " spec.replicas",
                field=".minReplicas",
            ),
            rule(
                f"self.pools.all(p, self.pools.exists_one(q, {_name('q')} == {_name('p')}))",
                message="spec.pools[].name must be unique (a pool without one is called after its"
                " role in lower case): rename one of the pools",
                field=".pools",
            ),
            rule(
                "!self.pools.exists(p, p.role == 'Aggregated')"
                " || self.pools.all(p, p.role == 'Aggregated')",
                message="spec.pools must not mix Aggregated with Prefill or Decode: remove the"
                " Aggregated pool, or the others",
                field=".pools",
            ),
            rule(
                "self.pools.all(p, !oldSelf.pools.exists(o,"
                f" {_name('o')} == {_name('p')} && o.role != p.role))",
                message="spec.pools[].role of a pool cannot be changed, its Service would lead to"
                " pods of both: give the pool another name",
                field=".pools",
            ),
            rule(
                "!self.pools.exists(p, p.role == 'Aggregated')"
                " || (self.ratio.prefill == 1 && self.ratio.decode == 1 &&"
                " self.ratio.mode == 'Fixed')",
                message="spec.ratio holds for Prefill and Decode pools: remove it, Aggregated pools"
                " say in replicas how many a unit has",
                field=".ratio",
            ),
            *(
                rule(
                    f"self.pools.exists(p, p.role == 'Aggregated') || (self.ratio.{name} > 0) =="
                    f" self.pools.exists(p, p.role == '{role}')",
                    message=f"spec.ratio.{name} above 0 and a pool of role {role} go together:"
                    f" add the pool, or set spec.ratio.{name} to 0 and remove it",
                    field=f".ratio.{name}",
                )
                for name, role in (("prefill", Role.PREFILL), ("decode", Role.DECODE))
            ),
            *(
                rule(
                    f"!self.pools.exists(p, p.role == '{role}') || {_sum(role, name)} =="
                    f" self.ratio.{name}",
                    message=f"spec.pools[].replicas of the {role} pools must add up to"
                    f" spec.ratio.{name}: say it in each of them, or correct the ratio",
                    field=".pools",
                )
                for name, role in (("prefill", Role.PREFILL), ("decode", Role.DECODE))
            ),
            *(
                rule(
                    f"!has(self.ratio.bounds) || !has(self.ratio.bounds.{name}) ||"
                    f" self.pools.filter(p, p.role == '{role}').size() == 1",
                    message=f"spec.ratio.bounds.{name} holds for a single pool of role {role}:"
                    " remove it, or all of these pools but one",
                    field=f".ratio.bounds.{name}",
                )
                for name, role in (("prefill", Role.PREFILL), ("decode", Role.DECODE))
            ),
            rule(
                f"self.pools.map(p, p.podsPerReplica * {_REPLICAS}).sum() <= {MAX_UNIT}",
                message="spec.pools: a unit (replicas times podsPerReplica, over all pools) must"
                f" have at most {MAX_UNIT} pods: lower spec.ratio or podsPerReplica",
                field=".pools",
            ),
        )
    )

    replicas: int = Field(
        default=1,
        description="Units asked for; a unit is `ratio.prefill` prefill and `ratio.decode` decode"
        " replicas, placed together or waiting together. Default 1; 0 to 100000. Lowering it"
        " removes whole units; 0 removes every pod.",
        ge=0,
        le=100_000,
    )
    min_replicas: int | None = Field(
        default=None,
        description="Units that must be ready for the condition Ready to be True. While fewer"
        " have nodes, units are placed before others of their priority; plans that need room take"
        " others first. Default: replicas, and no unit comes before others; 0 to replicas. A change"
        " touches no pod.",
        ge=0,
        le=100_000,
    )
    ratio: Ratio = Field(
        default=Ratio(),
        description="Prefill and decode replicas of one unit. Default 1:1. A change makes the pods"
        " that a unit now lacks, and drains and removes those it has too many of; the others go on"
        " running, and a unit counts as whole by its old numbers until its new pods serve. Where"
        " they find no room it stays as it is. Where pods have to go before others can come, no"
        " more units than rollout.maxUnavailable are out of service for that.",
    )
    priority_class_name: str | None = Field(
        default=None,
        description="PriorityClass of every pod. A unit never takes the place of one of equal or"
        " higher priority. Default: the cluster's default class, else priority 0. A change"
        " is rolled out like one of a template.",
        min_length=1,
        max_length=253,
    )
    rollout: Rollout | None = Field(
        default=None,
        description="How a new template reaches the units. Default: maxUnavailable 1, maxSurge 1.",
    )
    placement: Placement | None = Field(
        default=None,
        description="How near to each other the pods of one unit are. Default: wherever there is"
        " room. A change is rolled out like one of a template.",
    )
    disruption: Disruption | None = Field(
        default=None,
        description="What it means to disturb the running pods. Default: nothing is said.",
    )
    inference_pool: InferencePool | None = Field(
        default=None,
        description="Have an InferencePool (inference.networking.k8s.io/v1) of the same name for"
        " gateways, over all pods that take requests. Default: none. Where the cluster does not"
        " know the kind, the condition Exposed says so. A change touches no pod.",
    )
    pools: list[Pool] = Field(
        description="1 to 16 pools: of the roles Prefill and Decode, or of Aggregated alone.",
        min_length=1,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class InferenceDeployment(
    CustomResource,
    version=VERSION,
    scope=Scope.NAMESPACED,
    short_names=["infd"],
    subresources={
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    },
    printer_columns=[
        column("Ready", ".status.ready", "Units that serve, of those asked for"),
        column("P:D", ".status.ratio", "Running prefill and decode replicas"),
        column("GPUs", ".status.gpus", "GPUs that all desired pods ask for", kind="integer"),
        column("Priority", ".spec.priorityClassName", "PriorityClass of the pods"),
        column("Reason", ".status.reason", "Why it is as it is"),
    ],
):
    """Prefill and decode replicas of one model, kept in a ratio and placed in whole units."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "size(self.metadata.name) <= 52",
                message="metadata.name must be at most 52 characters: it becomes part of the"
                " names and labels of the pods",
            ),
            rule(
                f"self.metadata.name.matches('{SERVICE_NAME}')",
                message="metadata.name must be lower-case letters, digits and '-', beginning with a"
                " letter: it becomes part of the names of Services",
            ),
            rule(
                "self.spec.pools.all(p, size(self.metadata.name) +"
                f" size({_name('p')}) <= {MAX_SERVICE_NAMES})",
                message="metadata.name and the name of a pool must together be at most"
                f" {MAX_SERVICE_NAMES} characters: they name its Service",
            ),
            rule(
                "self.spec.pools.all(p, p.podsPerReplica == 1 || size(self.metadata.name) +"
                f" size({_name('p')}) <= {MAX_HOST_NAMES})",
                message="metadata.name and the name of a pool must together be at most"
                f" {MAX_HOST_NAMES} characters where podsPerReplica is above 1: they name"
                " its hosts",
            ),
        )
    )

    spec: InferenceDeploymentSpec = Field(description="What is asked for.")
    status: InferenceDeploymentStatus | None = Field(
        default=None, description="What is there; written by the operator."
    )
