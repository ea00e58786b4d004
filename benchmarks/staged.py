"""The staged model of the paper "Priority Matters", as a baseline.

One boolean per pod and node. For each priority from the highest, over the pods of at least that
priority: first as many as possible are placed, then as little as possible is disturbed, a pod that
stays counting 0, one that is evicted 1 and one that moves 2. Each stage starts from the solution of
the one before as a hint and freezes what it reached. 60 % of the time is shared out evenly among
the priorities, what they do not use and the other 40 % go to whoever asks first; within a priority
each of both stages has half. Written anew from the paper's description.
"""

import time
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from ortools.sat.python import cp_model

from benchmarks.family import NOWHERE, Amounts, Cluster

#: Seconds that the paper keeps back for everything but solving.
_RESERVE_S: Final = 0.2

#: Share of the time that is guaranteed to the priorities.
_GUARANTEED: Final = 0.6

_SOLVED: Final = (cp_model.OPTIMAL, cp_model.FEASIBLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the staged model came to.

    Attributes:
        homes: [pod] node, -1 for none; None when the first stage found nothing in time.
        optimal: Whether every stage was proved.
        seconds: Wall clock.
    """

    homes: Amounts | None
    optimal: bool
    seconds: float


def answer(what: Cluster, homes: Amounts, *, budget: float) -> Answer:
    """Return what the staged model makes of a placement within `budget` seconds."""
    started_at = time.perf_counter()
    run = _Run(what, homes)
    tiers = sorted({int(tier) for tier in what.priorities}, reverse=True)
    guaranteed = _GUARANTEED * (budget - _RESERVE_S) / len(tiers)
    pool = (1 - _GUARANTEED) * (budget - _RESERVE_S)
    optimal = True
    for tier in tiers:
        begun_at = time.perf_counter()
        share = (guaranteed + pool) / 2
        placed = run.place(tier, share)
        settled = placed is not None and run.disturb(tier, share)
        optimal = optimal and bool(placed) and bool(settled)
        if placed is None:
            break
        pool = max(0.0, pool + guaranteed - (time.perf_counter() - begun_at))
    seconds = time.perf_counter() - started_at
    return Answer(homes=run.found, optimal=optimal, seconds=seconds)


@dataclass(slots=True)
class _Run:
    """The model, to which stages add what they reached."""

    what: Cluster
    homes: Amounts
    found: Amounts | None = None
    model: cp_model.CpModel = field(default_factory=cp_model.CpModel)
    x: list[list[cp_model.IntVar]] = field(init=False)

    def __post_init__(self) -> None:
        pods, nodes = range(len(self.what.asks)), range(self.what.nodes)
        self.x = [[self.model.new_bool_var(f"x_{i}_{n}") for n in nodes] for i in pods]
        for row in self.x:
            self.model.add_at_most_one(row)
        for n in nodes:
            here = [row[n] for row in self.x]
            for k, room in enumerate(self.what.room):
                asks = [int(amount) for amount in self.what.asks[:, k]]
                self.model.add(cp_model.LinearExpr.weighted_sum(here, asks) <= int(room))

    def place(self, tier: int, seconds: float) -> bool | None:
        """Place as many pods of the tier and above as possible; return whether that is proved.

        None says that nothing was found in time.
        """
        rows = [self.x[i] for i in np.flatnonzero(self.what.priorities >= tier)]
        placed = cp_model.LinearExpr.sum([var for row in rows for var in row])
        self.model.maximize(placed)
        return self._solve(placed, seconds, more=True)

    def disturb(self, tier: int, seconds: float) -> bool | None:
        """Disturb as few running pods of the tier and above as possible; likewise."""
        ran = np.flatnonzero((self.what.priorities >= tier) & (self.homes != NOWHERE))
        every = cp_model.LinearExpr.sum([var for i in ran for var in self.x[i]])
        stay = cp_model.LinearExpr.sum([self.x[i][int(self.homes[i])] for i in ran])
        cost = every - 2 * stay
        self.model.minimize(cost)
        return self._solve(cost, seconds, more=False)

    def _solve(self, term: cp_model.LinearExpr, seconds: float, *, more: bool) -> bool | None:
        self._hint()
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = max(0.01, seconds)
        status = solver.solve(self.model)
        if status not in _SOLVED:
            return None
        self.found = np.array([self._home(solver, row) for row in self.x], dtype=np.int64)
        value, proved = round(solver.objective_value), status == cp_model.OPTIMAL
        if proved:
            self.model.add(term == value)
        else:
            self.model.add(term >= value if more else term <= value)
        return proved

    def _hint(self) -> None:
        start = self.homes if self.found is None else self.found
        self.model.clear_hints()  # type: ignore[no-untyped-call]  # all else is typed
        for row, home in zip(self.x, start, strict=True):
            for n, var in enumerate(row):
                self.model.add_hint(var, n == home)

    def _home(self, solver: cp_model.CpSolver, row: list[cp_model.IntVar]) -> int:
        return next((n for n, var in enumerate(row) if solver.value(var)), NOWHERE)
