"""What a fresh look at the cluster keeps of it, and what it lets go."""

import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bayplan.cluster.keys import NodeName
from bayplan_operator.cluster.kube import NODES, node_path, pods_path
from bayplan_operator.cluster.observation import Observation, observe
from tests.fake_kube import FakeKube, Raw


class Tracked(dict[str, object]):
    """An object that can be seen to be alive."""


class Large(FakeKube):
    """A cluster that is too large for one answer; counts the objects of it that are in memory.

    Attributes:
        most_alive: Most objects from pages that were alive at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most_alive = 0
        self._alive = 0

    def items(self, path: str, *, labels: str = "", fields: str = "") -> list[Raw]:
        """Fail: the answer would be of the whole cluster."""
        raise AssertionError(f"everything of {path} {labels} {fields} at once")

    def pages(self, path: str, *, labels: str = "", fields: str = "") -> Iterator[Raw]:
        """Yield objects, each made only when it is asked for."""
        for raw in super().items(path, labels=labels, fields=fields):
            made = Tracked(raw)
            weakref.finalize(made, self._gone)
            self._alive += 1
            self.most_alive = max(self.most_alive, self._alive)
            yield made

    def _gone(self) -> None:
        self._alive -= 1


NODE_COUNT = 70
PODS_A_NODE = 5


def cluster() -> Large:
    """Return nodes with pods of others on them, and one managed pod that waits."""
    kube = Large()
    for number in range(NODE_COUNT + 10):
        name = f"n{number}"
        kube.add(node_path(name), {"metadata": {"name": name}, "spec": {}, "status": {}})
        for each in range(PODS_A_NODE):
            add_pod(kube, f"{name}-{each}", node=name)
    add_pod(kube, "waits")
    return kube


def add_pod(kube: Large, name: str, *, node: str = "") -> None:
    """Put a pod there: one without a node is managed."""
    metadata = {
        "name": name,
        "namespace": "ns",
        "creationTimestamp": "2026-05-01T12:00:00Z",
        "managedFields": [{"manager": "somebody"}],
        "labels": {} if node else {"bayplan.dev/managed": "true"},
    }
    spec = {"containers": [{"name": "c"}]} | ({"nodeName": node} if node else {})
    kube.add(f"{pods_path('ns')}/{name}", {"metadata": metadata, "spec": spec, "status": {}})


def look(kube: Large, wanted: int, *about: str) -> Observation:
    """Look at the first nodes."""
    nodes = [NodeName(f"n{number}") for number in range(wanted)]
    with ThreadPoolExecutor(1) as pool:
        return observe(kube, pool, nodes, about=about)


@pytest.mark.parametrize("wanted", [3, NODE_COUNT], ids=["node by node", "all at once"])
def test_no_more_than_is_read_of_them_is_kept_of_the_pods_of_others(wanted: int) -> None:
    """A large plan would take 30 KiB for each pod of the cluster, and the operator with it."""
    kube = cluster()

    seen = look(kube, wanted, "uid-n1-1")

    assert set(seen.raws) == {"uid-waits", "uid-n1-1"}
    assert kube.most_alive <= 6  # those two, and those that are handed on just now
    assert {node.name for node in seen.snapshot.nodes} == {f"n{each}" for each in range(wanted)}
    assert len(seen.snapshot.pods) == wanted * PODS_A_NODE + 1
    assert all("managedFields" not in raw["metadata"] for raw in seen.raws.values())


@pytest.mark.parametrize(
    ("others", "lists"),
    [
        pytest.param(10, True, id="most nodes are wanted"),
        pytest.param(8 * NODE_COUNT, False, id="few are"),
    ],
)
def test_all_pods_are_listed_only_where_many_of_the_nodes_are_wanted(
    others: int, *, lists: bool
) -> None:
    """A large cluster would be read whole for a plan that touches a small part of it."""
    asked: list[str] = []

    class Noted(Large):
        def pages(self, path: str, *, labels: str = "", fields: str = "") -> Iterator[Raw]:
            asked.append(fields)
            yield from super().pages(path, labels=labels, fields=fields)

    kube = Noted()
    for number in range(NODE_COUNT + others):
        name = f"n{number}"
        kube.add(node_path(name), {"metadata": {"name": name}, "spec": {}, "status": {}})

    seen = look(kube, NODE_COUNT)

    assert len(seen.snapshot.nodes) == NODE_COUNT
    assert ("spec.nodeName!=" in asked) is lists


def test_a_pod_that_is_bound_meanwhile_is_kept_as_it_is_on_its_node() -> None:
    """Its gate was lifted by then: a patch of the object without a node would be refused."""
    kube = cluster()
    waits = f"{pods_path('ns')}/waits"
    bound = kube.objects[waits]["spec"] | {"nodeName": "n0"}

    class Racing(Large):
        def pages(self, path: str, *, labels: str = "", fields: str = "") -> Iterator[Raw]:
            yield from super().pages(path, labels=labels, fields=fields)
            if fields == "spec.nodeName=":
                self.add(waits, {**self.objects[waits], "spec": bound})

    racing = Racing()
    racing.objects = kube.objects
    seen = look(racing, 2)

    assert seen.raws["uid-waits"]["spec"]["nodeName"] == "n0"
    assert seen.unbound() == ()


def test_nodes_that_are_not_wanted_are_not_looked_at() -> None:
    """Only those of the plan count."""
    kube = cluster()
    kube.add(f"{NODES}/odd", {"metadata": {"name": "odd"}, "spec": {"taints": "rubbish"}})

    assert NodeName("odd") not in {node.name for node in look(kube, NODE_COUNT).snapshot.nodes}
