"""Writing into plans how far they are: what `kubectl get pplan` shows.

Each object of a plan tells of its own steps; the first one, which is written last, of the plan.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan.plan import Plan
from bayplan.steps import Phase, Progress, Report, State
from bayplan_operator.cluster.kube import OVERTAKEN, Kube, plan_path
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.memory import Decision, Entry, Plans

_log = structlog.get_logger()

#: Longest message in a status.
_MAX_MESSAGE: Final = 1000

#: Bytes of the messages of all steps of an object, beyond which each is cut, and how many of one
#: are left in any case: etcd takes 1.5 MiB, and what there may be besides is bounded, too.
_ALL_MESSAGES: Final = 250_000
_LEAST_MESSAGE: Final = 200


class Statuses:
    """Writes the statuses of plans, where anything has changed."""

    def __init__(
        self,
        kube: Kube,
        plans: Plans,
        metrics: Metrics,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._plans = plans
        self._metrics = metrics
        self._now = now

    def report(self, decision: Decision, progress: Progress) -> bool:
        """Write what has changed of the plan's status; return whether anything had.

        The first object comes last: the plan ends with it, and goes on if we end before that.
        """
        written = [
            self._write(part, self._status(part, decision, progress))
            for part in reversed(decision.parts)
        ]
        return any(written)

    def supersede(self, entry: Entry) -> None:
        """Tell that a newer plan took over, and what still happens of this one."""
        newest = self._plans.newest()
        name = newest.published.name if newest is not None else "a newer plan"
        status = {
            **entry.status,
            "phase": "Superseded",
            "message": f"{name} took over{_going_on(entry.status)}",
            "finishedAt": self._instant(),
        }
        if self._write(entry, status) and entry.published.part == 1:
            self._metrics.plans.labels("Superseded").inc()
            _log.info("plan_superseded", plan=entry.published.name, by=name)

    def _status(self, part: Entry, decision: Decision, progress: Progress) -> dict[str, Any]:
        """Return the status of one object."""
        reports, message = progress.reports, progress.message
        if len(decision.parts) > 1:
            own = _steps_of(part.published.plan)
            reports = tuple(r for r in progress.reports if (r.pod, r.type) in own)
        if part.published.part > 1:
            message = f"{decision.published.name} tells how far the plan is"
        status: dict[str, Any] = {
            "phase": progress.phase.value,
            "message": message[:_MAX_MESSAGE],
            "done": sum(report.state is State.DONE for report in reports),
            "total": len(reports),
            "startedAt": part.status.get("startedAt") or self._instant(),
        }
        if reports:
            status["steps"] = told_of(reports)
        if progress.phase is not Phase.EXECUTING:
            status["finishedAt"] = self._instant()
        return status

    def _write(self, entry: Entry, status: dict[str, Any]) -> bool:
        if status == entry.status:
            return False
        name = entry.published.name
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "PackingPlan",
            "metadata": {"name": name, "uid": entry.published.uid},
            "status": status,
        }
        self._plans.writes(name, status)
        try:
            version = self._kube.apply(
                f"{plan_path(name)}/status", body, manager=names.MANAGER_STEPS
            )
        except ApiException as error:
            if error.status not in OVERTAKEN:
                raise
            self._plans.forget(name, entry.published.uid)  # it was deleted
            return False
        self._plans.wrote(entry, status, version)
        return True

    def _instant(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def told_of(reports: Sequence[Report]) -> list[dict[str, str]]:
    """Return what an object says of its actions: less of each where many have much to say."""
    most = min(_MAX_MESSAGE, max(_LEAST_MESSAGE, _ALL_MESSAGES // max(1, len(reports))))
    return [
        {
            "pod": str(report.pod),
            "type": report.type,
            "state": report.state.value,
            "message": report.message.encode()[:most].decode(errors="ignore"),
        }
        for report in reports
    ]


def _steps_of(plan: Plan) -> AbstractSet[tuple[PodKey, str]]:
    """Return what identifies the reports on a part of a plan."""
    return {
        *((bind.pod, "Bind") for bind in plan.binds),
        *((move.pod, "Move") for move in plan.moves),
        *((evict.pod, "Evict") for evict in plan.evictions),
    }


def _going_on(status: Mapping[str, Any]) -> str:
    """Return what of a plan still happens when another one takes over: pins are for good."""
    ends = ((step["type"], step["state"]) for step in status.get("steps", ()))
    released = sum(end == ("Bind", State.STARTED) for end in ends)
    return f"; released to their nodes and not seen there yet: {released}" if released else ""
