"""Linear programs reach the same optimum by their few columns that matter as with all of them."""

from random import Random
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.solver.programs import program as programs
from bayplan.solver.programs import sampling
from bayplan.solver.programs.linear import Basis, Corner, Failure, Linear, Reals
from bayplan.solver.programs.program import Program, Relaxed, Terms


class _Deal:
    """Nodes dealt out to choices, which cost something and give room to arrivals of some kinds.

    The last choice of a group is what is there now: it costs nothing and gives nothing.
    """

    def __init__(self, seed: int) -> None:
        some = Random(seed)  # noqa: S311 - an example, not a secret
        sizes = np.array([some.randint(1, 9) for _ in range(some.randint(1, 8))], dtype=np.int64)
        owner = np.repeat(np.arange(len(sizes)), [some.randint(1, 5) for _ in sizes])
        changes = np.diff(owner, append=len(sizes)) == 0
        self.program = Program()
        deal = self.program.add_choices(sizes, owner)
        kinds = some.randint(1, 3)
        most = np.array([some.randint(0, 40) for _ in range(kinds)], dtype=np.int64)
        come = self.program.add_columns(most)
        for k in range(kinds):
            gives = np.array([some.randint(0, 3) for _ in owner], dtype=np.int64) * changes
            taken = [Terms.over(come[[k]]), Terms(columns=deal, weights=-gives)]
            self.program.add_row(Terms.joined(taken), upper=some.randint(0, 4))
        costs = np.array([some.randint(0, 5) for _ in owner], dtype=np.int64) * changes
        self.costs = Terms(columns=deal, weights=costs)
        self.arrivals = Terms.over(come)
        self.share = some.random()
        self.more = come, most

    def optimum(self, goal: Terms, *, maximise: bool) -> Relaxed | Failure:
        """Return the optimum of the relaxation, checked against the rows."""
        found = self.program.relax(goal, maximise=maximise, seconds=lambda: 60.0)
        if isinstance(found, Relaxed):
            assert self._breaks(found.point) < 1e-5
            total = float(found.point[goal.columns] @ goal.weights)
            assert found.value == pytest.approx(total, abs=1e-9)
            lower, upper = self.program.lower, self.program.upper
            assert (found.prices[(found.point < upper - 1e-6) & (lower < upper)] > -1e-5).all()
            assert (found.prices[(found.point > lower + 1e-6) & (lower < upper)] < 1e-5).all()
        return found

    def _breaks(self, point: Reals) -> float:
        """Return by how much a point misses a row or a bound."""
        beyond = [*(self.program.lower - point), *(point - self.program.upper)]
        for columns, weights, low, high in self.program._rows:  # noqa: SLF001 - what it was told
            total = float(point[columns] @ weights)
            beyond += [low - total, total - high]
        return float(max(beyond))


def both(seed: int) -> tuple[_Deal, _Deal]:
    """Return the same deal twice."""
    return _Deal(seed), _Deal(seed)


@given(st.integers(0, 2**32))
def test_sifting_reaches_the_optimum_of_all_columns(seed: int) -> None:
    """A bound from some of the columns would be beaten, and a proof would be wrong."""
    sifted, whole = both(seed)

    for each, many in ((sifted, 0), (whole, 10**9)):
        with mock.patch.object(programs, "_MANY", many):
            most = each.optimum(each.arrivals, maximise=True)
            assert isinstance(most, Relaxed)
            each.program.add_row(each.arrivals, lower=int(most.value * each.share))
            assert isinstance(each.optimum(each.costs, maximise=False), Relaxed)

    here, there = (each.optimum(each.costs, maximise=False) for each in (sifted, whole))
    assert isinstance(here, Relaxed)
    assert isinstance(there, Relaxed)
    assert here.value == pytest.approx(there.value, abs=1e-6)


@given(st.integers(0, 2**32))
def test_what_is_asked_for_at_the_beginning_is_reached_from_it(seed: int) -> None:
    """Where everyone stays nobody arrives: the first optimum has to make up for it."""
    sifted, whole = both(seed)
    with mock.patch.object(programs, "_MANY", 10**9):
        most = _Deal(seed).optimum(whole.arrivals, maximise=True)
        assert isinstance(most, Relaxed)
        whole.program.add_row(whole.arrivals, lower=int(most.value))
        there = whole.optimum(whole.costs, maximise=False)
    sifted.program.add_row(sifted.arrivals, lower=int(most.value))

    with mock.patch.object(programs, "_MANY", 0):
        here = sifted.optimum(sifted.costs, maximise=False)

    assert isinstance(here, Relaxed)
    assert isinstance(there, Relaxed)
    assert here.value == pytest.approx(there.value, abs=1e-6)


@given(st.integers(0, 2**32))
def test_what_cannot_be_reached_is_infeasible(seed: int) -> None:
    """A row that stays short at a price would pass for met."""
    deal = _Deal(seed)
    with mock.patch.object(programs, "_MANY", 0):
        most = deal.optimum(deal.arrivals, maximise=True)
        assert isinstance(most, Relaxed)
        deal.program.add_row(deal.arrivals, lower=int(most.value) + 1)

        assert deal.optimum(deal.costs, maximise=False) is Failure.INFEASIBLE
        assert _again(seed, int(most.value) + 1) is Failure.INFEASIBLE


def _again(seed: int, arrivals: int) -> Relaxed | Failure:
    """Return the same answer of a program that has no optimum to go on from."""
    deal = _Deal(seed)
    deal.program.add_row(deal.arrivals, lower=arrivals)
    return deal.optimum(deal.costs, maximise=False)


@given(st.integers(0, 2**32))
def test_bounds_that_move_leave_the_last_optimum_behind(seed: int) -> None:
    """A branch would be solved from a point outside it."""
    moved, fresh = both(seed)
    with mock.patch.object(programs, "_MANY", 0):
        most = moved.optimum(moved.arrivals, maximise=True)
    assert isinstance(most, Relaxed)
    for each in (moved, fresh):
        come, upper = each.more
        each.program.limit(come, np.zeros_like(upper), upper // 2)

    with mock.patch.object(programs, "_MANY", 0):
        here = moved.optimum(moved.arrivals, maximise=True)
    with mock.patch.object(programs, "_MANY", 10**9):
        there = fresh.optimum(fresh.arrivals, maximise=True)

    assert isinstance(here, Relaxed)
    assert isinstance(there, Relaxed)
    assert here.value == pytest.approx(there.value, abs=1e-6)


@given(st.integers(0, 2**32))
def test_prices_that_are_wrong_cost_time_alone(seed: int) -> None:
    """What a sample says is a guess, which must not become a bound."""
    guided, whole = both(seed)
    random = np.random.default_rng(seed)
    most = _Deal(seed).optimum(whole.arrivals, maximise=True)
    assert isinstance(most, Relaxed)
    for each in (guided, whole):
        each.program.add_row(each.arrivals, lower=int(most.value * each.share))

    def guess(program: Linear, *_: object, **__: object) -> Corner:
        nothing = np.zeros(0, dtype=np.int64)
        return Corner(
            value=0.0,
            point=np.zeros(0),
            duals=random.integers(-9, 9, len(program.least)).astype(np.float64),
            basis=Basis(columns=nothing, rows=nothing),
        )

    with mock.patch.object(programs, "_MANY", 0), mock.patch.object(sampling, "paid", guess):
        here = guided.optimum(guided.costs, maximise=False)
    there = whole.optimum(whole.costs, maximise=False)

    assert isinstance(here, Relaxed)
    assert isinstance(there, Relaxed)
    assert here.value == pytest.approx(there.value, abs=1e-6)


@given(st.integers(0, 2**32))
def test_what_is_shut_stays_shut(seed: int) -> None:
    """It would come back with the next row, though a proof stands on its being away."""
    later, before = both(seed)
    random = np.random.default_rng(seed)
    with mock.patch.object(programs, "_MANY", 0):
        first = later.optimum(later.arrivals, maximise=True)
    assert isinstance(first, Relaxed)
    idle = np.flatnonzero((first.point <= 0) & (random.random(len(first.point)) < 0.5))
    for each in (later, before):
        each.program.shut(idle)
        each.program.add_row(each.arrivals, lower=int(first.value * each.share))

    with mock.patch.object(programs, "_MANY", 0):
        here = later.optimum(later.costs, maximise=False)
    with mock.patch.object(programs, "_MANY", 10**9):
        there = before.optimum(before.costs, maximise=False)

    assert isinstance(here, Relaxed)
    assert isinstance(there, Relaxed)
    assert (here.point[idle] == 0).all()
    assert here.value == pytest.approx(there.value, abs=1e-6)
