"""The status of an InferenceDeployment: how far its units are, and why they are not further.

Computed anew each pass from the pods, from what the newest plan says about them, and from the
status before, of which only the times of transitions and the last decisions are kept. The
operator applies the result when it differs.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from bayplan.api import names
from bayplan.api.conditions import Condition, ConditionStatus
from bayplan.api.inference_status import (
    Decision,
    Failures,
    InferenceDeploymentStatus,
    PoolStatus,
)
from bayplan.api.pools import Role
from bayplan.inference import ratios
from bayplan.inference.deployments import Deployment, Pool
from bayplan.inference.progress import NODE_NOT_READY, is_rolled_out, progressing
from bayplan.inference.repair import back_off_s
from bayplan.inference.rollout import Changes
from bayplan.inference.tally import Finding, News, Tally, count_of, held_because

_TRUE: Final = ConditionStatus.TRUE
_FALSE: Final = ConditionStatus.FALSE
_UNKNOWN: Final = ConditionStatus.UNKNOWN

#: Decisions and failures that are remembered.
_MAX_DECISIONS: Final = 10
_MAX_FAILURES: Final = 64

#: Reasons that pass too quickly to be remembered as decisions.
_FLEETING: Final = frozenset(
    {"PlanExecuting", "WaitingForPlan", "WaitingForScheduler", "NoPods", "PodsEnding"}
)

#: What a reader of the REASON column wants to know although every unit serves.
_TOLD_WHILE_READY: Final = frozenset(
    {
        *("RollingOut", "RolloutPaused", "RolloutStuck", "Relocating", "Draining", "Moving"),
        NODE_NOT_READY,
        *(ratios.CHANGING, ratios.WAITS, ratios.GIVES),
    }
)


def status(
    tally: Tally, made: Changes, news: News, *, before: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the status object; equal to `before` when nothing has changed."""
    deployment = tally.deployment
    before_revision = before.get("revision", "")
    findings = findings_of(tally, made, news, rolled_out=before_revision, now=now.timestamp())
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
            revision=(deployment.revision if is_rolled_out(tally) else before_revision) or None,
            failures=_failures(made),
            decisions=_decisions(findings, before, now),
        )
    )


def invalid(
    problem: str, *, generation: int, before: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the status of a deployment whose spec cannot be read; its pods are left alone."""
    findings = [
        Finding.of("Degraded", _TRUE, "InvalidSpec", problem),
        Finding.of("Progressing", _FALSE, "InvalidSpec", problem),
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


def findings_of(
    tally: Tally, made: Changes, news: News, *, rolled_out: str, now: float
) -> list[Finding]:
    """Return what is true of the deployment, each condition with its reason.

    `rolled_out` is the revision that every unit was last known to run, or "". `now` is in seconds
    since the epoch.
    """
    scheduled = _scheduled(tally, news)
    return [
        _ready(tally),
        scheduled,
        ratios.within_band(tally),
        progressing(tally, made, news, scheduled, rolled_out=rolled_out, now=now),
        _degraded(made, news),
        *([news.exposed] if news.exposed else ()),
    ]


def _ready(tally: Tally) -> Finding:
    units_, need = tally.units, tally.deployment.min_replicas
    message = f"{units_.ready} of {count_of(units_.desired, 'unit')} ready; needs {need}"
    if units_.desired == 0:
        return Finding.of("Ready", _TRUE, "ScaledToZero", "no units are asked for")
    if units_.ready < need:
        return Finding.of("Ready", _FALSE, "UnitsNotReady", message)
    return Finding.of("Ready", _TRUE, "UnitsReady", message)


def _scheduled(tally: Tally, news: News) -> Finding:
    if tally.all_bound:
        return _all_scheduled(tally)
    checks = (_not_made, _placed_by_default, _executing, _ungated, _planner_away, _held)
    found = (check(tally, news) for check in checks)
    message = f"{count_of(len(tally.unbound), 'pod')} waiting for the next plan"
    waiting = Finding.of("Scheduled", _FALSE, "WaitingForPlan", message)
    return next((finding for finding in found if finding is not None), waiting)


def _all_scheduled(tally: Tally) -> Finding:
    message = f"{count_of(len(tally.pods) - len(tally.unbound), 'pod')} on nodes"
    unplanned = sum(child.unplanned for child in tally.pods)
    if not unplanned:
        return Finding.of("Scheduled", _TRUE, "AllScheduled", message)
    message += f", {unplanned} of them placed by the default algorithm, without a plan"
    return Finding.of("Scheduled", _TRUE, "PlacedWithoutPlan", message)


def _not_made(tally: Tally, _: News) -> Finding | None:
    if tally.unbound:
        return None
    if tally.any_ending:
        message = "its former pods are ending; new ones are made when they have"
        return Finding.of("Scheduled", _FALSE, "PodsEnding", message)
    return Finding.of("Scheduled", _FALSE, "NoPods", "its pods are being made")


def _placed_by_default(tally: Tally, news: News) -> Finding | None:
    if not news.away_s or tally.any_gated:
        return None
    message = (
        f"no planner has worked for {news.away_s:.0f} s: gates were lifted and the default"
        " algorithm places the pods"
    )
    return Finding.of("Scheduled", _FALSE, "PlannerAway", message)


def _executing(_: Tally, news: News) -> Finding | None:
    if not news.executing:
        return None
    return Finding.of("Scheduled", _FALSE, "PlanExecuting", news.executing)


def _ungated(tally: Tally, news: News) -> Finding | None:
    """Return that the scheduler is next, unless pods without a place are shown to autoscalers."""
    held = {hold.uid for hold in news.holds}
    shown = any(pod.uid in held and pod.pin is None for pod in tally.unbound)
    if tally.any_gated or shown:
        return None
    refused = next((pod for pod in tally.unbound if pod.refused), None)
    told = f"kube-scheduler refuses {refused.name}: {refused.refused}" if refused else ""
    message = (
        f"{count_of(len(tally.unbound), 'pod')} on the way to a node: "
        f"{told or 'the scheduler binds next'}"
    )
    return Finding.of("Scheduled", _FALSE, "WaitingForScheduler", message)


def _planner_away(_: Tally, news: News) -> Finding | None:
    if not news.away_s:
        return None
    message = (
        f"no planner has worked for {news.away_s:.0f} s: gates are lifted soon; look at the log of"
        " the planner"
    )
    return Finding.of("Scheduled", _FALSE, "PlannerAway", message)


def _held(_: Tally, news: News) -> Finding | None:
    """Return the commonest reason among the holds."""
    if not news.holds:
        return None
    reason, message = held_because(news.holds)
    return Finding.of("Scheduled", _FALSE, reason, message)


def _degraded(made: Changes, news: News) -> Finding:
    if news.refusal:
        return Finding.of("Degraded", _TRUE, "PodsRefused", news.refusal)
    if made.strangers:
        message = (
            f"{', '.join(made.strangers[:3])}: pods of another owner have these names;"
            " delete them, or rename this InferenceDeployment"
        )
        return Finding.of("Degraded", _TRUE, "NamesTaken", message)
    if made.back_off:
        first = next((pod for pod in made.back_off if not pod.counts), made.back_off[0])
        wait_s = back_off_s(made.failures.get(first.leader, 0))
        what = "is" if first.replica_size == 1 else f"all {first.replica_size} of its replica are"
        message = (
            f"{first.name} has failed and {what} made anew no sooner than {wait_s:.0f} s after it"
            " was made; its log says why"
        )
        return Finding.of("Degraded", _TRUE, "PodsFailing", message)
    return Finding.of("Degraded", _FALSE, "AsExpected", "nothing is wrong with its spec")


def _summary(findings: Sequence[Finding]) -> str:
    """Return the one word that explains the most: what is wrong, else what is awaited."""
    found = {finding.type: finding for finding in findings}
    for kind, good in (("Degraded", _FALSE), ("Scheduled", _TRUE), ("Ready", _TRUE)):
        if found[kind].status is not good:
            return found[kind].reason
    if found["Progressing"].reason in _TOLD_WHILE_READY:
        return found["Progressing"].reason
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


def failures_of(status: Mapping[str, Any]) -> dict[str, int]:
    """Return how many times in a row pods have failed, as remembered in a status."""
    known = status.get("failures") or []
    return {str(each["pod"]): int(each["times"]) for each in known}


def _failures(made: Changes) -> list[Failures] | None:
    worst = sorted(made.failures.items(), key=lambda item: (-item[1], item[0]))[:_MAX_FAILURES]
    return [Failures(pod=name, times=n) for name, n in sorted(worst)] or None


def _pools(tally: Tally) -> list[PoolStatus]:
    return [_pool(tally, pool) for pool in tally.deployment.pools]


def _pool(tally: Tally, pool: Pool) -> PoolStatus:
    pods = tuple(tally.pool(pool.name))
    return PoolStatus(
        name=pool.name,
        role=pool.role,
        desired=pool.pods * tally.deployment.replicas,
        scheduled=sum(child.node is not None for child, _ in pods),
        ready=sum(child.ready for child, _ in pods),
        updated=sum(newest for _, newest in pods),
    )


def _ratio(tally: Tally) -> str | None:
    if any(pool.role is Role.AGGREGATED for pool in tally.deployment.pools):
        return None
    return f"{tally.bound(Role.PREFILL)}:{tally.bound(Role.DECODE)}"


def _gpus(tally: Tally) -> int:
    return tally.deployment.replicas * tally.deployment.gpus_of(tally.deployment.wanted)


def _selector(deployment: Deployment) -> str | None:
    """Return a selector that matches one pod of each unit."""
    if deployment.counted is None:
        return None
    wanted = {names.LABEL_DEPLOYMENT: deployment.name, names.LABEL_REPRESENTS: "true"}
    return ",".join(f"{key}={value}" for key, value in wanted.items())


def _whole(now: datetime) -> datetime:
    """Return the instant in whole seconds, as Kubernetes writes times."""
    return now.astimezone(UTC).replace(microsecond=0)


def _dump(model: InferenceDeploymentStatus) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(  # type: ignore[no-untyped-call] # not ours to type
        by_alias=True, exclude_none=True, mode="json"
    )
    return dumped
