"""The paper's clusters are what it describes, and the benchmark counts what happened."""

import numpy as np
import pytest

from benchmarks import family, priority_matters, staged
from benchmarks.family import NOWHERE, Cell, Cluster
from benchmarks.priority_matters import Case

CELL = Cell(nodes=8, ppn=4, priorities=2, util=0.95)


def made(asks: list[int], priorities: list[int], *, room: int, nodes: int) -> Cluster:
    """Return a cluster of pods that ask for as much CPU as memory."""
    return Cluster(
        asks=np.array([[ask, ask] for ask in asks], dtype=np.int64),
        priorities=np.array(priorities, dtype=np.int64),
        sets=np.arange(len(asks)),
        room=np.array([room, room], dtype=np.int64),
        nodes=nodes,
    )


@pytest.mark.parametrize("util", [0.9, 1.05])
def test_a_cluster_is_asked_for_the_share_it_should_be(util: float) -> None:
    """Another family would be measured than the published one."""
    cluster = family.cluster(Cell(nodes=8, ppn=4, priorities=2, util=util), 3)

    assert len(cluster.asks) == 32
    assert set(np.bincount(cluster.sets)) <= {1, 2, 3, 4}
    assert set(cluster.priorities) == {1, 2}
    assert cluster.asks.sum(axis=0) / (8 * cluster.room) == pytest.approx([util] * 2, rel=0.01)
    assert family.cluster(CELL, 3).asks.tolist() == family.cluster(CELL, 3).asks.tolist()


@pytest.mark.parametrize(
    ("asks", "priorities", "homes"),
    [
        pytest.param([4, 4, 2], [1, 1, 1], [0, 1, 0], id="the emptiest node, the first of equals"),
        pytest.param([8, 8, 8], [1, 1, 1], [0, 1, NOWHERE], id="an equal makes nobody go"),
        pytest.param([8, 7, 8], [2, 1, 2], [0, NOWHERE, 1], id="a lower one goes"),
        pytest.param([8, 4, 4, 3], [3, 1, 2, 3], [0, NOWHERE, 1, 1], id="the lowest one goes"),
    ],
)
def test_the_default_scheduler_is_emulated(
    asks: list[int], priorities: list[int], homes: list[int]
) -> None:
    """The start would be better or worse than the real one."""
    found = family.scheduled(made(asks, priorities, room=8, nodes=2))

    assert found.tolist() == homes


def test_the_staged_model_evicts_for_an_equal_and_ours_does_not() -> None:
    """The baseline would not be the paper's: it counts pods, so two small ones beat a large one."""
    cluster = made([8, 4, 4], [1, 1, 1], room=8, nodes=1)
    case = Case(seed=0, cluster=cluster, homes=np.array([0, NOWHERE, NOWHERE]))

    ours = priority_matters.ours(case, budget=10.0)
    theirs = priority_matters.theirs(case, budget=10.0)

    assert (ours.improved, ours.certified, ours.outranked) == (False, True, 0)
    assert (theirs.improved, theirs.certified, theirs.outranked) == (True, True, 1)
    assert staged.answer(cluster, case.homes, budget=10.0).optimal


def test_a_small_cell_runs() -> None:
    """The benchmark would be found broken when somebody needs it."""
    row = priority_matters.measured(CELL, seeds=2, budget=60.0, baseline=True)

    assert (row["instances"], row["answered"], row["outranked"]) == (2, 1, 0)
    assert row["improved"] + row["certified"] >= 1
    assert {"paper_failed", "paper_seconds", "moves_pct", "evictions_pct"} <= set(row)
