"""A pod that uses room or waits for some: what it asks for, where it is, what may be done to it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from weakref import WeakValueDictionary

from bayplan.cluster.budgets import Health
from bayplan.cluster.constraints import Constraints, GangTopology
from bayplan.cluster.keys import BudgetKey, GangKey, NodeName, Owner, PodKey
from bayplan.cluster.resources import Resources

#: Seconds after its deadline from which a terminating pod counts as stuck: its room stays taken.
OVERSTAY_S: Final = 60

#: Seconds from the instant by which its replacement serves, after which a pod counts as stuck.
GOODBYE_S: Final = 900

#: The most that instant can be ahead: a cold start of a day, and what comes on top of it.
MOST_BESIDE_S: Final = 100_000

#: The largest cost of a move: what a model that starts for most of an hour may say.
MAX_MOVE_COST: Final = 100

#: The size of a gang whose label does not say it: no number of pods is enough.
UNKNOWN_COUNT: Final = 2**30


class Disruption(StrEnum):
    """What a plan may do to a pod that has a node."""

    FIXED = "Fixed"  #: nothing: DaemonSet, static, bare, on its way, or the cluster's own
    EVICTABLE = "Evictable"  #: evict it; no plan knows where its replacement goes
    MOVABLE = "Movable"  #: evict it; its replacement comes back through us and is planned


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class PodKind:
    """What makes pods alike: to a plan, only their number per node differs.

    There is one object for equal values (but for a race of two threads), so that a fleet's pods
    are counted by identity, without comparing what they ask for.
    """

    requests: Resources
    priority: int
    constraints: Constraints
    disruption: Disruption
    preempts: bool
    move_cost: int
    budget: BudgetKey | None
    fixed_by: str

    @classmethod
    def of(cls, pod: "Pod") -> "PodKind":
        """Return the kind of the pod."""
        values = (
            *(pod.requests, pod.priority, pod.constraints, pod.disruption, pod.preempts),
            *(pod.move_cost, pod.budget, pod.fixed_by),
        )
        known = _KINDS.get(values)
        if known is None:
            made = cls(
                requests=pod.requests,
                priority=pod.priority,
                constraints=pod.constraints,
                disruption=pod.disruption,
                preempts=pod.preempts,
                move_cost=pod.move_cost,
                budget=pod.budget,
                fixed_by=pod.fixed_by,
            )
            known = _KINDS.setdefault(values, made)
        return known

    def in_words(self) -> str:
        """Return all of it as text; volumes only where there are some, for older recordings."""
        volumes, unreadable = self.constraints.volumes, self.constraints.unreadable
        told = f"{self!r} {volumes!r}" if volumes else repr(self)
        told = f"{told} {unreadable}" if unreadable else told
        told = f"{told} {self.constraints.barred}" if self.constraints.barred else told
        refused, refused_at = self.constraints.refused, self.constraints.refused_at
        return f"{told} {refused} {refused_at!r}" if refused else told


#: The kinds that some pod has.
_KINDS: Final[WeakValueDictionary[tuple[object, ...], PodKind]] = WeakValueDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that uses room or waits for some.

    Attributes:
        key: Namespace and name.
        uid: Identity; a pod made again under the same name has another one.
        requests: What it uses on its node, `pods: 1` included.
        priority: Its tier; higher is decided first.
        constraints: Selector, affinity and tolerations.
        node: Where it runs, or is pinned to; None while it has no node.
        waiting: Whether it waits behind our gate for a plan (then `node` is None).
        disruption: What a plan may do to it while it has a node.
        preempts: False for `preemptionPolicy: Never`: it makes nobody go.
        terminating: Being deleted: its room is taken now and free later.
        leaves_at: When it must have ended if it terminates, seconds since the epoch; else 0.
        finalizers: What keeps its object after that, if it terminates; else nothing.
        gang: The gang it belongs to, if any.
        gang_min_count: How many pods of the gang must run for any of them to be useful.
        gang_topology: Where the gang's pods are to be with respect to each other, if it says so.
        min_units: How many gangs its owner needs, as it says; else 0 (`bayplan.rules.minimums`).
        labels: Labels, sorted by key: what rules between pods select by.
        owner: The controller that makes it again.
        created_at: Seconds since the epoch; earlier pods go first among equals.
        bound: Whether `node` is where it is bound; False while it is only pinned there.
        replaces: uid of the moved pod whose planned place it took; "" for all others.
        serves_by: By when it is to serve, if it starts before the pod that it replaces goes, in
            seconds since the epoch; else 0.
        gives_way_by: The same of its replacement, while that starts beside it; else 0.
        move_failed_at: When its replacement was last given up, in seconds since the epoch; else 0.
        started_at: When its node began to run it, seconds since the epoch; 0 before.
        move_cost: What a move of it costs, 1 to `MAX_MOVE_COST`.
        budget: The PodDisruptionBudget that limits its eviction (`bayplan.rules.restraints`).
        fixed_by: What keeps a plan from disturbing it for now, in words; "" if nothing does that
            is not its own manifest.
        offered: Whether its gate was lifted without a pin, for node autoscalers to see it.
        unplanned: Why no plan is made for it though it waits behind a gate, in words that follow
            its name; "" for all others.
        claims: Names of the PersistentVolumeClaims that it uses, of its namespace.
        refused: Why kube-scheduler finds no node for it, in its words; "" if it does not say so.
        health: How it does on its node; its kind says what that means for its budget.
        kind: What makes it like others.
    """

    key: PodKey
    uid: str
    requests: Resources
    priority: int = 0
    constraints: Constraints = field(default_factory=Constraints)
    node: NodeName | None = None
    waiting: bool = False
    disruption: Disruption = Disruption.FIXED
    preempts: bool = True
    terminating: bool = False
    leaves_at: int = 0
    finalizers: tuple[str, ...] = ()
    gang: GangKey | None = None
    gang_min_count: int = 0
    gang_topology: GangTopology | None = None
    min_units: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    owner: Owner | None = None
    created_at: int = 0
    bound: bool = True
    replaces: str = ""
    serves_by: int = 0
    gives_way_by: int = 0
    move_failed_at: int = 0
    started_at: int = 0
    move_cost: int = 1
    budget: BudgetKey | None = None
    fixed_by: str = ""
    offered: bool = False
    unplanned: str = ""
    claims: tuple[str, ...] = ()
    refused: str = ""
    health: Health = Health.READY
    kind: PodKind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", PodKind.of(self))

    @property
    def gone_by(self) -> int:
        """When one that is on its way out counts as stuck, in seconds since the epoch."""
        if self.terminating:
            return self.leaves_at + OVERSTAY_S
        return self.gives_way_by + GOODBYE_S

    def leaves(self, now: float) -> bool:
        """Return whether it is on its way out: who overstays its time counts as staying.

        It is being deleted, or its replacement starts, after which it finishes its requests.
        """
        on_time = now <= self.gone_by
        return on_time and (self.terminating or self.gives_way_by <= now + MOST_BESIDE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A pod that has ended well and is not made again.

    Attributes:
        gang: The gang that it was of.
        owner: The uid of its controller; "" if it had none.
    """

    gang: GangKey
    owner: str = ""


def newest_member(pods: Sequence[Pod]) -> Pod:
    """Return the member of a gang whose label counts: those made later know the newer size."""
    return max(pods, key=lambda pod: (pod.waiting, pod.created_at, pod.key))


def ended_with(pods: Iterable[Pod], ended: Iterable[Ended]) -> tuple[Ended, ...]:
    """Return those of a gang that ended well in one run with the `pods` that are there of it.

    They have a controller in common. A Job that is made anew, by a CronJob or by hand, is another
    one: where its gang has a fixed name, those of the last run may still be there.
    """
    owners = {pod.owner.uid if pod.owner else "" for pod in pods}
    return tuple(member for member in ended if member.owner in owners)
