"""The online score against brute force, against itself rebuilt, and against the room there is."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bayplan.online.kinds import Catalogue, Kind, catalogue
from bayplan.online.scorer import NodeRoom, Scorer, Spot
from bayplan.online.value import Copies

MODELS = ("A", "B")

shares = st.builds(
    Kind,
    cpu_milli=st.integers(0, 5),
    memory_mib=st.integers(0, 5),
    gpus=st.just(1),
    gpu_milli=st.sampled_from([100, 250, 400, 500, 600, 810, 999]),
    models=st.sampled_from([(), ("A",), ("A", "B")]),
)
wholes = st.builds(
    Kind,
    cpu_milli=st.integers(0, 5),
    memory_mib=st.integers(0, 5),
    gpus=st.integers(0, 3),
    models=st.sampled_from([(), ("B",)]),
)
kinds = shares | wholes
rooms = st.tuples(
    st.integers(-1, 12),
    st.integers(-1, 12),
    st.lists(st.sampled_from([0, 190, 400, 600, 1000, 1000]), max_size=4).map(tuple),
    st.sampled_from(MODELS),
)
fleets = st.lists(rooms, min_size=1, max_size=4).map(
    lambda found: [
        NodeRoom(name=f"n{i}", cpu_milli=cpu, memory_mib=memory, devices=devices, model=model)
        for i, (cpu, memory, devices, model) in enumerate(found)
    ]
)
pods = st.lists(kinds, min_size=1, max_size=12)


def scorer(nodes: Sequence[NodeRoom], listed: Sequence[Kind]) -> Scorer:
    """Return a scorer that expects what is `listed`."""
    return Scorer(nodes, Copies.of_catalogue(catalogue(Counter(listed)), MODELS), MODELS)


def room_of(online: Scorer, node: NodeRoom) -> NodeRoom:
    """Return what is free on `node` by now."""
    row = online.names.index(node.name)
    return NodeRoom(
        name=node.name,
        cpu_milli=int(online.cpu_milli[row]),
        memory_mib=int(online.memory_mib[row]),
        devices=tuple(int(free) for free in online.devices[row][: len(node.devices)]),
        model=node.model,
    )


def copies(node: NodeRoom, kind: Kind) -> int:
    """Return how many pods of `kind` the node takes, by putting one after the other on it."""
    left = place(node, kind)
    return 1 + copies(left, kind) if left else 0


def place(node: NodeRoom, kind: Kind, first: int = 0) -> NodeRoom | None:
    """Return `node` with a pod on the first devices from `first` that will do, or None."""
    cpu, memory = node.cpu_milli - kind.cpu_milli, node.memory_mib - kind.memory_mib
    able = [i for i, free in enumerate(node.devices) if free >= kind.gpu_milli and i >= first]
    welcome = not (kind.gpus and kind.models) or node.model in kind.models
    if min(cpu, memory) < 0 or len(able) < kind.gpus or not welcome:
        return None
    devices = list(node.devices)
    for device in able[: kind.gpus]:
        devices[device] -= kind.gpu_milli
    return NodeRoom(
        name=node.name,
        cpu_milli=cpu,
        memory_mib=memory,
        devices=tuple(devices),
        model=node.model,
    )


def value(node: NodeRoom, known: Catalogue) -> float:
    """Return what the room of a node is worth, by definition."""
    return sum(
        float(price) * round(1000 * math.pow(copies(node, kind), 0.65))
        for kind, price in zip(known.kinds, known.prices, strict=True)
    )


@given(fleets, pods, kinds)
def test_the_loss_is_what_brute_force_finds(
    nodes: list[NodeRoom], listed: list[Kind], kind: Kind
) -> None:
    """A wrong limit or price would send pods to the wrong node."""
    known = catalogue(Counter(listed))
    scores = scorer(nodes, listed).score(kind)
    for row, node in enumerate(nodes):
        firsts = range(max(1, len(node.devices))) if kind.is_share else [0]
        after = [place(node, kind, first) for first in firsts]
        losses = [value(node, known) - value(left, known) for left in after if left]
        assert scores.loss[row] == min(losses, default=math.inf)


@given(fleets, pods)
def test_no_device_and_no_node_is_ever_overcommitted(
    nodes: list[NodeRoom], listed: list[Kind]
) -> None:
    """Two shares of 0.6 must never land on one GPU."""
    online = scorer(nodes, listed)
    free = {node.name: list(node.devices) for node in nodes}
    room = {node.name: [node.cpu_milli, node.memory_mib] for node in nodes}
    for kind in listed:
        spot = online.choose(kind)
        if spot is None:
            continue
        online.take(kind, spot)
        name = online.names[spot.row]
        assert len(set(spot.devices)) == kind.gpus
        for device in spot.devices:
            free[name][device] -= kind.gpu_milli
            assert free[name][device] >= 0
        room[name][0] -= kind.cpu_milli
        room[name][1] -= kind.memory_mib
        assert min(room[name]) >= 0


@given(fleets, pods, kinds)
def test_what_is_kept_up_to_date_equals_a_rebuild(
    nodes: list[NodeRoom], listed: list[Kind], asked: Kind
) -> None:
    """Scores that are only worked out where something changed must not go stale."""
    online = scorer(nodes, listed)
    placed: list[tuple[Kind, Spot]] = []
    for index, kind in enumerate(listed):
        online.score(asked)
        if index % 3 == 2 and placed:
            online.give(*placed.pop(0))
        spot = online.choose(kind)
        if spot:
            online.take(kind, spot)
            placed.append((kind, spot))
    rebuilt = scorer([room_of(online, node) for node in nodes], listed)
    for kind in (asked, *listed):
        kept, anew = online.score(kind), rebuilt.score(kind)
        np.testing.assert_array_equal(kept.loss, anew.loss)
        np.testing.assert_array_equal(kept.device, anew.device)


@given(fleets, pods)
def test_the_order_of_nodes_and_of_the_catalogue_makes_no_difference(
    nodes: list[NodeRoom], listed: list[Kind]
) -> None:
    """Two replicas of the webhook must give the same answer."""
    online, other = scorer(nodes, listed), scorer(nodes[::-1], listed[::-1])
    assert online.names == other.names
    for kind in listed:
        spot = online.choose(kind)
        assert other.choose(kind) == spot
        if spot:
            online.take(kind, spot)
            other.take(kind, spot)
