"""Moves on a real control plane: the replacement starts first, and the unit serves meanwhile."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bayplan.api import names
from e2e import serving_scene, story
from e2e.cluster import CommandFailed, eventually
from e2e.contract import Watch, watching
from e2e.serving import SETTLED_S, User
from e2e.serving_scene import AddNodes
from e2e.stack import Stack

stack, add_nodes, user = serving_scene.stack, serving_scene.add_nodes, serving_scene.user

#: What lets a fake pod become ready after two seconds, or not before somebody says so.
STARTS = {"pod-ready.stage.kwok.x-k8s.io/delay": "2s"}
WAITS = {"bayplan.dev/fake-readiness": "starting"}


def chat(user: User, annotations: Mapping[str, str]) -> None:
    """Run a unit of three pods, 4 GPUs in all, on the only node that there is."""
    template = {"metadata": {"annotations": annotations}}
    spec = {"terminationGracePeriodSeconds": 1}
    pools = [
        {"role": role, "template": template | {"spec": story.pod_spec(gpus) | spec}}
        for role, gpus in (("Prefill", 2), ("Decode", 1))
    ]
    user.apply("one", replicas=1, pools=pools, priorityClassName="batch")
    eventually(lambda: sees_it_serve(user), what="the unit serves", timeout_s=SETTLED_S)
    user.await_units(1)


def sees_it_serve(user: User) -> bool:
    """Let pods that have a node become ready; return whether the unit's three are."""
    pods = user.pods()
    for pod in pods:
        if pod.node and pod.annotations.keys() & WAITS.keys():
            notes = [f"{name}-" for name in WAITS]
            user.kubectl("annotate", "pod", pod.name, *notes)
    return [pod.ready for pod in pods] == [True] * 3


def ask_for_its_node(user: User, other: str) -> None:
    """Have a pod come that needs a whole node, where the other one has a pod that must stay."""
    stone = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stone"},
        "spec": story.pod_spec(2) | {"nodeName": other, "terminationGracePeriodSeconds": 1},
    }
    story.apply(user.cluster, stone, namespace=user.namespace)
    eventually(
        lambda: story.free_gpus(user.cluster, [other])[other] == 6, what="the stone is there"
    )
    big = story.deployment("big", story.GPUS_PER_NODE, priority="batch")
    story.apply(user.cluster, big, namespace=user.namespace)


@contextmanager
def moving(
    user: User, add_nodes: AddNodes, annotations: Mapping[str, str]
) -> Iterator[tuple[str, str, Watch]]:
    """Have a unit that serves give up its node; yield that, the other one, and who watches it."""
    (first,) = add_nodes(1)
    chat(user, annotations)
    (other,) = add_nodes(1)
    try:
        with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
            watch.expect(serving=1, units=1)
            ask_for_its_node(user, other)
            yield first, other, watch
    finally:
        user.kubectl("delete", "deployment/big", "pod/stone", "--ignore-not-found")


def replacement(user: User) -> dict[str, Any]:
    """Wait until a replacement has a node, and return it."""

    def there() -> dict[str, Any]:
        marked = [pod for pod in user.pods() if names.ANNOTATION_SERVES_BY in pod.annotations]
        assert [pod for pod in marked if pod.node], user.pods()
        return story.get(user.cluster, f"pod/{marked[0].name}", namespace=user.namespace)

    return eventually(there, what="a replacement has a node", timeout_s=SETTLED_S, interval_s=0.2)


def await_moved(user: User, first: str, other: str) -> None:
    """Wait until the unit runs on the other node, and who asked for its own on that."""

    def moved() -> bool:
        sees_it_serve(user)
        assert user.nodes() == {other}, user.pods()
        big = [p for p in story.pods(user.cluster, user.namespace) if p.name.startswith("big")]
        assert [(pod.node, pod.phase) for pod in big] == [(first, "Running")], big
        return True

    gone = (CommandFailed,)  # a pod that was to become ready
    eventually(moved, what="the unit has moved", timeout_s=SETTLED_S, retry_on=gone)
    user.await_units(1)


def newest_plan(user: User, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the newest plan that moved somebody is as it should be, and return it."""

    def found() -> dict[str, Any]:
        moves = [p for p in story.plans(user.cluster) if p["spec"]["counts"]["moved"]]
        assert moves, story.plans(user.cluster)
        assert holds(moves[-1].get("status", {})), moves[-1].get("status")
        return moves[-1]

    return eventually(found, what="the plan is so", timeout_s=SETTLED_S)


def test_a_unit_serves_while_all_of_it_is_moved(user: User, add_nodes: AddNodes) -> None:
    """Three pods move, one doubled at a time, as maxSurge has it: nobody waits for a cold start."""
    with moving(user, add_nodes, STARTS) as (first, other, watch):
        replacement(user)
        await_moved(user, first, other)

    watch.assert_kept()
    assert watch.contract.fewest == 1
    assert not watch.contract.cut


def test_a_move_goes_on_after_the_operator_was_killed(
    user: User, stack: Stack, add_nodes: AddNodes
) -> None:
    """Nobody remembers what was going on but the pods."""
    with moving(user, add_nodes, WAITS) as (first, other, watch):
        replacement(user)
        stack.kill("operator")
        stack.start("operator")
        await_moved(user, first, other)

    watch.assert_kept()
    assert watch.contract.fewest == 1


def test_a_replacement_that_does_not_come_to_serve_is_removed_and_nothing_has_changed(
    user: User, add_nodes: AddNodes
) -> None:
    """Its time is cut short here; it is not tried again at once either."""
    with moving(user, add_nodes, WAITS) as (first, _, watch):
        new = replacement(user)
        over = f"{names.ANNOTATION_SERVES_BY}=2026-01-01T00:00:00Z"
        user.kubectl("annotate", "pod", new["metadata"]["name"], over, "--overwrite")
        plan = newest_plan(user, lambda status: status.get("phase") == "Failed")
        user.await_units(1)

        def told() -> bool:
            (big,) = (
                p for p in story.pods(user.cluster, user.namespace) if p.name.startswith("big")
            )
            assert big.annotations.get(names.ANNOTATION_DECISION), big
            return big.gated

        eventually(told, what="the pod is told why it waits", timeout_s=SETTLED_S)
        assert user.nodes() == {first}
        again = newest_plan(user, lambda status: status.get("phase") == "Failed")
        assert again["metadata"]["name"] == plan["metadata"]["name"]

    assert "did not come to serve" in plan["status"]["message"], plan["status"]
    watch.assert_kept()
    assert watch.contract.fewest == 1
