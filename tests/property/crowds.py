"""Crowded clusters of all sorts for properties of what is told to those who wait."""

from dataclasses import replace
from random import Random
from typing import Final

from hypothesis import strategies as st

from bayplan.cluster.constraints import Constraints, Taint, Toleration
from bayplan.cluster.keys import Owner
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.rules import filters
from tests.builders import apart, beside, budget, node, pod, spread
from tests.builders import snapshot as snapshot_of

HOSTNAME: Final = "kubernetes.io/hostname"

_CORDON: Final = Taint(key="node.kubernetes.io/unschedulable")


def crowds(*, rules: bool = False) -> st.SearchStrategy[Snapshot]:
    """Return clusters of up to four nodes, short of GPUs, CPU or memory, with daemons and gangs.

    With `rules`, pods ask for others, keep away from others, or are spread.
    """
    return st.integers(0, 2**32).map(lambda seed: crowd(seed, rules=rules))


def crowd(seed: int, *, rules: bool = False) -> Snapshot:
    """Return the cluster of a seed."""
    random = Random(seed)  # noqa: S311 - an example, not a secret
    nodes = [_node(random, f"n{i}") for i in range(random.randint(1, 4))]
    free = {each.name: each.allocatable for each in nodes}
    things: list[Pod] = []
    for home in nodes:
        if random.random() < 0.3:
            things.append(_daemon(random, home))
            free[home.name] -= things[-1].requests
    for i in range(random.randint(0, 9)):
        guest = _running(random, f"r{i}", random.choice(nodes), rules=rules)
        assert guest.node is not None
        if guest.requests.fits(free[guest.node]):
            free[guest.node] -= guest.requests
            things.append(guest)
    things += [_waiting(random, f"w{i}", rules=rules) for i in range(random.randint(1, 6))]
    budgets = [
        budget(app, allowed=random.choice([0, 1, 2]), app=app)
        for app in "ab"
        if random.random() < 0.3
    ]
    return snapshot_of(*nodes, *things, *budgets)


def _node(random: Random, name: str) -> Node:
    taints = [Taint(key="team", value=random.choice("xy"))] if random.random() < 0.2 else []
    schedulable = random.random() < 0.9
    return node(
        name,
        gpus=random.choice([0, 2, 4, 4, 8, 8]),
        cpu_milli=random.choice([8000, 16_000, 32_000]),
        memory_mib=random.choice([16_384, 65_536]),
        pods=random.choice([3, 6, 110]),
        labels={HOSTNAME: name, "zone": random.choice("pq"), "model": random.choice("ah")},
        taints=tuple(sorted([*taints, *([] if schedulable else [_CORDON])])),
        schedulable=schedulable,
        ready=random.random() < 0.95,
    )


def _daemon(random: Random, home: Node) -> Pod:
    daemon = pod(
        f"daemon-{home.name}",
        gpus=random.choice([0, 0, 1]) if home.allocatable.gpus else 0,
        cpu_milli=1000,
        on=home.name,
        disruption=Disruption.FIXED,
    )
    owner = Owner(kind="DaemonSet", namespace="default", name="daemon", uid="daemon")
    return replace(daemon, owner=owner)


def _running(random: Random, name: str, home: Node, *, rules: bool) -> Pod:
    gang = random.choice([None] * 4 + ["run", "both"])
    guest = replace(
        _asking(random, name, rules=rules),
        node=home.name,
        waiting=False,
        disruption=random.choice([*[Disruption.MOVABLE] * 4, *Disruption]),
        move_cost=random.choice([1, 1, 5]),
        fixed_by="",
    )
    guest = _joined(guest, gang)
    if random.random() < 0.1:
        why = "was moved less than 600 seconds ago"
        guest = replace(guest, disruption=Disruption.FIXED, fixed_by=why)
    fits = filters.static_rejection(guest, home) is None
    return guest if fits else replace(guest, constraints=Constraints())


def _waiting(random: Random, name: str, *, rules: bool) -> Pod:
    gang = random.choice([None] * 4 + ["x", "x", "y", "both"])
    return _joined(
        replace(_asking(random, name, rules=rules), preempts=random.random() < 0.85), gang
    )


def _joined(each: Pod, gang: str | None) -> Pod:
    like = pod("like", gang=gang, min_count=2 if gang else 0)
    return replace(each, gang=like.gang, gang_min_count=like.gang_min_count)


def _asking(random: Random, name: str, *, rules: bool) -> Pod:
    return pod(
        name,
        gpus=random.choice([0, 1, 1, 2, 3, 4, 8]),
        cpu_milli=random.choice([0, 500, 2000, 4000, 7000]),
        memory_mib=random.choice([0, 1024, 8192, 20_000]),
        priority=random.choice([0, 0, 5, 10, 20]),
        labels={"app": random.choice("abc")},
        constraints=_constraints(random, rules=rules),
    )


def _constraints(random: Random, *, rules: bool) -> Constraints:
    selector = (("model", random.choice("ah")),) if random.random() < 0.2 else ()
    tolerated = (Toleration(key="team", operator="Equal", value=random.choice("xy")),)
    tolerations = tolerated if random.random() < 0.2 else ()
    made = Constraints()
    if rules and random.random() < 0.3:
        key, app = random.choice([HOSTNAME, "zone"]), random.choice("ab")
        made = random.choice([apart(key, app=app), beside(key, app=app), spread(key, app=app)])
    return replace(made, node_selector=selector, tolerations=tolerations)
