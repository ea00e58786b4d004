"""Making the replacement of a moved pod before that pod goes, where its deployment allows it.

`bayplan.inference.replacements` decides. The old pod is marked first, then the new one is made with
its pin, then its gate is lifted: broken off in between, the deployment's own pass goes on from
there, or takes the mark off again. What deployments allow is remembered for a few seconds only.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan.codec import DecodeError, PublishedPlan
from bayplan.codec.deployments import child_of, deployment_of
from bayplan.codec.releases import pinned, ungate_patch
from bayplan.codec.replacements import failed_move_in
from bayplan.inference import manifests, replacements
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.drains import LOOK_S
from bayplan.inference.replacements import Outlook
from bayplan.inference.slots import Slot
from bayplan.steps import StartPod, SurgeContext
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.kube import (
    REFUSALS,
    Kube,
    Raw,
    deployment_path,
    message_of,
    pod_path,
    pods_path,
    refusal_of,
)
from bayplan_operator.keys import DeploymentKey, owner_of

_log = structlog.get_logger()

#: HTTP's answer for a name that is taken.
_TAKEN: Final = 409


class Surges:
    """Looks at the owners of the pods that the plan at work moves, and doubles pods of theirs."""

    def __init__(
        self,
        kube: Kube,
        claims: Claims,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._claims = claims
        self._now = now
        self._clock = clock
        self._outlooks: dict[str, tuple[float, Outlook]] = {}
        self._plan = ""
        self._refused: set[str] = set()
        self._started: set[str] = set()

    def of(self, published: PublishedPlan, raws: Mapping[str, Raw]) -> SurgeContext:
        """Return what is known of replacements that might start first."""
        if published.uid != self._plan:
            self._plan, self._outlooks = published.uid, {}
            self._refused, self._started = set(), set()
        there = [move for move in published.plan.moves if move.uid in raws]
        said = {move.uid: failed_move_in(raws[move.uid]) for move in there}
        owners = {move.owner.uid: owner_of(raws[move.uid]) for move in there if move.owner}
        return SurgeContext(
            outlooks={uid: self._outlook(uid, key) for uid, key in owners.items() if key},
            failed={uid: m.why for uid, m in said.items() if m.plan == published.name},
            refused=frozenset(self._refused),
        )

    def start(self, step: StartPod, plan: str, raw: Raw) -> str | None:
        """Make what starts in the place of a pod; return why that is refused, or "".

        None when something has changed, or somebody else works on the deployment just now.

        Raises:
            ApiException: There was no answer.
        """
        key = owner_of(raw)
        if key is None:
            return None
        if step.uid in self._started:
            # Somebody else made it go, and may do so with the next.
            self._refused.add(step.uid)
            return "its replacement is gone again; it leaves before another one starts"
        with self._claims.attempt(key) as ours:
            if not ours:
                return None
            self._outlooks.clear()
            deployment, raws = self._deployment(key), self._pods(key)
            if any(failed_move_in(raw).plan == plan for raw in raws):
                return None  # given up since the step was decided on: the plan fails with it
            seen = list(_readable(raws))
            slot = replacements.slot_beside(deployment, seen, step.uid) if deployment else None
            if deployment is None or slot is None:
                return None
            return self._make(deployment, slot, step, plan)

    def _make(self, deployment: Deployment, slot: Slot, step: StartPod, plan: str) -> str | None:
        until = replacements.instant(
            self._now().timestamp() + replacements.serves_within_s(deployment)
        )
        mark = {names.ANNOTATION_GIVES_WAY_BY: until}
        said = {
            names.ANNOTATION_PLAN: plan,
            names.ANNOTATION_DECISION: f"{plan} moves {step.pod.name} to {step.node}",
            names.ANNOTATION_REPLACES: step.uid,
            names.ANNOTATION_SERVES_BY: until,
        }
        if step.device is not None:
            said[names.ANNOTATION_GPU_DEVICE] = str(step.device)
        body = pinned(manifests.manifest(deployment, slot), step.node, said)
        key = PodKey(namespace=deployment.namespace, name=slot.name)
        try:
            self._kube.merge(
                pod_path(step.pod),
                {"metadata": {"uid": step.uid, "annotations": mark}},
                manager=names.MANAGER_PODS,
            )
        except ApiException as error:
            return self._refusal(step, error)
        try:
            made = self._kube.create(pods_path(key.namespace), body, manager=names.MANAGER_PODS)
        except ApiException as error:
            if error.status == _TAKEN:
                self._refused.add(step.uid)
                return f"there is a pod {slot.name} of another owner"
            return self._refusal(step, error)
        self._started.add(step.uid)
        self._lift(key, made)
        return ""

    def _lift(self, key: PodKey, made: Raw) -> None:
        """Lift the gate; where that fails, the deployment's pass does it."""
        try:
            self._kube.patch(pod_path(key), ungate_patch(made, {}), manager=names.MANAGER_PODS)
        except ApiException as error:
            _log.warning("gate_not_lifted", pod=str(key), error=refusal_of(error))

    def _refusal(self, step: StartPod, error: ApiException) -> str | None:
        """Return why a step is refused; for what will be so again, its pod leaves first."""
        if error.status in REFUSALS:
            self._refused.add(step.uid)
            return f"{message_of(error)}; it leaves before its replacement starts"
        return refusal_of(error)

    def _outlook(self, uid: str, key: DeploymentKey) -> Outlook:
        known_at, known = self._outlooks.get(uid, (0.0, None))
        if known is not None and self._clock() < known_at + LOOK_S:
            return known
        deployment = self._deployment(key)
        found = Outlook()
        if deployment is not None and deployment.uid == uid:
            found = replacements.outlook(deployment, _readable(self._pods(key)))
        self._outlooks[uid] = (self._clock(), found)
        return found

    def _deployment(self, key: DeploymentKey) -> Deployment | None:
        """Return what is asked for; None where nobody can read it, or it is gone."""
        raw = self._kube.get(deployment_path(key.namespace, key.name))
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        try:
            return deployment_of(raw)
        except DecodeError:
            return None

    def _pods(self, key: DeploymentKey) -> list[Raw]:
        labels = f"{names.LABEL_DEPLOYMENT}={key.name}"
        return self._kube.items(pods_path(key.namespace), labels=labels)


def _readable(raws: Iterable[Raw]) -> Iterator[Child]:
    """Yield the pods that can be read; others are no reason to leave the plan alone."""
    for raw in raws:
        try:
            yield child_of(raw)
        except DecodeError as error:
            _log.warning("pod_unreadable", error=str(error))
