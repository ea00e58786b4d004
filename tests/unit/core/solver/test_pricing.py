"""What single nodes could hold is priced where pods are of many kinds and not all of them fit."""

from bayplan.plan import Stage
from bayplan.planner import plan
from bayplan.policy import Policy
from benchmarks import family
from benchmarks.family import Cell
from benchmarks.priority_matters import cases


def _disruption(seed: int) -> Stage:
    """Return what is known of the fewest moves on 8 nodes that are asked for a twentieth more."""
    case = list(cases(Cell(nodes=8, ppn=8, priorities=1, util=1.05), seed + 1))[seed]
    policy = Policy(time_limit_s=6.0, max_moves=100)

    result = plan(family.snapshot(case.cluster, case.homes), policy, clock=lambda: 0.0)

    assert result.plan.binds
    return result.plan.certificate.stages[-1]


def test_a_program_that_can_be_solved_is_not_given_up() -> None:
    """GLOP gave up the first program of all, so that next to nothing was known of the moves."""
    stage = _disruption(0)

    assert stage.bound >= 8
    assert stage.value <= 15


def test_prices_settle_where_much_would_fit() -> None:
    """Prices did not settle: too many mixes promised more than any of them is worth."""
    stage = _disruption(1)

    assert stage.bound == stage.value == 7
