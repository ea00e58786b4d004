"""What keep and fill answers: a placement with its bounds, and what divided gangs could reach."""

from dataclasses import dataclass

from bayplan.cluster.keys import GangKey
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import Goal
from bayplan.solver.problem.instance import Counts, Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a fleet with divided gangs can reach, some of which have to go for it.

    Attributes:
        gangs: Gangs to give up.
        values: By goal in order, what is reached when pods of gangs go one by one.
        bounds: By goal in order, what nothing can beat that reaches the values before.
    """

    gangs: frozenset[GangKey]
    values: tuple[int, ...]
    bounds: tuple[int, ...]

    def limits(self, goals_: tuple[Goal, ...], instance: Instance, of: Assignment) -> list[int]:
        """Return bounds for an assignment: those known, while it reaches what they stand on."""
        limits: list[int] = []
        holds = True
        for goal, value, bound in zip(goals_, self.values, self.bounds, strict=True):
            limits.append(bound if holds else goal.limit(instance))
            holds = holds and goal.value(instance, of) == value
        return limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the engine found.

    Attributes:
        assignment: The best placement.
        bounds: What nothing can beat, by goal in order, given the stages before.
        seconds: Wall-clock time by goal.
        sizes: Counts of the programs.
        alive: Gangs that go on running, by team.
        known: What is to be had where some gangs are given up; None where that is no use.
    """

    assignment: Assignment
    bounds: tuple[int, ...]
    seconds: tuple[float, ...]
    sizes: tuple[tuple[str, int], ...]
    alive: Counts
    known: Known | None = None
