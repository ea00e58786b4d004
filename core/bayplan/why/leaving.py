"""Which pods would have to leave so that pods that wait have room: as few as possible.

Whoever asks says which kinds of pods may leave at all: those that a person could evict, for a
remedy; those that some budget keeps, for a reason.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from bayplan.cluster import shares
from bayplan.cluster.keys import PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.why.promise import Lack
from bayplan.why.rooms import Room, beside, changed, usable
from bayplan.why.victims import NEVER, Party, Victims, fewest, harm_of, sharing

#: For how many rooms at once it is told how little harm could be enough.
_AT_ONCE: Final = 256


class Rules:
    """What pods ask of each other, as far as places for them are concerned: here, nothing."""

    def takes(self, pod: Pod, node: Node) -> bool:  # noqa: ARG002 - for those who ask something
        """Return whether the node takes the pod once it has room, beside who is there."""
        return True

    def look(self, pod: Pod) -> object:  # noqa: ARG002 - see above
        """Return what is equal of pods that the rules of others treat alike."""
        return ()

    def bind(self, pods: Sequence[Pod]) -> bool:  # noqa: ARG002 - see above
        """Return whether places of these depend on each other or on others, beside the room."""
        return False

    def needs(self, pod: Pod, other: Pod) -> bool:  # noqa: ARG002 - see above
        """Return whether a place could be lost to the pod because the other leaves."""
        return False


class Left(NamedTuple):
    """Who left, and the rooms with those in them who waited."""

    pods: tuple[Pod, ...]
    rooms: tuple[Room, ...]


def leaving(
    pods: Sequence[Pod], rooms: tuple[Room, ...], victims: Victims, rules: Rules
) -> Left | None:
    """Return who has to leave, found pod by pod; None if not all get room in that way."""
    gone: dict[PodKey, Pod] = {}
    for pod in pods:
        found = _least_harm(pod, rooms, victims, rules, gone)
        if found is None:
            return None
        room, node, chosen = found
        if any(rules.needs(pod, victim) for party in chosen for victim in party.pods):
            return None
        gone |= {victim.key: victim for party in chosen for victim in party.pods}
        free = room.free
        for party in chosen:
            free += party.gain
        rooms = changed(rooms, room, node, beside(free, pod.requests))
    return Left(tuple(gone[key] for key in sorted(gone)), rooms)


def _least_harm(
    pod: Pod, rooms: Sequence[Room], victims: Victims, rules: Rules, gone: Mapping[PodKey, Pod]
) -> tuple[Room, Node, list[Party]] | None:
    """Return the node on which the fewest have to go for the pod, and who they are."""
    best: tuple[tuple[object, ...], tuple[Room, Node, list[Party]]] | None = None
    most = NEVER - 1
    open_to = usable(pod, rooms)
    parts = (open_to[at : at + _AT_ONCE] for at in range(0, len(open_to), _AT_ONCE))
    for least, room, lack in chain.from_iterable(_by_promise(pod, some, victims) for some in parts):
        if best is not None and best[0][:2] <= (1, victims.promise.lowest):
            break  # Nothing is less harm.
        seen: set[int] = set()
        for node in room.nodes:
            if best is not None and best[0] <= (*least, node.name):
                break  # They come by name.
            if not rules.takes(pod, node):
                continue
            leavers = victims.leavers(node.name, pod, gone)
            if leavers.likeness in seen:
                continue
            seen.add(leavers.likeness)
            chosen = _enough(leavers.parties, pod, room, lack, most)
            if chosen is None:
                continue
            rank = (*harm_of(chosen), node.name)
            if best is None or rank < best[0]:
                best, most = (rank, (room, node, chosen)), harm_of(chosen)[0]
    return best[1] if best else None


def _enough(
    parties: Sequence[Party], pod: Pod, room: Room, lack: Lack, most: int
) -> list[Party] | None:
    """Return the parties that have to go, of at most so many pods; None if that is no help."""
    if lack.in_parts:
        return sharing(parties, pod.requests, room.free, most)
    return fewest(parties, lack.short, most)


def _by_promise(
    pod: Pod, rooms: Sequence[Room], victims: Victims
) -> list[tuple[tuple[int, int], Room, Lack]]:
    """Return the rooms, those first where the least harm could be enough.

    With it comes how little that is, and what is lacking.
    """
    known: dict[int, Lack] = {}
    for room in rooms:
        # Many rooms have the same to give.
        if id(room.free) not in known:
            short = pod.requests.shortfall(room.free)
            in_parts = shares.concerned(short.items, room.free.items)
            known[id(room.free)] = Lack(short, in_parts)
    lacks = [known[id(room.free)] for room in rooms]
    least = victims.promise.least([room.node.name for room in rooms], lacks)
    told = zip(least, rooms, lacks, strict=True)
    return sorted(told, key=lambda each: (each[0], each[1].node.name))
