"""What no plan can beat: a linear relaxation over kinds of nodes.

Nodes that are alike are one node with their summed room, pods may be split, and it does not
matter who is moved where. That is small at any fleet size, is solved by GLOP in milliseconds, and
bounds each keeping and placing stage given what the stages before it reached.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bayplan.policy import Policy
from bayplan.solver.problem.goals import Keep, Place
from bayplan.solver.problem.instance import Counts, Instance
from bayplan.solver.programs.linear import Corner, Entries, Failure, Linear, Reals, minimum

#: Largest relaxation that is tried, in columns.
MAX_COLUMNS: Final = 300_000

Term = tuple[int, float]

#: Columns, their weights, and the least and the most of the sum.
_Row = tuple[Counts, Reals, float, float]


@dataclass(slots=True)
class Relaxation:
    """The relaxation of one instance, to which stages add what they reached."""

    instance: Instance
    policy: Policy
    _columns: list[tuple[float, float]] = field(default_factory=list)
    _rows: list[_Row] = field(default_factory=list)
    _totals: dict[int, list[int]] = field(default_factory=dict)
    _survivors: dict[int, int] = field(default_factory=dict)
    _last: Corner | None = None
    too_large: bool = False

    def __post_init__(self) -> None:
        groups = _node_groups(self.instance)
        uppers = {rows: self.instance.upper[:, list(rows)].sum(axis=1) for rows in groups}
        self.too_large = sum(int((u > 0).sum()) for u in uppers.values()) > MAX_COLUMNS
        if self.too_large:
            return
        for rows, upper in uppers.items():
            self._add_nodes(rows, upper)
        self._add_classes()
        self._add_gangs()
        self._row(((s, 1.0) for s in self._survivors.values()), lower=self._fewest_survivors())
        for each in self.instance.allowances:
            running = sum(len(self.instance.classes[i].running) for i in each.classes)
            some = [(self._survivors[i], 1.0) for i in each.classes]
            self._row(some, lower=float(running - each.most))

    @property
    def columns(self) -> int:
        """Number of columns of the relaxation."""
        return len(self._columns)

    def require(self, goal: Keep | Place, value: int) -> None:
        """Make later bounds conditional on `goal` reaching `value`."""
        if not self.too_large:
            self._row(self._terms(goal), lower=value)

    def bound(self, goal: Keep | Place, *, seconds: float) -> int:
        """Return what nothing can beat in `goal`; its plain limit when time runs out."""
        limit = goal.limit(self.instance)
        if self.too_large or seconds <= 0:
            return limit
        corner = self._most(self._terms(goal), seconds)
        if isinstance(corner, Failure):
            return limit
        self._last, value = corner, -corner.value
        # GLOP works to about 1e-6 of the size of the numbers; a bound must never be too low.
        return min(limit, math.floor(value + 1e-5 * (1 + abs(value))))

    def _most(self, terms: Iterable[Term], seconds: float) -> Corner | Failure:
        """Return where the sum is largest; it is a cost below zero there."""
        rows, columns = range(len(self._rows)), len(self._columns)
        wanted, worth = _arrays(terms)
        lower, upper = np.array(self._columns, dtype=np.float64).reshape(-1, 2).T
        program = Linear(
            costs=-np.bincount(wanted, worth, minlength=columns).astype(np.float64),
            lower=lower,
            upper=upper,
            least=np.array([least for _, _, least, _ in self._rows], dtype=np.float64),
            most=np.array([most for _, _, _, most in self._rows], dtype=np.float64),
            entries=Entries.summed(
                np.repeat(np.array(rows), [len(some) for some, _, _, _ in self._rows]),
                np.concatenate([some for some, _, _, _ in self._rows]),
                np.concatenate([weights for _, weights, _, _ in self._rows]),
            ),
        )
        if self._last is None:
            return minimum(program, seconds=seconds)
        begin = self._last.basis.grown(columns, len(self._rows))
        return minimum(program, seconds=seconds, begin=begin)

    def _add_nodes(self, rows: tuple[int, ...], upper: "np.ndarray") -> None:
        """Add how many pods of each class a group of nodes holds, and the room it has for them."""
        columns = {}
        for i in np.flatnonzero(upper):
            columns[int(i)] = self._column(0.0, float(upper[i]))
            self._totals.setdefault(int(i), []).append(columns[int(i)])
        room = self.instance.capacity[list(rows)].sum(axis=0)
        for k in range(len(self.instance.resources)):
            asks = self.instance.requests[:, k]
            terms = [(column, float(asks[i])) for i, column in columns.items() if asks[i]]
            if terms:
                self._row(terms, upper=float(room[k]))

    def _add_classes(self) -> None:
        """Add that what is placed was waiting, and what survives was running."""
        for i, each in enumerate(self.instance.classes):
            if each.running:
                self._survivors[i] = self._column(0.0, float(len(each.running)))
            if each.kind is None:
                self._row(self._placed(i), lower=0.0, upper=float(len(each.waiting)))

    def _add_gangs(self) -> None:
        for kind in self.instance.kinds:
            units = self._column(0.0, float(len(kind.gangs)))
            for i, need in kind.need:
                self._row([*self._placed(i), (units, -float(need))], lower=0.0, upper=0.0)
        for gang in self.instance.gangs:
            alive = self._column(float(gang.pinned), 1.0)
            for i in gang.classes:
                running = float(len(self.instance.classes[i].running))
                self._row([(self._survivors[i], 1.0), (alive, -running)], lower=0.0, upper=0.0)

    def _fewest_survivors(self) -> float:
        return float(self.instance.run_totals.sum() - self.policy.max_evictions)

    def _placed(self, index: int) -> list[Term]:
        terms = [(column, 1.0) for column in self._totals.get(index, [])]
        if index in self._survivors:
            terms.append((self._survivors[index], -1.0))
        return terms

    def _terms(self, goal: Keep | Place) -> Iterable[Term]:
        for i in np.flatnonzero(goal.mask(self.instance)):
            if isinstance(goal, Place):
                yield from self._placed(int(i))
            elif int(i) in self._survivors:
                yield self._survivors[int(i)], 1.0

    def _column(self, lower: float, upper: float) -> int:
        self._columns.append((lower, upper))
        return len(self._columns) - 1

    def _row(
        self, terms: Iterable[Term], *, lower: float = -math.inf, upper: float = math.inf
    ) -> None:
        """Add a row, in units of its largest weight: GLOP's tolerances are absolute."""
        columns, weights = _arrays(terms)
        scale = max(1.0, weights.max(initial=0))
        self._rows.append((columns, weights / scale, lower / scale, upper / scale))


def _arrays(terms: Iterable[Term]) -> tuple[Counts, Reals]:
    """Return columns and their weights."""
    columns, weights = np.array(list(terms), dtype=np.float64).reshape(-1, 2).T
    return columns.astype(np.int64), weights


def _node_groups(instance: Instance) -> list[tuple[int, ...]]:
    """Return the nodes that are alike in room and in which classes they can hold."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    possible = np.packbits(instance.upper > 0, axis=0)
    for n in range(len(instance.nodes)):
        groups[instance.capacity[n].tobytes() + possible[:, n].tobytes()].append(n)
    return [tuple(rows) for rows in groups.values()]
