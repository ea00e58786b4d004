"""Patches of the labels and annotations of running pods, where what they say is no longer so.

Pods are made with all of it. What may change while they live is written anew: whether they are of
an older revision, what makes their unit whole, how many of it are placed together, and how many
units their deployment needs.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from bayplan.api import names
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.replacements import instant
from bayplan.inference.targets import Target
from bayplan.inference.units import own


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataPatch:
    """What to write on a pod; None removes what is there."""

    pod: Child
    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)


def metadata_patches(  # noqa: PLR0913 - all that pods say, each by name
    deployment: Deployment,
    pods: Iterable[Child],
    targets: Mapping[int, Target],
    *,
    but: Collection[str],
    aside: Collection[str],
    marks: Mapping[str, Mapping[str, str | None]],
) -> tuple[MetadataPatch, ...]:
    """Return what to write on pods that are there to stay; `but` are names of those that go.

    `targets` are those of the units of the newest revision that stay, by unit. `aside` are uids of
    pods that do not count, and `marks` what pods say that are being replaced, by uid.
    """
    staying = [pod for pod in own(deployment, pods) if pod.counts and pod.name not in but]
    counting = [pod for pod in staying if pod.uid not in aside]
    running = Counter(pod.unit for pod in counting if pod.node is not None)
    settled = {unit for unit, each in targets.items() if running[unit] == each.together}
    standing = _standing(deployment, counting)
    found = (
        MetadataPatch(
            pod=pod,
            labels=_labels(deployment, pod, targets.get(pod.unit), settled=pod.unit in settled)
            | _represents(pod, pod.uid in standing),
            annotations=_annotations(deployment, pod, targets.get(pod.unit))
            | _replaced(pod, marks.get(pod.uid, {})),
        )
        for pod in staying
    )
    return tuple(patch for patch in found if patch.labels or patch.annotations)


def _labels(
    deployment: Deployment, pod: Child, target: Target | None, *, settled: bool
) -> dict[str, str | None]:
    said: dict[str, str | None] = {}
    if pod.min_units != deployment.min_units:
        said[names.LABEL_MIN_UNITS] = str(deployment.min_units) if deployment.min_units else None
    # Planners read the size from those that wait; the others follow when all of them run.
    counts = pod.revision == deployment.revision and (settled or pod.node is None)
    if target is not None and counts and target.together not in {0, pod.unit_size}:
        said[names.LABEL_GANG_MIN_COUNT] = str(target.together)
    return said


def _annotations(
    deployment: Deployment, pod: Child, target: Target | None
) -> dict[str, str | None]:
    said: dict[str, str | None] = {}
    newest = pod.revision == deployment.revision
    if pod.outdated == newest:
        # A unit of an older revision that loses a pod is lost, so none of its pods is to be moved.
        said[names.ANNOTATION_OUTDATED] = None if newest else "true"
    if target is not None and newest and pod.shape != target.shape:
        said[names.ANNOTATION_SHAPE] = str(target.shape)
    return said


def _standing(deployment: Deployment, counting: Iterable[Child]) -> frozenset[str]:
    """Return the uids of the pods that stand for their units: of each the same for long."""
    first = deployment.counted
    found: dict[int, Child] = {}
    for pod in sorted(counting, key=lambda pod: (not pod.represents, pod.replica, pod.name)):
        if first is not None and pod.pool == first.name and not pod.worker:
            found.setdefault(pod.unit, pod)
    return frozenset(pod.uid for pod in found.values())


def _represents(pod: Child, stands: bool) -> dict[str, str | None]:  # noqa: FBT001 - private
    if pod.represents == stands:
        return {}
    return {names.LABEL_REPRESENTS: "true" if stands else None}


def _replaced(pod: Child, mark: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return what is news of the replacement that a pod has, or has no more."""
    said = dict(mark)
    until = said.get(names.ANNOTATION_GIVES_WAY_BY)
    if until == (instant(pod.gives_way_by) if pod.gives_way_by else None):
        said.pop(names.ANNOTATION_GIVES_WAY_BY, None)
    else:
        said[names.ANNOTATION_GIVES_WAY_BY] = until
    return said
