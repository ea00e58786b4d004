"""The cluster as a plan leaves it: on which node each pod is then, and which nodes are alike.

The explainer and the validator ask, each about the actions that it is given. Fleets are counted
here as columns of numbers, as in `Snapshot`: there are too many pods to be looked at one by one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress, pairwise, repeat
from operator import attrgetter
from typing import Final, Generic, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from bayplan.keys import NodeName, PodKey
from bayplan.plan import Bind, Evict, Move, Plan
from bayplan.snapshot import Column, Guests, Pod, Snapshot

#: Whole numbers, such as where pods are in `Snapshot.pods`.
Numbers = NDArray[np.int64]

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
        """The indices of the kinds of the pods on each node, once for each pod."""
        kinds = len(self.snapshot.kinds)
        here = self.rows >= 0
        codes = self.rows[here] * kinds + self.kind_of[here]
        codes.sort()
        guests = (codes % max(1, kinds)).tolist()
        starts = np.searchsorted(codes, np.arange(len(self.snapshot.nodes) + 1) * kinds)
        return Column.of([tuple(guests[a:b]) for a, b in pairwise(starts.tolist())])

    @cached_property
    def guests(self) -> Column[Guests]:
        """The kinds of the pods on each node; nodes with equal guests share a number."""
        kinds = self.snapshot.kinds
        states = tuple(tuple(kinds[k] for k in state) for state in self.state_of.values)
        return Column(states, self.state_of.numbers)

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
