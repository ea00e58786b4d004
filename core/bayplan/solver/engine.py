"""Runs the engines: keep and fill first, then greedy and CP-SAT where that cannot prove its answer.

CP-SAT goes stage by stage, as far as the model is small. What one engine found is only ever
replaced by something better. Each stage of the result carries a bound that holds whether or not it
was reached: counted, from a linear relaxation, or from CP-SAT.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from bayplan.plan import Stage
from bayplan.policy import Policy
from bayplan.solver import goals, greedy, keepfill
from bayplan.solver.assignment import Assignment, present
from bayplan.solver.bound import Relaxation
from bayplan.solver.cpsat import Model
from bayplan.solver.goals import Goal, Keep, Place
from bayplan.solver.instance import Instance
from bayplan.solver.keepfill import Known

#: Largest CP-SAT model, in (class, node) pairs; beyond it greedy answers and the relaxation bounds.
MAX_VARIABLES: Final = 20_000

#: Smallest instance, in (class, node) pairs, for which node states are worth counting.
MIN_VARIABLES: Final = 100

#: Share of what is left of the time that one stage may use.
_STAGE_SHARE: Final = 0.5

#: Deterministic effort per second of the limit: low enough to end before the wall clock does.
_EFFORT_PER_SECOND: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """An assignment and what is known about it.

    Attributes:
        assignment: The answer.
        stages: Value and bound by goal, in order.
        engine: Which engine found it.
        sizes: Counts of the instance and the models.
        known: What keep and fill learnt of divided gangs, some of which have to go.
    """

    assignment: Assignment
    stages: tuple[Stage, ...]
    engine: str
    sizes: tuple[tuple[str, int], ...]
    known: Known | None = None


def solve(  # noqa: PLR0913 - a problem, its limits, and what is known of it
    instance: Instance,
    policy: Policy,
    *,
    clock: Callable[[], float],
    deadline_at: float,
    seed: int,
    known: Known | None = None,
) -> Solution:
    """Return the best assignment found until `deadline_at` (on `clock`), and its bounds.

    `known` is what was learnt before some gangs were given up.
    """
    if not instance.wait_totals.sum():
        return _idle(instance, policy)
    budget = keepfill.Budget(
        clock=clock,
        deadline_at=clock() + (deadline_at - clock()) * _STAGE_SHARE,
        effort=policy.time_limit_s * _EFFORT_PER_SECOND,
        seed=seed,
    )
    counted = _by_states(instance, policy, budget, known)
    if counted is not None and all(stage.proved for stage in counted.stages):
        return counted
    incumbent = greedy.fill(instance, policy.order)
    if counted is not None:
        order = goals.in_order(instance, policy.order)
        found = goals.values(instance, order, counted.assignment)
        if found >= goals.values(instance, order, incumbent):
            incumbent = counted.assignment
    search = _Search(
        instance=instance,
        policy=policy,
        clock=clock,
        deadline_at=deadline_at,
        seed=seed,
        incumbent=incumbent,
    )
    return _joined(counted, search.run())


def _by_states(
    instance: Instance, policy: Policy, budget: keepfill.Budget, known: Known | None
) -> Solution | None:
    """Return what keep and fill finds; None where it is not asked or cannot tell."""
    if instance.variables < MIN_VARIABLES:
        return None
    found = keepfill.solve(instance, policy, budget, known)
    if found is None:
        return None
    stages = tuple(
        Stage(
            name=goal.name,
            value=goal.value(instance, found.assignment),
            bound=bound,
            seconds=seconds,
        )
        for goal, bound, seconds in zip(
            goals.in_order(instance, policy.order), found.bounds, found.seconds, strict=True
        )
    )
    return Solution(
        assignment=found.assignment,
        stages=stages,
        engine="keep-and-fill",
        sizes=(*sizes(instance), *found.sizes),
        known=found.known,
    )


def _joined(counted: Solution | None, searched: Solution) -> Solution:
    """Return what was searched, with the tighter bounds of both if it stayed with what was counted.

    Bounds depend on what the stages before reached, so they can be compared only then.
    """
    if counted is None:
        return searched
    searched = replace(searched, known=counted.known)
    same = all(a.value == b.value for a, b in zip(counted.stages, searched.stages, strict=True))
    if not same:
        return searched
    stages = (
        replace(b, bound=a.bound if abs(a.bound - a.value) < abs(b.bound - b.value) else b.bound)
        for a, b in zip(counted.stages, searched.stages, strict=True)
    )
    return replace(searched, stages=tuple(stages), engine=counted.engine)


def without_search(instance: Instance, policy: Policy) -> Solution:
    """Return the greedy assignment, bounded by what can be counted."""
    return _counted(instance, policy, greedy.fill(instance, policy.order))


def unchanged(instance: Instance, policy: Policy) -> Solution:
    """Return the present placement as a solution: nobody is placed, nobody disturbed."""
    return _counted(instance, policy, present(instance))


@dataclass(slots=True, kw_only=True)
class _Search:
    """One run through the stages, with the incumbent that it improves."""

    instance: Instance
    policy: Policy
    clock: Callable[[], float]
    deadline_at: float
    seed: int
    incumbent: Assignment
    engine: str = "greedy"
    effort: float = field(init=False)
    order: tuple[Goal, ...] = field(init=False)
    relaxation: Relaxation = field(init=False)
    _model: Model | None = None

    def __post_init__(self) -> None:
        self.effort = self.policy.time_limit_s * _EFFORT_PER_SECOND
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
        bound = self._bound(goal)
        for spare in self._attempts(goal):
            if goal.value(self.instance, self.incumbent) != bound and self._affordable():
                bound = self._improve(position, bound, spare=spare)
        reached = goal.value(self.instance, self.incumbent)
        if isinstance(goal, Keep | Place):
            self.relaxation.require(goal, reached)
        if self._model is not None:
            self._model.require(goal, reached)
        return bound, self.clock() - started_at

    def _attempts(self, goal: Goal) -> tuple[bool, ...]:
        """Return whether to spare running pods, try by try.

        Who is placed without an eviction is placed sooner, and the next stage has less to mend.
        """
        return (True, False) if isinstance(goal, Place) and self._runs else (False,)

    @property
    def _runs(self) -> bool:
        return bool(self.instance.run_totals.sum())

    def _bound(self, goal: Goal) -> int:
        """Return the bound that costs little."""
        limit = goal.limit(self.instance)
        if not isinstance(goal, Keep | Place) or goal.value(self.instance, self.incumbent) == limit:
            return limit
        return self.relaxation.bound(goal, seconds=self._left() * _STAGE_SHARE)

    def _improve(self, position: int, bound: int, *, spare: bool) -> int:
        """Let CP-SAT look for something better; return the tighter of both bounds."""
        goal = self.order[position]
        found = self._exact(position).improve(
            goal,
            self.incumbent,
            seconds=self._left() * _STAGE_SHARE,
            effort=self.effort * _STAGE_SHARE,
            spare=spare,
        )
        self.effort -= found.effort
        if found.assignment is not None and self._better(position, found.assignment):
            self.incumbent = greedy.refill(self.instance, self.policy, found.assignment)
            self.engine = "cp-sat"
        if found.bound is None:
            return bound
        return min(bound, found.bound) if goal.maximise else max(bound, found.bound)

    def _exact(self, position: int) -> Model:
        """Return the model, made when the first stage needs it, with what is reached so far."""
        if self._model is None:
            self._model = Model(self.instance, self.policy, self.seed)
            for goal in self.order[:position]:
                self._model.require(goal, goal.value(self.instance, self.incumbent))
        return self._model

    def _better(self, position: int, assignment: Assignment) -> bool:
        upto = self.order[: position + 1]
        return goals.values(self.instance, upto, assignment) > goals.values(
            self.instance, upto, self.incumbent
        )

    def _affordable(self) -> bool:
        # What the model proves with every gang kept is no bound where some could be evicted.
        small = self.instance.variables <= MAX_VARIABLES and not self.instance.divided
        return small and self._left() > 0 and self.effort > 0

    def _left(self) -> float:
        return self.deadline_at - self.clock()


def _idle(instance: Instance, policy: Policy) -> Solution:
    """Return the present placement as the optimum it is when nobody waits.

    All that runs is kept, and undisturbed: that leaves one placement, so its slots are the most.
    """
    still = unchanged(instance, policy)
    proved = (replace(stage, bound=stage.value) for stage in still.stages)
    return replace(still, stages=tuple(proved))


def _counted(instance: Instance, policy: Policy, assignment: Assignment) -> Solution:
    stages = tuple(
        Stage(name=goal.name, value=goal.value(instance, assignment), bound=goal.limit(instance))
        for goal in goals.in_order(instance, policy.order)
    )
    return Solution(assignment=assignment, stages=stages, engine="greedy", sizes=sizes(instance))


def sizes(instance: Instance) -> tuple[tuple[str, int], ...]:
    """Return the counts that say how large the instance is."""
    return (
        ("nodes", len(instance.nodes)),
        ("running", int(instance.run_totals.sum())),
        ("waiting", int(instance.wait_totals.sum())),
        ("classes", len(instance.classes)),
        ("gangs", sum(len(kind.gangs) for kind in instance.kinds)),
        ("variables", instance.variables),
    )
