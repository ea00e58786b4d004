"""What the scheduler is told about one pod: which node takes it, and whom it may make go.

The webhook asks here with what it holds in memory. A pod with a planned home, or with a pin, is
answered with that one node; any other pod with the first node of a ranking that has room outside
what the plan reserves. One node is the answer in any case: the scheduler then scores nothing, and
what we assume is where the pod will be. Nothing is solved: an answer costs what the ranking does,
and a look at few nodes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final, Protocol

from bayplan import gates
from bayplan.cache import Cache
from bayplan.cluster import shares, units
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.plan import Bind, Choice, Move, Plan, Reason, Rejection
from bayplan.rules import filters

#: What keeps a pod that is shown to node autoscalers off every node that would take it alone.
_NO_HOME: Final = Rejection(
    reason=Reason.PLANNED_ELSEWHERE,
    message="it waits until a plan has room for all that is placed with it",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Where a pod goes, or why it must wait.

    Attributes:
        node: The node that takes the pod; None when it must wait.
        refused: Why not, for each node asked about; empty when there is a node.
        choice: How the node was chosen, for a pod that might have gone elsewhere.
    """

    node: NodeName | None
    refused: tuple[tuple[NodeName, Rejection], ...] = ()
    choice: Choice | None = None


class Ranking(Protocol):
    """Says which node had better take a pod that has no plan."""

    def ranked(self, pod: Pod, asked: Sequence[NodeName]) -> Iterable[NodeName]:
        """Return the nodes, the best first; those that have no room may be among them."""

    def losses(self, pod: Pod, names: Sequence[NodeName]) -> Sequence[float]:
        """Return what decides: the loss that the pod would cause on each of the nodes."""


class Reservations:
    """Homes that the plan being carried out has promised and that are not taken yet."""

    def __init__(self, plan: Plan | None = None) -> None:
        self._homes = {bind.uid: bind.node for bind in plan.binds} if plan else {}
        self._binds: dict[NodeName, list[Bind]] = defaultdict(list)
        self._moves: dict[NodeName, list[Move]] = defaultdict(list)
        self._victims: dict[NodeName, set[str]] = defaultdict(set)
        self._sources: dict[str, NodeName] = {}
        self._asks: dict[str, Resources] = {}
        for bind in plan.binds if plan else ():
            self._binds[bind.node].append(bind)
        for move in plan.moves if plan else ():
            self._moves[move.target].append(move)
            self._victims[move.source].add(move.uid)
            self._sources[move.uid] = move.source
        for evict in plan.evictions if plan else ():
            self._victims[evict.node].add(evict.uid)
            self._sources[evict.uid] = evict.node

    def home(self, uid: str) -> NodeName | None:
        """Return the node that the plan gives to the pod with this uid, or None."""
        return self._homes.get(uid)

    def source(self, uid: str) -> NodeName | None:
        """Return the node on which the plan saw the pod with this uid, which it makes leave."""
        return self._sources.get(uid)

    def victims(self, node: NodeName) -> AbstractSet[str]:
        """Return the uids of the pods that the plan makes leave the node."""
        return self._victims.get(node, frozenset())

    def nodes(self) -> AbstractSet[NodeName]:
        """Return the nodes on which something was promised; it may have been kept already."""
        return self._binds.keys() | self._moves.keys()

    def promises(self, node: NodeName) -> bool:
        """Return whether anything was promised on the node; it may have been kept already."""
        return node in self._binds or node in self._moves

    def on(self, node: NodeName, cache: Cache, *, besides: Pod | None = None) -> Resources:
        """Return the room on `node` promised to other pods than `besides`.

        A bind's room is held until the cache shows its pod on a node, or assumes it there; a
        move's until a pod has taken the victim's place. What a victim asked for is remembered
        once it was seen.
        """
        held = Resources()
        for bind in self._binds.get(node, ()):
            pod = cache.pod(bind.pod)
            waits = pod is not None and pod.uid == bind.uid and pod.node is None
            mine = besides is not None and bind.uid == besides.uid
            if pod and waits and not mine and node not in cache.assumed_nodes(bind.uid):
                held = held + pod.requests.on_device(bind.device)
        for move in self._moves.get(node, ()):
            victim = cache.pod(move.pod)
            if victim and victim.uid == move.uid:
                self._asks[move.uid] = victim.requests.on_device(move.device)
            mine = besides is not None and (move.uid == besides.uid or move.is_replaced_by(besides))
            if not mine and not cache.is_replaced(move.uid, move.owner):
                held = held + self._asks.get(move.uid, Resources())
        return held


def answer(
    pod: Pod,
    asked: Sequence[NodeName],
    cache: Cache,
    reservations: Reservations,
    ranking: Ranking,
) -> Answer:
    """Return which of the `asked` nodes takes the pod now."""
    home = pod.node or cache.seen_node(pod) or reservations.source(pod.uid)
    if home is None and pod.offered:
        return Answer(node=None, refused=tuple((name, _NO_HOME) for name in asked))
    home = home or reservations.home(pod.uid)
    if home is not None:
        return _at_home(pod, home, asked, cache, reservations)
    for again in cache.assumed_nodes(pod.uid):  # its reply was lost: the same answer holds
        if again in asked and pod.requests.fits(_room_beside(pod, again, cache, reservations)):
            return Answer(node=again)
    rooms = ((n, _room_beside(pod, n, cache, reservations)) for n in ranking.ranked(pod, asked))
    able = ((name, room) for name, room in rooms if pod.requests.fits(room))
    best = next(able, None)
    if best is not None:
        choice = _choice(best, next(able, None), asked)
        if choice.runner_up is not None:
            loss, other = ranking.losses(pod, (choice.node, choice.runner_up))
            choice = replace(choice, loss=loss, runner_up_loss=other)
        return Answer(node=best[0], choice=choice)
    return Answer(node=None, refused=tuple((name, _refusal(pod, name, cache)) for name in asked))


def agreed(
    uid: str,
    proposed: Mapping[NodeName, Sequence[str]],
    reservations: Reservations,
    pods: Iterable[Pod],
) -> Mapping[NodeName, Sequence[str]]:
    """Return what of a proposed preemption the plan wants as well: one node, or none.

    Args:
        uid: The pod that room is made for.
        proposed: The uids of the victims by node, as the scheduler chose them.
        reservations: What the plan promises.
        pods: All that is known of.

    A victim that the plan lets stay would be killed for nothing, and a pod without a plan makes
    nobody go: whom to disturb is the planner's to decide. Victims of the plan are agreed to once
    they leave: the scheduler deletes them at once, without drain or budget, where the operator
    takes them out of service first and evicts them.
    """
    home = reservations.home(uid)
    if home is None or home not in proposed:
        return {}
    victims = proposed[home]
    wanted = set(victims)
    if not wanted or not reservations.victims(home) >= wanted:
        return {}
    leaving = {pod.uid for pod in pods if pod.uid in wanted and pod.terminating}
    return {home: victims} if leaving == wanted else {}


def _at_home(
    pod: Pod,
    home: NodeName,
    asked: Sequence[NodeName],
    cache: Cache,
    reservations: Reservations,
) -> Answer:
    """Return the answer for a pod that can go nowhere but `home`.

    A pin counts for more than the newest plan: it may be of the plan before, and cannot change.
    An annotation does not: anybody may write one.
    A pod that was seen on a node is there, whatever the caller has yet to learn; so is one that
    the plan makes leave it, whatever we have yet to learn.
    """
    if home not in asked:
        message = f"the plan has a place for it on {home}, which the scheduler does not offer"
        elsewhere = Rejection(reason=Reason.PLANNED_ELSEWHERE, message=message)
        return Answer(node=None, refused=tuple((name, elsewhere) for name in asked))
    if pod.node == home and not pod.offered:
        return _at_pin(pod, home, asked, cache)
    node = cache.node(home)
    room = _room(pod, home, cache)
    if pod.offered:
        room = _room_beside(pod, home, cache, reservations)
    refusal = filters.reject(pod, node, room) if node else _unknown(home)
    if refusal is not None and node:
        refusal = filters.reject(pod, node, room + _hopeless(pod, node, cache))
    if refusal is None:
        return Answer(node=home)
    return Answer(node=None, refused=tuple((name, refusal) for name in asked))


def _at_pin(pod: Pod, pin: NodeName, asked: Sequence[NodeName], cache: Cache) -> Answer:
    """Return the answer for a pod whose pin the scheduler offers.

    It has just found that the node takes the pod, and may know more than we do: whom we still see
    there may be gone. If we refuse it then, nobody asks again in a quiet cluster. So only what it
    knows nothing of is looked at: hardware that was told to be broken, and shares of GPUs.
    """
    node, room = cache.node(pin), _room(pod, pin, cache)
    refusal = filters.broken(pod.constraints, node) if node else None
    if node and refusal is None and shares.concerned(pod.requests.items, room.items):
        gpus = Resources.of({name: n for name, n in pod.requests.items if _is_gpu(name)})
        refusal = filters.room_rejection(gpus, room)
        if refusal is not None:
            refusal = filters.room_rejection(gpus, room + _hopeless(pod, node, cache))
    if refusal is None:
        return Answer(node=pin)
    return Answer(node=None, refused=tuple((name, refusal) for name in asked))


def _is_gpu(resource: str) -> bool:
    return filters.is_about_gpus(resource) or units.is_part(resource)


def _choice(
    best: tuple[NodeName, Resources],
    other: tuple[NodeName, Resources] | None,
    asked: Sequence[NodeName],
) -> Choice:
    runner_up, room = other or (None, Resources())
    return Choice(
        node=best[0], room=best[1], runner_up=runner_up, runner_up_room=room, asked=len(asked)
    )


def _room_beside(pod: Pod, name: NodeName, cache: Cache, reservations: Reservations) -> Resources:
    """Return the node's room for the pod beside what is promised to others.

    The scheduler's own filters have seen the node, so only the room is looked at.
    """
    room = _room(pod, name, cache)
    if not reservations.promises(name):
        return room
    return room - reservations.on(name, cache, besides=pod)


def _refusal(pod: Pod, name: NodeName, cache: Cache) -> Rejection:
    """Return why a node that is not the answer is none."""
    node = cache.node(name)
    if node is None:
        return _unknown(name)
    return filters.reject(pod, node, _room(pod, name, cache)) or Rejection(
        reason=Reason.RESERVED, message="the room left on the node is reserved by the plan"
    )


def _unknown(name: NodeName) -> Rejection:
    return Rejection(reason=Reason.NO_NODES, message=f"{name} is not known yet")


def _hopeless(pod: Pod, node: Node, cache: Cache) -> Resources:
    """Return what counts as taken by other pods that are pinned to the node but never fit there.

    This looks at every pod there is, so it is for those that would be refused otherwise.
    """
    pinned = [
        other
        for other in cache.pods().values()
        if other.node == node.name and not other.bound and other.uid != pod.uid
    ]
    never = gates.hopeless(node, _room(pod, node.name, cache), pinned)
    return sum((other.requests for other, _ in never), Resources())


def _room(pod: Pod, name: NodeName, cache: Cache) -> Resources:
    """Return the node's free room, what this very pod already holds there included."""
    return cache.free(name) + cache.held_by(pod, name)
