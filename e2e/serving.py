"""An InferenceDeployment whose contract is watched, and somebody with kubectl who works on it.

A unit is one 4-GPU prefill and two 2-GPU decode pods: exactly one 8-GPU node.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bayplan.api import names
from e2e import story
from e2e.cluster import Cluster, eventually

#: Seconds within which a deployment of a few units settles, on a busy machine too.
SETTLED_S: Final = 180.0


def deployment(
    version: str,
    *,
    name: str = "chat",
    start_s: int = 0,
    **spec: Any,  # noqa: ANN401 - JSON
) -> dict[str, Any]:
    """Return units of one version, two unless something else is said; a drain takes 1 s.

    `start_s` is how long a pod takes from its node to its readiness.
    """
    annotations = {"example.com/version": version}
    if start_s:
        annotations["pod-ready.stage.kwok.x-k8s.io/delay"] = f"{start_s}s"
    pools = [
        {
            "role": role,
            "template": {
                "metadata": {"annotations": annotations},
                "spec": story.pod_spec(gpus) | {"terminationGracePeriodSeconds": 1},
            },
        }
        for role, gpus in (("Prefill", 4), ("Decode", 2))
    ]
    usual = {"replicas": 2, "disruption": {"drainTimeoutSeconds": 1}}
    return {
        "apiVersion": "bayplan.dev/v1alpha1",
        "kind": "InferenceDeployment",
        "metadata": {"name": name},
        "spec": {"ratio": {"prefill": 1, "decode": 2}, "pools": pools, **usual, **spec},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who works on one InferenceDeployment."""

    cluster: Cluster
    namespace: str
    name: str = "chat"

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl_run("-n", self.namespace, *arguments)

    def apply(self, version: str, **spec: Any) -> None:  # noqa: ANN401 - JSON
        """Apply the deployment in a version."""
        made = deployment(version, name=self.name, **spec)
        story.apply(self.cluster, made, namespace=self.namespace)

    def scale(self, replicas: int) -> None:
        """Scale as users and autoscalers do."""
        self.kubectl("scale", f"infd/{self.name}", f"--replicas={replicas}")

    def status(self) -> dict[str, Any]:
        """Return the status, or an empty one."""
        raw = story.get(self.cluster, f"infd/{self.name}", namespace=self.namespace)
        found: dict[str, Any] = raw.get("status", {})
        return found

    def units(self) -> Mapping[str, int]:
        """Return the units by how far they are."""
        found: dict[str, int] = self.status().get("units", {})
        return found

    def condition(self, kind: str) -> dict[str, str]:
        """Return a condition, or an empty one."""
        conditions = self.status().get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def pods(self) -> tuple[story.PodView, ...]:
        """Return the pods of the deployment."""
        found = story.pods(self.cluster, self.namespace)
        return tuple(pod for pod in found if pod.name.startswith(f"{self.name}-"))

    def nodes(self) -> set[str]:
        """Return the nodes that its pods are on."""
        return {pod.node for pod in self.pods() if pod.node}

    def await_units(self, replicas: int, *, size: int = 3) -> dict[str, Any]:
        """Wait until exactly so many units serve, all from the newest template; return the status.

        `size` is how many pods one has. Nothing of any other is left then, and nothing is going on.
        The pods are looked at as well: a status may be of the moment before one was lost.
        """
        want = dict.fromkeys(("desired", "scheduled", "ready", "updated"), replicas)

        def settled() -> dict[str, Any]:
            raw = story.get(self.cluster, f"infd/{self.name}", namespace=self.namespace)
            status: dict[str, Any] = raw.get("status", {})
            assert status.get("observedGeneration") == raw["metadata"]["generation"], status
            assert status["units"] == want, status
            reasons = {c["type"]: c["reason"] for c in status["conditions"]}
            assert reasons["Progressing"] == "RolledOut", status
            pods = self.pods()
            assert len(pods) == size * replicas, pods
            assert all(pod.node and pod.ready for pod in pods), pods
            return status

        return eventually(
            settled, what=f"{replicas} units serve", timeout_s=SETTLED_S, interval_s=0.3
        )

    def await_no_pod(self) -> None:
        """Wait until nothing is left of the deployment."""
        eventually(lambda: not self.pods(), what="every pod is gone", timeout_s=SETTLED_S)


def mark_unhealthy(cluster: Cluster, node: str) -> None:
    """Say what a health checker would that has found a broken GPU."""
    cluster.kubectl_run("label", "node", node, f"{names.LABEL_UNHEALTHY}=xid-79", "--overwrite")


def mark_healthy(cluster: Cluster, node: str) -> None:
    """Take that back."""
    cluster.kubectl_run("label", "node", node, f"{names.LABEL_UNHEALTHY}-")
