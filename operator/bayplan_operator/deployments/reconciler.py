"""One InferenceDeployment at a time: see its pods, make and delete what differs, say how it is.

The core decides (`bayplan.inference`), the `actuator` does it and `statuses` tell. A pass reads the
API server afresh and can be repeated or broken off at any point.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from bayplan.api import names
from bayplan.codec import DecodeError, service
from bayplan.codec.deployments import child_of, deployment_of
from bayplan.inference import readiness, rollout
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.drains import to_serve_whatever_is_asked
from bayplan.inference.rollout import Changes
from bayplan.inference.tally import News, Tally
from bayplan.inference.units import Around, Trouble, own, units_of
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.events import Events
from bayplan_operator.cluster.kube import Kube, deployment_path, pods_path
from bayplan_operator.cluster.nodes import Nodes
from bayplan_operator.deployments.actuator import Actuator
from bayplan_operator.deployments.attempts import Attempts
from bayplan_operator.deployments.network import Network
from bayplan_operator.deployments.statuses import Statuses
from bayplan_operator.engines import loads
from bayplan_operator.gates import Gates
from bayplan_operator.keys import DeploymentKey
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.memory import Plans

_log = structlog.get_logger()

#: Seconds after which refused pods are tried again (a quota may have been raised).
_REFUSED_RETRY_S: Final = 15.0


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
        self._claims = claims
        self._now = now
        self._clock = clock
        self._statuses = Statuses(kube, events, now=now, clock=clock)
        self._actuator = Actuator(kube, self._statuses, events, metrics, pool=pool, now=now)
        self._attempts: dict[DeploymentKey, Attempts] = {}

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
            self._statuses.write_invalid(raw, error)
            self._serve_anyway(key, raw["metadata"]["uid"], attempts)
            return attempts.wait_s()
        seen, before = self._children(key), raw.get("status") or {}
        news = self._news(deployment, seen)
        around = self._around(deployment, seen, news)
        # 2. Decide.
        now = self._now().timestamp()
        decide = partial(
            rollout.changes, deployment, seen, failures=readiness.failures_of(before), now=now
        )
        changes, around, unpatchable = self._decided(deployment, seen, around, attempts, decide)
        # 3. Act.
        spec_is_new = before.get("observedGeneration") != deployment.generation
        made, refused = self._actuator.carry_out(deployment, changes, attempts)
        refusals = [refused, *unpatchable]
        news = replace(
            news,
            refusal=next((text for text in (*refusals, attempts.lasting()) if text), ""),
            exposed=self._network.reconcile(deployment, seen, spec_is_new=spec_is_new),
        )
        # 4. Say how it is.
        tally = Tally.of(deployment, seen, around)
        status = readiness.status(tally, changes, news, before=before, now=self._now())
        wrote = self._statuses.write(raw, status)
        self._statuses.tell_changes(deployment, before, status)
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

    def _decided(
        self,
        deployment: Deployment,
        seen: Sequence[Child],
        around: Around,
        attempts: Attempts,
        decide: Callable[..., Changes],
    ) -> tuple[Changes, Around, Sequence[str]]:
        """Return what to do, what is known by then, and why pods cannot be written on.

        If somebody is to go, it is asked who has the least to do, and decided again; and again if
        what would make units whole cannot be written on their pods.
        """
        changes = decide(around=around)
        if changes.drain or changes.relieve or any(child.drains_since for child in seen):
            around = replace(around, loads=loads(own(deployment, seen)))
            changes = decide(around=around)
        unpatchable = self._actuator.unpatchable(deployment, changes, attempts)
        if unpatchable:
            around = replace(around, unpatchable=unpatchable.keys())
            changes = decide(around=around)
        return changes, around, list(unpatchable.values())

    def _children(self, key: DeploymentKey) -> list[Child]:
        labels = f"{names.LABEL_DEPLOYMENT}={key.name}"
        return [child_of(raw) for raw in self._kube.items(pods_path(key.namespace), labels=labels)]

    def _serve_anyway(self, key: DeploymentKey, uid: str, attempts: Attempts) -> None:
        """Put pods into service that a plan which has ended took out, whatever the spec says."""
        own = (child for child in self._children(key) if child.owner_uid == uid)
        serves = service.serves(self._now())
        for child in to_serve_whatever_is_asked(own, self._plans.leaving()):
            self._actuator.switch(attempts, key.namespace, child, serves)

    def _around(self, deployment: Deployment, seen: Sequence[Child], news: News) -> Around:
        here = (child.node or child.pin for child in seen)
        nodes = frozenset(name for name in here if name is not None)
        held = news.held(units_of(deployment, seen)) if news.holds else ()
        return Around(
            # What a planner said that is gone now is no reason to delete anything.
            held=() if news.away_s else held,
            lost=self._nodes.lost(nodes),
            cordoned=self._nodes.among(nodes, Trouble.CORDONED),
            failing=self._nodes.among(nodes, Trouble.FAILING),
            away=self._nodes.among(nodes, Trouble.AWAY),
            leaving=self._plans.leaving(),
        )

    def _news(self, deployment: Deployment, seen: Sequence[Child]) -> News:
        unbound = {child.uid for child in seen if child.node is None}
        return News(
            holds=self._plans.holds_for(unbound),
            executing=self._plans.executing_for(unbound, deployment.uid),
            away_s=self._gates.away_s,
        )
