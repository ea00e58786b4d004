"""The main job from end to end, on a real API server and the unmodified kube-scheduler."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from e2e import story, story_scene
from e2e.cluster import Cluster, eventually
from e2e.stack import Stack, install
from e2e.story_scene import SETTLED_S, assert_no_node_is_over_full, condition_of

nodes, empty = story_scene.nodes, story_scene.empty


@pytest.fixture(scope="module")
def installed(cluster: Cluster, nodes: Sequence[str]) -> Iterator[Stack]:
    """Run Bayplan, all four programs, for all tests of this file."""
    assert nodes
    with install(cluster) as running:
        yield running


@pytest.fixture
def stack(installed: Stack, namespace: str) -> Iterator[Stack]:
    """Lend Bayplan, and take away in the end what it was to place."""
    yield installed
    owners = "inferencedeployments,deployments"
    installed.cluster.kubectl_run("delete", owners, "--all", "-n", namespace)


def test_two_units_come_to_run_by_moving_small_pods_and_evicting_none(
    stack: Stack, empty: Sequence[str], namespace: str
) -> None:
    """The main job: 32 free GPUs are scattered, and both units run all the same."""
    cluster = stack.cluster
    story.scatter(cluster, empty, namespace=namespace, scheduler="bayplan")
    free = story.free_gpus(cluster, empty)
    assert sum(free.values()) == 32
    assert max(free.values()) < 8

    story.apply(cluster, story.CHAT, namespace=namespace)
    _all_run(cluster, namespace)

    placing = _plans_for_chat(cluster, namespace)
    assert {plan["spec"]["verdict"] for plan in placing} == {"Optimal"}
    assert [_counted(placing, kind) for kind in ("bound", "evicted")] == [6, 0]
    assert _counted(placing[-1:], "held") == 0
    assert _counted(placing, "moved") > 0
    _assert_placed_as_planned(cluster, namespace, placing[-1])
    assert_no_node_is_over_full(cluster, empty)
    eventually(
        lambda: _plans_for_chat(cluster, namespace)[-1]["status"]["phase"] == "Completed",
        what="the plan is completed",
    )


def test_operator_and_extender_may_die_in_the_middle(
    stack: Stack, empty: Sequence[str], namespace: str
) -> None:
    """Every process can be killed while a plan is carried out; the job gets done all the same."""
    cluster = stack.cluster
    story.scatter(cluster, empty, namespace=namespace, scheduler="bayplan")

    story.apply(cluster, story.CHAT, namespace=namespace)
    eventually(lambda: len(story.chat_pods(cluster, namespace)) > 0, what="pods are made")
    stack.kill("operator")
    stack.start("operator")
    eventually(
        lambda: _is_under_way(cluster), what="a plan is being carried out", timeout_s=SETTLED_S
    )
    for program in ("operator", "planner", "webhook"):
        stack.kill(program)
    for program in ("webhook", "planner", "operator"):
        stack.start(program)

    _all_run(cluster, namespace)
    assert_no_node_is_over_full(cluster, empty)


def test_a_request_that_no_node_can_ever_hold_says_what_is_short(
    stack: Stack, empty: Sequence[str], namespace: str
) -> None:
    """A user who asks for 16 GPUs on one node is told what the largest node has."""
    huge = {
        **story.CHAT,
        "metadata": {"name": "huge"},
        "spec": {
            **story.CHAT["spec"],
            "replicas": 1,
            "pools": [
                {"role": "Prefill", "template": {"spec": story.pod_spec(16)}},
                story.CHAT["spec"]["pools"][1],
            ],
        },
    }
    story.apply(stack.cluster, huge, namespace=namespace)

    def told() -> bool:
        condition = condition_of(stack.cluster, namespace, "Scheduled", name="huge")
        return "needs 16 GPUs on one node; the largest has 8" in condition.get("message", "")

    eventually(told, what="the condition names the shortfall", timeout_s=SETTLED_S)
    assert not any(pod.node for pod in story.pods(stack.cluster, namespace))
    assert set(story.free_gpus(stack.cluster, empty).values()) == {story.GPUS_PER_NODE}


def _all_run(cluster: Cluster, namespace: str) -> None:
    def settled() -> bool:
        pods = story.pods(cluster, namespace)
        chat = [pod for pod in pods if pod.name.startswith("chat-")]
        small = [pod for pod in pods if not pod.name.startswith("chat-")]
        expected = sum(len(sizes) for sizes in story.SCATTERED.values())
        assert (len(chat), len(small)) == (6, expected), pods
        waiting = [pod for pod in pods if pod.phase != "Running"]
        assert not waiting, waiting
        return True

    eventually(settled, what="every pod runs", timeout_s=SETTLED_S)


def _plans_for_chat(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """Return the plans that placed chat: one, or one for each unit if they came far apart."""
    chat = {pod.uid for pod in story.chat_pods(cluster, namespace)}

    def places(plan: dict[str, Any]) -> bool:
        actions = plan["spec"].get("actions", [])
        return any(a["type"] == "Bind" and a["pod"]["uid"] in chat for a in actions)

    return [plan for plan in story.plans(cluster) if places(plan)]


def _counted(plans: Sequence[dict[str, Any]], kind: str) -> int:
    return sum(plan["spec"]["counts"].get(kind, 0) for plan in plans)


def _is_under_way(cluster: Cluster) -> bool:
    phases = [plan.get("status", {}).get("phase") for plan in story.plans(cluster)]
    return "Executing" in phases


def _assert_placed_as_planned(cluster: Cluster, namespace: str, plan: dict[str, Any]) -> None:
    """Each bound pod is on its node; each moved pod's replacement is on its target."""
    by_uid = {pod.uid: pod for pod in story.pods(cluster, namespace)}
    replaced = {
        pod.annotations["bayplan.dev/replaces"]: pod
        for pod in by_uid.values()
        if "bayplan.dev/replaces" in pod.annotations
    }
    for action in plan["spec"]["actions"]:
        lookup = by_uid if action["type"] == "Bind" else replaced
        assert lookup[action["pod"]["uid"]].node == action["node"], action
