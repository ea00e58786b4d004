"""Where a pod without a plan does the least harm, by what a cache shows.

The webhook asks. Nodes with equal room are alike to a pod, and a fleet has few such states, which
its nodes go through again and again: a `Scorer` knows the states, and only a new one is worked out.
Which node is in which state follows the cache, so that an answer costs O(nodes asked about). What
comes out is an order of nodes and nothing more: whether the pod fits is for who asks to check, on
exact room.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from bayplan.cache import Cache
from bayplan.cluster.constraints import NodeTerm
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod, PodKind
from bayplan.cluster.resources import Resources
from bayplan.cluster.units import WHOLE_MILLI
from bayplan.online.kinds import Kind, catalogue
from bayplan.online.scorer import NodeRoom, Row, Scorer
from bayplan.online.value import Copies, Floats, Ints
from bayplan.slots import SIZES

#: The best score that the extender protocol knows.
MAX_SCORE: Final = 10

#: Most kinds that room is kept for: those that ask for the most GPUs in sum.
_MOST_KINDS: Final = 48

#: Most GPUs of one node that are told apart; a node that says more is wrong about itself.
_MOST_GPUS: Final = 64

#: Nodes that are found one by one, before all are sorted.
_FEW: Final = 4

#: States that no node is in any more and that are remembered, beside as many as there are nodes.
_MOST_UNUSED: Final = 256

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
        self._states: dict[_State, Row] = {}
        self._rows: dict[NodeName, Row] = {}
        self._frames: dict[NodeName, tuple[Node, _Frame]] = {}

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

    def losses(self, pod: Pod, names: Sequence[NodeName]) -> Sequence[float]:
        """Return the loss on each of the nodes; infinite where it is not known, or without room."""
        known, loss = self._losses(pod, names)
        found = dict(zip(known, loss.tolist(), strict=True))
        return [found.get(name, float("inf")) for name in names]

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
        """Return the rows of the states that the nodes are in.

        Raises:
            KeyError: One is not known.
        """
        return np.fromiter(map(self._rows.__getitem__, names), dtype=np.int64, count=len(names))

    def _following(self) -> Scorer:
        """Return the scorer of the states that nodes are in by now."""
        if len(self._states) > 2 * len(self._rows) + _MOST_UNUSED:
            self._states, self._scorer = {}, None
            self._changed.update(self._cache.rooms())
        if len(self._changed) > len(self._rows):
            self._rows = _side_by_side(self._rows, self._changed)
        rooms = self._cache.rooms()
        while self._changed:
            name = self._changed.pop()
            node = self._cache.node(name)
            if node is None:
                self._rows.pop(name, None)
                self._frames.pop(name, None)
            else:
                self._rows[name] = self._row_of(_state(self._frame(node), rooms[name]))
        if self._scorer is None:
            models = sorted({state.model for state in self._states})
            worth = Copies.of_catalogue(catalogue(self._expected), models)
            nodes = [_room(state, row) for state, row in self._states.items()]
            self._scorer = Scorer(nodes, worth, models)
        return self._scorer

    def _row_of(self, state: "_State") -> Row:
        """Return the row of a state; that of a new one, if nodes of its make are known already."""
        row = self._states.get(state)
        if row is None:
            row = self._states[state] = Row(len(self._states))
            if self._scorer is not None and self._scorer.takes(room := _room(state, row)):
                self._scorer.add(room)
            else:
                self._scorer = None
        return row

    def _frame(self, node: Node) -> "_Frame":
        """Return what of a node stays as it is while pods come and go."""
        seen = self._frames.get(node.name)
        if seen is None or seen[0] is not node:
            seen = self._frames[node.name] = (node, _frame(node))
        return seen[1]


class _Frame(NamedTuple):
    """GPU model, and number of GPUs."""

    model: str
    gpus: int


class _State(NamedTuple):
    """What of a node makes a difference to a pod."""

    model: str
    gpus: int
    idle: int
    cpu_milli: int
    memory_mib: int


def _side_by_side(rows: Mapping[NodeName, Row], more: Iterable[NodeName]) -> dict[NodeName, Row]:
    """Return the rows with more names, all of them as copies made one after the other.

    An answer looks up hundreds of names, and waits for memory most of that time. Names that came
    with their nodes lie far apart in it, these next to each other.
    """
    names = sorted({*rows, *more})
    return {NodeName("".join((name[:1], name[1:]))): rows.get(name, Row(0)) for name in names}


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


def _frame(node: Node) -> _Frame:
    labels = dict(node.labels)
    model = next((labels[label] for label in _MODEL_LABELS if label in labels), "")
    return _Frame(model, min(node.allocatable.gpus, _MOST_GPUS))


def _state(frame: _Frame, free: Resources) -> _State:
    idle = max(0, min(frame.gpus, free.gpus))
    return _State(*frame, idle, free["cpu"], free["memory"])


def _room(state: _State, row: Row) -> NodeRoom:
    """Return a node in this state; the scorer wants nodes by ascending name."""
    return NodeRoom(
        name=f"{row:09d}",
        cpu_milli=state.cpu_milli,
        memory_mib=state.memory_mib,
        devices=(WHOLE_MILLI,) * state.idle + (0,) * (state.gpus - state.idle),
        model=state.model,
    )
