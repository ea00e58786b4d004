"""Doing what was decided of the pods of an InferenceDeployment: make, change, drain, delete.

Each pod is changed for itself: one for which the API server fails holds up no other (`attempts`).
"""

from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime
from functools import partial
from typing import Final

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan.codec import service
from bayplan.codec.releases import ungate_patch
from bayplan.inference import manifests
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.patches import MetadataPatch
from bayplan.inference.rollout import Changes
from bayplan.inference.slots import Slot
from bayplan.inference.tally import count_of
from bayplan_operator.cluster.events import About, Events
from bayplan_operator.cluster.evictions import ask_to_leave
from bayplan_operator.cluster.kube import Kube, Raw, pod_path, pods_path
from bayplan_operator.cluster.removals import delete_as_seen, relieve_as_seen
from bayplan_operator.cluster.service import put
from bayplan_operator.deployments.attempts import Attempts
from bayplan_operator.deployments.statuses import Statuses
from bayplan_operator.metrics import Metrics

#: What the API server says of pods whose PriorityClass is not there.
_NO_CLASS: Final = "no PriorityClass with name"


class Actuator:
    """Makes the changes to the pods of InferenceDeployments."""

    def __init__(  # noqa: PLR0913 - what it works with, handed down once
        self,
        kube: Kube,
        statuses: Statuses,
        events: Events,
        metrics: Metrics,
        *,
        pool: Executor,
        now: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._statuses = statuses
        self._events = events
        self._metrics = metrics
        self._pool = pool
        self._now = now

    def unpatchable(
        self, deployment: Deployment, changes: Changes, attempts: Attempts
    ) -> dict[str, str]:
        """Return why what is to make their unit whole cannot be written on pods, by uid.

        Asked of units that give something up for it, before they do. Where that cannot be asked
        now, there is no reason to give yet.
        """
        asked = [patch for patch in changes.patch if patch.pod.unit in changes.swaps]
        ask = partial(self._patch_metadata, deployment, attempts, rehearse=True)
        answers = zip(asked, self._pool.map(ask, asked), strict=True)
        found = {each.pod.uid: _why_unpatchable(each, why) for each, why in answers if why != ""}
        for why in filter(None, found.values()):
            self._statuses.tell(deployment, "PodsRefused", "Annotate", why, warning=True)
        return found

    def carry_out(
        self, deployment: Deployment, changes: Changes, attempts: Attempts
    ) -> tuple[int, str]:
        """Write on pods what has changed, put some in and out of service, delete and create some.

        Return how many were made, and why the API server refuses one, or "".
        """
        namespace, at = deployment.namespace, self._now()
        list(self._pool.map(partial(self._patch_metadata, deployment, attempts), changes.patch))
        switched = [(child, service.serves(at)) for child in changes.serve]
        switched += [(child, service.drains(at)) for child in changes.drain]
        list(self._pool.map(lambda pair: self.switch(attempts, namespace, *pair), switched))
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
            self._statuses.tell(
                deployment, "PodsCreated", "Create", f"made {count_of(made, 'pod')}, gated"
            )
        refusal = next(filter(None, created), "")
        if refusal:
            self._statuses.tell(deployment, "PodsRefused", "Create", refusal, warning=True)
        return made, refusal

    def switch(self, attempts: Attempts, namespace: str, child: Child, condition: Raw) -> None:
        """Put a pod into service, or take it out: its readiness follows."""
        pod = PodKey(namespace=namespace, name=child.name)
        what = f"write condition {names.CONDITION_IN_SERVICE} of pod {child.name}"
        attempts.make(what, partial(put, self._kube, pod, child.uid, condition))

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
                self.switch(attempts, deployment.namespace, child, service.drains(self._now()))
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
            self._statuses.tell(deployment, "MoveFailed", "Move", note, warning=True)

    def _lift(self, path: str, child: Child) -> None:
        raw = self._kube.get(path)
        if raw is not None and raw["metadata"]["uid"] == child.uid:
            self._kube.patch(path, ungate_patch(raw, {}), manager=names.MANAGER_PODS)

    def _patch_metadata(
        self,
        deployment: Deployment,
        attempts: Attempts,
        patch: MetadataPatch,
        *,
        rehearse: bool = False,
    ) -> str | None:
        """Write on a pod what is now so of its unit; return as `Attempts.make`."""
        child = patch.pod
        written = {"labels": dict(patch.labels), "annotations": dict(patch.annotations)}
        merge = partial(
            self._kube.merge,
            _path_of(deployment, child),
            {"metadata": {"uid": child.uid, **written}},
            manager=names.MANAGER_PODS,
            rehearse=rehearse,
        )
        return attempts.make(f"change labels and annotations of pod {child.name}", merge)

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


def _why_unpatchable(patch: MetadataPatch, refusal: str | None) -> str:
    if not refusal:
        return ""
    return (
        f"the API server refuses changes of the annotations of pod {patch.pod.name}: {refusal};"
        " let the operator change them, or delete the pod. Until then unit"
        f" {patch.pod.unit} keeps its former ratio"
    )


def _key_of(deployment: Deployment, child: Child) -> PodKey:
    return PodKey(namespace=deployment.namespace, name=child.name)


def _path_of(deployment: Deployment, child: Child) -> str:
    return pod_path(_key_of(deployment, child))
