"""Moves whose replacement starts first: which those are, whose turn it is, and how far they are.

    its owner allows it, and its room is free      ──▶ the replacement is made, and starts
    its room is to come, but not from itself       ──▶ it waits for that
    its owner does not allow it, or moves wait for each other in a circle  ──▶ it leaves first

From then on the pods themselves say what is going on (`bayplan.inference.replacements`): here it is
only told. While a replacement starts, nobody else is made to leave: if it fails, so does the plan,
and they would leave for nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bayplan.cluster.budgets import Health
from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.inference.replacements import Failing, Outlook
from bayplan.plan import Evict, Move
from bayplan.steps.awaited import left_by
from bayplan.steps.ledger import Ledger
from bayplan.steps.progress import (
    Standing,
    StartPod,
    State,
    at_most,
    has_failed,
    still_finishing,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SurgeContext:
    """What is known of replacements that might start first.

    Attributes:
        outlooks: Which pods may be doubled, by the uid of their owner; who is not in it, none.
        failed: Why the replacements of pods were given up for this plan, by the uids of the pods.
        refused: uids of pods of which the API server refuses a replacement.
    """

    outlooks: Mapping[str, Outlook] = field(default_factory=dict)
    failed: Mapping[str, Failing] = field(default_factory=dict)
    refused: Collection[str] = ()

    def outlook(self, move: Move) -> Outlook:
        """Return what the owner of a moved pod allows."""
        return self.outlooks.get(move.owner.uid, _NONE) if move.owner else _NONE

    def allows(self, move: Move) -> bool:
        """Return whether the replacement of a moved pod may start first, now or later."""
        return move.uid in self.outlook(move).able and move.uid not in self.refused


_NONE: Final = Outlook()

#: Nobody's replacement may start first.
NO_SURGE: Final = SurgeContext()


class Surges:
    """Says how far the moves are whose replacement starts first, and which starts next: `todo`.

    Attributes:
        told: How far each of them is, by the uid of the pod that is moved.
        hindered: The uids of those who wait for a pod that hangs.
        busy: Whether a replacement is starting, or will when its turn has come.
    """

    def __init__(
        self, ledger: Ledger, surge: SurgeContext, victims: Sequence[Move | Evict]
    ) -> None:
        self.todo: list[StartPod] = []
        self.told: dict[str, Standing] = {}
        self.hindered: set[str] = set()
        self.busy = False
        self._ledger = ledger
        self._surge = surge
        self._taken = ledger.taken()
        self._victims = victims
        self._left = {uid: outlook.left for uid, outlook in surge.outlooks.items()}

    def begin(self, on_their_way: int, max_parallel: int, *, stop: bool) -> int:
        """Decide; return how many pods are on their way then, with the others that were before."""
        moves = [victim for victim in self._victims if isinstance(victim, Move)]
        for move in moves:
            pod = self._ledger.remaining(move)
            if pod is not None and not pod.terminating and pod.gives_way_by:
                self.told[move.uid] = self._doubled(move, pod)
                on_their_way += not self._ledger.drain_of(move).begun
            elif pod is not None and not pod.terminating and move.uid in self._surge.failed:
                self.told[move.uid] = State.FAILED, _failure(move, self._surge.failed[move.uid])
        self.busy = any(state is State.STARTING for state, _ in self.told.values())
        if not (stop or has_failed(self.told.values())):
            able = [move for move in moves if move.uid not in self.told and self._may_start(move)]
            hopeful = self._in_turn(able)
            for move in (move for move in able if move.uid in hopeful):
                self.told[move.uid] = self._next(move, full=on_their_way >= max_parallel)
                on_their_way += self.told[move.uid][0] is State.STARTING
        return on_their_way

    def _doubled(self, move: Move, pod: Pod) -> Standing:
        """Return how far a move is whose replacement is there."""
        new, drain = self._taken.get(move.uid), self._ledger.drain_of(move)
        if new is None or not (new.bound and new.health is Health.READY):
            what = f"{new.key.name} on {new.node}" if new is not None else "its replacement"
            end = at_most(pod.gives_way_by, max(0.0, pod.gives_way_by - self._ledger.now))
            return State.STARTING, f"serves on {pod.node} until {what} serves in its place, {end}"
        if drain.begun and not drain.over:
            return still_finishing([drain])
        told = f"{pod.node}, for {new.key.name} serves on {new.node} in its place"
        if self._ledger.stalled:
            return State.FAILED, f"does not leave {told}: look at its PodDisruptionBudget"
        return State.STARTED, f"is to leave {told}"

    def _may_start(self, move: Move) -> bool:
        """Return whether the replacement may start before the pod goes, if there is room.

        It could not where it is kept apart from its like, or uses a volume that the other one has.
        """
        pod = self._ledger.remaining(move)
        if pod is None or pod.terminating or self._ledger.drain_of(move).begun:
            return False
        if pod.constraints.peers is not None or pod.claims:
            return False
        there = move.target in self._ledger.free
        return there and pod.disruption is Disruption.MOVABLE and self._surge.allows(move)

    def _in_turn(self, able: Sequence[Move]) -> Collection[str]:
        """Return which of them find room without leaving first, all others that leave gone.

        Of those that wait for each other the first one leaves first.
        """
        uids = {move.uid for move in able}
        returned = self._ledger.terminated
        room = {name: free + returned[name] for name, free in self._ledger.free.items()}
        for victim in self._victims:
            if victim.uid not in uids:
                self._give_back(room, victim)
        waiting, hopeful = list(able), set[str]()
        while waiting:
            fits = (move for move in waiting if self._asks(move).fits(room[move.target]))
            first = next(fits, None)
            if first is not None:
                hopeful.add(first.uid)
                room[first.target] = room[first.target] - self._asks(first)
            leaves = first or waiting[0]
            waiting.remove(leaves)
            self._give_back(room, leaves)
        return hopeful

    def _give_back(self, room: dict[NodeName, Resources], victim: Move | Evict) -> None:
        """Add what a victim will leave that is not known to be leaving."""
        pod = self._ledger.remaining(victim)
        if pod is not None and pod.node in room and not (pod.terminating or pod.gives_way_by):
            room[pod.node] = room[pod.node] + pod.requests

    def _asks(self, move: Move) -> Resources:
        return self._ledger.pods[move.pod].requests.on_device(move.device)

    def _next(self, move: Move, *, full: bool) -> Standing:
        """Return how far a move is whose replacement can start first, now or later."""
        asks, owner = self._asks(move), move.owner
        if owner is None or not asks.fits(self._ledger.free[move.target]):
            by, hangs = left_by(self._ledger, move.target)
            if hangs:
                self.hindered.add(move.uid)
            return (
                State.WAITING,
                f"waits until its replacement has room to start on {move.target}{by}",
            )
        self.busy = True
        outlook = self._surge.outlook(move)
        if full or not self._left[owner.uid]:
            n = outlook.doubled
            many = f"{n} pod of {owner} is" if n == 1 else f"{n} pods of {owner} are"
            surge = f"{many} doubled already, and spec.rollout.maxSurge allows no more"
            why = "others are on their way" if full else surge
            return State.WAITING, f"waits for its turn: {why}"
        self._left[owner.uid] -= 1
        self._ledger.take(move.target, asks)
        self.todo.append(
            StartPod(
                pod=move.pod,
                uid=move.uid,
                node=move.target,
                device=move.device if asks.share_milli else None,
            )
        )
        starts = f"has its replacement start on {move.target}, then leaves {move.source}"
        return State.STARTING, starts


def _failure(move: Move, why: Failing) -> str:
    slow = "; if it only starts slowly, raise disruption.coldStartSeconds of its deployment"
    return (
        f"serves on {move.source}: its replacement on {move.target} {why.words} and was removed;"
        f" look at the events of that pod, and at its log where logs are kept"
        f"{slow if why is Failing.LATE else ''}"
    )
