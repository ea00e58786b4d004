"""Which pods would have to leave so that pods that wait have room: as few as possible.

Whoever asks says which kinds of pods may leave at all: those that a person could evict, for a
remedy; those that some budget keeps, for a reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bayplan.cluster import shares
from bayplan.cluster.keys import PodKey
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Node, Pod
from bayplan.why.rooms import Room, beside, changed, usable
from bayplan.why.victims import NEVER, Leavers, Party, Victims, fewest, harm_of, sharing


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
    shorts: dict[int, Resources] = {}
    for room in usable(pod, rooms):
        # Many rooms have the same to give.
        if id(room.free) not in shorts:
            shorts[id(room.free)] = pod.requests.shortfall(room.free)
        short = shorts[id(room.free)]
        in_parts = shares.concerned(short.items, room.free.items)
        for node, leavers in _different(pod, room, victims, rules, gone):
            # Whoever goes, it is no less harm than the first of the parties.
            least = leavers.parties[0].harm if short.items and leavers.parties else (0, 0)
            if best is not None and best[0] <= (*least, node.name):
                continue
            if in_parts:
                chosen = sharing(leavers.parties, pod.requests, room.free, most)
            else:
                chosen = fewest(leavers.parties, short, most)
            if chosen is None:
                continue
            rank = (*harm_of(chosen), node.name)
            if best is None or rank < best[0]:
                best, most = (rank, (room, node, chosen)), harm_of(chosen)[0]
        if best is not None and harm_of(best[1][2]) <= (1, victims.lowest):
            break
    return best[1] if best else None


def _different(
    pod: Pod, room: Room, victims: Victims, rules: Rules, gone: Mapping[PodKey, Pod]
) -> Iterator[tuple[Node, Leavers]]:
    """Yield the nodes of a room that differ in who could leave, and who that is."""
    seen: set[int] = set()
    for node in room.nodes:
        if not rules.takes(pod, node):
            continue
        leavers = victims.leavers(node.name, pod, gone)
        if leavers.likeness not in seen:
            seen.add(leavers.likeness)
            yield node, leavers
