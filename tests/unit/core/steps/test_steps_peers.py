"""Rules between pods that are broken after a plan was made."""

import pytest

from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.plan import Plan
from bayplan.policy import Policy
from bayplan.steps import Phase, Progress, advance
from tests.builders import apart, node, pod, snapshot
from tests.scenes.steps import bind, done, evict, move, plan

HOST = "kubernetes.io/hostname"
N1 = node("n1", labels={HOST: "n1", "zone": "z"})
N2 = node("n2", labels={HOST: "n2", "zone": "z"})
LOW = pod("low", gpus=8, on="n1")
SHY = pod("new", gpus=8, priority=9, constraints=apart(HOST, app="x"))


def advanced(made: Plan, *things: Node | Pod) -> Progress:
    """Return the first steps of a plan."""
    return advance(made, snapshot(*things), Policy(), idle_s=0)


@pytest.mark.parametrize(
    ("new", "late"),
    [
        pytest.param(
            SHY, pod("late", gpus=0, on="n1", labels={"app": "x"}), id="it keeps away from others"
        ),
        pytest.param(
            pod("new", gpus=8, labels={"app": "y"}),
            pod("late", gpus=0, on="n1", constraints=apart(HOST, app="y")),
            id="others keep it away",
        ),
        pytest.param(
            pod("new", gpus=8, constraints=apart("zone", app="x")),
            pod("late", gpus=0, on="n2", labels={"app": "x"}),
            id="from a node beside it",
        ),
    ],
)
def test_nobody_leaves_for_a_pod_that_others_keep_away(new: Pod, late: Pod) -> None:
    """The victim was gone, and the scheduler bound the newcomer nowhere."""
    found = advanced(plan(bind("new", "n1"), evict("low", "n1")), N1, N2, LOW, new, late)

    assert (found.phase, done(found)) == (Phase.FAILED, [])
    assert "anti-affinity" in found.message


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(pod("low", gpus=8, on="n1", labels={"app": "x"}), id="its victim"),
        pytest.param(
            pod("low", gpus=8, on="n1", labels={"app": "x"}, terminating=True), id="who has begun"
        ),
    ],
)
def test_who_leaves_keeps_nobody_away(other: Pod) -> None:
    """That is what the plan makes it leave for."""
    found = advanced(plan(bind("new", "n1"), evict("low", "n1")), N1, SHY, other)

    assert found.phase is Phase.EXECUTING


def test_a_moved_pod_does_not_keep_its_own_replacement_away() -> None:
    """Each is kept apart from its like, and both are the same one."""
    shy = pod("m", gpus=8, on="n1", constraints=apart("zone", app="x"), labels={"app": "x"})

    found = advanced(plan(move("m", "n1", "n2")), N1, N2, shy)

    assert done(found) == ["evict m from n1"]
