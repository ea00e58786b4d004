"""Somebody who does everything at once to an InferenceDeployment and its nodes, at random."""

import json
import random
import time
from typing import Final

from e2e.cluster import CommandFailed
from e2e.serving import User, mark_healthy, mark_unhealthy
from e2e.stack import Stack

#: Most units that are ever asked for, and how many more there may be during a rollout.
MOST_UNITS: Final = 5
SURGE: Final = 1


class Chaos:
    """Somebody who does things in no order that makes sense."""

    def __init__(self, stack: Stack, nodes: tuple[str, ...], user: User, *, seed: str) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable, nothing secret
        self.user = user
        self.vip = User(cluster=user.cluster, namespace=user.namespace, name="vip")
        self._stack = stack
        self._nodes = nodes
        self._version = "0"
        self._operator_starts = False
        self.done: list[str] = []

    def strike(self) -> None:
        """Do one thing."""
        blow = self.random.choice(
            (
                *(self.scale, self.scale, self.edit, self.kill, self.kill, self.restart),
                self.reshape,
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

    def reshape(self) -> str:
        """Ask for another ratio."""
        ratio = {"prefill": 1, "decode": self.random.randint(1, 3)}
        patch = json.dumps({"spec": {"ratio": ratio}})
        self.user.kubectl("patch", "infd", self.user.name, "--type=merge", f"--patch={patch}")
        return str(ratio)

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
        self._operator_starts |= program == "operator"
        self._stack.start(program)
        return program

    def operator_works(self) -> bool:
        """Return whether the operator is there, or back since it was killed last.

        Its start takes 2.4 s of a core, which was half a minute on a machine of others (load 17).
        """
        if self._operator_starts and (not self._stack.health or self._stack.is_ready("operator")):
            self._operator_starts = False
        return not self._operator_starts

    def calm_down(self) -> None:
        """Take everything back that stands in the way of the deployment."""
        self.uncordon()
        self.heal()
        self.calm()
        self.vip.await_no_pod()
