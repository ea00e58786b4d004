"""Replicas of several pods on a real control plane: an engine over two nodes, and its failures."""

import json
from typing import Any

import pytest

from e2e import serving_scene, story
from e2e.cluster import eventually
from e2e.contract import watching
from e2e.serving import SETTLED_S, User
from e2e.serving_scene import AddNodes

stack, add_nodes, user = serving_scene.stack, serving_scene.add_nodes, serving_scene.user

#: The second unit's pods go on through all of this.
REPLICA = ("chat-0-decode-0", "chat-0-decode-0-1")


def pools() -> list[dict[str, Any]]:
    """Return units of three whole nodes: a prefill pod, and a decode replica of two pods."""
    template = {"spec": story.pod_spec(8) | {"terminationGracePeriodSeconds": 1}}
    return [
        {"role": "Prefill", "template": template},
        {"role": "Decode", "podsPerReplica": 2, "template": template},
    ]


FAILED = {"phase": "Failed", "conditions": [{"type": "Ready", "status": "False"}]}
RESTARTED = {
    "containerStatuses": [
        {
            "name": "engine",
            "restartCount": 1,
            "ready": True,
            "image": "registry.k8s.io/pause:3.10",
            "imageID": "",
        }
    ]
}


@pytest.mark.parametrize("broken", [FAILED, RESTARTED], ids=["a pod fails", "a container restarts"])
def test_a_broken_worker_restarts_its_replica_and_nothing_else(
    user: User, add_nodes: AddNodes, broken: dict[str, Any]
) -> None:
    """No node is free beside: the replica comes back to where it was, the other unit serves on."""
    add_nodes(6)
    user.apply("one", ratio={"prefill": 1, "decode": 1}, pools=pools())
    user.await_units(2)
    before = {pod.name: pod.uid for pod in user.pods()}

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        watch.expect(serving=1, units=2)
        patch = json.dumps({"status": broken})
        user.kubectl("patch", "pod", REPLICA[1], "--subresource=status", "-p", patch)
        eventually(
            lambda: user.units()["ready"] == 1, what="the unit does not count", timeout_s=SETTLED_S
        )
        user.await_units(2)

    watch.assert_kept()
    after = {pod.name: pod.uid for pod in user.pods()}
    assert {name for name in before if after[name] != before[name]} == set(REPLICA)
    assert user.status()["failures"] == [{"pod": REPLICA[0], "times": 1}]
