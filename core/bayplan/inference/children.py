"""A pod of an InferenceDeployment that exists: what is seen of it.

The codec reads it from the pod, and `rollout` decides which to delete, and which to make beside
them (`slots`).
"""

from dataclasses import dataclass, replace

from bayplan.cluster.keys import NodeName
from bayplan.inference import members
from bayplan.inference.shapes import NO_SHAPE, Shape


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
