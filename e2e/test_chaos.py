"""Everything at once, in random order: what must never happen does not, and it all ends well.

`BAYPLAN_CHAOS_SECONDS` says for how long (default 60), `BAYPLAN_CHAOS_SEED` repeats a run.
"""

import os
import random
import secrets
import time
from collections.abc import Iterator
from typing import Final

import pytest

from e2e import story
from e2e.cluster import Cluster, CommandFailed, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.contract import watching
from e2e.serving import User, mark_healthy, mark_unhealthy
from e2e.stack import Stack, install

SECONDS: Final = float(os.environ.get("BAYPLAN_CHAOS_SECONDS", "60"))
SEED: Final = os.environ.get("BAYPLAN_CHAOS_SEED") or secrets.token_hex(4)

#: Each with room for one unit: fewer than the most units that are asked for.
NODES: Final = 4

#: Most units that are ever asked for, and how many more there may be during a rollout.
MOST_UNITS: Final = 5
SURGE: Final = 1

#: Seconds from one blow to the next.
PAUSE_S: Final = 1.5


@pytest.fixture
def stack(cluster: Cluster) -> Iterator[Stack]:
    """Run Bayplan, all four programs."""
    story.make_priority_classes(cluster)
    with install(cluster) as running:
        yield running


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Lend some empty nodes."""
    wanted = [f"chaos-{secrets.token_hex(3)}" for _ in range(NODES)]
    made = add_gpu_nodes(cluster, names=wanted, gpus=story.GPUS_PER_NODE)
    yield made
    remove_gpu_nodes(cluster, names=made)


class Chaos:
    """Somebody who does things in no order that makes sense."""

    def __init__(self, stack: Stack, nodes: tuple[str, ...], namespace: str) -> None:
        self.random = random.Random(SEED)  # noqa: S311 - repeatable, nothing secret
        self.user = User(cluster=stack.cluster, namespace=namespace)
        self.vip = User(cluster=stack.cluster, namespace=namespace, name="vip")
        self._stack = stack
        self._nodes = nodes
        self._version = "0"
        self.done: list[str] = []

    def strike(self) -> None:
        """Do one thing."""
        blow = self.random.choice(
            (
                *(self.scale, self.scale, self.edit, self.kill, self.kill, self.restart),
                *(self.cordon, self.uncordon, self.sicken, self.heal, self.surge, self.calm),
            )
        )
        try:
            self.done.append(f"{time.monotonic():.1f} {blow.__name__} {blow() or ''}")
        except CommandFailed as error:  # what it was about is gone, or not there yet
            self.done.append(f"{time.monotonic():.1f} {blow.__name__} {error}")

    def scale(self) -> str:
        """Ask for another number of units, more than there is room for now and then."""
        replicas = self.random.randint(1, MOST_UNITS)
        self.user.scale(replicas)
        return str(replicas)

    def edit(self) -> str:
        """Apply another version, now and then the one of before, now and then paused."""
        self._version = self.random.choice("0123")
        paused = self.random.random() < 0.2
        replicas = self.random.randint(1, MOST_UNITS)
        how = {"paused": paused, "maxSurge": self.random.randint(0, SURGE)}
        self.user.apply(self._version, replicas=replicas, priorityClassName="batch", rollout=how)
        return f"{self._version} {replicas} {how}"

    def kill(self) -> str:
        """Have a pod vanish."""
        pod = self.random.choice([pod.name for pod in self.user.pods()] or ["none"])
        self.user.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--ignore-not-found")
        return pod

    def cordon(self) -> str:
        """Cordon a node."""
        node = self.random.choice(self._nodes)
        self.user.cluster.kubectl_run("cordon", node)
        return node

    def uncordon(self) -> None:
        """Uncordon all nodes."""
        self.user.cluster.kubectl_run("uncordon", *self._nodes)

    def sicken(self) -> str:
        """Break a GPU."""
        node = self.random.choice(self._nodes)
        mark_unhealthy(self.user.cluster, node)
        return node

    def heal(self) -> None:
        """Mend all GPUs."""
        for node in self._nodes:
            mark_healthy(self.user.cluster, node)

    def surge(self) -> None:
        """Ask for a unit of a higher priority."""
        self.vip.apply("0", replicas=1, priorityClassName="online")

    def calm(self) -> None:
        """Take that back."""
        self.vip.kubectl("delete", "infd", "vip", "--wait=false", "--ignore-not-found")

    def restart(self) -> str:
        """Kill one of our programs and start it again."""
        program = self.random.choice(["operator", "operator", "planner", "webhook"])
        self._stack.kill(program)
        self._stack.start(program)
        return program


def test_chaos_breaks_no_promise_and_all_ends_well(
    stack: Stack, nodes: tuple[str, ...], namespace: str
) -> None:
    """Scaling, edits, kills, cordons, broken GPUs, higher priorities and restarts of ours."""
    chaos = Chaos(stack, nodes, namespace)
    user = chaos.user
    user.apply("0", priorityClassName="batch")
    user.await_units(2)

    with watching(stack.cluster, namespace=namespace, name="chat") as watch:
        watch.expect(serving=0, units=MOST_UNITS + SURGE, halves=NODES)
        ends_at = time.monotonic() + SECONDS
        while time.monotonic() < ends_at:
            chaos.strike()
            _pause()
        print(f"seed {SEED}", *chaos.done, sep="\n")

        chaos.uncordon()
        chaos.heal()
        chaos.calm()
        chaos.vip.await_no_pod()
        user.apply("last", replicas=3, priorityClassName="batch")
        user.await_units(3)

    watch.assert_kept()
    assert watch.contract.samples > SECONDS
    assert "Traceback" not in stack.log("operator")


def _pause() -> None:
    at = time.monotonic() + PAUSE_S
    eventually(lambda: time.monotonic() >= at, what="the next blow is due")
