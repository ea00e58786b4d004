"""Which of several running gangs that are alike are given up, when it is known how many.

A sum over nodes says how many gangs of a team have to go, and which room it would use; gangs whose
pods stand in that room spare the others a move.
"""

from collections import defaultdict

from bayplan.cluster.keys import GangKey
from bayplan.solver.problem.assignment import Assignment, kept
from bayplan.solver.problem.instance import Counts, Instance, Mask, Team


def given_up(instance: Instance, assignment: Assignment, alive: Counts) -> frozenset[GangKey]:
    """Return the gangs to give up so that `alive` of each team are left.

    Nobody may join a gang that goes, so one of which further pods wait is not given up here.

    Args:
        instance: One that does not tell gangs apart.
        assignment: A placement that may evict pods of gangs one by one.
        alive: [team] gangs that go on running.
    """
    left = instance.running > kept(instance, assignment)
    gone: list[GangKey] = []
    for team, n in zip(instance.teams, alive.tolist(), strict=True):
        if n < len(team.gangs) and not team.partial:
            counts = _in_the_way(instance, team, left)
            # Youngest first among equals, as the team is sorted.
            ranked = sorted(team.gangs, key=counts.__getitem__, reverse=True)
            gone += ranked[: len(team.gangs) - n]
    return frozenset(gone)


def _in_the_way(instance: Instance, team: Team, left: Mask) -> dict[GangKey, int]:
    """Return how many pods of each gang stand where some of their class leave."""
    counts: dict[GangKey, int] = defaultdict(int)
    for i, _ in team.need:
        each = instance.classes[i]
        for pod, n in zip(each.running, each.rows.tolist(), strict=True):
            if pod.gang is not None:
                counts[pod.gang] += int(left[i, n])
    return counts
