"""The cluster as a plan leaves it: on which node each pod is then, and which nodes are alike.

The explainer and the validator ask, each about the actions that it is given. Fleets are counted
here as columns of numbers, as in `Snapshot`: there are too many pods to be looked at one by one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress, pairwise, repeat, starmap
from operator import attrgetter
from typing import Final, Generic, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from bayplan.cluster.columns import Column
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Guests, Snapshot
from bayplan.plan import Bind, Evict, Move, Plan

#: Whole numbers, such as where pods are in `Snapshot.pods`.
Numbers = NDArray[np.int64]

#: How the number of a kind is written down.
_KIND: Final = np.dtype(np.int32)

#: Stands for a pod or a node that is not there, and for no node.
NOWHERE: Final = -1

_Action = TypeVar("_Action", Bind, Move, Evict)


class Sent(NamedTuple, Generic[_Action]):
    """Actions of one sort, in the order given.

    Attributes:
        actions: The actions.
        pods: Where their pods are in the snapshot; -1 for those that are not there.
        rows: Where the nodes are that the pods get; -1 for none, and for those not there.
    """

    actions: Sequence[_Action]
    pods: Numbers
    rows: Numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Aftermath:
    """Where everybody is after a plan.

    Attributes:
        snapshot: The cluster before.
        bound, moved, evicted: What the plan does.
        before: [pod] index of its node; -1 for none, and for one that is not there.
        rows: The same after the plan.
    """

    snapshot: Snapshot
    bound: Sent[Bind] = field(repr=False)
    moved: Sent[Move] = field(repr=False)
    evicted: Sent[Evict] = field(repr=False)
    before: Numbers = field(repr=False)
    rows: Numbers = field(repr=False)

    @classmethod
    def of(
        cls, snapshot: Snapshot, *, bound: Sent[Bind], moved: Sent[Move], evicted: Sent[Evict]
    ) -> "Aftermath":
        """Return the cluster after these actions; of two about one pod the later counts."""
        before = np.asarray(snapshot.spot_of.numbers)
        before = np.where(before < len(snapshot.nodes), before, NOWHERE)
        rows = before.copy()
        for _, pods, to in (moved, bound, evicted):
            rows[pods[pods >= 0]] = to[pods >= 0]
        return cls(
            snapshot=snapshot, bound=bound, moved=moved, evicted=evicted, before=before, rows=rows
        )

    @classmethod
    def of_plan(cls, snapshot: Snapshot, plan: Plan) -> "Aftermath":
        """Return the same, with pods and nodes looked up by the names that the plan has."""
        return cls.of(
            snapshot,
            bound=_sent(snapshot, plan.binds, attrgetter("node")),
            moved=_sent(snapshot, plan.moves, attrgetter("target")),
            evicted=_sent(snapshot, plan.evictions, lambda _: None),
        )

    @cached_property
    def goes(self) -> Mapping[PodKey, NodeName | None]:
        """Where the plan sends pods, by name; None for those that lose their node."""
        goes: dict[PodKey, NodeName | None] = {a.pod: a.target for a in self.moved.actions}
        goes |= {bind.pod: bind.node for bind in self.bound.actions}
        goes |= {evict.pod: None for evict in self.evicted.actions}
        return goes

    @cached_property
    def kind_of(self) -> Numbers:
        """[pod] index of its kind."""
        return np.asarray(self.snapshot.kind_of.numbers)

    @cached_property
    def state_of(self) -> Column[tuple[int, ...]]:
        """The indices of the kinds of the pods on each node, once for each pod, in order."""
        kinds, nodes = len(self.snapshot.kinds), len(self.snapshot.nodes)
        here = self.rows >= 0
        codes = self.rows[here] * kinds + self.kind_of[here]
        codes.sort()
        ends = np.searchsorted(codes, np.arange(nodes + 1) * kinds) * _KIND.itemsize
        # Strings of bytes are cut out and compared in no time.
        told = (codes % max(1, kinds)).astype(_KIND).tobytes()
        alike = Column.of(map(told.__getitem__, starmap(slice, pairwise(ends.tolist()))))
        states = (np.frombuffer(state, dtype=_KIND).tolist() for state in alike.values)
        return Column(tuple(map(tuple, states)), alike.numbers)

    @cached_property
    def guests(self) -> tuple[Guests, ...]:
        """The kinds of the pods on the nodes of each state."""
        kinds = self.snapshot.kinds
        return tuple(tuple(kinds[k] for k in state) for state in self.state_of.values)

    def state_at(self, name: NodeName) -> tuple[int, ...]:
        """Return the state of a node that is there."""
        return self.state_of.values[self.state_of.numbers[self.snapshot.rows[name]]]

    def alike(self, looks: Column[Node]) -> Iterator[tuple[int, int, Sequence[Node]]]:
        """Yield look, state and nodes of all that are in one state and look the same.

        They come by look and then by their first nodes, as they do in the snapshot.
        """
        look, state = np.asarray(looks.numbers), np.asarray(self.state_of.numbers)
        order = np.lexsort((state, look))
        starts = np.flatnonzero(
            np.diff(look[order], prepend=-1) | np.diff(state[order], prepend=-1)
        )
        nodes = list(map(self.snapshot.nodes.__getitem__, order.tolist()))
        first = order[starts]
        turn = np.lexsort((first, look[first]))
        ends = np.append(starts, len(order))[1:]
        found = np.stack([look[first], state[first], starts, ends])
        for looks_as, state_is, start, end in found[:, turn].T.tolist():
            yield looks_as, state_is, nodes[start:end]

    def here(self, name: NodeName) -> list[Pod]:
        """Return the pods that are on a node before the plan, by name."""
        row = self.snapshot.rows.get(name)
        if row is None:
            return []
        pods, ends = self._by_row
        return [self.snapshot.pods[i] for i in sorted(pods[ends[row] : ends[row + 1]].tolist())]

    @cached_property
    def _by_row(self) -> tuple[Numbers, Numbers]:
        """Who is where: pods by node, and where those of each node begin."""
        pods = np.argsort(self.before)
        return pods, np.searchsorted(self.before[pods], np.arange(len(self.snapshot.nodes) + 1))

    def held(self) -> tuple[Pod, ...]:
        """Return the pods that go on waiting, but for those that are being deleted."""
        waits = np.frombuffer(self.snapshot.waits, dtype=np.bool_).copy()
        for _, pods, _ in (self.bound, self.moved, self.evicted):
            waits[pods[pods >= 0]] = False
        found = compress(self.snapshot.pods, waits.tolist())
        return tuple(pod for pod in found if not pod.terminating)


def _sent(
    snapshot: Snapshot, actions: Sequence[_Action], target: Callable[[_Action], NodeName | None]
) -> Sent[_Action]:
    pods = snapshot.indices(map(attrgetter("pod"), actions))
    row_of = cast("Callable[[NodeName | None, int], int]", snapshot.rows.get)
    rows = map(row_of, map(target, actions), repeat(NOWHERE))
    return Sent(
        actions=actions,
        pods=np.array(pods, dtype=np.int64),
        rows=np.fromiter(rows, dtype=np.int64, count=len(actions)),
    )
