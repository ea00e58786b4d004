"""Searches stage by stage: chains, exchanges, splits, windows, whole nodes, the exact model.

What was found is only ever replaced by something better. Each stage ends with a bound that holds
whether or not it was reached: counted, from a linear relaxation, from whole nodes, or from CP-SAT.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from bayplan.plan import Stage
from bayplan.policy import Policy
from bayplan.solver.bounds import full_nodes, generation
from bayplan.solver.bounds.demand import demand_for
from bayplan.solver.bounds.relaxation import Relaxation
from bayplan.solver.exact.constraints import allowed
from bayplan.solver.exact.cpsat import Model
from bayplan.solver.local import ejection, exchange, greedy, repair, splits
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import Goal, Keep, LeastDisruption, Place
from bayplan.solver.problem.instance import Instance
from bayplan.solver.programs.budget import Budget
from bayplan.solver.solution import Progress, Solution, cheap_bound, sizes

#: Largest CP-SAT model, in (class, node) pairs; beyond it greedy answers and the relaxation bounds.
MAX_VARIABLES: Final = 20_000

#: Smallest instance, in pairs, that is taken apart into windows; below it the exact model is as
#: quick.
_MIN_APART: Final = 200

#: Largest CP-SAT model that is tried whole, in pairs per unit of effort: beyond it nothing comes
#: out in time, and windows of it find more.
_VARIABLES_PER_EFFORT: Final = 3_000

#: Largest instance, in pairs per second of the limit, of which mixes are priced: beyond it prices
#: do not settle in time, and windows find more.
_PRICED_PER_SECOND: Final = 8_000

#: Largest instance, in pairs, in which whole nodes come before windows where more is to be placed:
#: prices settle there before windows find anything.
_PRICED_FIRST: Final = 600

#: Share of what is left of the time that one step of a stage may use.
STAGE_SHARE: Final = 0.5

#: Share of what is left that all steps of a stage which keeps or places may use; in the rest moves
#: get fewer.
_PLACING_SHARE: Final = 0.7

#: Share of what is left that the proof that nodes would be too full may use.
_FULL_NODES_SHARE: Final = 0.4

#: Deterministic effort per second of the limit: low enough to end before the wall clock does.
EFFORT_PER_SECOND: Final = 0.5


def stepped(
    instance: Instance,
    policy: Policy,
    start: Assignment,
    *,
    goals: tuple[Goal, ...],
    ended: Callable[[], bool],
) -> Assignment:
    """Return what chains, exchanges and splits make of `start`, goal by goal, until `ended`."""
    found = start
    for goal in goals:
        for steps in (ejection, exchange, splits):
            for better in steps.improvements(instance, policy, found, goal=goal, ended=ended):
                found = better
    return found


@dataclass(slots=True, kw_only=True)
class Search:
    """One run through the stages, with the incumbent that it improves.

    `told` are the stages of another answer: their bounds hold as far as both reach the same.
    """

    instance: Instance
    policy: Policy
    clock: Callable[[], float]
    deadline_at: float
    seed: int
    incumbent: Assignment
    told: tuple[Stage, ...]
    repairs: bool
    progress: Progress
    engine: str = "greedy"
    effort: float = field(init=False)
    order: tuple[Goal, ...] = field(init=False)
    relaxation: Relaxation = field(init=False)
    _ends_at: float = field(init=False)
    _bounds: list[int] = field(default_factory=list)
    _model: Model | None = None

    def __post_init__(self) -> None:
        self.effort = self.policy.time_limit_s * EFFORT_PER_SECOND
        self.order = goals.in_order(self.instance, self.policy.order)
        self.relaxation = Relaxation(self.instance, self.policy)

    def run(self) -> Solution:
        """Return what the stages lead to."""
        done = [self._stage(position) for position in range(len(self.order))]
        stages = tuple(
            Stage(
                name=goal.name,
                value=goal.value(self.instance, self.incumbent),
                bound=bound,
                seconds=seconds,
            )
            for goal, (bound, seconds) in zip(self.order, done, strict=True)
        )
        return Solution(
            assignment=self.incumbent,
            stages=stages,
            engine=self.engine,
            sizes=(*sizes(self.instance), ("relaxation columns", self.relaxation.columns)),
        )

    def _stage(self, position: int) -> tuple[int, float]:
        """Improve the incumbent in one goal; return the bound and the seconds it took."""
        goal, started_at = self.order[position], self.clock()
        share = _PLACING_SHARE if isinstance(goal, Keep | Place) else 1.0
        self._ends_at = started_at + (self.deadline_at - started_at) * share
        bound = self._bound(position)
        self.progress(f"{goal.name}: {goal.value(self.instance, self.incumbent)}, bound {bound}")
        if self.repairs and self._open(goal, bound):
            self._step(goal)
        bound = self._too_full(position, bound)
        # On many nodes windows place more in the time that there is; whole nodes make fewer moves.
        windows = isinstance(goal, Place) and self.instance.variables > _PRICED_FIRST
        first, then = (self._repair, self._generate)[:: 1 if windows else -1]
        bound = first(position, bound)
        bound = then(position, bound)
        for spare in self._attempts(goal):
            if self._open(goal, bound) and self._affordable():
                bound = self._improve(position, bound, spare=spare)
        reached = goal.value(self.instance, self.incumbent)
        if isinstance(goal, Keep | Place):
            self.relaxation.require(goal, reached)
        self._bounds.append(bound)
        if self._model is not None:
            self._model.require(goal, reached, best=reached == bound)
        return bound, self.clock() - started_at

    def _attempts(self, goal: Goal) -> tuple[bool, ...]:
        """Return whether to spare running pods, try by try.

        Who is placed without an eviction is placed sooner, and the next stage has less to mend.
        """
        return (True, False) if isinstance(goal, Place) and self._runs else (False,)

    @property
    def _runs(self) -> bool:
        return bool(self.instance.run_totals.sum())

    def _bound(self, position: int) -> int:
        """Return the bound that costs little."""
        goal = self.order[position]
        bound = cheap_bound(self.instance, self.order[: position + 1], self.incumbent, self.told)
        if not isinstance(goal, Keep | Place) or goal.value(self.instance, self.incumbent) == bound:
            return bound
        return min(bound, self.relaxation.bound(goal, seconds=self._left() * STAGE_SHARE))

    def _open(self, goal: Goal, bound: int) -> bool:
        return goal.value(self.instance, self.incumbent) != bound and self._left() > 0

    def _step(self, goal: Goal) -> None:
        """Look for something better by chains, exchanges and splits."""
        ends_at = self.clock() + self._left() * STAGE_SHARE
        found = stepped(
            self.instance,
            self.policy,
            self.incumbent,
            goals=(goal,),
            ended=lambda: self.clock() >= ends_at,
        )
        if found is not self.incumbent:
            self.incumbent, self.engine = found, "repair"

    def _too_full(self, position: int, bound: int) -> int:
        """Return the bound, less what nodes would have to be too full for."""
        goal = self.order[position]
        if not isinstance(goal, Place):
            return bound
        before = self.order[:position]
        reached = [
            (each, each.value(self.instance, self.incumbent))
            for each in before
            if isinstance(each, Keep | Place)
        ]
        with self._lent(_FULL_NODES_SHARE) as budget:
            while self._open(goal, bound) and full_nodes.overflows(
                self.instance, [*reached, (goal, bound)], budget
            ):
                bound -= 1
        return bound

    def _repair(self, position: int, bound: int) -> int:
        """Look for something better window by window; return the bound, which stays."""
        goal = self.order[position]
        if not self.repairs or not self._open(goal, bound):
            return bound
        if self.instance.variables < _MIN_APART:
            return bound
        aim = repair.Aim(position=position, bound=bound)
        with self._lent(STAGE_SHARE) as budget:
            for better in repair.improvements(
                self.instance, self.policy, self.incumbent, aim=aim, budget=budget
            ):
                self.incumbent, self.engine = better, "repair"
        return bound

    def _generate(self, position: int, bound: int) -> int:
        """Let whole nodes prove a bound and make something better; return the tighter bound."""
        goal = self.order[position]
        if not isinstance(goal, Keep | Place | LeastDisruption) or self.instance.divided:
            return bound
        most = self.policy.time_limit_s * _PRICED_PER_SECOND
        if not self._open(goal, bound) or self.instance.variables > most:
            return bound
        before = self.order[:position]
        reached = [(each, each.value(self.instance, self.incumbent)) for each in before]
        demand = demand_for(self.instance, self.policy, goal, reached)
        with self._lent(self._share(position)) as budget:
            proof = generation.search(self.instance, demand, self.incumbent, budget)
        if proof is None:
            return bound
        if proof.assignment is not None and allowed(self.instance, self.policy, proof.assignment):
            self._take(position, proof.assignment, "mixes")
        found = -proof.bound if goal.maximise else proof.bound
        return min(bound, found) if goal.maximise else max(bound, found)

    def _share(self, position: int) -> float:
        """Return what a stage may use of what is left: the last one all of it."""
        return STAGE_SHARE if position < len(self.order) - 1 else 1.0

    def _take(self, position: int, assignment: Assignment, engine: str) -> None:
        """Make an assignment the incumbent if it is better."""
        if self._better(position, assignment):
            self.incumbent = greedy.refill(self.instance, self.policy, assignment)
            self.engine = engine

    def _improve(self, position: int, bound: int, *, spare: bool) -> int:
        """Let CP-SAT look for something better; return the tighter of both bounds."""
        goal = self.order[position]
        share = self._share(position)
        found = self._exact(position).improve(
            goal,
            self.incumbent,
            seconds=self._left() * share,
            effort=self.effort * share,
            spare=spare,
        )
        self.effort -= found.effort
        if found.assignment is not None:
            self._take(position, found.assignment, "cp-sat")
        if found.bound is None:
            return bound
        return min(bound, found.bound) if goal.maximise else max(bound, found.bound)

    def _exact(self, position: int) -> Model:
        """Return the model, made when the first stage needs it, with what is reached so far."""
        if self._model is None:
            self._model = Model(self.instance, self.policy, self.seed)
            for goal, bound in zip(self.order[:position], self._bounds, strict=True):
                reached = goal.value(self.instance, self.incumbent)
                self._model.require(goal, reached, best=reached == bound)
        return self._model

    def _better(self, position: int, assignment: Assignment) -> bool:
        upto = self.order[: position + 1]
        return goals.values(self.instance, upto, assignment) > goals.values(
            self.instance, upto, self.incumbent
        )

    def _affordable(self) -> bool:
        # What the model proves with every gang kept is no bound where some could be evicted.
        most = min(MAX_VARIABLES, self.effort * _VARIABLES_PER_EFFORT)
        small = self.instance.variables <= most and not self.instance.divided
        return small and self._left() > 0

    @contextmanager
    def _lent(self, share: float) -> Iterator[Budget]:
        """Lend a share of what is left; what is used of its effort is taken off at the end."""
        lent = self.effort * share
        budget = Budget(
            clock=self.clock,
            deadline_at=self.clock() + self._left() * share,
            effort=lent,
            seed=self.seed,
        )
        yield budget
        self.effort -= lent - budget.effort

    def _left(self) -> float:
        return self._ends_at - self.clock()
