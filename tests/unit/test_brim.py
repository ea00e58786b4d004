"""What would have to be filled to the brim is proved impossible, and nothing that is possible."""

from itertools import product
from random import Random

import numpy as np
import pytest

from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.solver.bounds import brim
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.goals import Keep, Place, in_order
from bayplan.solver.problem.instance import Instance
from bayplan.solver.programs.budget import Budget
from benchmarks import family
from benchmarks.family import NOWHERE, Cell, Cluster
from benchmarks.priority_matters import cases


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
            proved = brim.overflows(instance, [(keep, 2), (place, count)], _budget())

            assert not (proved and count <= most)
            if count == place.limit(instance) > most and _is_full(cluster):
                assert proved
                proofs += 1

    assert proofs > 10


def test_nothing_is_claimed_without_effort() -> None:
    """What was not looked at is not known."""
    cluster = next(cases(Cell(nodes=4, ppn=8, priorities=1, util=1.0), 1))
    instance = build(family.snapshot(cluster.cluster, cluster.homes))
    both = (goal for goal in in_order(instance, Policy().order) if isinstance(goal, Keep | Place))
    demand = [(goal, goal.limit(instance)) for goal in both]

    assert brim.overflows(instance, demand, _budget())
    assert not brim.overflows(instance, demand, _budget(effort=0.0))


@pytest.mark.parametrize("nodes", [4, 8])
def test_full_clusters_are_certified(nodes: int) -> None:
    """It stayed open whether one more pod fits where it would take nodes full to the brim."""
    case = next(cases(Cell(nodes=nodes, ppn=8, priorities=4, util=1.0), 1))
    snapshot = family.snapshot(case.cluster, case.homes)

    result = plan(snapshot, Policy(time_limit_s=4.0, max_moves=100), clock=lambda: 0.0)

    assert result.plan.binds
    assert all(stage.proved for stage in result.plan.certificate.stages)
