"""Running gangs that are not told apart, and which of them are given up."""

from dataclasses import replace

import numpy as np

from bayplan.cluster.pods import Disruption, Pod
from bayplan.solver.keepfill import teams
from bayplan.solver.problem.assignment import present
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.instance import Instance
from tests.builders import node, pod, snapshot


def gang(name: str, *hosts: str, **spec: Disruption) -> list[Pod]:
    """Return a running gang of 2-GPU pods on these nodes."""
    return [
        replace(
            pod(f"{name}-{i}", gpus=2, on=host, gang=name, min_count=len(hosts), **spec),  # type: ignore[arg-type]
            created_at=ord(name),
        )
        for i, host in enumerate(hosts)
    ]


def divided(*pods: Pod) -> Instance:
    """Return four nodes with these pods, gangs not told apart."""
    return build(snapshot(*(node(f"n{i}") for i in range(4)), *pods), divided=True)


def test_gangs_of_equal_pods_are_a_team() -> None:
    """Each gang would be a choice of its own, and a fleet has thousands."""
    fixed = gang("d", "n0", "n1")
    fixed[0] = replace(fixed[0], disruption=Disruption.FIXED)

    found = divided(*gang("a", "n0", "n1"), *gang("b", "n2", "n3"), *gang("c", "n0"), *fixed).teams

    assert [[key.name for key in team.gangs] for team in found if not team.pinned] == [["b", "a"]]
    assert [[key.name for key in team.gangs] for team in found if team.pinned] == [["d"]]


def test_the_gang_goes_whose_pods_are_in_the_way() -> None:
    """Another one would go, and its pods' room be left to pods that have to move there."""
    instance = divided(*gang("a", "n0", "n1"), *gang("b", "n2", "n3"))
    still = present(instance)
    cleared = replace(still, final=still.final * np.array([0, 1, 1, 1]))

    assert {key.name for key in teams.given_up(instance, cleared, np.array([1]))} == {"a"}
    # Where it makes no difference, the youngest goes.
    assert {key.name for key in teams.given_up(instance, still, np.array([1]))} == {"b"}


def test_a_gang_that_waits_for_more_of_its_pods_is_not_given_up() -> None:
    """The pods that wait would be placed in a gang that is gone."""
    waiting = pod("a-2", gpus=2, gang="a", min_count=2)
    instance = divided(*gang("a", "n0", "n1"), waiting)

    assert teams.given_up(instance, present(instance), np.array([0])) == frozenset()


def test_pods_of_a_gang_that_is_given_up_are_classes_of_their_own() -> None:
    """Pods of another gang would be evicted in their place."""
    pods = [*gang("a", "n0", "n1"), *gang("b", "n2", "n3")]
    of = snapshot(*(node(f"n{i}") for i in range(4)), *pods)
    some = build(of, divided=True, must_go={pods[0].gang} if pods[0].gang else ())

    assert [(len(c.running), c.must_stay, c.must_go) for c in some.classes] == [
        (2, True, False),
        (2, False, True),
    ]
