"""Half a gang whose rest the API server refuses in earnest comes back behind its gates."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from bayplan.api import names
from bayplan.cluster.keys import GangKey
from bayplan.plan import Bind
from bayplan_operator.cluster.kube import pod_path
from tests.execution_scene import NOW, Scene, bind, gates_of, hold, key, raw_pod

GANG = GangKey(namespace="ns", name="g")
LABELS = {names.LABEL_GANG: "g", names.LABEL_GANG_MIN_COUNT: "2"}


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return a cluster in which one pod of a gang was released, and the other one refused."""
    with ThreadPoolExecutor(2) as pool:
        made = Scene(pool)
        for name in ("g-0", "g-1"):
            raw = raw_pod(name, gpus=8)
            raw["metadata"]["labels"] |= LABELS
            made.kube.add(pod_path(key(name)), raw)
        patch = made.kube.patch

        def admits_rehearsals(
            path: str, body: object, *, rehearse: bool = False, **how: str
        ) -> None:
            refused = path == pod_path(key("g-1")) and not rehearse
            made.kube.refusals = {path: (403, "denied in earnest")} if refused else {}
            patch(path, body, rehearse=rehearse, **how)  # type: ignore[arg-type]

        made.kube.patch = admits_rehearsals  # type: ignore[method-assign]
        made.publish(of_gang(bind("g-0", "n1")), of_gang(bind("g-1", "n2")))
        made.look()
        assert [gated(made, name) for name in ("g-0", "g-1")] == [False, True]
        placed = made.pod("g-0")
        placed["spec"]["nodeName"] = "n1"
        made.kube.refusals = {}
        yield made


def of_gang(made: Bind) -> Bind:
    """Return a bind of a pod of the gang."""
    return replace(made, gang=GANG)


def gated(scene: Scene, name: str) -> bool:
    """Return whether a pod waits behind its gate."""
    return bool(scene.pod(name)["spec"].get("schedulingGates"))


def leaves(scene: Scene, name: str) -> bool:
    """Return whether a pod is asked to go."""
    return "deletionTimestamp" in scene.pod(name)["metadata"]


def test_half_a_gang_is_called_back_a_quarter_of_a_minute_after_its_rest_is_held(
    scene: Scene,
) -> None:
    """It held its room for as long as its rest was refused, and nobody knew whose turn it was."""
    now = [NOW]
    gates = gates_of(scene, now)
    gates.reconcile()
    scene.publish(replace(hold("g-1"), gang=GANG), sequence=2)
    for seconds in (0, 14):
        now[0] = NOW + timedelta(seconds=seconds)
        gates.reconcile()
        assert not leaves(scene, "g-0")

    now[0] = NOW + timedelta(seconds=15)
    gates.reconcile()

    assert leaves(scene, "g-0")
    assert not leaves(scene, "g-1")
    assert scene.told.notes[-1].startswith(
        "Pod g-0 Evicted: the rest of its gang g waits in vain, so it waits with it: needs 16"
    )


def test_a_newer_plan_may_have_a_place_for_the_rest(scene: Scene) -> None:
    """The gang would be torn down at the moment in which it becomes whole."""
    now = [NOW]
    gates = gates_of(scene, now)
    scene.publish(replace(hold("g-1"), gang=GANG), sequence=2)
    gates.reconcile()

    scene.publish(of_gang(bind("g-1", "n2")), sequence=3)
    now[0] = NOW + timedelta(minutes=1)
    gates.reconcile()

    assert not leaves(scene, "g-0")


def test_a_budget_may_keep_it(scene: Scene) -> None:
    """The pass ended there, and no other gate was looked at."""
    now = [NOW]
    gates = gates_of(scene, now)
    scene.publish(replace(hold("g-1"), gang=GANG), sequence=2)
    gates.reconcile()
    scene.kube.refusals[f"{pod_path(key('g-0'))}/eviction"] = (429, "a budget")
    now[0] = NOW + timedelta(seconds=15)
    gates.reconcile()
    scene.kube.refusals = {}

    now[0] = NOW + timedelta(seconds=25)
    gates.reconcile()

    assert leaves(scene, "g-0")


def test_of_a_leader_worker_set_only_the_group_that_is_half_is_called_back(scene: Scene) -> None:
    """All groups have one label: the other one was counted as more of the same gang."""
    for name in ("g-0", "g-1"):
        scene.pod(name)["metadata"]["labels"][names.LABEL_LWS_GROUP] = "0"
    other = raw_pod("g-2", gpus=8)
    other["metadata"]["labels"] |= LABELS | {names.LABEL_LWS_GROUP: "1"}
    scene.kube.add(pod_path(key("g-2")), other)
    now = [NOW]
    gates = gates_of(scene, now)
    group = GangKey(namespace="ns", name="g/0")
    scene.publish(replace(hold("g-1"), gang=group), sequence=2)
    gates.reconcile()
    now[0] = NOW + timedelta(seconds=15)

    gates.reconcile()

    assert leaves(scene, "g-0")
    assert not leaves(scene, "g-2")
