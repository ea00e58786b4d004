"""What running pods say of their unit, where that is no longer so: labels and annotations.

Pods are made with all of it. What may change while they live is written anew: whether they are of
an older revision, what makes their unit whole, how many of it are placed together, and how many
units their deployment needs.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from bayplan.api import names
from bayplan.inference.aims import Aim
from bayplan.inference.children import Child, Deployment
from bayplan.inference.parts import own


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What to write on a pod; None removes what is there."""

    pod: Child
    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)


def tellings(
    deployment: Deployment, pods: Iterable[Child], aims: Mapping[int, Aim], *, but: Collection[str]
) -> tuple[Telling, ...]:
    """Return what to write on pods that are there to stay; `but` are names of those that go.

    `aims` are those of the units of the newest revision that stay, by unit.
    """
    staying = [pod for pod in own(deployment, pods) if pod.counts and pod.name not in but]
    running = Counter(pod.unit for pod in staying if pod.node is not None)
    settled = {unit for unit, each in aims.items() if running[unit] == each.together}
    found = (
        Telling(
            pod=pod,
            labels=_labels(deployment, pod, aims.get(pod.unit), settled=pod.unit in settled),
            annotations=_annotations(deployment, pod, aims.get(pod.unit)),
        )
        for pod in staying
    )
    return tuple(telling for telling in found if telling.labels or telling.annotations)


def _labels(
    deployment: Deployment, pod: Child, aim: Aim | None, *, settled: bool
) -> dict[str, str | None]:
    said: dict[str, str | None] = {}
    if pod.floor != deployment.floor:
        said[names.LABEL_MIN_UNITS] = str(deployment.floor) if deployment.floor else None
    # Planners read the size from those that wait; the others follow when all of them run.
    counts = pod.revision == deployment.revision and (settled or pod.node is None)
    if aim is not None and counts and aim.together not in {0, pod.unit_size}:
        said[names.LABEL_GANG_MIN_COUNT] = str(aim.together)
    return said


def _annotations(deployment: Deployment, pod: Child, aim: Aim | None) -> dict[str, str | None]:
    said: dict[str, str | None] = {}
    newest = pod.revision == deployment.revision
    if pod.outdated == newest:
        # A unit of an older revision that loses a pod is lost, so none of its pods is to be moved.
        said[names.ANNOTATION_OUTDATED] = None if newest else "true"
    if aim is not None and newest and pod.shape != aim.shape:
        said[names.ANNOTATION_SHAPE] = str(aim.shape)
    return said
