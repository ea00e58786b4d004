"""The pods of an InferenceDeployment: what they are made from, and what is seen of them.

    unit u, pool p, replica i            ──▶  pod `<name>-u-p-i`, gated, labelled, owned
    … worker w of a replica of several pods  ──▶  pod `<name>-u-p-i-w`

The codec reads `Deployment` and `Child` from objects, and `rollout` decides which pods to make and
to delete. What a pod that is made looks like stands in `manifests`.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from bayplan.api import names
from bayplan.api.pools import Role
from bayplan.cluster.constraints import GangTopology
from bayplan.cluster.keys import NodeName
from bayplan.cluster.resources import Resources
from bayplan.inference import members
from bayplan.inference.shapes import NO_SHAPE, Shape

#: Ends the name of the headless Service in which pods of one replica find each other; no pool may
#: have this name.
PEERS: Final = "peers"

#: Hexadecimal digits of a revision: enough to tell the few templates of one deployment apart.
_REVISION_DIGITS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that a container declares; `name` may be ""."""

    number: int
    name: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Replicas of one role that are made from one template.

    Attributes:
        name: Part of its pods' names and labels.
        role: What they do.
        count: How many there are to be in one unit.
        bounds: The least and the most of them that a unit may have, where that is not `count`.
        template: PodTemplateSpec as the user wrote it; never changed.
        requests: What one pod uses on its node, read from the template.
        size: How many pods make one replica: a leader and workers.
        worker_template: PodTemplateSpec of the workers, if it is another one.
        worker_requests: What one worker uses on its node, if that is something else.
        accelerators: GPU products that will do, the most wanted first; none: any.
        ports: Those of the containers that run as long as the pod, from the template.
    """

    name: str
    role: Role
    count: int
    template: Mapping[str, Any]
    requests: Resources
    bounds: tuple[int, int] | None = None
    size: int = 1
    worker_template: Mapping[str, Any] | None = None
    worker_requests: Resources | None = None
    accelerators: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()

    @property
    def pods(self) -> int:
        """How many pods it has in one unit."""
        return self.count * self.size

    @property
    def gpus(self) -> int:
        """How many GPUs one replica has."""
        return sum(self.of_worker(worker)[1].gpus for worker in range(self.size))

    @property
    def essence(self) -> list[Any]:
        """All of it that makes whole units out of date; what is not said adds nothing."""
        more = {
            "podsPerReplica": self.size if self.size > 1 else None,
            "workerTemplate": self.worker_template,
            "accelerators": self.accelerators,
        }
        said = {key: value for key, value in more.items() if value}
        return [self.name, self.role.value, self.template, *([said] if said else [])]

    def of_worker(self, worker: int) -> tuple[Mapping[str, Any], Resources]:
        """Return the template of a pod of a replica, 0 being the leader, and what it asks for."""
        if worker and self.worker_template is not None and self.worker_requests is not None:
            return self.worker_template, self.worker_requests
        return self.template, self.requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How units of an older template give way to those of the newest; all in units.

    Attributes:
        max_unavailable: How many of those asked for may be missing or not ready on purpose.
        max_surge: How many there may be beyond those asked for.
        paused: Whether whole units of an older template stay.
    """

    max_unavailable: int = 1
    max_surge: int = 1
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What a gateway needs to know to choose among the pods.

    Attributes:
        picker: The Service of the endpoint picker, in the same namespace.
        picker_port: Its port.
        target_port: On which the pods take requests.
    """

    picker: str
    picker_port: int
    target_port: int


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """An InferenceDeployment as far as its pods are concerned.

    Attributes:
        namespace: Where it and its pods are.
        name: Its name.
        uid: Identity; "" for one that is not in a cluster, whose pods then have no owner.
        generation: Number of the spec that this was read from.
        replicas: Units asked for.
        min_replicas: Units that must be ready for it to be Ready.
        min_units: Units that it needs, as it says, 0 if it does not; others of it make room first.
        priority_class: PriorityClass of every pod, or "".
        topology: Where the pods of a unit are to be with respect to each other, if it matters.
        cold_start_s: Seconds from a pod's start until it serves; 0 where nobody says.
        drain_s: Most seconds for which a unit that is to go may finish its requests; 0 for none.
        rollout: How a new template reaches the units.
        pools: In the order of the spec.
        gateway: What gateways are to be told, if anything.
    """

    namespace: str
    name: str
    uid: str = ""
    generation: int = 0
    replicas: int = 1
    min_replicas: int = 1
    min_units: int = 0
    priority_class: str = ""
    topology: GangTopology | None = None
    cold_start_s: int = 0
    drain_s: int = 0
    rollout: Rollout = Rollout()
    pools: tuple[Pool, ...] = ()
    gateway: Gateway | None = None

    @property
    def unit_size(self) -> int:
        """How many pods one unit has in the end."""
        return sum(pool.pods for pool in self.pools)

    @cached_property
    def wanted(self) -> Shape:
        """What every unit is to have in the end."""
        return Shape.of({pool.name: pool.count for pool in self.pools})

    @cached_property
    def least(self) -> Shape:
        """What makes a unit whole: all that is wanted, or the lower bounds where there are any."""
        return Shape.of({pool.name: (pool.bounds or (pool.count,))[0] for pool in self.pools})

    def gpus_of(self, shape: Shape) -> int:
        """Return how many GPUs the replicas of a shape have."""
        return sum(pool.gpus * shape[pool.name] for pool in self.pools)

    @property
    def counted(self) -> Pool | None:
        """The pool of which one pod stands for each unit where units are counted."""
        return next((pool for pool in self.pools if pool.count), None)

    @property
    def peers_service(self) -> str:
        """The name of the headless Service in which pods of larger replicas find each other."""
        return f"{self.name}-{PEERS}"

    @cached_property
    def revision(self) -> str:
        """A short hash of all that a change of makes whole units out of date.

        One for all pools: the pods of a unit talk to each other, so that they are of one version.
        The ratio is no part of it: a unit gets more pods, or fewer, while the others run on.
        """
        essence = [
            [pool.essence for pool in self.pools],
            self.priority_class,
            topology_annotations(self.topology),
        ]
        text = json.dumps(essence, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A pod that exists, as far as its InferenceDeployment is concerned.

    Attributes:
        name: Its name.
        uid: Its identity.
        owner_uid: uid of its controller, or "".
        pool: Its pool by label, or "".
        unit: Its unit by label, or -1.
        revision: The revision of its unit by label, or "".
        unit_size: How many pods of its unit planners are told to place together, or 0.
        shape: What it says that makes its unit whole; empty if it says nothing.
        min_units: How many units it says that its deployment needs, or 0.
        replica: Which replica of its pool in its unit it belongs to, by label.
        worker: Which pod of its replica it is, by label; 0 for the leader.
        replica_size: How many pods its replica was to have when it was made, by label.
        represents: Whether it stands for its unit where units are counted, by label.
        replaces: uid of the moved pod whose place it takes, or "".
        serves_by: By when it is to serve, if it starts before that one goes, in seconds since the
            epoch; else 0.
        gives_way_by: The same of its own replacement, as it says itself; else 0.
        plan: The plan that gave it its node, or "".
        node: Where it is bound.
        pin: The node that a plan pinned it to, bound or not.
        unplanned: Whether it has a node that no plan gave it.
        refused: Why kube-scheduler finds no node for it, in its words; "" if it does not say so.
        gated: Whether it waits behind a scheduling gate.
        ready: Whether it can serve.
        unready_since: Since when it cannot, in seconds since the epoch; 0 if nobody says so.
        switched: Whether it is only ready while it is in service.
        in_service: Whether it was put into service.
        drains_since: When it was taken out of service, in seconds since the epoch; 0 if it was not.
        yields: Whether that was done for a plan that makes it leave.
        metrics_url: Where its engine tells how much it has to do, or "".
        broken: Whether a device of it is reported unhealthy.
        restarts: How often a container of it was started anew by the kubelet, the one of them that
            was so most often.
        ended: Whether it is Succeeded or Failed (evicted by its kubelet included), or a container
            of it has ended and it is one of several pods of a replica: they only start together.
        outdated: Whether planners are told, by an annotation, that it is of an older revision.
        terminating: Whether it is being deleted.
        ends_by: When it must have ended then, in seconds since the epoch; else 0.
        created_at: Seconds since the epoch.
        version: Its resourceVersion: what it was when all of this was true.
    """

    name: str
    uid: str
    owner_uid: str = ""
    pool: str = ""
    unit: int = -1
    revision: str = ""
    unit_size: int = 0
    shape: Shape = NO_SHAPE
    min_units: int = 0
    replica: int = 0
    worker: int = 0
    replica_size: int = 1
    represents: bool = False
    replaces: str = ""
    serves_by: int = 0
    gives_way_by: int = 0
    plan: str = ""
    node: NodeName | None = None
    pin: NodeName | None = None
    unplanned: bool = False
    refused: str = ""
    gated: bool = False
    ready: bool = False
    unready_since: int = 0
    switched: bool = False
    in_service: bool = False
    drains_since: int = 0
    yields: bool = False
    metrics_url: str = ""
    broken: bool = False
    restarts: int = 0
    ended: bool = False
    outdated: bool = False
    terminating: bool = False
    ends_by: int = 0
    created_at: int = 0
    version: str = ""

    @property
    def serves(self) -> bool:
        """Whether it takes requests, or finishes those that it has."""
        return self.ready or bool(self.drains_since)

    @property
    def takes_requests(self) -> bool:
        """Whether new requests come to it."""
        return self.ready and not self.drains_since

    def is_still(self, seen: "Child") -> bool:
        """Return whether all that was `seen` of the pod is so, but that it may be ready no more."""
        now = replace(self, version=seen.version, unready_since=seen.unready_since)
        return seen in (now, replace(now, ready=True))

    @property
    def counts(self) -> bool:
        """Whether it is there to stay."""
        return not (self.terminating or self.ended)

    @property
    def leader(self) -> str:
        """The name of its replica's leader, which is the replica's."""
        return members.leader_of(self.name, self.worker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A pod that should exist: where in which unit, and under which name.

    Attributes:
        name: Its name.
        unit: The number of its unit.
        index: The number of its replica, in its pool and unit.
        pool: Its pool.
        revision: The revision it is made from.
        unit_size: How many pods of its unit are placed together, those that run included.
        shape: What makes its unit whole.
        worker: Which pod of its replica it is; 0 for the leader.
        represents: Whether it stands for its unit where units are counted.
    """

    name: str
    unit: int
    index: int
    pool: Pool
    revision: str
    unit_size: int
    shape: Shape
    worker: int = 0
    represents: bool = False

    @property
    def leader(self) -> str:
        """The name of its replica's leader, which is the replica's."""
        return members.leader_of(self.name, self.worker)


def slots(deployment: Deployment) -> tuple[Slot, ...]:
    """Return the pods that are made where nothing exists yet, unit by unit."""
    made_from = deployment.revision
    return tuple(
        slot
        for unit in range(deployment.replicas)
        for slot in least_slots(deployment, unit, made_from)
    )


def least_slots(deployment: Deployment, unit: int, made_from: str) -> tuple[Slot, ...]:
    """Return the pods with which one unit begins, in the order of the pools."""
    least = deployment.least
    every = {(pool.name, n) for pool in deployment.pools for n in range(least[pool.name])}
    together = sum(pool.size * least[pool.name] for pool in deployment.pools)
    return slots_of(deployment, unit, made_from, replicas=every, together=together, shape=least)


def slots_of(  # noqa: PLR0913 - what its pods say, each by name
    deployment: Deployment,
    unit: int,
    made_from: str,
    *,
    replicas: Collection[tuple[str, int]],
    together: int,
    shape: Shape,
) -> tuple[Slot, ...]:
    """Return the pods of some replicas of one unit, each given by its pool and number.

    They are made from the newest revision; `together` pods of the unit run in the end, and `shape`
    is what makes it whole.
    """
    return tuple(
        Slot(
            name=members.name_of(f"{deployment.name}-{unit}-{pool.name}-{index}", worker),
            unit=unit,
            index=index,
            pool=pool,
            revision=made_from,
            unit_size=together,
            shape=shape,
            worker=worker,
            represents=pool is deployment.counted and not index and not worker,
        )
        for pool in deployment.pools
        for index in sorted(number for name, number in replicas if name == pool.name)
        for worker in range(pool.size)
    )


def topology_annotations(topology: GangTopology | None) -> dict[str, str]:
    """Return the annotations that say to the planner where pods are to be to each other."""
    if topology is None:
        return {}
    said = {
        names.ANNOTATION_TOPOLOGY_REQUIRED: topology.required,
        names.ANNOTATION_TOPOLOGY_PREFERRED: ",".join(topology.preferred),
    }
    return {name: text for name, text in said.items() if text}
