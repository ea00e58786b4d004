"""The keep-and-fill program of a fleet: what its columns mean, and the goals as sums over them.

A node's future is split in two independent halves: which of its anchored pods it keeps, and which
pattern of arrivals it takes into what is then free. Nodes of one state are counted, not named, so
the program grows with the kinds of nodes and pods and hardly with the fleet.

    y[keep]      nodes of a class that keep exactly this
    z[fill]      nodes with this residual room that take this pattern of arrivals
    w[reserve]   nodes that leave so many GPUs free, in whole slots
    x[group, t]  arrivals of pods of one shape and welcome, on nodes of type t
    s, m, p, u   running pods that survive and that move, waiting pods and gangs that are placed
    a[team]      running gangs that survive

`assembly` makes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bayplan.plan import EVICTION_COST
from bayplan.solver.keepfill.patterns import Patterns
from bayplan.solver.keepfill.views import View
from bayplan.solver.problem import goals
from bayplan.solver.problem.goals import FreeSlots, Goal, Keep, LeastDisruption, Place
from bayplan.solver.problem.instance import Counts, Instance, Mask
from bayplan.solver.problem.states import NodeTypes, States
from bayplan.solver.programs.program import NONE, Program, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Classes of pods with one shape and one welcome: interchangeable where they arrive.

    Attributes:
        shape: Index of what each uses.
        classes: The classes.
        types: Node types that welcome them.
    """

    shape: int
    classes: tuple[int, ...]
    types: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """Residual room on nodes of one type, as the set of patterns that fit in it.

    Attributes:
        type: Index of the node type.
        fits: [pattern] which patterns of the type fit.
        patterns: Patterns that have a column.
        columns: Their columns.
        row: Row that hands out the nodes; -1 when nothing fits.
    """

    type: int
    fits: Mask = field(repr=False)
    patterns: Counts = field(repr=False)
    columns: Counts = field(repr=False)
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Nodes of one residual room that leave `gpus` free and fill what is left.

    Attributes:
        column: The column that counts them.
        spot: Index of where they come from.
        target: Index of the residual room in which they are filled.
        gpus: GPUs left free.
    """

    column: int
    spot: int
    target: int
    gpus: int


@dataclass(slots=True, kw_only=True)
class Fleet:
    """The program with what is needed to read it.

    Attributes:
        instance: The problem.
        view: How the running pods are seen.
        types: What nodes accept.
        states: The classes of nodes and what each can keep.
        groups: Pods that are interchangeable where they arrive.
        shapes: [shape, resource] what pods of each shape use.
        patterns: Fill patterns by node type.
        program: Columns and rows.
        residuals: Sets of patterns that fit in the room that keeps leave.
        reserves: Ways to leave GPUs free; empty until slots are asked for.
        residual_of: [keep] index of the residual class.
        spot_of: [keep] index of the residual class and free GPUs; empty like `reserves`.
        y, s, m, p, u, a: Columns by keep, class, identity, class, kind of gang and team.
        settled: Pods that survive by tier, once that is settled.
        x: Column by group and node type.
        supply: Row by node type and shape.
        known: Index of a residual class by node type and set of patterns.
    """

    instance: Instance
    view: View
    types: NodeTypes
    states: States
    groups: tuple[Group, ...]
    shapes: Counts
    patterns: tuple[Patterns, ...]
    program: Program = field(default_factory=Program)
    residuals: list[Residual] = field(default_factory=list)
    reserves: list[Reserve] = field(default_factory=list)
    residual_of: Counts = field(default_factory=lambda: NONE)
    spot_of: Counts = field(default_factory=lambda: NONE)
    y: Counts = field(default_factory=lambda: NONE)
    s: Counts = field(default_factory=lambda: NONE)
    m: Counts = field(default_factory=lambda: NONE)
    p: Counts = field(default_factory=lambda: NONE)
    u: Counts = field(default_factory=lambda: NONE)
    a: Counts = field(default_factory=lambda: NONE)
    settled: dict[int, int] = field(default_factory=dict)
    x: dict[tuple[int, int], int] = field(default_factory=dict)
    supply: dict[tuple[int, int], int] = field(default_factory=dict)
    known: dict[tuple[int, bytes], int] = field(default_factory=dict)

    @property
    def fills(self) -> int:
        """Number of fill columns."""
        return sum(len(each.columns) for each in self.residuals)

    @property
    def wide(self) -> Mask:
        """[column] whether a column counts pods, not nodes."""
        mask = np.zeros(len(self.program.lower), dtype=np.bool_)
        mask[np.concatenate([self.s, self.m, self.p, self.whole])] = True
        mask[list(self.x.values())] = True
        return mask

    @property
    def whole(self) -> Counts:
        """Columns that count gangs: half of one is worth nothing."""
        return np.concatenate([self.u, self.a])

    @property
    def gangs(self) -> tuple[Counts, Counts]:
        """Fewest and most gangs, by column of `whole`."""
        return self.program.lower[self.whole], self.program.upper[self.whole]

    @property
    def reserved(self) -> Counts:
        """Fill columns that nodes with a reserve share with others."""
        targets = sorted({each.target for each in self.reserves})
        return np.concatenate([NONE, *(self.residuals[r].columns for r in targets)])

    def terms(self, goal: Goal) -> Terms:
        """Return a goal as a sum over columns."""
        match goal:
            case Keep():
                return Terms.over(self.s[goal.mask(self.instance) > 0])
            case Place():
                return Terms.over(self.p[goal.mask(self.instance) > 0])
            case LeastDisruption():
                return self._suffering(goal.mask(self.instance) > 0)
            case FreeSlots():
                columns = np.array([each.column for each in self.reserves], dtype=np.int64)
                gpus = np.array([each.gpus for each in self.reserves], dtype=np.int64)
                return Terms(columns=columns, weights=gpus // goal.size)
        raise TypeError(f"no terms for {goal!r}")

    def idle(self) -> Terms:
        """Return the GPUs that nobody uses: no fewer than are free, for closed nodes count too."""
        gpus = goals.gpu_columns(self.instance)
        used = -self.instance.requests[:, gpus].sum(axis=1)
        there = int(self.instance.capacity[:, gpus].sum())
        running = Terms(columns=self.s, weights=used, constant=there)
        return Terms.joined([running, Terms(columns=self.p, weights=used)])

    def _suffering(self, mask: Mask) -> Terms:
        """Return what running pods of the classes in `mask` suffer.

        What evictions cost is a constant in tiers of which it is known how many survive.
        """
        moving = [q for q, members in enumerate(self.view.members) if mask[list(members)].any()]
        tiers = np.array([each.keep_tier for each in self.instance.classes], dtype=np.int64)
        lost = [
            self._lost(mask & (tiers == tier), tier) for tier in sorted({*tiers[mask].tolist()})
        ]
        costs = self.instance.move_costs[[self.view.members[q][0] for q in moving]]
        return Terms.joined([Terms(columns=self.m[moving], weights=costs), *lost])

    def _lost(self, mask: Mask, tier: int) -> Terms:
        """Return what evictions cost in the classes in `mask`, which are all those of a tier.

        Of a settled tier only what some classes cost more than others depends on who survives.
        """
        running, costs = self.instance.run_totals[mask], self.instance.move_costs[mask]
        base = EVICTION_COST + costs.min() if tier in self.settled else 0
        more = EVICTION_COST + costs - base
        dear = more > 0
        constant = int(more @ running)
        if tier in self.settled:
            constant += int(base) * (int(running.sum()) - self.settled[tier])
        return Terms(columns=self.s[mask][dear], weights=-more[dear], constant=constant)

    def settle(self, kept: Mapping[int, int]) -> None:
        """Fix how many pods of each tier survive, where it is proved that there cannot be more.

        What evictions cost is then a constant, and no large number in the sums.
        """
        for tier, survivors in kept.items():
            columns = self.s[Keep(tier).mask(self.instance) > 0]
            self.program.add_row(Terms.over(columns), lower=survivors, upper=survivors)
            self.settled[tier] = survivors
