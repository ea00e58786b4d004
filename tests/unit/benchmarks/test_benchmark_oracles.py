"""The benchmarks' optima: what plans are compared with must be right itself."""

from random import Random

import pytest

from bayplan.cluster.snapshot import Snapshot
from bayplan.planner import plan
from bayplan.policy import Policy, defragmenting
from bayplan.validate import validate
from benchmarks import defrag, preemption, tables
from benchmarks.fleet import fleet
from tests import oracle
from tests.builders import node, pod, snapshot


def test_the_table_of_victims_agrees_with_looking_at_every_placement() -> None:
    """Both the planner and its judge could be wrong in the same way."""
    tiny = [
        case
        for case in preemption.cases(count=200, seed=5, budget=10.0)
        if len(case.snapshot.nodes) <= 2 and len(case.snapshot.pods) <= 6
    ]

    for case in tiny:
        names = tuple(
            f"{'place' if waiting else 'keep'} {tier}"
            for tier in sorted({p.priority for p in case.snapshot.pods}, reverse=True)
            for waiting in (False, True)
        )
        *tiers, evicted, moved = preemption.optimum(case)
        best = oracle.best(case.snapshot, case.policy, (*names, "disruption"))
        assert (*tiers, -(1001 * evicted + moved)) == best
    assert len(tiny) > 5


def test_plans_reach_the_optimum_of_small_cases() -> None:
    """More would be evicted than has to go."""
    for case in preemption.cases(count=25, seed=7, budget=10.0):
        result = plan(case.snapshot, case.policy, clock=lambda: 0.0)

        assert preemption.reached(case.snapshot, result.plan) == preemption.optimum(case)


def test_plans_free_the_most_slots_with_the_fewest_moves() -> None:
    """Pods would be restarted for nothing, or slots left in pieces."""
    random = Random(3)  # noqa: S311 - examples, not secrets
    for moves in [1, 2, 3, 100] * 6:
        small = defrag.small(random)
        if _entries(small) > defrag.MAX_ENTRIES:
            continue
        policy = defragmenting(Policy(time_limit_s=20.0), max_moves=moves)
        made = plan(small, policy, clock=lambda: 0.0).plan
        freed = {s.name: s.value for s in made.certificate.stages}.get("free 8-GPU slots", 0)

        assert (freed - defrag.slots(small), len(made.moves)) == defrag.optimum(small, moves=moves)
        assert made.evictions == ()


def _entries(small: Snapshot) -> int:
    counts = [kind.count for kind in defrag._counted(small)[0]]  # noqa: SLF001 - its size
    return tables.entries([*counts, sum(counts)])


def test_a_fleet_without_time_for_a_proof_is_still_defragmented() -> None:
    """A window would pass without anything done."""
    pieces = fleet(nodes=60, demand=0.0, seed=0, variant="mixed")
    policy = defragmenting(Policy(time_limit_s=1e-9), max_moves=10)

    made = plan(pieces, policy, clock=lambda: 0.0).plan

    assert validate(pieces, policy, made) == ()
    assert 0 < len(made.moves) <= 10
    free = next(s for s in made.certificate.stages if s.name == "free 8-GPU slots")
    assert free.value > defrag.slots(pieces)


@pytest.mark.parametrize(("moves", "slots"), [(0, 0), (1, 1), (9, 2)])
def test_the_budget_says_how_many_slots(moves: int, slots: int) -> None:
    """A window would move more than it may, or less than it could."""
    pieces = snapshot(
        node("n0"),
        node("n1"),
        node("n2"),
        pod("a", gpus=2, on="n0"),
        pod("b", gpus=2, on="n1"),
        pod("c", gpus=2, on="n2"),
    )

    made = plan(pieces, defragmenting(Policy(), max_moves=moves), clock=lambda: 0.0).plan

    assert [s.value for s in made.certificate.stages if s.name == "free 8-GPU slots"] == [slots]
    assert (made.certificate.order, len(made.moves)) == ("Defragment", slots)
