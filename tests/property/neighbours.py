"""Clusters whose pods ask things of their nodes and of each other."""

from collections.abc import Callable
from random import Random

from hypothesis import strategies as st

from bayplan.cluster.constraints import Constraints, GangTopology, NodeTerm, Preference, Requirement
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from tests.builders import apart, beside, node, pod, spread


def fleets(*, nodes: int, pods: int) -> st.SearchStrategy[Snapshot]:
    """Return clusters whose pods ask only for what is settled node by node."""
    return st.integers(0, 2**32).map(lambda seed: _fleet(Random(seed), nodes, pods))  # noqa: S311


def _fleet(random: Random, nodes: int, pods: int) -> Snapshot:
    fleet = [
        node(f"n{i}", gpus=random.choice([2, 4]), labels={"host": f"n{i}"} if i else {})
        for i in range(random.randint(1, nodes))
    ]
    return Snapshot.of(fleet, _peopled(random, fleet, pods, _shy))


def _peopled(
    random: Random, fleet: list[Node], pods: int, make: Callable[[Random, str, str | None], Pod]
) -> list[Pod]:
    """Return pods on nodes that have a GPU for each of them, and at least one that waits."""
    things: list[Pod] = []
    free = {n.name: n.allocatable["nvidia.com/gpu"] for n in fleet}
    for i in range(random.randint(0, pods // 2)):
        host = random.choice(fleet).name
        if free[host]:
            free[host] -= 1
            things.append(make(random, f"r{i}", host))
    waiting = range(random.randint(1, max(1, pods - len(things))))
    return things + [make(random, f"w{i}", None) for i in waiting]


def _shy(random: Random, name: str, host: str | None) -> Pod:
    """Return a pod that keeps away from its likes, or takes a port, or neither."""
    app = random.choice("xyz")
    return pod(
        name,
        gpus=1 if host else random.choice([1, 1, 2]),
        on=host,
        priority=random.choice([0, 0, 10]) if host is None else 0,
        disruption=random.choice([*[Disruption.MOVABLE] * 3, *Disruption]),
        labels={"app": app},
        constraints=apart("host", app=app) if app != "z" and random.random() < 0.5 else None,
        ports=(80,) if random.random() < 0.3 else (),
    )


def clusters(*, nodes: int, pods: int) -> st.SearchStrategy[Snapshot]:
    """Return clusters in two zones whose pods ask much of each other."""
    return st.integers(0, 2**32).map(lambda seed: _cluster(Random(seed), nodes, pods))  # noqa: S311


def _cluster(random: Random, nodes: int, pods: int) -> Snapshot:
    fleet = []
    for i in range(random.randint(1, nodes)):
        labels = {"host": f"n{i}"}
        # A node without a zone is in no domain.
        labels |= {"zone": random.choice("ab")} if random.random() < 0.9 else {}
        fleet.append(node(f"n{i}", gpus=random.choice([2, 4]), labels=labels))
    return Snapshot.of(fleet, _peopled(random, fleet, pods, _pod))


#: Where the pods of each gang are to be; a gang says it once.
_TOPOLOGIES = {
    "g": GangTopology(required="zone"),
    "h": GangTopology(preferred=("host", "zone")),
    "i": GangTopology(required="zone", preferred=("host",)),
}


def _pod(random: Random, name: str, host: str | None) -> Pod:
    gang = random.choice([None, None, None, *_TOPOLOGIES])
    return pod(
        name,
        gpus=1 if host else random.choice([1, 1, 2]),
        on=host,
        priority=random.choice([0, 0, 10]) if host is None else 0,
        disruption=random.choice([*[Disruption.MOVABLE] * 3, *Disruption]),
        gang=gang,
        min_count=2 if gang else 0,
        topology=_TOPOLOGIES[gang] if gang else None,
        labels={"app": random.choice("xy")},
        constraints=_constraints(random),
        ports=(80,) if random.random() < 0.15 else (),
    )


def _constraints(random: Random) -> Constraints:
    key, app = random.choice(["zone", "host"]), random.choice("xy")
    zone = Requirement(key="zone", operator="In", values=(random.choice("ab"),))
    return random.choice(
        [
            Constraints(),
            Constraints(),
            apart(key, app=app),
            beside(key, app=app),
            spread(key, random.choice([1, 1, 2]), app=app),
            Constraints(prefers=(Preference(weight=7, term=NodeTerm(labels=(zone,))),)),
        ]
    )
