"""An InferenceDeployment as far as its pods are concerned: what is asked for.

The codec reads it from the object. What it means for single pods stands in `slots`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from bayplan.api import names
from bayplan.api.pools import Role
from bayplan.cluster.constraints import GangTopology
from bayplan.cluster.resources import Resources
from bayplan.inference.shapes import Shape

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
    def revisioned(self) -> list[Any]:
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
        revisioned = [
            [pool.revisioned for pool in self.pools],
            self.priority_class,
            topology_annotations(self.topology),
        ]
        text = json.dumps(revisioned, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_DIGITS]


def topology_annotations(topology: GangTopology | None) -> dict[str, str]:
    """Return the annotations that say to the planner where pods are to be to each other."""
    if topology is None:
        return {}
    said = {
        names.ANNOTATION_TOPOLOGY_REQUIRED: topology.required,
        names.ANNOTATION_TOPOLOGY_PREFERRED: ",".join(topology.preferred),
    }
    return {name: text for name, text in said.items() if text}
