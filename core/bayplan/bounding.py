"""How much of a plan is published, and which actions are in one object.

etcd takes 1.5 MB at most, so a large plan is divided over several objects (`bayplan.codec.parts`).
What all of them list is bounded as well. What is left out is the least urgent: reasons first, then
binds of the lowest priority, whole gangs at a time. Pods whose bind is left out go on waiting and
are in one of the next plans. Nobody is made to go for a bind that is left out: binds on nodes that
lose a pod come first.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import chain

from bayplan.cluster.keys import NodeName, PodKey
from bayplan.plan import Action, Bind, Plan, by_pod, plan_of, together


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one object takes.

    Attributes:
        actions: Most actions.
        size: Most bytes; an action that is larger by itself is alone in its object.
        size_of: The bytes of an action.
    """

    actions: int
    size: int
    size_of: Callable[[Action], int]


def divided(plan: Plan, limits: Limits) -> tuple[Plan, ...]:
    """Return the plan in parts that `limits` allow; one at least.

    Each part can be carried out on what those before it leave: who is evicted comes first, then
    who moves, then who is bound, the highest priority first, then who is held. A gang is in one
    part, and so are all moves, for they may change places; unless they exceed any part.
    """
    packer = _Packer(limits=limits)
    for group in _units(plan):
        packer.put(group)
    return tuple(plan_of(plan.certificate, by_pod(actions)) for actions in packer.parts)


def _units(plan: Plan) -> Iterator[Sequence[Action]]:
    """Yield what had better not be divided, in the order of `divided`."""
    yield from together(plan.evictions)
    yield plan.moves
    yield from _groups(plan.binds)
    yield from ((hold,) for hold in plan.holds)


@dataclass(slots=True, kw_only=True)
class _Packer:
    """Puts groups into parts, one after the other, the last one being open."""

    limits: Limits
    parts: list[list[Action]] = field(default_factory=lambda: [[]])
    _size: int = 0

    def put(self, group: Sequence[Action]) -> None:
        """Add a group to the open part, or to a new one where that keeps it whole."""
        sizes = [self.limits.size_of(action) for action in group]
        if not self._fit(sizes, self.parts[-1], self._size) and self._fit(sizes, (), 0):
            self._open()
        for action, size in zip(group, sizes, strict=True):
            if self.parts[-1] and not self._fit([size], self.parts[-1], self._size):
                self._open()
            self.parts[-1].append(action)
            self._size += size

    def _fit(self, sizes: Sequence[int], beside: Sequence[Action], used: int) -> bool:
        enough = len(beside) + len(sizes) <= self.limits.actions
        return enough and used + sum(sizes) <= self.limits.size

    def _open(self) -> None:
        self.parts.append([])
        self._size = 0


def bounded(plan: Plan, most: int) -> Plan:
    """Return the plan with at most `most` actions; victims are left out all together or not at all.

    The planner's budgets keep the number of victims far below `most`. They are left out where what
    comes in their place does not fit in; what is bound then goes where nobody had to leave.
    """
    groups = _groups(plan.binds)
    first = _first_arrivals(plan, groups)
    victims = len(plan.moves) + len(plan.evictions)
    if victims + sum(map(len, first)) > most:
        left = {move.source for move in plan.moves} | {evict.node for evict in plan.evictions}
        groups = [group for group in groups if left.isdisjoint(bind.node for bind in group)]
        plan, first, victims = replace(plan, moves=(), evictions=()), [], 0
    kept = _kept(chain(first, groups), most - victims)
    binds = tuple(bind for bind in plan.binds if bind.pod in kept)
    holds = plan.holds[: max(0, most - victims - len(binds))]
    return replace(plan, binds=binds, holds=holds)


def most_urgent(binds: Iterable[Bind], most: int) -> AbstractSet[PodKey]:
    """Return the pods of the highest priority, in whole gangs, that are at most so many."""
    return _kept(_groups(binds), most)


def _first_arrivals(plan: Plan, groups: Iterable[list[Bind]]) -> list[list[Bind]]:
    """Return the first groups that bind to each node that loses a pod and gets no moved one."""
    lonely: set[NodeName] = {move.source for move in plan.moves}
    lonely |= {evict.node for evict in plan.evictions}
    lonely -= {move.target for move in plan.moves}
    first = []
    for group in groups:
        nodes = {bind.node for bind in group}
        if not lonely.isdisjoint(nodes):
            first.append(group)
            lonely -= nodes
    return first


def _kept(groups: Iterable[list[Bind]], most: int) -> AbstractSet[PodKey]:
    """Return the pods of the first groups, which may come twice, that fit."""
    kept: set[PodKey] = set()
    for group in groups:
        pods = {bind.pod for bind in group}
        if len(kept) + len(pods - kept) <= most:
            kept |= pods
    return kept


def _groups(binds: Iterable[Bind]) -> list[list[Bind]]:
    """Return gangs and single pods, the highest priority first."""
    return sorted(together(binds), key=lambda group: -max(bind.priority for bind in group))
