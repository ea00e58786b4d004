"""Four nodes under Bayplan, and somebody with kubectl whose Deployments fill them."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

from e2e import story
from e2e.cluster import Cluster, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.stack import Stack, install

Object = dict[str, Any]

#: Seconds in which everything must have settled.
SETTLED_S: Final = 180.0

#: Every minute of the week, and no minute of it.
ALWAYS: Final = {"windows": [{"start": "00:00", "durationMinutes": 1440}]}
NEVER: Final[Object] = {"windows": []}


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Lend four 8-GPU nodes."""
    story.make_priority_classes(cluster)
    names = add_gpu_nodes(cluster, names=[f"life-{n}" for n in range(1, 5)])
    yield names
    remove_gpu_nodes(cluster, names=names)


@pytest.fixture(scope="module")
def stack(cluster: Cluster, nodes: Sequence[str]) -> Iterator[Stack]:
    """Run Bayplan, all four programs, for all tests of a file."""
    assert nodes
    with install(cluster) as running:
        yield running


@pytest.fixture
def user(stack: Stack, nodes: tuple[str, ...], namespace: str) -> Iterator["User"]:
    """Return somebody with an empty cluster; clear it away, and show the logs if a test fails."""
    somebody = User(stack, nodes, namespace)
    eventually(somebody.is_empty, what="the nodes are empty", timeout_s=SETTLED_S)
    yield somebody
    somebody.policy(defragmentation=NEVER, nodeProvisioning="Never")
    for program in ("planner", "operator"):
        print(program, stack.log(program)[-20_000:])
    stack.cluster.kubectl_run("delete", "deployments,pdb", "--all", "-n", namespace)


class User:
    """Somebody with kubectl, a namespace and four nodes."""

    def __init__(self, stack: Stack, nodes: tuple[str, ...], namespace: str) -> None:
        self.stack = stack
        self.cluster = stack.cluster
        self.nodes = nodes
        self.namespace = namespace

    def apply(self, *objects: Object) -> None:
        """Apply objects in the namespace."""
        story.apply(self.cluster, *objects, namespace=self.namespace)

    def policy(self, **spec: object) -> None:
        """Change the PackingPolicy."""
        patch = json.dumps({"spec": spec})
        self.cluster.kubectl_run("patch", "ppolicy", "default", "--type=merge", "-p", patch)

    def delete(self, name: str) -> None:
        """Delete a Deployment."""
        self.cluster.kubectl_run("delete", "deployment", name, "-n", self.namespace)

    def is_empty(self) -> bool:
        """Return whether no pod uses a GPU."""
        return set(self.free().values()) == {story.GPUS_PER_NODE}

    def free(self) -> dict[str, int]:
        """Return the free GPUs by node."""
        return story.free_gpus(self.cluster, self.nodes)

    def phases(self) -> dict[str, Counter[str]]:
        """Return how many pods of each app are in which phase; "Gated" counts as one."""
        found: dict[str, Counter[str]] = {}
        for pod in story.pods(self.cluster, self.namespace):
            app = pod.name.rsplit("-", 2)[0]
            found.setdefault(app, Counter())["Gated" if pod.gated else pod.phase] += 1
        return found

    def await_phases(self, **wanted: dict[str, int]) -> None:
        """Wait until the pods of each app are in these phases."""

        def there() -> bool:
            phases = self.phases()
            assert {app: dict(phases.get(app, {})) for app in wanted} == wanted
            assert min(self.free().values()) >= 0, self.free()
            return True

        eventually(there, what=f"the phases are {wanted}", timeout_s=SETTLED_S)

    def scatter(self, gpus: int, **spec: object) -> None:
        """Run one small pod of so many GPUs on each node, each of a Deployment of its own.

        `spec` are further fields of the pods.
        """
        self.cluster.kubectl_run("cordon", *self.nodes)
        for number, node in enumerate(self.nodes):
            self.cluster.kubectl_run("uncordon", node)
            small = deployment(f"small{number}", gpus)
            small["spec"]["template"]["spec"] |= spec
            self.apply(small)
            self.await_phases(**{f"small{number}": {"Running": 1}})
            self.cluster.kubectl_run("cordon", node)
        self.cluster.kubectl_run("uncordon", *self.nodes)

    def plans(self, order: str) -> list[Object]:
        """Return the plans of one order that placed or moved somebody."""
        of = [plan for plan in story.plans(self.cluster) if plan["spec"]["order"] == order]
        return [plan for plan in of if any(counted(plan, "bound", "moved"))]

    def decisions(self, app: str) -> set[str]:
        """Return what is told on the waiting pods of an app."""
        told = [p for p in story.pods(self.cluster, self.namespace) if p.name.startswith(app)]
        return {pod.annotations.get("bayplan.dev/decision", "") for pod in told if pod.gated}


def deployment(
    name: str, gpus: int, *, replicas: int = 1, gang: bool = False, priority: str = "batch"
) -> Object:
    """Return a Deployment whose pods go through Bayplan, as a gang if so wished."""
    labels = {"bayplan.dev/gang": name, "bayplan.dev/gang-min-count": str(replicas)}
    return story.deployment(
        name, gpus, replicas=replicas, priority=priority, labels=labels if gang else {}
    )


def counted(plan: Object, *kinds: str) -> list[int]:
    """Return how many pods a plan binds, moves and so on."""
    return [plan["spec"]["counts"][kind] for kind in kinds]
