"""What would help, as a sentence."""

from dataclasses import replace

import pytest

from bayplan.constraints import Constraints, Taint
from bayplan.keys import Owner
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.snapshot import Disruption, Node, Pod
from tests.builders import node, pod, snapshot


def remedy(*things: Node | Pod) -> str:
    """Return what would help the pod that waits."""
    result = plan(snapshot(*things), Policy(), clock=lambda: 0.0)
    return result.plan.holds[0].remedy


def daemon(name: str, on: str) -> Pod:
    """Return a pod that comes with every node and takes a GPU."""
    owner = Owner(kind="DaemonSet", namespace="default", name="agent", uid="agent")
    return replace(pod(name, on=on, disruption=Disruption.FIXED), owner=owner)


@pytest.mark.parametrize(
    ("things", "sentence"),
    [
        pytest.param(
            (
                node("n0"),
                pod("a", gpus=2, on="n0", priority=9),
                pod("b", gpus=3, on="n0", priority=9),
                pod("c", gpus=3, on="n0", priority=9),
                pod("w", gpus=5, priority=9),
            ),
            "free 5 more GPUs on n0 (0 of 8 are free), or evict default/a and default/b "
            "(priority 9), or add 1 node like n0 (8 GPUs)",
            id="the fewest pods that are enough",
        ),
        pytest.param(
            (
                node("n0"),
                node("n1"),
                pod("a", gpus=8, on="n0", priority=9, gang="g", min_count=2),
                pod("b", gpus=8, on="n1", priority=9, gang="g", min_count=2),
                pod("w", gpus=5, priority=9),
            ),
            "free 5 more GPUs on n0 (0 of 8 are free), or evict gang default/g (2 pods) "
            "(priority 9), or add 1 node like n0 (8 GPUs)",
            id="a gang goes whole",
        ),
        pytest.param(
            (
                node("n0"),
                node("n1"),
                pod("a", gpus=8, on="n0", priority=9, disruption=Disruption.FIXED),
                pod("b", gpus=6, on="n1", priority=9, disruption=Disruption.FIXED),
                pod("v", gpus=8, priority=9, gang="g", min_count=2),
                pod("w", gpus=4, priority=9, gang="g", min_count=2),
            ),
            "free 6 more GPUs on n1 (2 of 8 are free) and 4 more GPUs on n0 (0 of 8 are free), "
            "or add 2 nodes like n0 (8 GPUs)",
            id="a gang needs room for each; nobody may go",
        ),
        pytest.param(
            (
                node("n0", cpu_milli=4000),
                pod("a", gpus=4, cpu_milli=3000, on="n0", priority=9, disruption=Disruption.FIXED),
                pod("w", gpus=4, cpu_milli=2000),
            ),
            "free 1 more CPU on n0 (1 CPU of 4 CPU are free), or add 1 node like n0 (8 GPUs)",
            id="CPU is short, not GPUs",
        ),
        pytest.param(
            (node("n0", schedulable=False), pod("w", gpus=4)),
            "uncordon n0, or add 1 node like n0 (8 GPUs)",
            id="a cordon is in the way",
        ),
        pytest.param(
            (node("n0"), daemon("agent", "n0"), pod("w", gpus=8)),
            "free 1 more GPU on n0 (7 of 8 are free)",
            id="a new node would come with its daemons",
        ),
        pytest.param(
            (
                node("n0", taints=(Taint(key="team", value="a"),)),
                pod("w", gpus=4, constraints=Constraints(node_selector=(("zone", "a"),))),
            ),
            "allow the pod on a node with 4 GPUs, or add a node that it accepts",
            id="no node is of a kind that it accepts",
        ),
    ],
)
def test_what_would_help_is_said_exactly(things: tuple[Node | Pod, ...], sentence: str) -> None:
    """People would have to find out by themselves where to begin."""
    assert remedy(*things) == sentence


def test_long_names_do_not_make_a_sentence_that_is_refused() -> None:
    """The API server refuses a PackingPlan whose remedy is too long, and nothing is planned."""
    names = [f"{i:02}-{'x' * 240}" for i in range(8)]
    victims = [pod(name, gpus=1, on="n0", priority=9) for name in names]

    said = remedy(node("n0"), *victims, pod("w", gpus=8, priority=9))

    assert said == "free 8 more GPUs on n0 (0 of 8 are free), or add 1 node like n0 (8 GPUs)"


@pytest.mark.parametrize(
    ("things", "remedy"),
    [
        (
            (pod("a", gpus=3, on="n", priority=9), pod("b", gpus=3, on="n", priority=9)),
            "free 4 more",
        ),
        (
            (
                *(pod(name, on="n", gpus=2, priority=9) for name in "ab"),
                pod("s", share=500, on="n", device=0, priority=9),
            ),
            "free 3 more",
        ),
    ],
    ids=["whole GPUs", "with shares"],
)
def test_what_a_node_has_too_few_must_come_free_as_well(
    things: tuple[Pod, ...], remedy: str
) -> None:
    """Seen: two GPUs were freed as told on a node that held two too many, and nobody came."""
    found = plan(
        snapshot(node("n", gpus=4), *things, pod("w", gpus=2, priority=5)),
        Policy(),
        clock=lambda: 0.0,
    ).plan

    (hold,) = found.holds
    assert hold.remedy.startswith(remedy)
