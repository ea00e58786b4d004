"""Where a pod without a plan does the least harm, by what a cache shows.

The webhook asks. A `Scorer` follows the cache: an answer works out anew only nodes whose room has
changed since the last one, and costs O(nodes asked about) besides. What comes out is an order of
nodes and nothing more: whether the pod fits is for who asks to check, on exact room.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from bayplan.cache import Cache
from bayplan.online.kinds import Kind, catalogue
from bayplan.online.scorer import NodeRoom, Row, Scorer
from bayplan.online.value import Copies, Floats, Ints
from bayplan.slots import SIZES
from bayplan.snapshot import Node, NodeName, NodeTerm, Pod, PodKind, Resources
from bayplan.units import WHOLE_MILLI

#: The best score that the extender protocol knows.
MAX_SCORE: Final = 10

#: Most kinds that room is kept for: those that ask for the most GPUs in sum.
_MOST_KINDS: Final = 48

#: Most GPUs of one node that are told apart; a node that says more is wrong about itself.
_MOST_GPUS: Final = 64

#: Nodes that are found one by one, before all are sorted.
_FEW: Final = 4

#: Labels that say which model the GPUs of a node are.
_MODEL_LABELS: Final = ("nvidia.com/gpu.product", "amd.com/gpu.product-name")

#: Kinds that may always come: whole slots are worth something before anybody has asked for one.
_PRIOR: Final = {Kind(gpus=size): 1 for size in SIZES}


def forecast(pods: Iterable[Pod]) -> Mapping[Kind, int]:
    """Return how many pods of each kind to expect: what there is now, and whole slots."""
    alike = Counter(pod.kind for pod in pods)
    counts: Counter[Kind] = Counter()
    for kind, n in alike.items():
        counts[_kind(kind.requests, _models(kind))] += n
    asking = [(kind.gpus * n, kind, n) for kind, n in counts.items() if kind.gpus]
    most = sorted(asking, reverse=True)[:_MOST_KINDS]
    return _PRIOR | {kind: n for _, kind, n in most}


class Advisor:
    """Orders nodes by the loss that a pod would cause; follows one cache."""

    def __init__(self, cache: Cache, expected: Mapping[Kind, int] = _PRIOR) -> None:
        """Follow `cache`; `expected` is how many pods of each kind room is kept for."""
        self._cache = cache
        self._changed = cache.follow()
        self._expected = expected
        self._scorer: Scorer | None = None
        self._rows: dict[NodeName, Row] = {}
        self._frames: list[tuple[str, int]] = []
        self._rooms: list[Resources] = []

    def expect(self, expected: Mapping[Kind, int]) -> None:
        """Keep room for other kinds from now on."""
        self._expected, self._scorer = expected, None

    def ranked(self, pod: Pod, asked: Sequence[NodeName]) -> Iterator[NodeName]:
        """Yield the known ones of the nodes, the one with the least loss first.

        Nodes that seem to lack room come last; equals come as they were asked about.
        """
        known, loss = self._losses(pod, asked)
        if not known:
            return
        left, told = loss.copy(), set[int]()
        while len(told) < _FEW and np.isfinite(left[at := int(left.argmin())]):
            yield known[at]
            left[at] = np.inf
            told.add(at)
        for at in loss.argsort(kind="stable").tolist():  # who asks seldom comes so far
            if at not in told:
                yield known[at]

    def scores(self, pod: Pod, asked: Sequence[NodeName]) -> Mapping[NodeName, int]:
        """Return 0 to 10 for each node: 10 for the least loss, 0 where there is no room."""
        known, loss = self._losses(pod, asked)
        able = np.isfinite(loss)
        ranks = np.unique(loss[able], return_inverse=True)[1]
        marks = np.zeros(len(known), dtype=np.int64)
        marks[able] = MAX_SCORE - MAX_SCORE * ranks // (ranks.max(initial=0) + 1)
        return dict.fromkeys(asked, 0) | dict(zip(known, marks.tolist(), strict=True))

    def _losses(self, pod: Pod, asked: Sequence[NodeName]) -> tuple[Sequence[NodeName], Floats]:
        """Return which of the nodes are known, and the loss on each; infinite without room."""
        scorer = self._following()
        try:
            known, at = asked, self._rows_of(asked)
        except KeyError:  # seldom: the scheduler has seen a node before us
            known = [name for name in asked if name in self._rows]
            at = self._rows_of(known)
        return known, scorer.score(_kind(pod.requests)).loss[at]

    def _rows_of(self, names: Sequence[NodeName]) -> Ints:
        """Return the nodes' rows.

        Raises:
            KeyError: One is not known.
        """
        return np.fromiter(map(self._rows.__getitem__, names), dtype=np.int64, count=len(names))

    def _following(self) -> Scorer:
        """Return the scorer as of the cache's present state."""
        scorer, rooms = self._scorer, self._cache.rooms()
        while scorer is not None and self._changed:
            name = self._changed.pop()
            row, node = self._rows.get(name), self._cache.node(name)
            if row is None or node is None or self._frames[row] != _frame(node):
                scorer = None
            elif self._rooms[row] != rooms[name]:  # the same when a pod comes where it was assumed
                self._rooms[row] = rooms[name]
                scorer.renew(row, _room(node, rooms[name]))
        if scorer is None:
            scorer = self._scorer = self._begin()
        return scorer

    def _begin(self) -> Scorer:
        """Return a new scorer of all nodes, in O(nodes x kinds)."""
        self._changed.clear()
        rooms = self._cache.rooms()
        nodes = sorted((node for name in rooms if (node := self._cache.node(name))), key=_name)
        self._rows = {node.name: Row(row) for row, node in enumerate(nodes)}
        self._frames = [_frame(node) for node in nodes]
        self._rooms = [rooms[node.name] for node in nodes]
        models = sorted({model for model, _ in self._frames})
        worth = Copies.of_catalogue(catalogue(self._expected), models)
        return Scorer([_room(node, rooms[node.name]) for node in nodes], worth, models)


def _name(node: Node) -> NodeName:
    return node.name


def _kind(requests: Resources, models: tuple[str, ...] = ()) -> Kind:
    return Kind(
        cpu_milli=requests["cpu"],
        memory_mib=requests["memory"],
        gpus=requests.gpus,
        models=models,
    )


def _models(kind: PodKind) -> tuple[str, ...]:
    """Return the GPU models that pods of the kind accept; empty for any."""
    chosen = [value for key, value in kind.constraints.node_selector if key in _MODEL_LABELS]
    if chosen:
        return tuple(chosen)
    terms = [_models_of(term) for term in kind.constraints.affinity]
    return tuple(sorted(set().union(*terms))) if all(terms) else ()


def _models_of(term: NodeTerm) -> tuple[str, ...]:
    named = (r.values for r in term.labels if r.key in _MODEL_LABELS and r.operator == "In")
    return next(named, ())


def _frame(node: Node) -> tuple[str, int]:
    """Return what of a node stays as it is while pods come and go: model and number of GPUs."""
    labels = dict(node.labels)
    model = next((labels[label] for label in _MODEL_LABELS if label in labels), "")
    return model, min(node.allocatable.gpus, _MOST_GPUS)


def _room(node: Node, free: Resources) -> NodeRoom:
    model, gpus = _frame(node)
    idle = max(0, min(gpus, free.gpus))
    return NodeRoom(
        name=node.name,
        cpu_milli=free["cpu"],
        memory_mib=free["memory"],
        devices=(WHOLE_MILLI,) * idle + (0,) * (gpus - idle),
        model=model,
    )
