"""Runs the engines: keep and fill first, then greedy and a search where that proves too little.

The search goes stage by stage: ejection chains, exchanges, windows of the exact model, and all of
it as far as it is small. What one engine found is only ever replaced by something better. Each
stage of the result carries a bound that holds whether or not it was reached: counted, from a linear
relaxation, or from CP-SAT.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from bayplan.plan import Stage
from bayplan.policy import Order, Policy
from bayplan.solver import ejection, exchange, goals, greedy, keepfill, repair, rounding
from bayplan.solver.assignment import Assignment, present
from bayplan.solver.bound import Relaxation
from bayplan.solver.cpsat import Model
from bayplan.solver.drain import drain
from bayplan.solver.goals import FreeSlots, Goal, Keep, Place
from bayplan.solver.instance import Instance
from bayplan.solver.keepfill import Known

#: Largest CP-SAT model, in (class, node) pairs; beyond it greedy answers and the relaxation bounds.
MAX_VARIABLES: Final = 20_000

#: Smallest instance, in (class, node) pairs, for which node states are worth counting.
MIN_VARIABLES: Final = 100

#: Most request vectors that make few enough node states to be counted; the paper's clusters of 128
#: nodes have 400, and openb has 151.
_MAX_VECTORS: Final = 300

#: Smallest instance, in pairs, of which windows are worth solving; below it the whole is as quick.
_MIN_WINDOWED: Final = 200

#: Largest CP-SAT model that is tried whole, in pairs per unit of effort: beyond it nothing comes
#: out in time, and windows of it find more.
_VARIABLES_PER_EFFORT: Final = 3_000

#: Largest instance of whole gangs that is searched, in pairs.
_MAX_SEARCHED: Final = 2_000_000

#: Share of what is left of the time that one stage may use.
_STAGE_SHARE: Final = 0.5

#: Instance, in pairs, beyond which a search changes little in the time there is, and the share of
#: it that keep and fill then gets.
_HARDLY_SEARCHED: Final = 1_000_000
_COUNTING_SHARE: Final = 0.85

#: Deterministic effort per second of the limit: low enough to end before the wall clock does.
_EFFORT_PER_SECOND: Final = 0.5


#: Called with what is done next, in a few words.
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Tell nobody."""


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
    progress: Progress = silent,
    known: Known | None = None,
) -> Solution:
    """Return the best assignment found until `deadline_at` (on `clock`), and its bounds.

    `known` is what was learnt before some gangs were given up.
    """
    if not instance.wait_totals.sum() and policy.order is not Order.DEFRAGMENT:
        return _idle(instance, policy)
    hardly = instance.variables > _HARDLY_SEARCHED
    share = _COUNTING_SHARE if hardly else _STAGE_SHARE
    budget = rounding.Budget(
        clock=clock,
        deadline_at=clock() + (deadline_at - clock()) * share,
        effort=policy.time_limit_s * _EFFORT_PER_SECOND,
        seed=seed,
    )
    progress("keep and fill")
    counted = _by_states(instance, policy, budget, known)
    if counted is not None and all(stage.proved for stage in counted.stages):
        return counted
    if counted is not None and (known or counted.known) and counted.assignment.placed.any():
        # Greedy gives up nobody, so it hardly finds more; what is left is asked of whole gangs.
        return counted
    if counted is not None and hardly and _leaves_only_slots(instance, policy, counted.stages):
        incumbent = counted.assignment
    else:
        progress("greedy")
        incumbent = _greedy(instance, policy, counted)
    simple = _joined(counted, _counted(instance, policy, incumbent))
    if is_worth_telling_gangs_apart(instance, simple.stages):
        # The search is left to the instance that does.
        return simple
    search = _Search(
        instance=instance,
        policy=policy,
        clock=clock,
        deadline_at=deadline_at,
        seed=seed,
        incumbent=incumbent,
        # What is counted is hardly ever better by a few nodes that are solved exactly.
        # Chains and windows see neither domains nor preferences.
        repairs=not instance.far_sighted
        and (counted is None or not _settled(instance, counted.stages)),
        progress=progress,
    )
    return _joined(counted, search.run())


def _greedy(instance: Instance, policy: Policy, counted: Solution | None) -> Assignment:
    """Return the greedy placement, or what was counted if that is as good."""
    incumbent = greedy.fill(instance, policy.order)
    if policy.order is Order.DEFRAGMENT:
        incumbent = drain(instance, policy, incumbent)
    order = goals.in_order(instance, policy.order)
    if counted is None or goals.better(instance, order, incumbent, counted.assignment):
        return incumbent
    return counted.assignment


def is_worth_telling_gangs_apart(divided: Instance, stages: tuple[Stage, ...]) -> bool:
    """Return whether an instance of whole gangs may have a better answer that can be found.

    Only the search would look for it, so it must not be too large: the less so if all that is left
    to be proved is how little is disturbed.
    """
    if not divided.divided or all(stage.proved for stage in stages):
        return False
    loyal = (each for each in divided.classes if each.loyal)
    apart = {(pod.kind, pod.gang) for each in loyal for pod in each.running}
    pairs = divided.variables + len(apart) * len(divided.nodes)
    return pairs <= (MAX_VARIABLES if _settled(divided, stages) else _MAX_SEARCHED)


def _settled(instance: Instance, stages: tuple[Stage, ...]) -> bool:
    """Return whether it is proved how many pods run."""
    names = {Keep(each.keep_tier).name for each in instance.classes}
    names |= {Place(each.place).name for each in instance.classes if each.place is not None}
    return all(stage.proved for stage in stages if stage.name in names)


def _leaves_only_slots(instance: Instance, policy: Policy, stages: tuple[Stage, ...]) -> bool:
    """Return whether all that comes before the free slots is proved.

    Greedy may at most leave more of these then, which is not worth the time on a large fleet.
    """
    told = zip(goals.in_order(instance, policy.order), stages, strict=True)
    sound = all(stage.proved or isinstance(goal, FreeSlots) for goal, stage in told)
    return sound and policy.order is not Order.DEFRAGMENT


def _by_states(
    instance: Instance, policy: Policy, budget: rounding.Budget, known: Known | None
) -> Solution | None:
    """Return what keep and fill finds; None where it is not asked or cannot tell."""
    vectors = len({asks.tobytes() for asks in instance.requests})
    if instance.variables < MIN_VARIABLES or vectors > _MAX_VECTORS:
        return None
    found = keepfill.solve(instance, policy, budget, known)
    if found is None:
        return None
    told = dict(
        zip(
            keepfill.stages(instance, policy.order),
            zip(found.bounds, found.seconds, strict=True),
            strict=True,
        )
    )
    stages = []
    for goal in goals.in_order(instance, policy.order):
        bound, seconds = told.get(goal, (goal.limit(instance), 0.0))
        value = goal.value(instance, found.assignment)
        stages.append(Stage(name=goal.name, value=value, bound=bound, seconds=seconds))
    return Solution(
        assignment=found.assignment,
        stages=tuple(stages),
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
    repairs: bool
    progress: Progress
    engine: str = "greedy"
    effort: float = field(init=False)
    order: tuple[Goal, ...] = field(init=False)
    relaxation: Relaxation = field(init=False)
    _bounds: list[int] = field(default_factory=list)
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
        self.progress(f"{goal.name}: {goal.value(self.instance, self.incumbent)}, bound {bound}")
        if self.repairs and self._open(goal, bound):
            self._repair(position, bound)
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

    def _bound(self, goal: Goal) -> int:
        """Return the bound that costs little."""
        limit = goal.limit(self.instance)
        if not isinstance(goal, Keep | Place) or goal.value(self.instance, self.incumbent) == limit:
            return limit
        return self.relaxation.bound(goal, seconds=self._left() * _STAGE_SHARE)

    def _open(self, goal: Goal, bound: int) -> bool:
        return goal.value(self.instance, self.incumbent) != bound and self._left() > 0

    def _repair(self, position: int, bound: int) -> None:
        """Look for something better by chains and exchanges, then window by window."""
        goal, before = self.order[position], self.incumbent
        effort = self.effort * _STAGE_SHARE
        budget = repair.Budget(
            clock=self.clock,
            deadline_at=self.clock() + self._left() * _STAGE_SHARE,
            effort=effort,
            seed=self.seed,
        )
        for search in (ejection, exchange):
            for better in search.improvements(
                self.instance, self.policy, self.incumbent, goal=goal, ended=budget.spent
            ):
                self.incumbent = better
        if self.instance.variables >= _MIN_WINDOWED:
            aim = repair.Aim(position=position, bound=bound)
            for better in repair.improvements(
                self.instance, self.policy, self.incumbent, aim=aim, budget=budget
            ):
                self.incumbent = better
        self.effort -= effort - budget.effort
        if self.incumbent is not before:
            self.engine = "repair"

    def _improve(self, position: int, bound: int, *, spare: bool) -> int:
        """Let CP-SAT look for something better; return the tighter of both bounds."""
        goal = self.order[position]
        # The last goal may use all that is left.
        share = _STAGE_SHARE if position < len(self.order) - 1 else 1.0
        found = self._exact(position).improve(
            goal,
            self.incumbent,
            seconds=self._left() * share,
            effort=self.effort * share,
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
