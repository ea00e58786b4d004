"""Linear programs at the edge of what GLOP's tolerances tell apart."""

import numpy as np
import pytest

from bayplan.solver.programs.linear import At, Basis, Corner, Entries, Failure, Linear, minimum
from bayplan.solver.programs.relative import Choices
from bayplan.solver.programs.sifting import Start, sifted


def counts(*values: int) -> np.ndarray:
    """Return whole numbers."""
    return np.array(values, dtype=np.int64)


def choice(*, off: float) -> Linear:
    """Return ten nodes to deal out to two columns, of which a row asks a little more than ten."""
    return Linear(
        costs=np.array([0.0, 1.0]),
        lower=np.zeros(2),
        upper=np.full(2, 10.0),
        least=np.array([10.0, 10.0 + off]),
        most=np.array([10.0, np.inf]),
        entries=Entries.summed(counts(0, 0, 1, 1), counts(0, 1, 0, 1), counts(1, 1, 1, 2)),
    )


def optimum(program: Linear, start: Start) -> Corner | Failure:
    """Return the optimum of such a program, from a corner of it."""
    choices = Choices(groups=counts(0, 0), dealt=counts(0))
    return sifted(program, choices, start, seconds=lambda: 10.0)


@pytest.mark.parametrize("off", [0.0, 5e-9, 3e-8, 8e-8, 2e-7, 1.0])
def test_a_row_that_is_off_by_a_rounding_is_not_called_infeasible(off: float) -> None:
    """A branch would be cut off, and the bound of the others would be taken for proved."""
    start = Start(
        basis=Basis(columns=counts(At.BASIC, At.LOWER), rows=counts(At.FIXED, At.BASIC)),
        point=np.array([10.0, 0.0]),
        likely=np.zeros(2, dtype=np.bool_),
    )

    found = optimum(choice(off=off), start)

    assert found is not Failure.INFEASIBLE
    if isinstance(found, Corner):
        assert found.value == pytest.approx(off, abs=1e-6)


@pytest.mark.parametrize("off", [0.0, 8e-8, 1.5e-7, 1e-5])
def test_a_point_that_is_off_by_a_rounding_is_no_reason_to_crash(off: float) -> None:
    """A pass would end without a plan: the corner would have one basic column too many."""
    start = Start(
        basis=Basis(columns=counts(At.BASIC, At.BASIC), rows=counts(At.FIXED, At.LOWER)),
        point=np.array([10.0, 0.0]),
        likely=np.zeros(2, dtype=np.bool_),
    )

    found = optimum(choice(off=off), start)

    assert isinstance(found, Corner)
    assert found.value == pytest.approx(off, abs=1e-6)


def test_what_runs_out_of_time_is_late() -> None:
    """It would be solved again from nothing, with all the time it has had already."""
    random = np.random.default_rng(0)
    rows, columns = 400, 4000
    weights = random.integers(0, 9, (rows, columns))
    at = np.nonzero(weights)
    slow = Linear(
        costs=-random.integers(1, 99, columns).astype(np.float64),
        lower=np.zeros(columns),
        upper=np.full(columns, 9.0),
        least=np.full(rows, -np.inf),
        most=random.integers(1_000, 9_000, rows).astype(np.float64),
        entries=Entries.summed(at[0], at[1], weights[at]),
    )

    assert minimum(slow, seconds=0.0) is Failure.LATE
