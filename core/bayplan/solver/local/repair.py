"""Window repair: a few nodes and a few waiting pods are solved exactly, again and again.

Everything outside a window stays as it is, so that each is a small CP-SAT model of the same rules
and goals as the whole (`cpsat`). Windows grow while nothing is found. What comes out is taken only
if all rules hold and the goals got better, so that the search can be ended at any moment.
Which windows are tried depends on the seed alone, and how many on deterministic effort; the clock
only ends the search.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayplan.policy import Policy
from bayplan.solver.exact.constraints import allowed
from bayplan.solver.exact.cpsat import Model
from bayplan.solver.exact.variables import Window
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import Goal, Keep, LeastDisruption, Place
from bayplan.solver.problem.instance import Counts, Instance, PodClass
from bayplan.solver.programs.budget import Budget

#: Nodes of the first windows.
_NODES: Final = 4

#: Waiting units of a window.
_UNITS: Final = 6

#: Windows without success after which they grow by a node.
_PATIENCE: Final = 4

#: Windows without success, for each node of the instance, after which the search ends.
_TRIES_PER_NODE: Final = 1.0

#: Deterministic effort of one window.
_EFFORT: Final = 0.05

#: Effort that making a model takes, per variable: about what CP-SAT does in that time.
_EFFORT_PER_VARIABLE: Final = 2e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """The goal a search looks after.

    Attributes:
        position: Its index in the order; goals before it never get worse.
        bound: What cannot be beaten in it: reason to stop.
    """

    position: int
    bound: int


def improvements(
    instance: Instance, policy: Policy, start: Assignment, *, aim: Aim, budget: Budget
) -> Iterator[Assignment]:
    """Yield ever better assignments, beginning with what is better than `start`, which is valid.

    The budget is used up on the way.
    """
    search = _Search(instance=instance, policy=policy, aim=aim, incumbent=start, budget=budget)
    size, failures = _NODES, 0
    while failures < _TRIES_PER_NODE * max(len(instance.nodes), 2 * _NODES):
        if budget.spent or search.reached():
            return
        if search.step(min(size, len(instance.nodes))):
            yield search.incumbent
            failures, size = 0, max(_NODES, size - 1)
            continue
        failures += 1
        if failures % _PATIENCE == 0:
            size += 1


@dataclass(slots=True, kw_only=True)
class _Search:
    """The incumbent, and where to look next."""

    instance: Instance
    policy: Policy
    aim: Aim
    incumbent: Assignment
    budget: Budget
    order: tuple[Goal, ...] = field(init=False)
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.order = goals.in_order(self.instance, self.policy.order)
        self.random = np.random.default_rng([self.budget.seed, self.aim.position])

    @property
    def goal(self) -> Goal:
        """The goal that is looked after."""
        return self.order[self.aim.position]

    def reached(self) -> bool:
        """Return whether the goal cannot get better."""
        return self.goal.value(self.instance, self.incumbent) == self.aim.bound

    def step(self, size: int) -> bool:
        """Solve one window of `size` nodes; return whether that made the whole better."""
        window = self._window(size)
        model = Model(self.instance, self.policy, self.budget.seed, window)
        for goal in self.order[: self.aim.position]:
            model.require(goal, goal.value(self.instance, self.incumbent))
        found = model.climb(
            self.order[self.aim.position :],
            self.incumbent,
            seconds=self.budget.seconds,
            effort=min(_EFFORT, self.budget.effort),
        )
        self.budget.effort -= found.effort + _EFFORT_PER_VARIABLE * len(model.v.final)
        return found.assignment is not None and self._take(found.assignment)

    def _take(self, assignment: Assignment) -> bool:
        if not goals.better(self.instance, self.order, assignment, self.incumbent):
            return False
        if not allowed(self.instance, self.policy, assignment):
            return False
        self.incumbent = assignment
        return True

    def _window(self, size: int) -> Window:
        """Return nodes and classes that may serve the goal together."""
        wanted = self._wanted()
        nodes = self._nodes(size, wanted)
        present = np.union1d(
            np.flatnonzero(self.incumbent.final[:, nodes].any(axis=1)),
            np.flatnonzero(self.instance.running[:, nodes].any(axis=1)),
        )
        classes = self._with_gangs({*wanted, *(int(i) for i in present)})
        return Window(base=self.incumbent, nodes=nodes, classes=tuple(sorted(classes)))

    def _wanted(self) -> list[int]:
        """Return classes of pods that the goal wants placed, some of them at random."""
        match self.goal:
            case Place() as goal:
                lacking = self.instance.wait_totals - self.incumbent.placed
            case Keep() as goal:
                lacking = self.instance.run_totals - self.incumbent.survivors
            case _:
                lost = self.instance.run_totals - self.incumbent.survivors
                return [int(i) for i in np.flatnonzero(lost)]
        open_ones = [int(i) for i in np.flatnonzero(goal.mask(self.instance) * lacking)]
        picked = self.random.permutation(len(open_ones))[:_UNITS]
        return [open_ones[i] for i in picked]

    def _nodes(self, size: int, wanted: list[int]) -> tuple[int, ...]:
        """Return nodes at random, those that promise more with more weight."""
        if isinstance(self.goal, LeastDisruption):
            weight, first = self._disturbed()
        else:
            weight, first = self._roomy(), self._takers(wanted)
        chosen = self._drawn(weight, first, (size + 1) // 2)
        return tuple(sorted(self._drawn(weight, range(len(weight)), size, chosen)))

    def _drawn(
        self,
        weight: NDArray[np.float64],
        among: Iterable[int],
        size: int,
        chosen: Iterable[int] = (),
    ) -> list[int]:
        """Return `chosen` and more nodes, drawn by weight, until there are `size`."""
        picked = list(chosen)
        others = np.setdiff1d(np.fromiter(among, dtype=np.int64), picked)
        keys = self.random.random(len(others)) ** (1.0 / weight[others])
        best = others[np.argsort(-keys, kind="stable")]
        return picked + [int(n) for n in best[: max(0, size - len(picked))]]

    def _roomy(self) -> NDArray[np.float64]:
        """Return [node] the share that is free, or could be for pods that matter more."""
        instance, final = self.instance, self.incumbent.final
        capacity = np.maximum(instance.capacity, 1)
        free = instance.capacity - final.T @ instance.requests
        lower = np.array([float(self._yields(each)) for each in instance.classes])
        yielding = (final * lower[:, None]).T @ instance.requests
        return np.asarray(((free + 0.3 * yielding) / capacity).mean(axis=1) + 0.02)

    def _yields(self, each: PodClass) -> bool:
        """Return whether pods of a class matter less than those that the goal looks after."""
        goal = self.goal
        if not isinstance(goal, Keep | Place):
            return False
        lower = each.place is not None and each.place.rank < goal.rank
        return lower or each.keep_tier < goal.rank.tier

    def _takers(self, wanted: list[int]) -> list[int]:
        """Return the nodes that a wanted pod may go to, and where one of its gang is."""
        able = self.instance.arrivals[wanted].any(axis=0)
        return [int(n) for n in np.flatnonzero(able)]

    def _disturbed(self) -> tuple[NDArray[np.float64], list[int]]:
        """Return [node] how much came or went there, and the nodes of one class that moved."""
        change = self.incumbent.final - self.instance.running
        left = np.flatnonzero((change < 0).any(axis=1))
        weight = np.abs(change).sum(axis=0) + 0.1
        if not len(left):
            return np.asarray(weight, dtype=np.float64), []
        one: Counts = change[self.random.choice(left)]
        return np.asarray(weight, dtype=np.float64), [int(n) for n in np.flatnonzero(one)]

    def _with_gangs(self, classes: set[int]) -> set[int]:
        """Return the classes with all of the gangs that have a part in them."""
        instance = self.instance
        kinds = {k for i in classes if (k := instance.classes[i].kind) is not None}
        whole = classes | {i for k in kinds for i, _ in instance.kinds[k].need}
        keys = {instance.classes[i].gang for i in whole} | {
            instance.kinds[k].running for k in kinds
        }
        for gang in instance.gangs:
            whole |= set(gang.classes) if gang.key in keys else set()
        return whole
