"""What the status of an InferenceDeployment is computed from: its pods counted, and the news.

`Finding` is a condition before it has its times; `progress` and `readiness` make
them from a `Tally` of the units and the `News` around them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bayplan.api.conditions import ConditionStatus
from bayplan.api.inference_status import Units
from bayplan.api.pools import Role
from bayplan.cluster.keys import NodeName
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.units import UNKNOWN, Around, Unit, units_of
from bayplan.plan import Hold, Reason

#: Longest message of a condition that we write.
_MAX_MESSAGE = 1024

#: Longest text of it that says why a pod waits: what stands around it has room beside that.
_MAX_TOLD = 700


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is going on around the pods.

    Attributes:
        holds: Holds of the newest plan for pods of this deployment.
        executing: Progress of the plan that is being carried out, if it concerns them, else "".
        away_s: The gate time-out, once no planner has been seen for that long; else 0.
        refusal: Why the API server refuses a pod of ours, or "".
        exposed: Whether Services lead to them, where that was looked at.
    """

    holds: tuple[Hold, ...] = ()
    executing: str = ""
    away_s: float = 0.0
    refusal: str = ""
    exposed: "Finding | None" = None

    def held(self, units: Iterable[Unit]) -> Collection[str]:
        """Return the uids of pods for which the newest plan found no room.

        A plan may have seen a unit of which pods were still being made: that it waits for them
        says nothing of room once they are there.
        """
        late = {hold.uid for hold in self.holds if hold.rejection.reason is Reason.GANG_INCOMPLETE}
        made = {pod.uid for unit in units if late and unit.whole for pod in unit.members}
        return {hold.uid for hold in self.holds} - (late & made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A condition without its times."""

    type: str
    status: ConditionStatus
    reason: str
    message: str

    @classmethod
    def of(cls, kind: str, status: ConditionStatus, reason: str, message: str) -> "Finding":
        """Return a finding with a message that is not too long."""
        return cls(type=kind, status=status, reason=reason, message=message[:_MAX_MESSAGE])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The units of a deployment, counted by how far they are.

    Attributes:
        deployment: Whose.
        parts: The units of which there is any pod.
        away: Nodes of which nothing is heard.
    """

    deployment: Deployment
    parts: tuple[Unit, ...]
    away: Collection[NodeName] = ()

    @classmethod
    def of(
        cls, deployment: Deployment, children: Iterable[Child], around: Around = UNKNOWN
    ) -> "Tally":
        """Count the pods; those of another owner are not ours."""
        units = units_of(deployment, children, around)
        return cls(deployment=deployment, parts=units, away=around.away)

    @property
    def units(self) -> Units:
        """Units by how far they are; the pods of one that counts are of one revision."""
        return Units(
            desired=self.deployment.replicas,
            scheduled=sum(unit.scheduled for unit in self.parts),
            ready=sum(unit.ready for unit in self.parts),
            updated=sum(unit.newest and unit.whole for unit in self.parts),
        )

    @property
    def existing(self) -> int:
        """Units of which any pod is there to stay."""
        return sum(bool(unit.members) for unit in self.parts)

    @property
    def pods(self) -> tuple[Child, ...]:
        """The pods that belong to a unit and are there to stay."""
        return tuple(pod for unit in self.parts for pod in unit.members)

    @property
    def pods_wanted(self) -> int:
        """How many pods there are to be in the end."""
        return self.deployment.replicas * self.deployment.unit_size

    def pool(self, name: str) -> Iterator[tuple[Child, bool]]:
        """Yield the pods of one pool, and whether they are of the newest revision."""
        for unit in self.parts:
            yield from ((pod, unit.newest) for pod in unit.members if pod.pool == name)

    def bound(self, role: Role) -> int:
        """Return how many replicas of one role have a node for each of their pods."""
        pools = {pool.name for pool in self.deployment.pools if pool.role is role}
        bound = Counter(
            (pod.unit, pod.leader, pod.replica_size)
            for pod in self.pods
            if pod.pool in pools and pod.node is not None
        )
        return sum(n >= size for (_, _, size), n in bound.items())

    @property
    def all_bound(self) -> bool:
        """Whether every pod of as many units as are asked for has a node."""
        return self.units.scheduled >= self.units.desired

    @property
    def any_gated(self) -> bool:
        """Whether a pod waits behind a gate."""
        return any(child.gated for child in self.pods)

    @property
    def any_ending(self) -> bool:
        """Whether a pod is being deleted."""
        return any(pod.terminating for unit in self.parts for pod in unit.pods)

    @property
    def unbound(self) -> list[Child]:
        """The pods that have no node yet."""
        return [child for child in self.pods if child.node is None]


def count_of(n: int, noun: str) -> str:
    """Return a number with its noun: "1 unit", "2 units"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def held_because(holds: Sequence[Hold]) -> tuple[str, str]:
    """Return the commonest reason among holds, in the words of its first pod."""
    counts = Counter(hold.rejection.reason for hold in holds)
    reason, n = counts.most_common(1)[0]
    first = min((h for h in holds if h.rejection.reason is reason), key=lambda h: h.pod)
    others = f" ({count_of(n - 1, 'more pod')} for the same reason)" if n > 1 else ""
    return reason.value, f"{first.pod.name}: {first.told_within(_MAX_TOLD)}{others}"


def no_room(unit: Unit, news: News) -> str:
    """Return in words why a unit waits for room."""
    uids = {pod.uid for pod in unit.members}
    holds = [hold for hold in news.holds if hold.uid in uids]
    told = held_because(holds)[1] if holds else "the default algorithm finds no node for it"
    return f"unit {unit.index} waits for room: {told}"
