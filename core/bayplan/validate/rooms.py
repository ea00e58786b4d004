"""Checks of nodes: that they accept who comes, and have room and GPUs for all."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from bayplan import filters, units
from bayplan.keys import NodeName
from bayplan.plan import Bind, Move
from bayplan.resources import Resources
from bayplan.snapshot import Pod, PodKind
from bayplan.validate.evidence import Evidence
from bayplan.validate.findings import Code, Violation, wrong


def accepted(about: Evidence) -> Iterator[Violation]:
    """Check that every node accepts what arrives there, room aside."""
    looks = filters.Looks.of({kind.constraints for kind in about.coming})
    accepted: dict[tuple[object, ...], set[PodKind]] = defaultdict(set)
    for name, pods in about.comers.items():
        node = about.nodes.get(name)
        if node is None:
            continue
        here = accepted[looks.at(node), id(node.allocatable)]
        for pod in pods:
            if pod.kind in here:
                continue
            rejection = filters.static_rejection(pod, node)
            if rejection is None:
                here.add(pod.kind)
            else:
                yield wrong(Code.NODE_REFUSES, f"{pod.key} on {name}: {rejection.message}")


def room(about: Evidence) -> Iterator[Violation]:
    """Check that no node with an arrival holds more than fits.

    A node that was over-full before and gets nothing is not the plan's fault.
    """
    takers = [about.nodes[name] for name in about.comers if name in about.nodes]
    # Nodes are judged once for all of one size with the same in use.
    states = {(id(node.allocatable), id(about.used[node.name])): node for node in takers}
    over = {
        state: excess
        for state, node in states.items()
        if (excess := _excess(node.allocatable, about.used[node.name]))
    }
    shared = _shared_ports(about) if over else set()
    for node in takers if over else ():
        for resource, n in over.get((id(node.allocatable), id(about.used[node.name])), ()):
            if (node.name, resource) not in shared:
                yield wrong(
                    Code.OVER_COMMITTED,
                    f"{node.name} would lack {units.words(resource, n)} after the plan",
                )


def devices(about: Evidence) -> Iterator[Violation]:
    """Check that each share that arrives has a GPU with room for it, and whole GPUs are whole."""
    sharing = {kind for kind in about.coming if kind.requests.share_milli}
    homes: Iterable[tuple[Bind | Move, Pod]] = chain(about.bound, about.moved)
    for action, pod in homes:
        if action.device is None and pod.kind not in sharing:
            continue
        node = about.nodes.get(about.goes[action.pod] or NodeName(""))
        if node is None:
            continue
        if pod.kind not in sharing:
            yield wrong(Code.WRONG_DEVICE, f"{pod.key} asks for no share, but gets one")
        elif action.device not in range(node.allocatable[units.SHARED_GPU]):
            number = "no GPU" if action.device is None else f"GPU {action.device}"
            yield wrong(Code.WRONG_DEVICE, f"{pod.key} gets {number} of {node.name} to share")
    shared_nodes = about.shared.keys() & about.nodes.keys()
    for name in sorted(about.comers.keys() & shared_nodes):
        shared, room = about.shared[name], about.nodes[name].allocatable[units.SHARED_GPU]
        for device, milli in sorted(shared.loads.items()):
            if milli > units.WHOLE_MILLI:
                yield wrong(
                    Code.OVER_COMMITTED, f"shares of GPU {device} of {name} would be {milli}/1000"
                )
        gpus = shared.gpus + about.used[name].get(units.SHARED_GPU, 0)
        if gpus > room:
            yield wrong(
                Code.OVER_COMMITTED,
                f"{name} would lack {units.words(units.SHARED_GPU, gpus - room)} after the plan",
            )


def _excess(room: Resources, used: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return what is used beyond the room."""
    have = dict(room.items)
    beyond = ((name, n - have.get(name, 0)) for name, n in sorted(used.items()))
    more = (
        (name, n - units.implied(name)) for name, n in beyond if n > 0 and not units.is_part(name)
    )
    return [(name, n) for name, n in more if n > 0]


def _shared_ports(about: Evidence) -> set[tuple[NodeName, str]]:
    """Return the host ports, by node, that are taken and for which nobody arrives.

    Two pods may share a port on two addresses; that is no matter of other newcomers.
    """
    ports = {
        resource
        for kind in about.snapshot.kinds
        for resource in kind.requests
        if units.is_host_port(resource)
    }
    if not ports:
        return set()
    asked = {(name, resource) for pod, name in about.arrivals for resource in pod.requests}
    taken = ((name, port) for name in about.used for port in ports & about.used[name].keys())
    return {at for at in taken if at not in asked}
