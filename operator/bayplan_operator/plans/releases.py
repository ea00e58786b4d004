"""Letting pods go to their nodes: gangs together, and nobody where that is refused.

A patch that lifts a gate can be refused, by an admission policy or for what the pod is. A gang of
which one pod has gone and another may not is of no use to anybody, and gates cannot be shut again:
so its release is rehearsed. So is that of pods for which others have to leave. The many pods that
go alone to room that is there are not: each is one request.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from itertools import chain
from typing import Final

from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.codec.releases import release_patch
from bayplan.plan import Bind
from bayplan.steps import ReleasePod
from bayplan_operator.cluster.kube import Kube, Raw, pod_path, refusal_of

#: Pods that are released one after the other over one connection: after a quiet minute and a half
#: the API server has closed those that there were, and to open one costs more than a patch.
_IN_A_ROW: Final = 4

#: One of few pods may wait long for its answer, and the others are not to wait with it.
_LEAST_ROWS: Final = 2


class Releases:
    """Releases the pods of one plan after the other."""

    def __init__(self, kube: Kube, pool: Executor) -> None:
        self._kube = kube
        self._pool = pool
        self._admitted: set[str] = set()

    def forget(self) -> None:
        """Begin with another plan."""
        self._admitted.clear()

    def release(
        self, batch: Sequence[ReleasePod], plan: str, raws: Mapping[str, Raw]
    ) -> Iterator[tuple[ReleasePod, str | None]]:
        """Release pods, of gangs all or none; yield each with why that is refused, or "".

        None when it is gone, or has changed since it was read. Nothing is yielded of the pods of a
        gang that stay for the sake of another one.

        Raises:
            ApiException: There was no answer, so the others fare no better.
        """
        members = Counter(step.gang for step in batch)
        gangs = {gang for gang, size in members.items() if gang is not None and size > 1}
        together = [s for s in batch if s.gang in gangs and s.uid not in self._admitted]
        asked = self._pool.map(lambda s: self._send(s, plan, raws, rehearse=True), together)
        refused = [(s, why) for s, why in zip(together, asked, strict=True) if why != ""]
        torn = {step.gang for step, _ in refused}
        yield from refused
        going = [step for step in batch if step.gang is None or step.gang not in torn]
        answers = self._in_rows(going, plan, raws)
        yield from ((step, answers[step.uid]) for step in going)

    def _in_rows(
        self, going: Sequence[ReleasePod], plan: str, raws: Mapping[str, Raw]
    ) -> Mapping[str, str | None]:
        """Release pods over few connections; return by uid why that is refused, as `release`.

        Whoever is done takes the next one, so that nobody waits for the answer about another.
        """
        left = deque(going)

        def row() -> Iterator[tuple[str, str | None]]:
            while step := _popped(left):
                yield step.uid, self._send(step, plan, raws)

        rows = max(math.ceil(len(going) / _IN_A_ROW), min(len(going), _LEAST_ROWS))
        return dict(chain.from_iterable(self._pool.map(lambda _: [*row()], range(rows))))

    def rehearse(
        self, binds: Iterable[Bind], plan: str, raws: Mapping[str, Raw]
    ) -> list[tuple[ReleasePod, str]]:
        """Ask whether pods could go to their nodes, once; return those that may not, and why.

        Raises:
            ApiException: There was no answer.
        """
        asked = [_step(bind) for bind in binds if bind.uid not in self._admitted]
        answers = self._pool.map(lambda s: self._send(s, plan, raws, rehearse=True), asked)
        told = [*zip(asked, answers, strict=True)]
        self._admitted |= {step.uid for step, why in told if why == ""}
        return [(step, why) for step, why in told if why]

    def _send(
        self, step: ReleasePod, plan: str, raws: Mapping[str, Raw], *, rehearse: bool = False
    ) -> str | None:
        """Send the one patch that lifts the gate and pins the pod; return the refusal, or ""."""
        note = f"{plan} places it on {step.node}"
        annotations = {names.ANNOTATION_PLAN: plan, names.ANNOTATION_DECISION: note}
        if step.replaces:
            annotations[names.ANNOTATION_REPLACES] = step.replaces
        if step.device is not None:
            annotations[names.ANNOTATION_GPU_DEVICE] = str(step.device)
        path, patch = pod_path(step.pod), release_patch(raws[step.uid], step.node, annotations)
        try:
            self._kube.patch(path, patch, manager=names.MANAGER_PODS, rehearse=rehearse)
        except ApiException as error:
            return refusal_of(error)
        return ""


def whole(releases: Sequence[ReleasePod], is_due: Callable[[str], bool]) -> Sequence[ReleasePod]:
    """Return the releases that are due, by uid; those of a gang once all of them are."""
    late = {step.gang for step in releases if step.gang is not None and not is_due(step.uid)}
    return [step for step in releases if is_due(step.uid) and step.gang not in late]


def in_batches(releases: Iterable[ReleasePod], size: int) -> Iterator[Sequence[ReleasePod]]:
    """Yield the releases in the order given, `size` at a time, gangs whole."""
    batch: list[ReleasePod] = []
    for step in releases:
        same = bool(batch) and step.gang is not None and step.gang == batch[-1].gang
        if len(batch) >= size and not same:
            yield batch
            batch = []
        batch.append(step)
    if batch:
        yield batch


def _popped(left: deque[ReleasePod]) -> ReleasePod | None:
    """Return the first one that is left, which nobody else gets then; None without any."""
    with suppress(IndexError):
        return left.popleft()
    return None


def _step(bind: Bind) -> ReleasePod:
    return ReleasePod(
        pod=bind.pod, uid=bind.uid, node=bind.node, device=bind.device, gang=bind.gang
    )
