"""Placing: pods that wait, and replacements of moved ones, get their homes once those are free."""

from collections.abc import Mapping, Sequence
from typing import Final

from bayplan.cluster import units
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.plan import Bind, Move, Rejection, together
from bayplan.rules import filters
from bayplan.steps.awaited import left_by
from bayplan.steps.ledger import Ledger, home_of, pop_replacement
from bayplan.steps.progress import (
    ReleasePod,
    Report,
    Standing,
    State,
    has_failed,
    report_of,
)

#: Seconds without progress in which a moved pod's owner should have made its replacement; after
#: that the plan ends without it, and a replacement that still comes is planned anew.
REPLACEMENT_GRACE_S: Final = 30


class Homes:
    """Says how far each home is, and releases who can go there; `todo` are those releases."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._hindered: set[str] = set()  # uids of those who wait for a pod that hangs
        self.todo: list[ReleasePod] = []

    def reports(self) -> list[Report]:
        """Return how far each home is, those of binds first."""
        return [*self._binds(), *self._replacements()]

    def _binds(self) -> list[Report]:
        """Return how far each bind is; whole gangs with room for all are put on the list."""
        gangs = together(self._ledger.plan.binds)
        groups = [(group, [self._bind_state(b) for b in group]) for group in gangs]
        reports: list[Report] = []
        for group, states in groups:
            told = states if has_failed(states) else self._release(group, states)
            reports += [self._report(b, s) for b, s in zip(group, told, strict=True)]
        return reports

    def _replacements(self) -> list[Report]:
        """Return how far each move's replacement is; those with room are put on the list."""
        newcomers = self._ledger.newcomers_by_owner()
        taken = self._ledger.taken()
        return [
            self._report(move, self._move_state(move, taken.get(move.uid), newcomers))
            for move in self._ledger.plan.moves
        ]

    def _report(self, action: Bind | Move, told: Standing) -> Report:
        """Return how far a home is; it is hindered if who is to leave before hangs."""
        hindered = action.uid in self._hindered and told[0] is State.WAITING
        return report_of(action, *told, hindered=hindered)

    def _bind_state(self, bind: Bind) -> Standing:
        if bind.uid in self._ledger.finished:
            return State.DONE, f"has run to its end on {bind.node}"
        pod = self._ledger.pods.get(bind.pod)
        if pod is None or pod.uid != bind.uid or pod.terminating:
            return State.FAILED, "is gone"
        if pod.node == bind.node:
            return self._arrival_state(pod, bind.node)
        if pod.node is not None:
            return self._elsewhere_state(pod)
        if not pod.waiting:
            return State.FAILED, f"no longer waits for {bind.node}: its gate was lifted"
        return self._denial(pod, bind.node) or self._home_state(pod, bind)

    def _denial(self, pod: Pod, name: NodeName) -> Standing | None:
        """Return how far a pod is that the API server does not let go to its node, if so."""
        why = self._ledger.denied.get(pod.uid)
        return (State.REFUSED, f"cannot go to {name}, which is refused: {why}") if why else None

    def _elsewhere_state(self, pod: Pod) -> Standing:
        """Return how far a pod is that the plan before this one released while this was made.

        It has a home, so nothing has failed; the home that this plan had for it is not needed.
        """
        if pod.bound:
            return State.DONE, f"runs on {pod.node} already"
        if self._ledger.stalled:
            return State.FAILED, f"is pinned to {pod.node}, but the scheduler does not bind it"
        return State.STARTED, f"is pinned to {pod.node} already; the scheduler binds it next"

    def _arrival_state(self, pod: Pod, name: NodeName) -> Standing:
        """Return how far a pod is that is bound, or pinned and will be."""
        if pod.bound:
            return State.DONE, f"runs on {name}"
        node = self._ledger.nodes.get(name)
        if node is None:
            return State.FAILED, f"is pinned to {name}: the node is gone"
        if refusal := filters.static_rejection(pod, node):
            return State.FAILED, f"is pinned to {name}: {refusal.message}"
        short = pod.requests.shortfall(self._ledger.due[name] + pod.requests)
        if short.items:
            return State.FAILED, f"is pinned to {name}: others took its room ({_words(short)})"
        if self._ledger.stalled:
            return State.FAILED, f"is pinned to {name}, but the scheduler does not bind it"
        return State.STARTED, f"is pinned to {name}; the scheduler binds it next"

    def _home_state(self, pod: Pod, action: Bind | Move) -> Standing:
        """Return whether its home can still become the pod's, and take it off what is due."""
        name, asks = home_of(action), pod.requests.on_device(action.device)
        node = self._ledger.nodes.get(name)
        if node is None:
            return State.FAILED, f"cannot go to {name}: the node is gone"
        if refusal := filters.static_rejection(pod, node) or self._repulsion(pod, node):
            return State.FAILED, f"cannot go to {name}: {refusal.message}"
        short = asks.shortfall(self._ledger.due[name])
        if short.items:
            return State.FAILED, f"cannot go to {name}: others took its room ({_words(short)})"
        self._ledger.due[name] = self._ledger.due[name] - asks
        by, hangs = left_by(self._ledger, name)
        if self._ledger.stalled:
            return State.FAILED, f"did not get to {name} in time{by if hangs else ''}"
        if hangs:
            self._hindered.add(action.uid)
        self._ledger.owed[name] = self._ledger.owed[name] + asks
        return State.WAITING, f"waits for room on {name}{by}"

    def _repulsion(self, pod: Pod, node: Node) -> Rejection | None:
        """Return who has come since the plan was made and keeps the pod away from the node.

        Of rules between pods only anti-affinity can be told from the nodes that are in sight.
        """
        staying = self._ledger.staying
        return staying.repulsion(pod, node) if staying is not None else None

    def _release(self, group: Sequence[Bind], states: Sequence[Standing]) -> Sequence[Standing]:
        """Return the states after releasing the group's waiting pods, if all have room now."""
        waiting = [b for b, (s, _) in zip(group, states, strict=True) if s is State.WAITING]
        room = dict(self._ledger.free)
        lacking = set[PodKey]()
        for bind in waiting:
            asks = self._ledger.pods[bind.pod].requests.on_device(bind.device)
            if asks.fits(room[bind.node]):
                room[bind.node] = room[bind.node] - asks
            else:
                lacking.add(bind.pod)
        if lacking:
            told = zip(group, states, strict=True)
            first = next(f"{b.pod.name} {s[1]}" for b, s in told if b.pod in lacking)
            return [
                (s[0], f"waits for others of its gang: {b.node} has room, but {first}")
                if s[0] is State.WAITING and b.pod not in lacking
                else s
                for b, s in zip(group, states, strict=True)
            ]
        for bind in waiting:
            asks = self._ledger.pods[bind.pod].requests.on_device(bind.device)
            self._ledger.take(bind.node, asks)
        awaited = len(waiting) < len(group)
        self.todo += [
            ReleasePod(
                pod=b.pod, uid=b.uid, node=b.node, device=b.device, gang=b.gang, awaited=awaited
            )
            for b in waiting
        ]
        freed = (State.STARTED, "is released to its node")
        return [freed if s[0] is State.WAITING else s for s in states]

    def _move_state(
        self, move: Move, taken: Pod | None, newcomers: Mapping[str, list[Pod]]
    ) -> Standing:
        """Return how far a move is, seen from its target."""
        if taken is not None:
            state, message = self._arrival_state(taken, taken.node or move.target)
            return state, f"in its place {taken.key.name} {message}"
        victim = self._ledger.remaining(move)
        if victim is not None and not victim.terminating:
            return self._home_state_before(move, victim)
        pod = pop_replacement(move, newcomers)
        if pod is not None:
            return self._replacement_state(move, pod)
        if victim is not None:
            asks = victim.requests.on_device(move.device)
            self._ledger.owed[move.target] = self._ledger.owed[move.target] + asks
            return State.WAITING, f"is leaving {move.source} for {move.target}"
        if self._ledger.idle_s >= REPLACEMENT_GRACE_S:
            return State.DONE, "left, and nothing was made in its place"
        return State.WAITING, f"waits for {move.owner or 'its owner'} to make a pod in its place"

    def _home_state_before(self, move: Move, victim: Pod) -> Standing:
        """Return how far a move is while the victim runs, which asks for what comes after it."""
        if victim.gives_way_by:
            return State.WAITING, f"gives way on {move.source}"
        return self._home_state(victim, move)

    def _replacement_state(self, move: Move, pod: Pod) -> Standing:
        if denial := self._denial(pod, move.target):
            return denial
        state, message = self._home_state(pod, move)
        asks = pod.requests.on_device(move.device)
        if state is State.WAITING and asks.fits(self._ledger.free[move.target]):
            self._ledger.take(move.target, asks)
            self.todo.append(
                ReleasePod(
                    pod=pod.key,
                    uid=pod.uid,
                    node=move.target,
                    replaces=move.uid,
                    device=move.device if asks.share_milli else None,
                )
            )
            return State.STARTED, f"{pod.key.name} is released to {move.target} in its place"
        return state, f"in its place {pod.key.name} {message}"


def _words(short: Resources) -> str:
    return ", ".join(f"{units.words(name, n)} short" for name, n in short.items)
