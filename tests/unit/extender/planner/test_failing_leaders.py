"""A planner that leads and never gets a pass done counts as none."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from bayplan.api import names
from bayplan_extender.planner.lease import DURATION_S
from bayplan_operator.cluster.kube import POLICY, lease_path
from tests.scenes.execution import NOW, Scene, gates_of
from tests.scenes.lease import Server


def said(server: Server) -> str | None:
    """Return what the lease says of the passes of who leads."""
    annotations: dict[str, str] = server.lease.metadata.annotations or {}
    return annotations.get(names.ANNOTATION_PASSES)


def test_a_first_leader_has_a_pass_to_make() -> None:
    """Half a minute may go by until there is one to make."""
    server = Server()

    server.of("a").hold()

    assert said(server) == names.PASSES_AWAITED


@pytest.mark.parametrize(("well", "told"), [(True, None), (False, names.PASSES_FAIL)])
def test_the_next_renewal_says_how_the_last_pass_ended(*, well: bool, told: str | None) -> None:
    """It costs no write of its own."""
    server = Server()
    lease = server.of("a")
    lease.hold()

    lease.passed(well=well)
    lease.hold()

    assert said(server) == told


def test_what_others_say_on_the_lease_stays() -> None:
    """It is not ours alone."""
    server = Server()
    lease = server.of("a")
    lease.hold()
    lease._written.metadata.annotations["other"] = "x"  # noqa: SLF001 - as the server returned it

    lease.hold()

    assert server.lease.metadata.annotations["other"] == "x"


@pytest.mark.parametrize(
    ("passes", "told"),
    [
        pytest.param([True], names.PASSES_AWAITED, id="one who worked"),
        pytest.param([], names.PASSES_FAIL, id="one who died in its first pass"),
        pytest.param([True, False], names.PASSES_FAIL, id="one whose last pass failed"),
        pytest.param([False, True], names.PASSES_AWAITED, id="one who recovered"),
    ],
)
@pytest.mark.parametrize("successor", ["b", "a"], ids=["another", "itself, started anew"])
def test_who_takes_over_goes_on_with_it(passes: list[bool], told: str, successor: str) -> None:
    """Replicas that fail one after the other would count as alive for ever."""
    server = Server()
    first, second = server.of("a"), server.of(successor)
    first.hold()
    for well in passes:
        first.passed(well=well)
        first.hold()

    second.hold()
    server.now += DURATION_S + 1
    assert second.hold()
    assert said(server) == told

    second.passed(well=True)
    second.hold()
    assert said(server) is None


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return a cluster with an operator."""
    with ThreadPoolExecutor(2) as pool:
        yield Scene(pool)


@pytest.fixture
def looks(scene: Scene) -> Callable[..., float]:
    """Return what lets the operator look after some seconds, at a lease that was just renewed."""
    scene.kube.add(POLICY, {"metadata": {"name": "default"}, "spec": {"gateTimeoutSeconds": 60}})
    now = [NOW]
    gates = gates_of(scene, now)

    def look(seconds: int, passes: str = "") -> float:
        now[0] = NOW + timedelta(seconds=seconds)
        annotations = {names.ANNOTATION_PASSES: passes} if passes else {}
        metadata = {"name": names.PLANNER_LEASE, "annotations": annotations}
        lease = {"metadata": metadata, "spec": {"renewTime": f"2026-05-01T12:00:00.{seconds:06}Z"}}
        scene.kube.add(lease_path("bayplan-system"), lease)
        gates.reconcile()
        return gates.away_s

    return look


def test_gates_are_lifted_although_the_lease_is_fresh(
    scene: Scene, looks: Callable[..., float]
) -> None:
    """Pods waited for eight minutes, or for ever, while each replica led and failed in turn."""
    scene.add("a")
    assert looks(0) == 0
    for seconds in range(10, 60, 10):
        assert looks(seconds, names.PASSES_FAIL) == 0

    assert looks(60, names.PASSES_FAIL) == 60
    assert scene.pod("a")["spec"]["schedulingGates"] == []


@pytest.mark.parametrize("passes", ["", names.PASSES_AWAITED], ids=["good", "awaited"])
def test_a_planner_with_nothing_to_do_is_alive(
    scene: Scene, looks: Callable[..., float], passes: str
) -> None:
    """It would be passed over when somebody comes at last."""
    scene.add("a")

    assert {looks(seconds, passes) for seconds in range(0, 600, 50)} == {0}


def test_one_good_pass_is_enough(looks: Callable[..., float]) -> None:
    """A plan that was refused once says nothing about the next."""
    looks(0)
    looks(50, names.PASSES_FAIL)
    looks(55)

    assert looks(110, names.PASSES_FAIL) == 0
