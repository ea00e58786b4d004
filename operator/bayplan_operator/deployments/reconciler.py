"""One InferenceDeployment at a time: see its pods, make and delete what differs, say how it is.

The core decides (`bayplan.inference`); here it is read and written. A pass reads the API server
afresh and can be repeated or broken off at any point.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan.codec import DecodeError, service
from bayplan.codec.deployments import child_of, deployment_of
from bayplan.codec.releases import ungate_patch
from bayplan.inference import manifests, parts, ratios, readiness, rollout
from bayplan.inference.children import Child, Deployment, Slot
from bayplan.inference.drains import to_serve_whatever_is_asked
from bayplan.inference.exposed import HINDRANCES
from bayplan.inference.parts import Around, Trouble
from bayplan.inference.rollout import Changes
from bayplan.inference.tally import News, Tally, count_of
from bayplan.inference.tellings import Telling
from bayplan.plan import Reason
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.evictions import ask_to_leave
from bayplan_operator.cluster.kube import (
    OVERTAKEN,
    Kube,
    Raw,
    deployment_path,
    pod_path,
    pods_path,
)
from bayplan_operator.cluster.nodes import Nodes
from bayplan_operator.cluster.removals import delete_as_seen, relieve_as_seen
from bayplan_operator.cluster.service import put
from bayplan_operator.deployments.attempts import Attempts
from bayplan_operator.deployments.network import Network
from bayplan_operator.engines import loads
from bayplan_operator.gates import Gates
from bayplan_operator.keys import DeploymentKey
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.memory import Plans

_log = structlog.get_logger()

#: Seconds after which refused pods are tried again (a quota may have been raised).
_REFUSED_RETRY_S: Final = 15.0

#: Seconds between two events on one deployment of the same kind of reason why its pods are held.
_AGAIN_S: Final = 600.0

#: Reasons of the condition Progressing that are told as events, too.
_ROLLOUT_REASONS: Final = frozenset(
    {
        *("RollingOut", "RolloutPaused", "RolloutStuck", "RolledOut", "Relocating", "Draining"),
        *(ratios.CHANGING, ratios.WAITS, ratios.GIVES),
    }
)

#: What the API server says of pods whose PriorityClass is not there.
_NO_CLASS: Final = "no PriorityClass with name"

_HOLD_REASONS: Final = frozenset(reason.value for reason in Reason)


class Deployments:
    """Keeps the pods and the status of InferenceDeployments as they should be."""

    def __init__(  # noqa: PLR0913 - what it works with, handed down once
        self,
        kube: Kube,
        plans: Plans,
        gates: Gates,
        nodes: Nodes,
        events: Events,
        *,
        metrics: Metrics,
        claims: Claims,
        pool: Executor,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._network = Network(kube)
        self._plans = plans
        self._gates = gates
        self._nodes = nodes
        self._events = events
        self._metrics = metrics
        self._claims = claims
        self._pool = pool
        self._now = now
        self._clock = clock
        self._attempts: dict[DeploymentKey, Attempts] = {}
        self._held_at: dict[tuple[str, str], float] = {}  # by uid and reason

    def reconcile(self, key: DeploymentKey) -> float | None:
        """Do one pass; return the seconds after which another one is wanted, or None."""
        attempts = self._attempts.pop(key, None) or Attempts(self._clock, of=str(key))
        try:
            with self._claims.wait(key):
                return self._pass(key, attempts)
        finally:
            if attempts.end():
                self._attempts[key] = attempts

    def _pass(self, key: DeploymentKey, attempts: Attempts) -> float | None:
        started_at = time.monotonic()
        # 1. See.
        raw = self._kube.get(deployment_path(key.namespace, key.name))
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None  # the garbage collector takes the pods
        try:
            deployment = deployment_of(raw)
        except DecodeError as error:
            self._write_invalid(raw, error)
            self._serve_anyway(key, raw["metadata"]["uid"], attempts)
            return attempts.wait_s()
        seen, before = self._children(key), raw.get("status") or {}
        news = self._news(deployment, seen)
        around = self._around(deployment, seen, news)
        # 2. Decide; if somebody is to go, ask who has the least to do, and decide again.
        now = self._now().timestamp()
        decide = partial(
            rollout.changes, deployment, seen, failures=readiness.failures_of(before), now=now
        )
        changes = decide(around=around)
        if changes.drain or changes.relieve or any(child.drains_since for child in seen):
            around = replace(around, loads=loads(parts.own(deployment, seen)))
            changes = decide(around=around)
        untold = self._untold(deployment, changes, attempts)
        if untold:
            around = replace(around, untold=untold.keys())
            changes = decide(around=around)
        # 3. Act.
        spec_is_new = before.get("observedGeneration") != deployment.generation
        made, refused = self._carry_out(deployment, changes, attempts)
        refusals = [refused, *untold.values()]
        news = replace(
            news,
            refusal=next((text for text in (*refusals, attempts.lasting()) if text), ""),
            exposed=self._network.reconcile(deployment, seen, spec_is_new=spec_is_new),
        )
        # 4. Say how it is.
        tally = Tally.of(deployment, seen, around)
        status = readiness.status(tally, changes, news, before=before, now=self._now())
        wrote = self._write_status(raw, status)
        self._tell(deployment, before, status)
        if made or changes.delete or changes.drain or wrote:
            _log.info(
                "deployment_reconciled",
                infd=str(key),
                created=made,
                drained=len(changes.drain),
                deleted=len(changes.delete),
                reason=status["reason"],
                duration_s=round(time.monotonic() - started_at, 3),
            )
        waits = [
            changes.retry_at - now if changes.retry_at is not None else None,
            _REFUSED_RETRY_S if any(refusals) else None,
            attempts.wait_s(),
        ]
        return min((wait_s for wait_s in waits if wait_s is not None), default=None)

    def _children(self, key: DeploymentKey) -> list[Child]:
        labels = f"{names.LABEL_DEPLOYMENT}={key.name}"
        return [child_of(raw) for raw in self._kube.items(pods_path(key.namespace), labels=labels)]

    def _serve_anyway(self, key: DeploymentKey, uid: str, attempts: Attempts) -> None:
        """Put pods into service that a plan which has ended took out, whatever the spec says."""
        own = (child for child in self._children(key) if child.owner_uid == uid)
        serves = service.serves(self._now())
        for child in to_serve_whatever_is_asked(own, self._plans.leaving()):
            self._switch(attempts, key.namespace, child, serves)

    def _around(self, deployment: Deployment, seen: Sequence[Child], news: News) -> Around:
        here = (child.node or child.pin for child in seen)
        nodes = frozenset(name for name in here if name is not None)
        held = news.held(parts.units_of(deployment, seen)) if news.holds else ()
        return Around(
            # What a planner said that is gone now is no reason to delete anything.
            held=() if news.away_s else held,
            lost=self._nodes.lost(nodes),
            cordoned=self._nodes.among(nodes, Trouble.CORDONED),
            failing=self._nodes.among(nodes, Trouble.FAILING),
            away=self._nodes.among(nodes, Trouble.AWAY),
            leaving=self._plans.leaving(),
        )

    def _untold(
        self, deployment: Deployment, changes: Changes, attempts: Attempts
    ) -> dict[str, str]:
        """Return why pods cannot be told what is to make their unit whole, by uid.

        Asked of units that give something up for it, before they do. Where that cannot be asked
        now, there is no reason to give yet.
        """
        told = [telling for telling in changes.tell if telling.pod.unit in changes.swaps]
        ask = partial(self._retell, deployment, attempts, rehearse=True)
        answers = zip(told, self._pool.map(ask, told), strict=True)
        found = {t.pod.uid: _why_untold(t, why) for t, why in answers if why != ""}
        for why in filter(None, found.values()):
            self._tell_about(deployment, "PodsRefused", "Annotate", why, warning=True)
        return found

    def _carry_out(
        self, deployment: Deployment, changes: Changes, attempts: Attempts
    ) -> tuple[int, str]:
        """Write on pods what has changed, put some in and out of service, delete and create some.

        Return how many were made, and why the API server refuses one, or "".
        """
        namespace, at = deployment.namespace, self._now()
        list(self._pool.map(partial(self._retell, deployment, attempts), changes.tell))
        switched = [(child, service.serves(at)) for child in changes.serve]
        switched += [(child, service.drains(at)) for child in changes.drain]
        list(self._pool.map(lambda pair: self._switch(attempts, namespace, *pair), switched))
        for child in changes.abandon:
            bury = partial(self._kube.delete, _path_of(deployment, child), uid=child.uid, grace_s=0)
            attempts.make(f"delete pod {child.name}, whose node is gone", bury)
        for child in changes.delete:
            # One that has become ready since may serve, and is drained first. The event that says
            # so brings the next pass.
            delete = partial(delete_as_seen, self._kube, _key_of(deployment, child), child)
            attempts.make(f"delete pod {child.name}", delete)
        self._replace(deployment, changes, attempts)
        created = [*self._pool.map(partial(self._create, deployment, attempts), changes.create)]
        if made := created.count(""):
            self._tell_about(
                deployment, "PodsCreated", "Create", f"made {count_of(made, 'pod')}, gated"
            )
        refusal = next(filter(None, created), "")
        if refusal:
            self._tell_about(deployment, "PodsRefused", "Create", refusal, warning=True)
        return made, refusal

    def _replace(self, deployment: Deployment, changes: Changes, attempts: Attempts) -> None:
        """Go on with moves whose replacement starts first."""
        for child in changes.lift:
            lift = partial(self._lift, _path_of(deployment, child), child)
            attempts.make(f"lift the gate of pod {child.name}", lift)
        for child in changes.relieve:
            # Nobody is drained who could not be evicted then.
            pod = _key_of(deployment, child)
            ask = partial(ask_to_leave, self._kube, pod, child.uid, rehearse=True)
            if attempts.make(f"evict pod {child.name}", ask) == "":
                self._switch(attempts, deployment.namespace, child, service.drains(self._now()))
        for child in changes.evict:
            pod = _key_of(deployment, child)
            relieve = partial(relieve_as_seen, self._kube, pod, child)
            if attempts.make(f"evict pod {child.name}", relieve) == "":
                self._metrics.victims.labels("moved").inc()
                note = "its replacement serves in its place"
                self._events.tell(About.pod(pod, child.uid), "Moved", "Move", note)
        for each in changes.failed:
            pair = each.pair
            note = (
                f"{pair.old.name} serves on, and {pair.new.name} was removed, which should have"
                f" taken its place on {pair.new.node or pair.new.pin}: it {each.why.words}; its"
                " events and its log say why"
            )
            self._tell_about(deployment, "MoveFailed", "Move", note, warning=True)

    def _lift(self, path: str, child: Child) -> None:
        raw = self._kube.get(path)
        if raw is not None and raw["metadata"]["uid"] == child.uid:
            self._kube.patch(path, ungate_patch(raw, {}), manager=names.MANAGER_PODS)

    def _retell(
        self,
        deployment: Deployment,
        attempts: Attempts,
        telling: Telling,
        *,
        rehearse: bool = False,
    ) -> str | None:
        """Write on a pod what is now so of its unit; return as `Attempts.make`."""
        child = telling.pod
        written = {"labels": dict(telling.labels), "annotations": dict(telling.annotations)}
        merge = partial(
            self._kube.merge,
            _path_of(deployment, child),
            {"metadata": {"uid": child.uid, **written}},
            manager=names.MANAGER_PODS,
            rehearse=rehearse,
        )
        return attempts.make(f"change labels and annotations of pod {child.name}", merge)

    def _switch(self, attempts: Attempts, namespace: str, child: Child, condition: Raw) -> None:
        """Put a pod into service, or take it out: its readiness follows."""
        pod = PodKey(namespace=namespace, name=child.name)
        what = f"write condition {names.CONDITION_IN_SERVICE} of pod {child.name}"
        attempts.make(what, partial(put, self._kube, pod, child.uid, condition))

    def _create(self, deployment: Deployment, attempts: Attempts, slot: Slot) -> str | None:
        """Make one pod; return why it is refused, as `Attempts.make`.

        By a plain create: unlike an apply it can never take over somebody else's pod of that
        name, and it costs the API server less (420 against 300 pods/s, measured). If there is one
        (409), the next pass sees whose it is.
        """
        body = manifests.manifest(deployment, slot)
        path = pods_path(deployment.namespace)
        create = partial(self._kube.create, path, body, manager=names.MANAGER_PODS)
        refused = attempts.make(f"make pod {slot.name}", create)
        fix = f"correct the template of pool {slot.pool.name}, or what forbids it"
        if refused and _NO_CLASS in refused:
            fix = "create that PriorityClass, or correct spec.priorityClassName"
        return refused and f"the API server refuses {slot.name}: {refused}; {fix}"

    def _news(self, deployment: Deployment, seen: Sequence[Child]) -> News:
        unbound = {child.uid for child in seen if child.node is None}
        return News(
            holds=self._plans.holds_for(unbound),
            executing=self._plans.executing_for(unbound, deployment.uid),
            away_s=self._gates.away_s,
        )

    def _write_invalid(self, raw: Raw, error: DecodeError) -> None:
        before = raw.get("status") or {}
        generation = raw["metadata"].get("generation", 0)
        problem = f"{error.path}: {error.problem}"
        status = readiness.invalid(problem, generation=generation, before=before, now=self._now())
        if self._write_status(raw, status):
            _log.info("deployment_invalid", infd=error.where, error=problem)

    def _write_status(self, raw: Raw, status: dict[str, Any]) -> bool:
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

    def _tell(self, deployment: Deployment, before: dict[str, Any], status: dict[str, Any]) -> None:
        """Tell events for what has changed since the status before."""
        had = (before.get("units") or {}).get("scheduled", 0)
        units = status["units"]
        if units["scheduled"] > had:
            note = f"every pod of {units['scheduled']} of {units['desired']} units has a node"
            self._tell_about(deployment, "UnitScheduled", "Schedule", note)
        self._tell_of_rollout(deployment, before, status)
        self._tell_of_network(deployment, before, status)
        was, now = _condition(before, "Scheduled"), _condition(status, "Scheduled")
        if was.get("reason") == now["reason"]:
            return
        if now["reason"] in _HOLD_REASONS and self._is_news(deployment, now["reason"]):
            self._tell_about(deployment, "UnitHeld", "Hold", now["message"], warning=True)
        if now["reason"] == "PlannerAway":
            self._tell_about(deployment, "GatesLifted", "Lift", now["message"], warning=True)

    def _is_news(self, deployment: Deployment, reason: str) -> bool:
        """Return whether the reason was not told for a while: it may take turns with others."""
        at = self._clock()
        self._held_at = {k: told for k, told in self._held_at.items() if at - told < _AGAIN_S}
        about = (deployment.uid, reason)
        is_news = about not in self._held_at
        if is_news:
            self._held_at[about] = at
        return is_news

    def _tell_of_rollout(
        self, deployment: Deployment, before: dict[str, Any], status: dict[str, Any]
    ) -> None:
        was, now = _condition(before, "Progressing"), _condition(status, "Progressing")
        reason = now["reason"]
        if was.get("reason") != reason and reason in _ROLLOUT_REASONS:
            warning = reason == "RolloutStuck"
            self._tell_about(deployment, reason, "Rollout", now["message"], warning=warning)

    def _tell_of_network(
        self, deployment: Deployment, before: dict[str, Any], status: dict[str, Any]
    ) -> None:
        was, now = _condition(before, "Exposed"), _condition(status, "Exposed")
        if was.get("reason") != now["reason"] and now["reason"] in HINDRANCES:
            note = f"{now['reason']}: {now['message']}"
            self._tell_about(deployment, "NotExposed", "Expose", note, warning=True)

    def _tell_about(
        self, deployment: Deployment, reason: str, action: str, note: str, *, warning: bool = False
    ) -> None:
        about = About.deployment(deployment.namespace, deployment.name, deployment.uid)
        minute = self._now().strftime("%Y-%m-%dT%H:%M")
        self._events.tell(about, reason, action, note, warning=warning, once=minute)


def _why_untold(telling: Telling, refusal: str | None) -> str:
    if not refusal:
        return ""
    return (
        f"the API server refuses changes of the annotations of pod {telling.pod.name}: {refusal};"
        " let the operator change them, or delete the pod. Until then unit"
        f" {telling.pod.unit} keeps its former ratio"
    )


def _key_of(deployment: Deployment, child: Child) -> PodKey:
    return PodKey(namespace=deployment.namespace, name=child.name)


def _path_of(deployment: Deployment, child: Child) -> str:
    return pod_path(_key_of(deployment, child))


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = status.get("conditions") or []
    return next((c for c in conditions if c.get("type") == kind), {})
