"""The status of an InferenceDeployment: how far its units are, and why they are not further.

Computed anew each pass from the pods, from what the newest plan says about them, and from the
status before, of which only the times of transitions and the last decisions are kept. The
operator applies the result when it differs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from bayplan import units
from bayplan.api import names
from bayplan.api.conditions import Condition, ConditionStatus
from bayplan.api.inference_deployment import (
    Decision,
    InferenceDeploymentStatus,
    PoolStatus,
    Role,
    Units,
)
from bayplan.children import Changes, Child, Deployment, Slot, slots
from bayplan.plan import Hold

_TRUE: Final = ConditionStatus.TRUE
_FALSE: Final = ConditionStatus.FALSE
_UNKNOWN: Final = ConditionStatus.UNKNOWN

#: Decisions that are remembered, and the longest message of one.
_MAX_DECISIONS: Final = 10
_MAX_MESSAGE: Final = 1024

#: Reasons that pass too quickly to be remembered as decisions.
_FLEETING: Final = frozenset({"PlanExecuting", "WaitingForPlan", "WaitingForScheduler", "NoPods"})


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is going on around the pods.

    Attributes:
        holds: Holds of the newest plan for pods of this deployment.
        executing: Progress of the plan that is being carried out, if it concerns them, else "".
        away_s: The gate time-out, once no planner has been seen for that long; else 0.
        refusal: Why the API server refuses a pod of ours, or "".
    """

    holds: tuple[Hold, ...] = ()
    executing: str = ""
    away_s: float = 0.0
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A condition without its times."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The desired pods of a deployment, counted by how far they are.

    Attributes:
        deployment: Whose pods.
        seen: The pods that fill a slot and are there to stay, by name.
        units: Units desired, scheduled (every pod has a node) and ready (every pod is).
        existing: Units of which there is any pod.
    """

    deployment: Deployment
    seen: Mapping[str, Child]
    units: Units
    existing: int
    slots: tuple[Slot, ...] = field(repr=False, default=())

    @classmethod
    def of(cls, deployment: Deployment, children: Iterable[Child]) -> "Tally":
        """Count the pods; those of another owner are not ours."""
        wanted = slots(deployment)
        own = {c.name: c for c in children if c.counts and c.owner_uid == deployment.uid}
        filled = {slot.name: own[slot.name] for slot in wanted if slot.name in own}
        bound = Counter(s.unit for s in wanted if s.name in filled and filled[s.name].node)
        ready = Counter(s.unit for s in wanted if s.name in filled and filled[s.name].ready)
        whole = deployment.unit_size
        return cls(
            deployment=deployment,
            seen=filled,
            units=Units(
                desired=deployment.replicas,
                scheduled=sum(n == whole for n in bound.values()),
                ready=sum(n == whole for n in ready.values()),
            ),
            existing=len({child.unit for child in own.values()}),
            slots=wanted,
        )

    def pool(self, name: str) -> list[Child]:
        """Return the pods of one pool."""
        return [
            self.seen[s.name] for s in self.slots if s.pool.name == name and s.name in self.seen
        ]

    def bound(self, role: Role) -> int:
        """Return how many pods of one role have a node."""
        children = (self.seen.get(s.name) for s in self.slots if s.pool.role is role)
        return sum(child is not None and child.node is not None for child in children)

    @property
    def all_bound(self) -> bool:
        """Whether every desired pod has a node."""
        return self.units.scheduled == self.units.desired

    @property
    def any_gated(self) -> bool:
        """Whether a pod waits behind a gate."""
        return any(child.gated for child in self.seen.values())

    @property
    def unbound(self) -> list[Child]:
        """The pods that have no node yet."""
        return [child for child in self.seen.values() if child.node is None]


def status(
    tally: Tally, made: Changes, news: News, *, before: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the status object; equal to `before` when nothing has changed."""
    deployment = tally.deployment
    findings = findings_of(tally, made, news)
    return _dump(
        InferenceDeploymentStatus(
            observed_generation=deployment.generation,
            conditions=_conditions(findings, deployment.generation, before, now),
            units=tally.units,
            pools=_pools(tally),
            ready=f"{tally.units.ready}/{tally.units.desired}",
            ratio=_ratio(tally),
            gpus=_gpus(tally),
            reason=_summary(findings),
            replicas=tally.existing,
            selector=_selector(deployment),
            decisions=_decisions(findings, before, now),
        )
    )


def invalid(
    problem: str, *, generation: int, before: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the status of a deployment whose spec cannot be read; its pods are left alone."""
    findings = [
        _finding("Degraded", _TRUE, "InvalidSpec", problem),
        _finding("Progressing", _FALSE, "InvalidSpec", problem),
    ]
    kept = {key: value for key, value in before.items() if key not in {"conditions", "reason"}}
    conditions = _conditions(findings, generation, before, now)
    fresh = {c.type for c in conditions}
    old = [c for c in before.get("conditions", []) if c.get("type") not in fresh]
    found = _dump(InferenceDeploymentStatus(conditions=conditions, reason="InvalidSpec"))
    return {
        **kept,
        "observedGeneration": generation,
        "reason": found["reason"],
        "conditions": sorted([*old, *found["conditions"]], key=lambda c: str(c["type"])),
    }


def findings_of(tally: Tally, made: Changes, news: News) -> list[Finding]:
    """Return what is true of the deployment, each condition with its reason."""
    scheduled = _scheduled(tally, news)
    return [
        _ready(tally),
        scheduled,
        _ratio_within_band(tally),
        _progressing(tally, made, news, scheduled),
        _degraded(made, news),
    ]


def _ready(tally: Tally) -> Finding:
    units_, need = tally.units, tally.deployment.min_replicas
    message = f"{units_.ready} of {_count(units_.desired, 'unit')} ready; needs {need}"
    if units_.desired == 0:
        return _finding("Ready", _TRUE, "ScaledToZero", "no units are asked for")
    if units_.ready < need:
        return _finding("Ready", _FALSE, "UnitsNotReady", message)
    return _finding("Ready", _TRUE, "UnitsReady", message)


def _scheduled(tally: Tally, news: News) -> Finding:
    if tally.all_bound:
        return _all_scheduled(tally)
    checks = (_not_made, _placed_by_default, _executing, _ungated, _planner_away, _held)
    found = (check(tally, news) for check in checks)
    message = f"{_count(len(tally.unbound), 'pod')} waiting for the next plan"
    waiting = _finding("Scheduled", _FALSE, "WaitingForPlan", message)
    return next((finding for finding in found if finding is not None), waiting)


def _all_scheduled(tally: Tally) -> Finding:
    message = f"{_count(len(tally.seen), 'pod')} on nodes"
    unplanned = sum(child.unplanned for child in tally.seen.values())
    if not unplanned:
        return _finding("Scheduled", _TRUE, "AllScheduled", message)
    message += f", {unplanned} of them placed by the default algorithm, without a plan"
    return _finding("Scheduled", _TRUE, "PlacedWithoutPlan", message)


def _not_made(tally: Tally, _: News) -> Finding | None:
    if tally.unbound:
        return None
    return _finding("Scheduled", _FALSE, "NoPods", "its pods are being made")


def _placed_by_default(tally: Tally, news: News) -> Finding | None:
    if not news.away_s or tally.any_gated:
        return None
    message = (
        f"no planner has led for {news.away_s:.0f} s: gates were lifted and the default"
        " algorithm places the pods"
    )
    return _finding("Scheduled", _FALSE, "PlannerAway", message)


def _executing(_: Tally, news: News) -> Finding | None:
    if not news.executing:
        return None
    return _finding("Scheduled", _FALSE, "PlanExecuting", news.executing)


def _ungated(tally: Tally, _: News) -> Finding | None:
    if tally.any_gated:
        return None
    message = f"{_count(len(tally.unbound), 'pod')} on the way to a node: the scheduler binds next"
    return _finding("Scheduled", _FALSE, "WaitingForScheduler", message)


def _planner_away(_: Tally, news: News) -> Finding | None:
    if not news.away_s:
        return None
    message = (
        f"no planner has led for {news.away_s:.0f} s: gates are lifted soon; look at the log of"
        " the planner"
    )
    return _finding("Scheduled", _FALSE, "PlannerAway", message)


def _held(_: Tally, news: News) -> Finding | None:
    """Return the commonest reason among the holds, in the words of its first pod."""
    if not news.holds:
        return None
    counts = Counter(hold.rejection.reason for hold in news.holds)
    reason, n = counts.most_common(1)[0]
    first = min((h for h in news.holds if h.rejection.reason is reason), key=lambda h: h.pod)
    message = f"{first.pod.name}: {first.rejection.message}"
    if first.remedy:
        message = f"{message}; {first.remedy}"
    others = f" ({_count(n - 1, 'more pod')} for the same reason)" if n > 1 else ""
    return _finding("Scheduled", _FALSE, reason.value, f"{message}{others}")


def _ratio_within_band(tally: Tally) -> Finding:
    kind = "RatioWithinBand"
    wants = {pool.role: pool.count for pool in tally.deployment.pools}
    if Role.AGGREGATED in wants:
        return _finding(kind, _TRUE, "NoRatio", "an Aggregated replica is a unit by itself")
    prefill, decode = tally.bound(Role.PREFILL), tally.bound(Role.DECODE)
    asked = f"{wants.get(Role.PREFILL, 0)}:{wants.get(Role.DECODE, 0)}"
    if not prefill + decode:
        return _finding(
            kind, _UNKNOWN, "NothingScheduled", f"no pod runs; the ratio asked is {asked}"
        )
    message = f"{prefill} prefill and {decode} decode pods run; the ratio asked is {asked}"
    if prefill * wants.get(Role.DECODE, 0) == decode * wants.get(Role.PREFILL, 0):
        return _finding(kind, _TRUE, "RatioKept", message)
    return _finding(kind, _FALSE, "RatioOff", message)


def _progressing(tally: Tally, made: Changes, news: News, scheduled: Finding) -> Finding:
    if made.create or made.delete or len(tally.seen) < len(tally.slots):
        message = f"{len(tally.seen)} of {_count(len(tally.slots), 'pod')} made"
        return _finding("Progressing", _TRUE, "MakingPods", message)
    if news.holds and scheduled.status is _FALSE and not news.executing:
        return _finding("Progressing", _FALSE, scheduled.reason, scheduled.message)
    if not tally.all_bound:
        return _finding("Progressing", _TRUE, "PlacingPods", scheduled.message)
    if made.outdated:
        n = len(made.outdated)
        verb, pronoun = ("runs", "it") if n == 1 else ("run", "them")
        message = f"{_count(n, 'pod')} {verb} an older template; delete {pronoun} to update"
        return _finding("Progressing", _FALSE, "RevisionOutdated", message)
    if tally.units.ready < tally.units.desired:
        message = f"{tally.units.ready} of {_count(tally.units.desired, 'unit')} ready"
        return _finding("Progressing", _TRUE, "StartingPods", message)
    return _finding("Progressing", _FALSE, "Complete", "every unit is there")


def _degraded(made: Changes, news: News) -> Finding:
    if news.refusal:
        return _finding("Degraded", _TRUE, "PodsRefused", news.refusal)
    if made.strangers:
        message = (
            f"{', '.join(made.strangers[:3])}: pods of another owner have these names;"
            " delete them, or rename this InferenceDeployment"
        )
        return _finding("Degraded", _TRUE, "NamesTaken", message)
    return _finding("Degraded", _FALSE, "AsExpected", "nothing is wrong with its spec")


def _finding(kind: str, status: ConditionStatus, reason: str, message: str) -> Finding:
    return Finding(type=kind, status=status, reason=reason, message=message[:_MAX_MESSAGE])


def _summary(findings: Sequence[Finding]) -> str:
    """Return the one word that explains the most: what is wrong, else what is awaited."""
    found = {finding.type: finding for finding in findings}
    for kind, good in (("Degraded", _FALSE), ("Scheduled", _TRUE), ("Ready", _TRUE)):
        if found[kind].status is not good:
            return found[kind].reason
    if found["Progressing"].reason == "RevisionOutdated":
        return "RevisionOutdated"
    return found["Ready"].reason


def _conditions(
    findings: Iterable[Finding], generation: int, before: Mapping[str, Any], now: datetime
) -> list[Condition]:
    """Return the conditions; one whose status is unchanged keeps the time of its transition."""
    known = {c.get("type"): c for c in before.get("conditions", [])}
    return [
        _condition(finding, generation, known.get(finding.type, {}), now)
        for finding in sorted(findings, key=lambda f: f.type)
    ]


def _condition(
    finding: Finding, generation: int, before: Mapping[str, Any], now: datetime
) -> Condition:
    since = before.get("lastTransitionTime") if before.get("status") == finding.status else None
    return Condition(
        type=finding.type,
        status=finding.status,
        reason=finding.reason,
        message=finding.message,
        observed_generation=generation,
        last_transition_time=datetime.fromisoformat(since) if since else _whole(now),
    )


def _decisions(
    findings: Sequence[Finding], before: Mapping[str, Any], now: datetime
) -> list[Decision] | None:
    """Return the last decisions, with the present one in front if it is a new one."""
    known = [Decision.model_validate(d) for d in before.get("decisions", [])]
    found = next(f for f in findings if f.type == "Scheduled")
    new = not known or (known[0].reason, known[0].message) != (found.reason, found.message)
    if found.reason not in _FLEETING and new:
        known.insert(0, Decision(time=_whole(now), reason=found.reason, message=found.message))
    return known[:_MAX_DECISIONS] or None


def _pools(tally: Tally) -> list[PoolStatus]:
    return [
        PoolStatus(
            name=pool.name,
            role=pool.role,
            desired=pool.count * tally.deployment.replicas,
            scheduled=sum(child.node is not None for child in tally.pool(pool.name)),
            ready=sum(child.ready for child in tally.pool(pool.name)),
        )
        for pool in tally.deployment.pools
    ]


def _ratio(tally: Tally) -> str | None:
    if any(pool.role is Role.AGGREGATED for pool in tally.deployment.pools):
        return None
    return f"{tally.bound(Role.PREFILL)}:{tally.bound(Role.DECODE)}"


def _gpus(tally: Tally) -> int:
    return tally.deployment.replicas * sum(
        pool.count * n
        for pool in tally.deployment.pools
        for name, n in pool.requests.items
        if units.is_gpu(name)
    )


def _selector(deployment: Deployment) -> str | None:
    """Return a selector that matches one pod of each unit."""
    first = next((pool for pool in deployment.pools if pool.count), None)
    if first is None:
        return None
    wanted = {
        names.LABEL_DEPLOYMENT: deployment.name,
        names.LABEL_POOL: first.name,
        names.LABEL_REPLICA: "0",
    }
    return ",".join(f"{key}={value}" for key, value in wanted.items())


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _whole(now: datetime) -> datetime:
    """Return the instant in whole seconds, as Kubernetes writes times."""
    return now.astimezone(UTC).replace(microsecond=0)


def _dump(model: InferenceDeploymentStatus) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(  # type: ignore[no-untyped-call] # not ours to type
        by_alias=True, exclude_none=True, mode="json"
    )
    return dumped
