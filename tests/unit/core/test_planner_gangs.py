"""The planner on gangs: placed, kept and evicted whole."""

from dataclasses import replace

import pytest

from bayplan.api import names
from bayplan.cluster.keys import Owner
from bayplan.cluster.pods import UNKNOWN_COUNT, Disruption
from bayplan.plan import Reason
from tests.builders import node, pod
from tests.scenes.planner import evicted, hold_of, made, moved, placed, unit


def test_a_gang_is_not_placed_in_part() -> None:
    """Two of three pods would hold GPUs and serve nothing."""
    result = made(node("n0"), node("n1", gpus=4), *unit("g", 8, 4, 4), pod("w", gpus=2))

    assert placed(result) == {"w": "n1"}
    hold = hold_of(result, "g-0")
    assert hold.rejection.reason == Reason.GANG_DOES_NOT_FIT
    assert hold.rejection.message == (
        "waits whole (1 x 8 GPUs, 2 x 4 GPUs): 1 of its 3 pods has room; beside it g-1: 0 of 2"
        " nodes have room: 2 lack GPUs (most free on one node: 2, needs 4; 2 free in all)"
    )


def test_a_gang_that_lacks_pods_waits_for_them() -> None:
    """Room would be given to a gang that cannot start."""
    first = pod("g-0", gpus=1, gang="g", min_count=3)
    second = pod("g-1", gpus=1, gang="g", min_count=3)

    hold = hold_of(made(node("n"), first, second), "g-0")

    assert hold.rejection.reason == Reason.GANG_INCOMPLETE
    assert hold.rejection.message == "2 of 3 pods exist"
    assert hold.remedy.startswith("create the 1 missing pod; ")


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        pytest.param(
            "InferenceDeployment",
            "condition Degraded of InferenceDeployment default/g says what keeps it from making"
            " the 2 missing pods",
            id="ours makes them by itself",
        ),
        pytest.param(None, "create the 2 missing pods", id="nobody makes it anew"),
        pytest.param(
            "Job",
            "create the 2 missing pods; events of Job default/g say if its pods are refused",
            id="another controller",
        ),
    ],
)
def test_who_makes_the_missing_pods_is_named(kind: str | None, remedy: str) -> None:
    """Seen: a quota refused a pod of a unit, and its user was told to create it."""
    owner = Owner(kind=kind, namespace="default", name="g", uid="o") if kind else None
    first = replace(pod("g-0", gpus=1, gang="g", min_count=3), owner=owner)

    assert hold_of(made(node("n"), first), "g-0").remedy == remedy


def test_a_group_whose_number_counts_all_groups_is_told_the_right_one() -> None:
    """Groups are gangs of their own: one label for all of them has each wait for ever."""
    labels = {names.LABEL_LWS_GROUP: "1", names.LABEL_GANG: "g"}
    group = [pod(f"g-1-{i}", gpus=1, gang="g/1", min_count=4, labels=labels) for i in range(2)]

    hold = hold_of(made(node("n"), *group), "g-1-0")

    assert hold.rejection.message == "2 of 4 pods exist in group 1 of its LeaderWorkerSet"
    assert hold.remedy.startswith(
        "each group is a gang of its own: set label bayplan.dev/gang-min-count to the size of a"
        " group in both templates, and startupPolicy to LeaderCreated; "
    )


def test_a_lost_pod_comes_back_to_its_running_gang() -> None:
    """A gang could not heal, because its one new pod is no whole gang."""
    running = [pod(f"g-{i}", gpus=4, on=f"n{i}", gang="g", min_count=3) for i in range(2)]

    result = made(
        node("n0"), node("n1"), *running, pod("g-2", gpus=8, gang="g", min_count=3), node("n2")
    )

    assert placed(result) == {"g-2": "n2"}


def test_a_running_gang_is_evicted_whole() -> None:
    """The rest of a broken gang would hold GPUs and serve nothing."""
    gang = [pod(f"g-{i}", gpus=8, on=f"n{i}", gang="g", min_count=2) for i in range(2)]

    result = made(node("n0"), node("n1"), *gang, pod("high", gpus=8, priority=10))

    assert evicted(result) == ["g-0", "g-1"]
    assert {evict.gang for evict in result.evictions} == {gang[0].gang}
    assert len(placed(result)) == 1


def test_a_gang_with_a_fixed_pod_stays() -> None:
    """Half a gang would be evicted beside a pod that must stay."""
    gang = [
        pod("g-0", gpus=8, on="n0", gang="g", min_count=2),
        pod("g-1", gpus=8, on="n1", gang="g", min_count=2, disruption=Disruption.FIXED),
    ]

    result = made(node("n0"), node("n1"), *gang, pod("high", gpus=8, priority=10))

    assert evicted(result) == []
    assert placed(result) == {}


def test_the_oldest_of_equal_gangs_comes_first() -> None:
    """Who waits longest would wait on."""
    result = made(node("n0"), *unit("b", 4, 4), *unit("a", 4, 4))

    assert sorted(placed(result)) == ["a-0", "a-1"]


def test_a_gang_whose_size_nobody_says_is_held_with_the_remedy() -> None:
    """The pod would vanish from sight."""
    result = made(node("n0"), pod("a", gang="g", min_count=UNKNOWN_COUNT))

    (held,) = result.holds
    assert held.rejection.message == (
        "label bayplan.dev/gang-min-count does not say how many pods make it whole"
    )
    assert "set the label" in held.remedy


def test_a_gang_that_was_made_smaller_takes_its_newest_size() -> None:
    """A pod made again after the ratio shrank would wait for pods that nobody makes any more."""
    old = pod("a", on="n0", gang="g", min_count=4)
    new = replace(pod("b", gang="g", min_count=2), created_at=9)

    assert placed(made(node("n0"), old, new)) == {"b": "n0"}


def test_a_replica_over_two_nodes_is_evicted_with_its_unit_and_never_moved() -> None:
    """A move of one pod restarts the others; whoever outranks the unit may take its place."""
    running = [
        pod(
            f"engine-{i}",
            gpus=4,
            on=f"n{i}",
            owner="chat",
            gang="chat-0",
            min_count=2,
            disruption=Disruption.EVICTABLE,
        )
        for i in (1, 2)
    ]
    nodes = [node("n1"), node("n2")]

    equal = made(*nodes, *running, pod("new", gpus=8))
    higher = made(*nodes, *running, pod("new", gpus=8, priority=10))

    assert (placed(equal), moved(equal), evicted(equal)) == ({}, [], [])
    assert sorted(evicted(higher)) == ["engine-1", "engine-2"]
    assert not moved(higher)
    assert "new" in placed(higher)
