"""What nothing can beat, node by node: a linear program over what whole nodes could hold.

Each node holds some mix of pods (`mixes`), and together they hold everyone who survives and is
placed. A mix is whole here, so half a pod does not fill half a hole, which is why the bound is
hardly ever off by one. Mixes are priced in (column generation: Gilmore and Gomory, Operations
Research 9, 1961): the program says what pods are worth, and a search finds mixes that are worth
more than what is known. Prices between the last and the best ones until then keep it from swinging
to and fro (Wentges, International Transactions in Operational Research 4, 1997). Of the mixes that
are known then, CP-SAT makes a better placement where there is one.

The bound is that of Lagrange at prices in whole numbers, so no tolerance of a solver is in it. Of
the rules of a plan (`demand`) only room, heads, gangs and evictions are seen: where there are more,
it holds all the more.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from bayplan.solver.bounds import mixes
from bayplan.solver.bounds.demand import ENDLESS, Demand
from bayplan.solver.bounds.mixes import Nodes, Offer, Prices
from bayplan.solver.problem.assignment import Assignment, present
from bayplan.solver.problem.instance import Counts, Instance
from bayplan.solver.programs import integral
from bayplan.solver.programs.budget import Budget
from bayplan.solver.programs.linear import Basis, Corner, Entries, Linear, Reals, minimum

#: Prices are whole numbers of this part of one.
_UNIT: Final = 1 << 20

#: How many mixes are looked at more closely at first, by how much more when none is found, and
#: how many at most.
_WIDTH: Final = 300
_WIDER: Final = 4
_WIDEST: Final = 20_000

#: Share of the best prices until now in those that are asked for.
_STEADY: Final = 0.5

#: Share of the time that prices may take; the rest is for a placement out of the mixes.
_PRICING_SHARE: Final = 0.7

#: Most mixes that a placement is made of when all are looked at.
_MOST_MIXES: Final = 20_000

#: Effort of a search by pairs looked at, and of a linear program by columns.
_EFFORT_PER_PAIR: Final = 5e-8
_EFFORT_PER_COLUMN: Final = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What came of it.

    Attributes:
        bound: What the costs cannot fall short of.
        assignment: A placement that costs less than the one before; None where none was found.
    """

    bound: int
    assignment: Assignment | None


def search(
    instance: Instance, demand: Demand, incumbent: Assignment, budget: Budget
) -> Proof | None:
    """Return what no placement that meets the demand can cost less than, and a better one.

    Args:
        instance: The problem.
        demand: What is asked of a placement, and what it costs.
        incumbent: A placement that meets the demand.
        budget: What may be used up; what was is taken off.

    Returns:
        None where nodes can hold too many things.
    """
    nodes = mixes.nodes_of(instance, demand.anchored)
    if nodes is None:
        return None
    program = _Program(instance=instance, demand=demand, nodes=nodes)
    for known in (present(instance), incumbent):
        program.learn(known)
    target = demand.cost_of(instance, incumbent)
    pricing = replace(budget, deadline_at=budget.clock() + budget.seconds * _PRICING_SHARE)
    program.price(target, pricing)
    budget.effort = pricing.effort
    found = program.closed(target, budget)
    return Proof(bound=program.bound, assignment=found)


@dataclass(slots=True, kw_only=True)
class _Program:
    """The linear program, with the mixes that are known.

    Columns are those of the demand, then the mixes. Rows are those of the classes of nodes, then
    those of the demand.

    Attributes:
        owners: [mix] class of nodes.
        kept: [mix, class] what stays.
        held: [mix, class] what stays and what arrives.
        bound: What the costs cannot fall short of.
    """

    instance: Instance
    demand: Demand
    nodes: Nodes
    owners: Counts = field(init=False)
    kept: Counts = field(init=False)
    held: Counts = field(init=False)
    _basis: Basis | None = None
    _best: "_Bound | None" = None
    bound: int = -ENDLESS

    def __post_init__(self) -> None:
        count = len(self.instance.classes)
        self.owners = np.zeros(0, dtype=np.int64)
        self.kept = self.held = np.zeros((0, count), dtype=np.int64)

    def learn(self, assignment: Assignment) -> None:
        """Add the mixes of a placement."""
        count = len(self.instance.classes)
        kept = np.minimum(assignment.final, self.demand.anchored).T
        mixes_ = np.column_stack([self.nodes.states.of_node, kept, assignment.final.T])
        mixes_ = np.unique(mixes_, axis=0)
        self._add(mixes_[:, 0], mixes_[:, 1 : count + 1], mixes_[:, count + 1 :])

    def price(self, target: int, budget: Budget) -> None:
        """Raise the bound, up to `target` or to all that mixes can prove."""
        steady, width = _STEADY, _WIDTH
        while not budget.spent and self.bound < target:
            corner = self._corner(budget.seconds)
            if corner is None or self.bound >= corner.value + self.demand.constant:
                return
            duals = self._whole(corner.duals[len(self.nodes.states.sizes) :])
            asked = duals
            if self._best is not None:
                asked = np.rint(steady * self._best.duals + (1 - steady) * duals).astype(np.int64)
            tried = self._tried(asked, width, budget)
            if self._best is None or tried.value > self._best.value:
                self._best = tried
                self.bound = -(-tried.value // _UNIT)
            budget.effort -= _EFFORT_PER_PAIR * tried.pairs + _EFFORT_PER_COLUMN * len(self.owners)
            if tried.new:
                steady = _STEADY
            elif (asked != duals).any():
                steady = 0.0
            elif width < _WIDEST and not tried.exact:
                width *= _WIDER
            else:
                return

    def closed(self, target: int, budget: Budget) -> Assignment | None:
        """Return a placement that costs less than `target`, or None; raise the bound up to it.

        First the mixes that are known may do: for the bound itself, then for anything less than
        the target. Then all mixes are looked at that a placement could be made of which costs
        little more than the bound; twice as much more each time, while they are few enough.
        """
        found = None
        for most in sorted({self.bound, target - 1}):
            solved = self._solved(min(most, target - 1), budget)
            if solved is not None and solved.point is not None:
                found = self._dealt(solved.point)
                target = self.demand.cost_of(self.instance, found)
        step, wider = 1, 2
        while step and self.bound < target:
            most = min(self.bound + step, target) - 1
            if not self._complete(most, budget):
                step, wider = step // 2, 1
                continue
            solved = self._solved(most, budget)
            if solved is not None and solved.infeasible:
                self.bound, step = most + 1, step * wider
                continue
            if solved is None or solved.point is None or solved.bound is None:
                return found
            found = self._dealt(solved.point)
            target = self.demand.cost_of(self.instance, found)
            self.bound = max(self.bound, min(target, solved.bound + self.demand.constant))
            return found
        return found

    def _solved(self, most: int, budget: Budget) -> integral.Solved | None:
        """Return what CP-SAT makes of the known mixes for costs of `most`; None for no time."""
        if budget.spent or most < self.bound:
            return None
        program, constant = self._linear(), self.demand.constant
        program.upper[len(self.demand.costs) :][self._loss > self._slack(most)] = 0
        program = program.capped(self.bound - constant, most - constant)
        solved = integral.best(program, budget.limits())
        budget.effort -= solved.effort + _EFFORT_PER_COLUMN * len(self.owners)
        return solved

    def _complete(self, most: int, budget: Budget) -> bool:
        """Add all mixes that placements which cost `most` may have; False if late, or too many."""
        if budget.spent or self._best is None:
            return False
        floor = self._best.most - self._slack(most) - 1
        prices = self._prices(self._best.duals)
        offer = mixes.above(self.nodes, prices, floor, width=_WIDEST, ended=lambda: budget.late)
        budget.effort -= _EFFORT_PER_PAIR * offer.pairs
        if not offer.exact or len(offer.keeps) > _MOST_MIXES:
            return False
        self._adopt(offer)
        return True

    @property
    def _loss(self) -> Counts:
        """[mix] what it takes at least from the best prices' bound, in units."""
        if self._best is None:
            return np.zeros(len(self.owners), dtype=np.int64)
        return np.asarray(self._best.most[self.owners] - self._values(self._best.duals))

    def _slack(self, most: int) -> int:
        """Return what a placement that costs `most` may lose, in units."""
        return ENDLESS * _UNIT if self._best is None else most * _UNIT - self._best.value

    def _prices(self, duals: Counts) -> Prices:
        count, staying = len(self.instance.classes), self.demand.staying
        stay = _UNIT * self.demand.savings
        stay[staying] -= duals[count : count + len(staying)]
        return Prices(worth=duals[:count], stay=stay)

    def _adopt(self, offer: Offer) -> None:
        """Add the mixes of a search."""
        states = self.nodes.states
        kept = states.keeps[offer.keeps]
        self._add(states.owner[offer.keeps], kept, kept + offer.fills)

    def _add(self, owners: Counts, kept: Counts, held: Counts) -> None:
        self.owners = np.concatenate([self.owners, owners])
        self.kept = np.concatenate([self.kept, kept])
        self.held = np.concatenate([self.held, held])

    def _corner(self, seconds: float) -> Corner | None:
        """Return the optimum of the program, from the last one if that helps."""
        program = self._linear()
        found = None
        if self._basis is not None:
            begin = self._basis.grown(len(program.costs), len(program.least))
            found = minimum(program, seconds=seconds, begin=begin)
        if not isinstance(found, Corner):
            found = minimum(program, seconds=seconds)
        if not isinstance(found, Corner):
            return None
        self._basis = found.basis
        return found

    def _values(self, duals: Counts) -> Counts:
        """Return [mix] what it is worth, in units."""
        prices = self._prices(duals)
        return np.asarray(self.held @ prices.worth + self.kept @ prices.stay, dtype=np.int64)

    def _tried(self, duals: Counts, width: int, budget: Budget) -> "_Bound":
        """Return what prices prove, after a search for mixes that they would have."""
        states = self.nodes.states
        known = np.full(len(states.sizes), -ENDLESS * _UNIT, dtype=np.int64)
        np.maximum.at(known, self.owners, self._values(duals))
        offer = mixes.best(
            self.nodes, self._prices(duals), known, width=width, ended=lambda: budget.late
        )
        self._adopt(offer)
        return _Bound(
            value=self._lagrange(duals, offer.most),
            duals=duals,
            most=offer.most,
            new=len(offer.keeps),
            exact=offer.exact,
            pairs=offer.pairs,
        )

    def _lagrange(self, duals: Counts, most: Counts) -> int:
        """Return what the costs are at least, in units, if no mix is worth more than `most`."""
        total = _UNIT * self.demand.constant - int(self.nodes.states.sizes @ most)
        left = _UNIT * self.demand.costs
        for dual, (columns, weights, least, high) in zip(
            duals.tolist(), self.demand.rows, strict=True
        ):
            total += dual * (least if dual > 0 else high)
            np.subtract.at(left, columns, dual * weights)
        return total + int(np.minimum(left * self.demand.lower, left * self.demand.upper).sum())

    def _whole(self, duals: Reals) -> Counts:
        """Return prices of the rows in units; nothing can be asked for what no row forbids."""
        whole = np.rint(duals * _UNIT).astype(np.int64)
        least, most = self._limits
        whole[(whole > 0) & (least <= -ENDLESS)] = 0
        whole[(whole < 0) & (most >= ENDLESS)] = 0
        return whole

    @property
    def _limits(self) -> tuple[Counts, Counts]:
        """The least and the most of the rows of the demand."""
        ends = np.array([row[2:] for row in self.demand.rows], dtype=np.int64)
        return ends[:, 0], ends[:, 1]

    def _linear(self) -> Linear:
        demand, sizes = self.demand, self.nodes.states.sizes
        least, most = self._limits
        # Before a number as large as that GLOP's preparation gives up.
        most = np.where(most < ENDLESS, most, np.inf)
        first, lead = len(demand.costs), len(sizes)
        mix, of_class = np.nonzero(self.held)
        keeper, who = np.nonzero(self.kept[:, demand.staying])
        who_row = lead + len(self.instance.classes) + who
        some, by, _, _ = zip(*demand.rows, strict=True)
        lengths = [len(columns) for columns in some]
        rows = [self.owners, lead + of_class, lead + np.repeat(np.arange(len(lengths)), lengths)]
        rows.append(who_row)
        columns = [first + np.arange(len(self.owners)), first + mix, *some, first + keeper]
        stay = -self.kept[:, demand.staying][keeper, who]
        weights = [np.ones_like(self.owners), self.held[mix, of_class], *by, stay]
        return Linear(
            costs=np.concatenate([demand.costs, -self.kept @ demand.savings]).astype(np.float64),
            lower=np.concatenate([demand.lower, np.zeros(len(self.owners))]).astype(np.float64),
            upper=np.concatenate([demand.upper, sizes[self.owners]]).astype(np.float64),
            least=np.concatenate([sizes, least]).astype(np.float64),
            most=np.concatenate([sizes, most]).astype(np.float64),
            entries=Entries.summed(
                np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)
            ),
        )

    def _dealt(self, point: Counts) -> Assignment:
        """Return the placement of a point: nodes get the mixes that are most like what they hold.

        Mixes may hold more than there is; arrivals are then left out first.
        """
        instance, count, kinds = self.instance, len(self.instance.classes), self.instance.kinds
        final = np.zeros_like(instance.running)
        survivors, placed = point[:count], point[count : 2 * count]
        mixes_of = np.repeat(np.arange(len(self.owners)), point[len(self.demand.costs) :])
        free = np.ones(len(instance.nodes), dtype=np.bool_)
        for mix in mixes_of.tolist():
            held = self.held[mix]
            nodes = np.flatnonzero(free & (self.nodes.states.of_node == self.owners[mix]))
            alike = np.minimum(instance.running[:, nodes], held[:, None]).sum(axis=0)
            node = nodes[int(alike.argmax())]
            final[:, node], free[node] = held, False
        excess = final.sum(axis=1) - survivors - placed
        for keep in (np.minimum(final, instance.running), np.zeros_like(final)):
            left = np.minimum(np.cumsum(final - keep, axis=1), excess[:, None])
            final -= np.diff(left, axis=1, prepend=0)
            excess = excess - left[:, -1]
        return Assignment(
            final=final,
            survivors=survivors.copy(),
            units=point[2 * count : 2 * count + len(kinds)].copy(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """What prices prove.

    Attributes:
        value: What the costs cannot fall short of, in units.
        duals: [row of the demand] the prices, in units.
        most: [class of nodes] what no mix is worth more than, in units.
        new: How many mixes came of them.
        exact: Whether there is a mix worth `most` for each class of nodes.
        pairs: How many pairs of a mix and a class were looked at.
    """

    value: int
    duals: Counts = field(repr=False)
    most: Counts = field(repr=False)
    new: int
    exact: bool
    pairs: int
