"""Two nodes share out anew all that they hold where a pod more can only fit so."""

from collections.abc import Callable, Iterator
from itertools import product
from random import Random

import numpy as np

from bayplan.policy import Policy
from bayplan.solver.exact.constraints import allowed
from bayplan.solver.local import ejection, exchange, greedy, splits
from bayplan.solver.problem.assignment import present
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.goals import Keep, Place, in_order
from bayplan.solver.problem.instance import Instance
from bayplan.solver.search import stepped
from benchmarks import family
from benchmarks.family import NOWHERE, Amounts, Cell, Cluster
from benchmarks.priority_matters import cases

POLICY = Policy(max_moves=100)


#: Pods of a scene, and all ways to share them out between two nodes.
_PODS = 11
_WAYS = np.array([*product((0, 1), repeat=_PODS)], dtype=np.int64)


def _fits(cluster: Cluster, homes: Amounts) -> "np.typing.NDArray[np.bool_]":
    """Return for each row of homes, of the first pods, whether both nodes have room."""
    asks = cluster.asks[: homes.shape[1]]
    used = np.stack([(homes == n).astype(np.int64) @ asks for n in (0, 1)])
    return np.asarray((used <= cluster.room).all(axis=(0, 2)), dtype=np.bool_)


def _scene(random: Random) -> tuple[Cluster, Amounts]:
    """Return two nodes with pods that run, and one that waits, for which there is hardly room."""
    asks = np.array([(random.randint(10, 90), random.randint(10, 90)) for _ in range(_PODS)])
    cluster = Cluster(
        asks=asks,
        priorities=np.ones(_PODS, dtype=np.int64),
        sets=np.arange(_PODS),
        room=(asks.sum(axis=0) * 1.01 / 2 + 1).astype(np.int64),
        nodes=2,
    )
    able = _WAYS[_fits(cluster, _WAYS[:, :-1]), :-1]
    return cluster, np.append(able[random.randrange(len(able))], NOWHERE)


def _places(instance: Instance, goal: Place, improvements: Callable[..., object]) -> bool:
    """Return whether chains, exchanges or splits place the pod that waits."""
    found = present(instance)
    steps = improvements(instance, POLICY, found, goal=goal, ended=lambda: False)
    assert isinstance(steps, Iterator)
    for found in steps:
        assert allowed(instance, POLICY, found)
    return goal.value(instance, found) == 1


def test_two_nodes_hold_all_that_they_can() -> None:
    """A pod is placed wherever some split of all pods has room for it, as trying all says."""
    random, alone, refused = Random(5), 0, 0  # noqa: S311 - examples, not secrets
    for _ in range(40):
        cluster, homes = _scene(random)
        instance = build(family.snapshot(cluster, homes))
        place = next(goal for goal in in_order(instance, POLICY.order) if isinstance(goal, Place))
        able = bool(_fits(cluster, _WAYS).any())

        assert _places(instance, place, splits.improvements) == able
        others = (ejection.improvements, exchange.improvements)
        alone += able and not any(_places(instance, place, other) for other in others)
        refused += not able

    assert alone
    assert refused > 5


def test_more_pods_are_placed_on_full_nodes() -> None:
    """Chains and exchanges left four of these out."""
    *_, case = cases(Cell(nodes=8, ppn=8, priorities=4, util=1.05), 3)
    instance = build(family.snapshot(case.cluster, case.homes))
    order = [goal for goal in in_order(instance, POLICY.order) if isinstance(goal, Keep | Place)]

    found = stepped(
        instance,
        POLICY,
        greedy.fill(instance, POLICY.order),
        goals=tuple(order),
        ended=lambda: False,
    )

    assert allowed(instance, POLICY, found)
    assert order[-1].limit(instance) - order[-1].value(instance, found) == 3
