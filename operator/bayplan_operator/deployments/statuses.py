"""Writing into InferenceDeployments how they are, and telling events of what has changed."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.codec import DecodeError
from bayplan.inference import ratios, readiness
from bayplan.inference.deployments import Deployment
from bayplan.inference.exposed import HINDRANCES
from bayplan.plan import Reason
from bayplan_operator.cluster.damper import Damper
from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.kube import OVERTAKEN, Kube, Raw, deployment_path

_log = structlog.get_logger()

#: Reasons of the condition Progressing that are told as events, too.
_ROLLOUT_REASONS: Final = frozenset(
    {
        *("RollingOut", "RolloutPaused", "RolloutStuck", "RolledOut", "Relocating", "Draining"),
        *(ratios.CHANGING, ratios.WAITS, ratios.GIVES),
    }
)

_HOLD_REASONS: Final = frozenset(reason.value for reason in Reason)


class Statuses:
    """Writes the statuses of deployments, and tells their events."""

    def __init__(
        self,
        kube: Kube,
        events: Events,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._events = events
        self._now = now
        self._damper = Damper(clock)

    def write_invalid(self, raw: Raw, error: DecodeError) -> None:
        """Write into a deployment that it cannot be read, and which field is wrong."""
        before = raw.get("status") or {}
        generation = raw["metadata"].get("generation", 0)
        problem = f"{error.path}: {error.problem}"
        status = readiness.invalid(problem, generation=generation, before=before, now=self._now())
        if self.write(raw, status):
            _log.info("deployment_invalid", infd=error.where, error=problem)

    def write(self, raw: Raw, status: dict[str, Any]) -> bool:
        """Apply the status if it differs from what stands there; return whether it did."""
        if status == (raw.get("status") or {}):
            return False
        metadata = {key: raw["metadata"][key] for key in ("namespace", "name", "uid")}
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND_DEPLOYMENT,
            "metadata": metadata,
            "status": status,
        }
        path = f"{deployment_path(metadata['namespace'], metadata['name'])}/status"
        try:
            self._kube.apply(path, body, manager=names.MANAGER_STATUS)
        except ApiException as error:
            if error.status not in OVERTAKEN:
                raise
            return False
        return True

    def tell_changes(
        self, deployment: Deployment, before: dict[str, Any], status: dict[str, Any]
    ) -> None:
        """Tell events for what has changed since the status before."""
        had = (before.get("units") or {}).get("scheduled", 0)
        units = status["units"]
        if units["scheduled"] > had:
            note = f"every pod of {units['scheduled']} of {units['desired']} units has a node"
            self.tell(deployment, "UnitScheduled", "Schedule", note)
        self._tell_of_rollout(deployment, before, status)
        self._tell_of_network(deployment, before, status)
        was, now = _condition(before, "Scheduled"), _condition(status, "Scheduled")
        reason, message = now["reason"], now["message"]
        held = reason in _HOLD_REASONS and was.get("message") != message
        if held and self._damper.is_news(deployment.uid, reason):
            self.tell(deployment, "UnitHeld", "Hold", message, warning=True)
        if reason == "PlannerAway" and was.get("reason") != reason:
            self.tell(deployment, "GatesLifted", "Lift", message, warning=True)

    def tell(
        self, deployment: Deployment, reason: str, action: str, note: str, *, warning: bool = False
    ) -> None:
        """Tell an event about a deployment, once a minute for the same note."""
        about = About.deployment(deployment.namespace, deployment.name, deployment.uid)
        minute = self._now().strftime("%Y-%m-%dT%H:%M")
        self._events.tell(about, reason, action, note, warning=warning, once=minute)

    def _tell_of_rollout(
        self, deployment: Deployment, before: dict[str, Any], status: dict[str, Any]
    ) -> None:
        was, now = _condition(before, "Progressing"), _condition(status, "Progressing")
        reason = now["reason"]
        if was.get("reason") != reason and reason in _ROLLOUT_REASONS:
            warning = reason == "RolloutStuck"
            self.tell(deployment, reason, "Rollout", now["message"], warning=warning)

    def _tell_of_network(
        self, deployment: Deployment, before: dict[str, Any], status: dict[str, Any]
    ) -> None:
        was, now = _condition(before, "Exposed"), _condition(status, "Exposed")
        if was.get("reason") != now["reason"] and now["reason"] in HINDRANCES:
            note = f"{now['reason']}: {now['message']}"
            self.tell(deployment, "NotExposed", "Expose", note, warning=True)


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = status.get("conditions") or []
    return next((c for c in conditions if c.get("type") == kind), {})
