"""A plan: what one pass decided, how good it is, and why the rest must wait.

The planner returns a `Result`; the extender publishes its plan as a PackingPlan object, the
operator carries that out, the webhook and the command line answer from it.
"""

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from itertools import repeat, starmap
from typing import Final, TypeVar

from bayplan.cluster.keys import GangKey, NodeName, Owner, PodKey
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.policy import Order

#: By how much an eviction counts for more than a move in the stages of disruption; more than any
#: move costs.
EVICTION_COST: Final = 1000

#: What a text ends with that was cut.
_MORE: Final = " ..."


class Verdict(StrEnum):
    """How good a plan is, in one word."""

    OPTIMAL = "Optimal"  #: proved for every stage of the named order
    IMPROVED = "Improved"  #: better than doing nothing; the gap says how far a proof is away
    UNCHANGED = "Unchanged"  #: nothing better found, and nothing proved
    INFEASIBLE = "Infeasible"  #: proved: nothing that waits can be placed


class Reason(StrEnum):
    """Why a pod is refused, by a node or by the whole plan."""

    NODE_NOT_READY = "NodeNotReady"
    NODE_CORDONED = "NodeCordoned"
    TAINT_NOT_TOLERATED = "TaintNotTolerated"
    SELECTOR_MISMATCH = "NodeSelectorMismatch"
    AFFINITY_MISMATCH = "NodeAffinityMismatch"
    VOLUME_ELSEWHERE = "VolumeElsewhere"
    VOLUME_UNREADABLE = "VolumeUnreadable"
    TOO_SMALL = "NodeTooSmall"
    INSUFFICIENT_ROOM = "InsufficientRoom"
    HOST_PORT_TAKEN = "HostPortTaken"
    POD_ANTI_AFFINITY = "PodAntiAffinity"
    POD_AFFINITY = "PodAffinity"
    TOPOLOGY_SPREAD = "TopologySpread"
    GANG_TOPOLOGY = "GangTopology"
    RESERVED = "RoomReserved"
    PLANNED_ELSEWHERE = "PlannedElsewhere"
    NO_NODES = "NoNodes"
    GANG_INCOMPLETE = "GangIncomplete"
    GANG_DOES_NOT_FIT = "GangDoesNotFit"
    OUTRANKED = "Outranked"
    DISRUPTION_FORBIDDEN = "DisruptionForbidden"
    NO_PLACE_FOUND = "NoPlaceFound"
    NOT_ADMITTED = "NotAdmitted"
    REFUSED_ON_NODE = "RefusedOnNode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One refusal.

    Attributes:
        reason: The code that programs compare.
        message: A sentence for the person who asks why.
        resolvable: Whether moving or evicting other pods could lift it.
        about: Of a node that refuses for good, which taint, label or term it is; else "".
    """

    reason: Reason
    message: str
    resolvable: bool = False
    about: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A waiting pod gets a node, and `device`, a GPU of it by number, if it asks for a share."""

    pod: PodKey
    uid: str
    node: NodeName
    gang: GangKey | None = None
    priority: int = 0
    device: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A running pod gives up `source`; the pod that `owner` makes in its place gets `target`.

    `device` is the GPU of the target, by number, that a pod with a share of one gets.
    """

    pod: PodKey
    uid: str
    source: NodeName
    target: NodeName
    owner: Owner | None
    priority: int
    device: int | None = None

    def is_replaced_by(self, pod: Pod) -> bool:
        """Return whether a pod took the place: it says so, and is of the same controller.

        Anybody may write that into a pod.
        """
        ours = pod.owner is not None and self.owner is not None and pod.owner.uid == self.owner.uid
        return ours and pod.replaces == self.uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Evict:
    """A running pod gives up its node for a higher tier and has no other home.

    A `gang` is evicted whole or not at all, also when the plan is cut short.
    """

    pod: PodKey
    uid: str
    node: NodeName
    priority: int
    owner: Owner | None = None
    gang: GangKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A waiting pod goes on waiting.

    Attributes:
        pod: The pod.
        uid: Its identity.
        rejection: Why, in a code and a sentence.
        gang: Its gang, if any.
        remedy: What would help, as a sentence; empty when nothing is known to.
    """

    pod: PodKey
    uid: str
    rejection: Rejection
    gang: GangKey | None = None
    remedy: str = ""

    @property
    def told(self) -> str:
        """Why, and what would help, in one line; the same wherever it is told."""
        return f"{self.rejection.message}{self._helps}"

    def told_within(self, most: int) -> str:
        """Return the same in at most so many characters, above 100.

        Where that is too few, the reason is cut before what would help, and marked as cut.
        """
        if len(self.told) <= most:
            return self.told
        why = self.rejection.message
        helps = _cut(self._helps, most - min(len(why), most // 4))
        return f"{_cut(why, most - len(helps))}{helps}"

    @property
    def _helps(self) -> str:
        return f"; what would help: {self.remedy}" if self.remedy else ""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - len(_MORE)] + _MORE


#: What happens to one pod.
Action = Bind | Move | Evict | Hold

_Act = TypeVar("_Act", bound=Bind | Move | Evict)

_Any = TypeVar("_Any", bound=Action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Why a pod without a plan is where it is.

    Attributes:
        node: The node it was given.
        room: What was free there, outside what plans reserve.
        runner_up: The node it would have been given otherwise; None when no other had room.
        runner_up_room: What was free there.
        asked: How many nodes the scheduler asked about.
        loss: What the pod costs there, of which the least decides; see `bayplan.online`.
        runner_up_loss: The same on the runner-up.
    """

    node: NodeName
    room: Resources
    runner_up: NodeName | None
    runner_up_room: Resources
    asked: int
    loss: float = 0.0
    runner_up_loss: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One objective of the order, as far as it was solved.

    Attributes:
        name: What was counted, e.g. "place 1000" (pods of tier 1000 placed).
        value: What the plan reaches.
        bound: What no plan can beat, given the stages before it.
        seconds: Time spent.
    """

    name: str
    value: int
    bound: int
    seconds: float = 0.0

    @property
    def proved(self) -> bool:
        """Whether the plan reaches the bound."""
        return self.value == self.bound

    @property
    def gap(self) -> float:
        """Distance to the bound as a fraction of it (0 when proved)."""
        return abs(self.bound - self.value) / max(1, abs(self.bound))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """How good a plan is, for which order, and stage by stage what was proved.

    Later stages are bounded given what earlier ones reached, so the first unproved stage is
    where the proof ends.
    """

    order: Order
    verdict: Verdict
    stages: tuple[Stage, ...] = ()

    @property
    def gap(self) -> float:
        """The gap of the first stage that is not proved; 0 when all are."""
        return next((stage.gap for stage in self.stages if not stage.proved), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything one pass decided; each tuple is sorted by pod."""

    certificate: Certificate
    binds: tuple[Bind, ...] = ()
    moves: tuple[Move, ...] = ()
    evictions: tuple[Evict, ...] = ()
    holds: tuple[Hold, ...] = ()

    @property
    def victims(self) -> tuple[Move | Evict, ...]:
        """The pods that give up their nodes."""
        return (*self.moves, *self.evictions)


def in_bulk(cls: type[_Any], **columns: Iterable[object]) -> tuple[_Any, ...]:
    """Return many actions, given the values of each attribute, in a third of the time.

    A plan for a fleet has a hundred thousand, and most of what it takes to make one with a call
    goes into passing its attributes on, one by one, to itself.

    Raises:
        TypeError: An attribute has no values.
        ValueError: One has more values than another.
    """
    names = [attribute.name for attribute in fields(cls)]
    if columns.keys() != {*names}:
        raise TypeError(f"{cls.__name__} has {names}, not {[*columns]}")
    first, *rest = names
    values = list(columns[first])
    made = list(map(cls.__new__, repeat(cls, len(values))))
    for name, column in ((first, values), *((name, columns[name]) for name in rest)):
        put = getattr(cls, name).__set__
        deque(starmap(put, zip(made, column, strict=True)), maxlen=0)
    return tuple(made)


def plan_of(certificate: Certificate, actions: Iterable[Action]) -> Plan:
    """Return the plan that does all of the actions, those of a kind in the order given."""
    listed = tuple(actions)
    return Plan(
        certificate=certificate,
        binds=tuple(a for a in listed if isinstance(a, Bind)),
        moves=tuple(a for a in listed if isinstance(a, Move)),
        evictions=tuple(a for a in listed if isinstance(a, Evict)),
        holds=tuple(a for a in listed if isinstance(a, Hold)),
    )


def by_pod(actions: Iterable[Action]) -> list[Action]:
    """Return the actions in the order of a plan that is whole."""
    return sorted(actions, key=lambda action: action.pod)


def together(actions: Iterable[_Act]) -> list[list[_Act]]:
    """Return binds, moves and evictions in groups that come or go together.

    That is a gang, or one pod alone; pods are moved one by one.
    """
    groups: dict[GangKey | PodKey, list[_Act]] = defaultdict(list)
    for action in actions:
        gang = None if isinstance(action, Move) else action.gang
        groups[gang or action.pod].append(action)
    return list(groups.values())


def actions_of(plan: Plan) -> tuple[Action, ...]:
    """Return what a plan does, those first who make room."""
    return (*plan.evictions, *plan.moves, *plan.binds, *plan.holds)


def plan_digest(plan: Plan) -> str:
    """Return the SHA-256 of what was decided and proved; how long it took is not part of it."""
    stages = tuple(replace(stage, seconds=0.0) for stage in plan.certificate.stages)
    timeless = replace(plan, certificate=replace(plan.certificate, stages=stages))
    return hashlib.sha256(repr(timeless).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A plan and what it took to make it.

    Attributes:
        plan: The decision.
        digest: Fingerprint of the snapshot it was made from.
        engine: What found the plan: "keep-and-fill", "repair", "mixes", "cp-sat" or "greedy".
        seconds: Wall-clock time of the pass, by step and in sum under "total".
        sizes: Counts of the instance and of the model (nodes, pods, variables, …).
        refused: What the validator found in plans that were made before this one: a fault of
            Bayplan each.
    """

    plan: Plan
    digest: str
    engine: str
    seconds: tuple[tuple[str, float], ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    refused: tuple[str, ...] = ()
