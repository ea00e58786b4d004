"""What would help, as a sentence."""

from dataclasses import replace

import pytest

from bayplan.cluster.constraints import Constraints, GangTopology, Taint
from bayplan.cluster.keys import Owner
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.rules import filters
from tests.builders import apart, beside, node, pod, snapshot

HOSTNAME = "kubernetes.io/hostname"

#: What Kubernetes says of a node of which nothing is heard.
SILENT = Taint(key="node.kubernetes.io/unreachable")


def remedy(*things: Node | Pod) -> str:
    """Return what would help the pod that waits."""
    result = plan(snapshot(*things), Policy(), clock=lambda: 0.0)
    return result.plan.holds[0].remedy


def daemon(name: str, on: str) -> Pod:
    """Return a pod that comes with every node and takes a GPU."""
    owner = Owner(kind="DaemonSet", namespace="default", name="agent", uid="agent")
    return replace(pod(name, on=on, disruption=Disruption.FIXED), owner=owner)


def in_rack(name: str, on: str | None = None) -> Pod:
    """Return a pod of a gang that must be within one rack, and that nobody may move."""
    topology, fixed = GangTopology(required="rack"), Disruption.FIXED
    return pod(name, gpus=4, on=on, gang="g", min_count=2, topology=topology, disruption=fixed)


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
            "free 5 more GPUs on n0 (0 of 8 are free), or scale down the owners of default/a "
            "and default/b (priority 9; evicted, they would come back), "
            "or add 1 node like n0 (8 GPUs)",
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
            "free 5 more GPUs on n0 (0 of 8 are free), or scale down the owner of gang "
            "default/g (2 pods) (priority 9; evicted, it would come back), "
            "or add 1 node like n0 (8 GPUs)",
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
                node("n0"),
                node("n1"),
                pod("a", gpus=8, on="n0", priority=9, disruption=Disruption.FIXED),
                pod("b", gpus=6, on="n1", priority=9, disruption=Disruption.FIXED),
                *[pod(f"w{i}", gpus=8, priority=9, gang="g", min_count=2) for i in range(2)],
            ),
            "free 6 more GPUs on n1 (2 of 8 are free) and 8 more GPUs on n0 (0 of 8 are free), "
            "or add 2 nodes like n0 (8 GPUs)",
            id="a node is emptied once",
        ),
        pytest.param(
            (node("n0"), *[pod(f"w{i}", gpus=8, gang="g", min_count=2) for i in range(2)]),
            "add 1 node like n0 (8 GPUs)",
            id="no node could hold two of a gang",
        ),
        pytest.param(
            (
                node("n0"),
                node("n1"),
                pod("a", gpus=6, on="n1", priority=9, disruption=Disruption.FIXED),
                pod("v", gpus=8, priority=9, gang="g", min_count=3),
                pod("w", gpus=2, priority=9, gang="g", min_count=3),
                pod("x", gpus=4, priority=9, gang="g", min_count=3),
            ),
            "free 4 more GPUs on n1 (2 of 8 are free), or add 1 node like n0 (8 GPUs)",
            id="what is free is told as it is before the gang comes",
        ),
        pytest.param(
            (
                node("n0"),
                pod("v", gpus=4, on="n0", gang="g", min_count=3),
                pod("a", gpus=3, on="n0", priority=9, disruption=Disruption.FIXED),
                pod("w", gpus=4, gang="g", min_count=3),
                pod("x", gpus=1, gang="g", min_count=3),
            ),
            "add 1 node like n0 (8 GPUs)",
            id="a gang makes no room for itself",
        ),
        pytest.param(
            (
                node("n0", cpu_milli=4000),
                pod("a", gpus=4, cpu_milli=3000, on="n0", priority=9, disruption=Disruption.FIXED),
                pod("w", gpus=4, cpu_milli=2000),
            ),
            "free 1 more CPU on n0 (1 CPU of 4 CPU is free), or add 1 node like n0 (8 GPUs)",
            id="CPU is short, not GPUs",
        ),
        pytest.param(
            (
                node("n0"),
                pod("a", gpus=8, on="n0", priority=9),
                pod("w", gpus=4, priority=10, preempts=False),
            ),
            "free 4 more GPUs on n0 (0 of 8 are free), or evict default/a (priority 9), "
            "or add 1 node like n0 (8 GPUs)",
            id="who is of a lower priority waits when it comes back",
        ),
        pytest.param(
            (
                node("n0"),
                replace(pod("a", gpus=8, on="n0", priority=50), owner=None),
                pod("w", gpus=4, priority=10),
            ),
            "free 4 more GPUs on n0 (0 of 8 are free), or evict default/a (priority 50), "
            "or add 1 node like n0 (8 GPUs)",
            id="who has no owner does not come back",
        ),
        pytest.param(
            (node("n0", schedulable=False), pod("w", gpus=4)),
            "uncordon n0, or add 1 node like n0 (8 GPUs)",
            id="a cordon is in the way",
        ),
        pytest.param(
            (
                node(
                    "n0",
                    schedulable=False,
                    taints=(Taint(key="node.kubernetes.io/disk-pressure"), filters.CORDON),
                ),
                pod("w", gpus=4),
            ),
            "add 1 node like n0 (8 GPUs)",
            id="a cordon is not all that is in the way",
        ),
        pytest.param(
            (
                node("n0", schedulable=False),
                node("n1", schedulable=False),
                node("n2", schedulable=False),
                pod("v", gpus=2, on="n1", disruption=Disruption.FIXED),
                pod("w0", gpus=8, gang="g", min_count=3),
                pod("w1", gpus=4, gang="g", min_count=3),
                pod("w2", gpus=4, gang="g", min_count=3),
            ),
            "uncordon n0 and n2, or add 2 nodes like n0 (8 GPUs)",
            id="cordons are all that is in the way of a gang",
        ),
        pytest.param(
            (
                node("n0", ready=False, taints=(SILENT,)),
                node("n1", ready=False, taints=(SILENT, filters.CORDON), schedulable=False),
                pod("w", gpus=8),
            ),
            "bring back n0, which is not ready, or add 1 node like n0 (8 GPUs)",
            id="a node is not ready, and another one is cordoned beside",
        ),
        pytest.param(
            (
                *(node(f"n{i}", ready=False) for i in range(3)),
                *(pod(f"w{i}", gpus=8, gang="g", min_count=2) for i in range(2)),
            ),
            "bring back n0 and n1, which are not ready, or add 2 nodes like n0 (8 GPUs)",
            id="nodes of which nothing is heard would have room for a gang",
        ),
        pytest.param(
            (
                node("n0"),
                pod("a", gpus=8, on="n0", priority=9, owner="chat"),
                pod("w", gpus=4, priority=9, owner="chat"),
            ),
            "free 4 more GPUs on n0 (0 of 8 are free), or add 1 node like n0 (8 GPUs)",
            id="who runs there is of the same owner",
        ),
        pytest.param(
            (
                node("n0"),
                pod("a", gpus=8, on="n0", priority=8, owner="chat"),
                pod("w", gpus=4, priority=9, preempts=False, owner="chat"),
            ),
            "free 4 more GPUs on n0 (0 of 8 are free), or evict default/a (priority 8), "
            "or add 1 node like n0 (8 GPUs)",
            id="who runs there is of the same owner, and comes back after it",
        ),
        pytest.param(
            (
                node("n0", schedulable=False),
                node("n1", schedulable=False, ready=False),
                *(pod(f"w{i}", gpus=8, gang="g", min_count=2) for i in range(2)),
            ),
            "add 2 nodes like n0 (8 GPUs)",
            id="a cordon is all that is in the way of one of a gang only",
        ),
        pytest.param(
            (node("n0"), daemon("agent", "n0"), pod("w", gpus=8)),
            "add a node with 8 GPUs",
            id="neither this node nor a new one has room beside its daemons",
        ),
        pytest.param(
            (
                node("n0", taints=(Taint(key="team", value="a"),)),
                pod("w", gpus=4, constraints=Constraints(node_selector=(("zone", "a"),))),
            ),
            "allow the pod on a node with 4 GPUs, or add a node that it accepts",
            id="no node is of a kind that it accepts",
        ),
        pytest.param(
            (
                node("n0", gpus=4, labels={"model": "a"}),
                *[pod(f"v{i}", gpus=4, gang="g", min_count=3) for i in range(2)],
                pod(
                    "w",
                    gang="g",
                    min_count=3,
                    constraints=Constraints(node_selector=(("model", "h"),)),
                ),
            ),
            "for w: allow the pod on a node with 1 GPU, or add a node that it accepts",
            id="first whom no node of the gang's takes",
        ),
        pytest.param(
            (
                node("n0", labels={HOSTNAME: "n0"}),
                node("n1", labels={HOSTNAME: "n1"}),
                pod("a", gpus=6, on="n0", priority=9, labels={"app": "x"}),
                pod("b", gpus=8, on="n1", priority=9),
                pod("w", gpus=4, priority=9, constraints=apart(HOSTNAME, app="x")),
            ),
            "free 4 more GPUs on n1 (0 of 8 are free), or scale down the owner of default/b "
            "(priority 9; evicted, it would come back), or add 1 node like n0 (8 GPUs)",
            id="room is made where the pod may be",
        ),
        pytest.param(
            (
                node("n0", labels={HOSTNAME: "n0"}),
                node("n1", gpus=2, labels={HOSTNAME: "n1"}),
                pod("a", gpus=6, on="n0", priority=9, labels={"app": "x"}),
                pod("w", gpus=4, priority=9, constraints=beside(HOSTNAME, app="x")),
            ),
            "free 2 more GPUs on n0 (2 of 8 are free)",
            id="who asks for another is not told to end that one",
        ),
        pytest.param(
            (
                node("n0", gpus=4, labels={"rack": "1"}),
                node("n1", labels={"rack": "2"}),
                in_rack("v", on="n0"),
                in_rack("w"),
            ),
            "add 1 node like n0 (4 GPUs)",
            id="a gang stays where it runs",
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


def test_a_gang_is_counted_to_its_end() -> None:
    """One large pod without room would hide that all others have some, or that one never will."""
    members = [pod(f"v{i}", gpus=n, gang="g", min_count=3) for i, n in enumerate((8, 2, 2))]
    taken = pod("a", gpus=4, on="n0", priority=9, disruption=Disruption.FIXED)

    result = plan(snapshot(node("n0"), taken, *members), Policy(), clock=lambda: 0.0)

    message = result.plan.holds[0].rejection.message
    assert (
        "2 of its 3 pods have room; beside them v0: 0 of 1 nodes have room: 1 lacks GPUs" in message
    )


def test_what_is_short_here_and_there_is_told_without_contradiction() -> None:
    """Four GPUs were said to be missing where eight are left, and CPU is short."""
    things = [
        pod("a", gpus=8, on="n0", disruption=Disruption.FIXED),
        pod("b", gpus=0, cpu_milli=7000, on="n1", disruption=Disruption.FIXED),
        pod("w", gpus=4, cpu_milli=4000),
    ]
    there = snapshot(node("n0"), node("n1", cpu_milli=8000), *things)

    hold = plan(there, Policy(), clock=lambda: 0.0).plan.holds[0]

    assert hold.rejection.message == (
        "needs 4 GPUs, 4 CPU on one node; pods of priority >= 0 and pods that must stay leave all "
        "of that on none"
    )


def test_who_must_join_its_gang_is_told_so() -> None:
    """A proved refusal would be called a search without success, and room elsewhere advised."""
    there = snapshot(
        node("n0", gpus=4, labels={"rack": "1"}),
        node("n1", labels={"rack": "2"}),
        in_rack("v", on="n0"),
        in_rack("w"),
    )

    hold = plan(there, Policy(), clock=lambda: 0.0).plan.holds[0]

    assert hold.rejection.message == (
        "must be within rack=1, where its gang runs: there is room for none"
    )


def test_pods_whom_other_rules_mean_have_reasons_of_their_own() -> None:
    """Of pods that are alike but for labels, one was told the reason of another."""
    there = snapshot(
        node("n0", labels={HOSTNAME: "n0"}),
        pod("a", on="n0", constraints=apart(HOSTNAME, app="x"), disruption=Disruption.FIXED),
        pod("b", on="n0", constraints=apart(HOSTNAME, app="y"), disruption=Disruption.FIXED),
        pod("v", labels={"app": "x"}),
        pod("w", labels={"app": "y"}),
    )

    v, w = plan(there, Policy(), clock=lambda: 0.0).plan.holds

    assert "anti-affinity of default/a" in v.rejection.message
    assert "anti-affinity of default/b" in w.rejection.message


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
