"""Clusters of many different pods are certified by what whole nodes can hold."""

from bayplan.planner import plan
from bayplan.policy import Policy
from benchmarks import family
from benchmarks.family import Cell
from benchmarks.priority_matters import cases


def test_the_fewest_moves_are_found_and_proved() -> None:
    """A plan would move two pods too many, and could not say whether fewer would do."""
    case = next(cases(Cell(nodes=16, ppn=4, priorities=1, util=0.9), 1))
    snapshot = family.snapshot(case.cluster, case.homes)

    result = plan(snapshot, Policy(time_limit_s=10.0, max_moves=100), clock=lambda: 0.0)

    assert result.engine == "mixes"
    assert len(result.plan.moves) == 7
    assert all(stage.proved for stage in result.plan.certificate.stages)


def test_few_nodes_are_certified_too() -> None:
    """The exact model alone left 8 moves of 5 standing, with a bound of 3."""
    *_, case = cases(Cell(nodes=4, ppn=8, priorities=1, util=1.05), 3)
    snapshot = family.snapshot(case.cluster, case.homes)

    result = plan(snapshot, Policy(time_limit_s=1.0, max_moves=100), clock=lambda: 0.0)

    assert all(stage.proved for stage in result.plan.certificate.stages)
