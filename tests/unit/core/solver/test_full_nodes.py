"""What would have to fill nodes too far is proved impossible, and nothing that is possible."""

from itertools import product
from random import Random

import numpy as np
import pytest

from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.solver.bounds import full_nodes
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.goals import Keep, Place, in_order
from bayplan.solver.problem.instance import Instance
from bayplan.solver.programs.budget import Budget
from benchmarks import family
from benchmarks.family import NOWHERE, Cell, Cluster
from benchmarks.priority_matters import cases
from tests.builders import node, pod, snapshot


def _budget(effort: float = 1.0) -> Budget:
    return Budget(clock=lambda: 0.0, deadline_at=1.0, effort=effort, seed=0)


def _tight(random: Random, *, spare: int) -> Cluster:
    """Return two nodes and pods that leave next to nothing free, or `spare` of the CPU of each."""
    asks = [(random.randint(1, 300), random.randint(1, 300)) for _ in range(random.randint(3, 5))]
    asks += random.choices(asks, k=2)
    table = np.array(asks, dtype=np.int64)
    room = -(-table.sum(axis=0) // 2) + np.array([random.randint(0, spare), 0])
    return Cluster(
        asks=table,
        priorities=np.ones(len(table), dtype=np.int64),
        sets=np.arange(len(table)),
        room=np.maximum(room, table.max(axis=0)),
        nodes=2,
    )


def _is_full(cluster: Cluster) -> bool:
    """Return whether next to nothing would be left free if all pods ran."""
    free = cluster.nodes * cluster.room - cluster.asks.sum(axis=0)
    return bool((free <= 0.05 * cluster.room).all())


def _most(cluster: Cluster, running: int) -> int:
    """Return how many of the pods after the first so many fit beside these, by trying all."""
    fits = []
    for homes in product((NOWHERE, *range(cluster.nodes)), repeat=len(cluster.asks)):
        at = np.array(homes)
        used = [cluster.asks[at == n].sum(axis=0) for n in range(cluster.nodes)]
        if (at[:running] != NOWHERE).all() and (np.array(used) <= cluster.room).all():
            fits.append(int((at[running:] != NOWHERE).sum()))
    return max(fits)


def _instance(cluster: Cluster, running: int) -> Instance:
    """Return the cluster with the first pods on its nodes, and all others waiting."""
    homes = np.array([n if n < running else NOWHERE for n in range(len(cluster.asks))])
    return build(family.snapshot(cluster, homes))


@pytest.mark.parametrize("spare", [0, 2])
def test_just_what_is_impossible_is_proved_so(spare: int) -> None:
    """All that two nodes cannot hold is proved so, and nothing else, as trying all says."""
    random, proofs = Random(spare), 0  # noqa: S311 - examples, not secrets
    for _ in range(60):
        cluster = _tight(random, spare=spare)
        instance = _instance(cluster, 2)
        keep, place = (goal for goal in in_order(instance, Policy().order)[:2])
        assert isinstance(keep, Keep)
        assert isinstance(place, Place)
        most = _most(cluster, 2)
        for count in range(place.limit(instance) + 1):
            proved = full_nodes.overflows(instance, [(keep, 2), (place, count)], _budget())

            assert not (proved and count <= most)
            if count == place.limit(instance) > most and _is_full(cluster):
                assert proved
                proofs += 1

    assert proofs > 10


def _filled(random: Random) -> Cluster:
    """Return three nodes and pods that fill them to the last millicore, two of them alike."""
    room = np.array([900, 900])
    parts = []
    for _ in range(2):
        some = np.array([(random.randint(1, 400), random.randint(1, 400)) for _ in range(2)])
        parts.append(np.vstack([some, room - some.sum(axis=0)]))
    table = np.vstack([parts[0], parts[0], parts[1]])
    random.shuffle(order := [*range(len(table))])
    return Cluster(
        asks=table[order],
        priorities=np.ones(len(table), dtype=np.int64),
        sets=np.arange(len(table)),
        room=room,
        nodes=3,
    )


def test_what_fills_nodes_to_the_last_is_not_ruled_out() -> None:
    """A plan that could be had would be proved impossible, and not be looked for."""
    random = Random(1)  # noqa: S311 - examples, not secrets
    for _ in range(40):
        instance = _instance(_filled(random), 0)
        place = next(goal for goal in in_order(instance, Policy().order) if isinstance(goal, Place))

        assert not full_nodes.overflows(instance, [(place, place.limit(instance))], _budget())


def test_nothing_is_said_of_nodes_that_differ() -> None:
    """The room of one of them would be taken for that of all."""
    sizes = {"a": (600, 200), "b": (600, 200), "c": (600, 200), "d": (300, 600)}
    waiting = [pod(n, gpus=0, cpu_milli=c, memory_mib=m) for n, (c, m) in sizes.items()]
    small = node("m", gpus=0, cpu_milli=900, memory_mib=800)
    seen = snapshot(small, node("n", gpus=0, cpu_milli=1200, memory_mib=400), *waiting)
    instance = build(seen)
    place = next(goal for goal in in_order(instance, Policy().order) if isinstance(goal, Place))

    assert len(plan(seen, Policy(), clock=lambda: 0.0).plan.binds) == 4
    assert not full_nodes.overflows(instance, [(place, 4)], _budget())


def test_any_number_of_different_pods_is_counted() -> None:
    """Seen: a thousand different pods on a few nodes ended every pass (RecursionError)."""
    many = np.array([(100 + i, 100 + i) for i in range(1_500)])
    cluster = Cluster(
        asks=many,
        priorities=np.ones(len(many), dtype=np.int64),
        sets=np.arange(len(many)),
        room=many.sum(axis=0) // 100 - 1,
        nodes=100,
    )
    instance = _instance(cluster, 0)
    place = next(goal for goal in in_order(instance, Policy().order) if isinstance(goal, Place))

    assert full_nodes.overflows(instance, [(place, place.limit(instance))], _budget())


def test_nothing_is_claimed_without_effort() -> None:
    """What was not looked at is not known, and looking is paid for."""
    cluster = next(cases(Cell(nodes=4, ppn=8, priorities=1, util=1.0), 1))
    instance = build(family.snapshot(cluster.cluster, cluster.homes))
    both = (goal for goal in in_order(instance, Policy().order) if isinstance(goal, Keep | Place))
    demand = [(goal, goal.limit(instance)) for goal in both]

    budget = _budget()
    assert full_nodes.overflows(instance, demand, budget)
    assert 0.0 < budget.effort < 1.0
    assert not full_nodes.overflows(instance, demand, _budget(effort=0.0))
    assert not full_nodes.overflows(instance, demand, _budget(effort=(1.0 - budget.effort) / 2))


@pytest.mark.parametrize("nodes", [4, 8])
def test_full_clusters_are_certified(nodes: int) -> None:
    """It stayed open whether one more pod fits where it would take nodes quite full."""
    case = next(cases(Cell(nodes=nodes, ppn=8, priorities=4, util=1.0), 1))
    seen = family.snapshot(case.cluster, case.homes)

    result = plan(seen, Policy(time_limit_s=4.0, max_moves=100), clock=lambda: 0.0)

    assert result.plan.binds
    assert all(stage.proved for stage in result.plan.certificate.stages)
