"""What becomes of the main job where planner and webhook are not there, or of no use."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest

from e2e import story, story_scene
from e2e.cluster import Cluster, CommandFailed, Process, ProcessGroup, eventually, lease_port
from e2e.stack import NAMESPACE, READY_S, answers, install
from e2e.story_scene import SETTLED_S, assert_no_node_is_over_full, condition_of

nodes, empty = story_scene.nodes, story_scene.empty

#: Seconds without a good pass after which gates are lifted: more than the 21 in which another
#: planner takes the lease over, fewer than the 51 after which that one gives it up again.
_TIMEOUT_S = 35


def test_without_the_extender_the_default_algorithm_places_pods_and_a_condition_says_so(
    cluster: Cluster, empty: Sequence[str], namespace: str
) -> None:
    """Fail open: nothing waits for ever on a planner or webhook that are not there."""
    values = ["policy.gateTimeoutSeconds=20"]
    with install(cluster, programs=("operator", "scheduler"), values=values):
        story.apply(cluster, story.CHAT, namespace=namespace)
        eventually(
            lambda: [p.phase for p in story.chat_pods(cluster, namespace)] == ["Running"] * 6,
            what="all six pods run on empty nodes without any plan",
            timeout_s=SETTLED_S,
        )

        def told() -> bool:
            condition = condition_of(cluster, namespace, "Scheduled")
            assert condition["reason"] == "PlacedWithoutPlan", condition
            return "6 of them placed by the default algorithm" in condition["message"]

        eventually(told, what="the condition says who placed them")
    assert_no_node_is_over_full(cluster, empty)


def test_planners_that_fail_one_after_the_other_count_as_none(
    cluster: Cluster, empty: Sequence[str], namespace: str
) -> None:
    """Each keeps the lease fresh, or dies before another one knows it: gates stayed shut."""
    if cluster.flavor != "local":
        pytest.skip("a second planner of another name is started as a process")
    values = [f"policy.gateTimeoutSeconds={_TIMEOUT_S}"]
    programs = ("operator", "planner", "scheduler")
    with install(cluster, programs=programs, values=values) as stack, second(cluster) as other:
        _forbid_plans(cluster)
        story.apply(cluster, story.CHAT, namespace=namespace)
        eventually(partial(_says, cluster, "fail"), what="the first planner fails")
        assert _holder(cluster) != other.name
        stack.kill("planner")
        taken = partial(_holder, cluster)
        eventually(lambda: taken() == other.name, what="the second one leads", timeout_s=SETTLED_S)
        assert _says(cluster, "fail"), "it knows nothing better yet"
        assert all(pod.gated for pod in story.chat_pods(cluster, namespace))

        eventually(
            lambda: [p.phase for p in story.chat_pods(cluster, namespace)] == ["Running"] * 6,
            what="all six pods run without any plan",
            timeout_s=SETTLED_S,
        )

        other.check()
        assert not story.plans(cluster)
        eventually(
            lambda: condition_of(cluster, namespace, "Scheduled")["reason"] == "PlacedWithoutPlan",
            what="the condition says who placed them",
        )
    assert_no_node_is_over_full(cluster, empty)


@contextmanager
def second(cluster: Cluster) -> Iterator[Process]:
    """Run another replica of the planner, which waits for the lease."""
    port = lease_port()
    ready = f"http://127.0.0.1:{port.number}/readyz"
    own = {"POD_NAME": "second", "KUBECONFIG": str(cluster.run_dir / "planner.kubeconfig")}
    argv = [
        *(sys.executable, "-m", "bayplan_extender", "planner", "--namespace", NAMESPACE),
        *("--health-port", str(port.number)),
    ]
    try:
        with ProcessGroup(cluster.logs) as group:
            process = group.start("second", argv, env=cluster.env | own)
            eventually(partial(answers, ready), what="it is ready", timeout_s=READY_S)
            yield process
    finally:
        port.release()


def _forbid_plans(cluster: Cluster) -> None:
    """Take from planners the right to make plans, so that each pass with something to say fails."""
    role = json.loads(cluster.kubectl_run("get", "clusterrole/bayplan-planner", "-o", "json"))
    for rule in role["rules"]:
        if "packingplans" in rule["resources"]:
            rule["verbs"] = [verb for verb in rule["verbs"] if verb != "create"]
    cluster.kubectl_run("replace", "-f", "-", input=json.dumps(role))
    account = f"--as=system:serviceaccount:{NAMESPACE}:bayplan-planner"

    def forbidden() -> bool:
        try:
            cluster.kubectl_run("auth", "can-i", "create", "packingplans", account, "--quiet")
        except CommandFailed:
            return True
        return False

    eventually(forbidden, what="planners may make no plans")


def _says(cluster: Cluster, passes: str) -> bool:
    """Return whether the lease says this of passes."""
    found = cluster.read("lease/bayplan-planner", namespace=NAMESPACE)["metadata"]
    return bool(found.get("annotations", {}).get("bayplan.dev/passes") == passes)


def _holder(cluster: Cluster) -> str:
    found = cluster.read("lease/bayplan-planner", namespace=NAMESPACE)["spec"]
    return str(found.get("holderIdentity", ""))
