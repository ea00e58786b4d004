"""A watcher that asks the API server all the time whether the ratio contract is kept.

    with watching(cluster, namespace=…, name="chat") as watch:
        watch.expect(serving=1, units=3)      # from now on at least 1 unit serves, at most 3 exist
        …                                     # scale, roll out, kill
    watch.assert_kept()

Each sample is one list of the pods: what it shows was true at one instant. `Contract` judges
samples and knows no cluster.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from bayplan.api import names
from e2e.cluster import Cluster

#: Seconds between two samples.
INTERVAL_S: Final = 0.1

#: Seconds for which a unit may have nodes for some of its pods only.
PARTIAL_S: Final = 30.0

#: Seconds for which several units may have nodes for some of their pods: kube-scheduler binds one
#: pod after the other.
TRANSIT_S: Final = 10.0

#: Broken promises that are remembered.
_MOST: Final = 20

Raw = Mapping[str, Any]


@dataclass(slots=True)
class Contract:
    """What must hold in every sample, and what did not.

    Attributes:
        serving: Units that must serve: every replica ready that makes them whole, as their pods
            say, and all of one revision.
        units: Units that may have pods which are not being deleted; None for any number.
        partial: Units that may have nodes for a part of their pods, beyond a moment.
        band: The least and the most replicas of each pool that may run in one unit, beyond a
            moment; nothing is asked of other pools.
        samples: How many samples were judged.
        fewest: The fewest units that served in any of them since `expect`.
        most: The most units that existed in any of them since `expect`.
        broken: What was wrong, in words.
        cut: Pods that were deleted while they were in service.
    """

    serving: int = 0
    units: int | None = None
    partial: int = 1
    band: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    samples: int = 0
    fewest: int | None = None
    most: int = 0
    broken: list[str] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)
    _serving: set[str] = field(default_factory=set)
    _partial_since: dict[str, float] = field(default_factory=dict)
    _out_since: dict[str, float] = field(default_factory=dict)

    def expect(
        self,
        *,
        serving: int,
        units: int | None = None,
        partial: int = 1,
        band: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Say what must hold from now on."""
        self.serving, self.units, self.partial, self.band = serving, units, partial, band or {}
        self._out_since = {}
        self.fewest, self.most = None, 0

    def judge(self, pods: Sequence[Raw], *, at_s: float) -> None:
        """Take one sample; `at_s` is on any clock that goes steadily."""
        self.samples += 1
        by_unit: dict[str, list[Raw]] = defaultdict(list)
        for pod in pods:
            by_unit[_label(pod, names.LABEL_UNIT)].append(pod)
        for unit, members in by_unit.items():
            revisions = {_label(pod, names.LABEL_REVISION) for pod in members}
            if len(revisions) > 1:
                self._complain(at_s, f"unit {unit} has pods of {sorted(revisions)}")
        self._judge_partial(by_unit, at_s)
        self._judge_ratios(by_unit, at_s)
        self._note_cut(pods)
        self._judge_numbers(by_unit, at_s)

    def _judge_numbers(self, by_unit: Mapping[str, Sequence[Raw]], at_s: float) -> None:
        serving = sorted(unit for unit, members in by_unit.items() if _serves(members))
        there = sorted(unit for unit, members in by_unit.items() if _live(members))
        self.fewest = len(serving) if self.fewest is None else min(self.fewest, len(serving))
        self.most = max(self.most, len(there))
        if len(serving) < self.serving:
            self._complain(at_s, f"only units {serving} serve; {self.serving} must")
        if self.units is not None and len(there) > self.units:
            self._complain(at_s, f"units {there} exist; {self.units} may")

    def _judge_partial(self, by_unit: Mapping[str, Sequence[Raw]], at_s: float) -> None:
        partial = {unit for unit, members in by_unit.items() if _is_partial(members)}
        self._partial_since = {unit: self._partial_since.get(unit, at_s) for unit in partial}
        words = ("is partially placed", "are partially placed")
        self._judge_lasting(self._partial_since, words, most=self.partial, at_s=at_s)

    def _judge_ratios(self, by_unit: Mapping[str, Sequence[Raw]], at_s: float) -> None:
        out = {unit for unit, members in by_unit.items() if not _within(members, self.band)}
        self._out_since = {unit: self._out_since.get(unit, at_s) for unit in out}
        words = ("is out of its band", "are out of their band")
        self._judge_lasting(self._out_since, words, most=1, at_s=at_s)

    def _judge_lasting(
        self, begun: Mapping[str, float], words: tuple[str, str], *, most: int, at_s: float
    ) -> None:
        """Complain of a unit that is so for too long, and of more than `most` beyond a moment."""
        one, several = words
        for unit, since in begun.items():
            if at_s - since > PARTIAL_S:
                self._complain(at_s, f"unit {unit} {one} for {at_s - since:.0f} s")
        lasting = sorted(unit for unit, since in begun.items() if at_s - since > TRANSIT_S)
        if len(lasting) > most:
            self._complain(at_s, f"units {lasting} {several} at a time")

    def _note_cut(self, pods: Sequence[Raw]) -> None:
        """Note the pods that end although they were ready in the sample before."""
        ending = {_uid(pod): pod for pod in pods if pod["metadata"].get("deletionTimestamp")}
        self.cut |= {ending[uid]["metadata"]["name"] for uid in self._serving & ending.keys()}
        self._serving = {_uid(pod) for pod in pods if _is_ready(pod)} - ending.keys()

    def _complain(self, at_s: float, problem: str) -> None:
        if len(self.broken) < _MOST:
            self.broken.append(f"{at_s:.2f}: {problem}")


class Watch:
    """Samples the pods of one InferenceDeployment until it is stopped."""

    def __init__(
        self, cluster: Cluster, *, namespace: str, name: str, at_work: Callable[[], bool]
    ) -> None:
        self.contract = Contract()
        self._at_work = at_work
        self._cluster = cluster
        self._namespace = namespace
        self._labels = f"{names.LABEL_DEPLOYMENT}={name}"
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="contract", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples."""
        self._stop.set()
        self._thread.join()

    def expect(
        self,
        *,
        serving: int,
        units: int | None = None,
        partial: int = 1,
        band: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Say what must hold in every sample that is begun from now on."""
        with self._lock:
            self.contract.expect(serving=serving, units=units, partial=partial, band=band)

    def assert_kept(self) -> None:
        """Assert that samples were taken to the end and that nothing was wrong in any."""
        assert self._failure is None, f"the watcher failed: {self._failure!r}"
        assert self.contract.samples > 0
        assert not self.contract.broken, "\n".join(self.contract.broken)

    def _run(self) -> None:
        try:
            at_s = seen_at = time.monotonic()
            while not self._stop.wait(INTERVAL_S):
                now = time.monotonic()
                at_s, seen_at = at_s + (now - seen_at if self._at_work() else 0.0), now
                with self._lock:
                    self.contract.judge(self._pods(), at_s=at_s)
        except Exception as error:  # noqa: BLE001 - told by assert_kept, in the test's thread
            self._failure = error

    def _pods(self) -> list[Raw]:
        found = self._cluster.read("pods", namespace=self._namespace, labels=self._labels)
        pods: list[Raw] = found["items"]
        return pods


@contextmanager
def watching(
    cluster: Cluster, *, namespace: str, name: str, at_work: Callable[[], bool] = lambda: True
) -> Iterator[Watch]:
    """Sample the pods of an InferenceDeployment within the block.

    How long something lasts is counted while `at_work` says that somebody is there to end it.
    """
    watch = Watch(cluster, namespace=namespace, name=name, at_work=at_work)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def _uid(pod: Raw) -> str:
    return str(pod["metadata"].get("uid", ""))


def _label(pod: Raw, name: str) -> str:
    return str(pod["metadata"].get("labels", {}).get(name, ""))


def _annotation(pod: Raw, name: str) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(name, ""))


def _live(pods: Sequence[Raw]) -> list[Raw]:
    return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]


def _covers(pods: Sequence[Raw], all_pods: Sequence[Raw]) -> bool:
    """Return whether some of a unit's pods are what makes it whole, as one of its pods says.

    They may differ for a moment: a unit that has come to another ratio says so pod by pod.
    """
    have = _replicas(pods)
    return any(
        all(have[pool] >= int(count) for pool, _, count in wanted)
        for wanted in ([part.rpartition("=") for part in said] for said in _shapes(all_pods))
    )


def _shapes(pods: Sequence[Raw]) -> list[list[str]]:
    said = {_annotation(pod, names.ANNOTATION_SHAPE) for pod in pods}
    return [text.split(",") for text in sorted(said) if text]


def _replicas(pods: Sequence[Raw]) -> Counter[str]:
    """Return how many replicas are complete among the pods, by pool."""
    of = Counter((_label(p, names.LABEL_POOL), _label(p, names.LABEL_REPLICA)) for p in pods)
    sizes = {
        (_label(p, names.LABEL_POOL), _label(p, names.LABEL_REPLICA)): int(
            _label(p, names.LABEL_REPLICA_SIZE) or 1
        )
        for p in pods
    }
    return Counter(pool for (pool, index), n in of.items() if n >= sizes[pool, index])


def _within(pods: Sequence[Raw], band: Mapping[str, tuple[int, int]]) -> bool:
    """Return whether a unit of which anything runs has as many replicas as it may have."""
    live = _live(pods)
    moved = {_uid(pod) for pod in live} - {""}
    # Of a pod that is moved and its replacement that starts first one counts.
    once = [pod for pod in live if _annotation(pod, names.ANNOTATION_REPLACES) not in moved]
    have = _replicas([pod for pod in once if pod["spec"].get("nodeName")])
    bounds = band.items() if have else ()
    return all(least <= have[pool] <= most for pool, (least, most) in bounds)


def _serves(pods: Sequence[Raw]) -> bool:
    ready = [pod for pod in _live(pods) if _is_ready(pod)]
    same = len({_label(pod, names.LABEL_REVISION) for pod in ready}) == 1
    return same and _covers(ready, pods)


def _is_ready(pod: Raw) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _is_partial(pods: Sequence[Raw]) -> bool:
    """Return whether pods are on nodes, but not all that make the unit whole."""
    live = _live(pods)
    placed = [pod for pod in live if pod["spec"].get("nodeName")]
    return bool(placed) and not _covers(placed, live)
