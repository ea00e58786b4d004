"""A gang that kube-scheduler refuses is remembered in the newest plan, until something changes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bayplan.cluster.keys import GangKey
from bayplan_operator.cluster.kube import node_path, plan_path, pod_path
from bayplan_operator.plans.memory import Plans
from bayplan_operator.plans.recalls import Recalls
from tests.fake_kube import Raw
from tests.scenes.execution import (
    NOW,
    Scene,
    gates_of,
    key,
    raw_pod,
)
from tests.scenes.partial_gangs import LABELS, half_released, pin_the_rest, refuse


@pytest.fixture
def pinned() -> Iterator[Scene]:
    """Return a cluster in which one of a gang is bound, and the other one pinned."""
    with half_released() as made:
        pin_the_rest(made)
        yield made


def call_back(scene: Scene, *, at: datetime = NOW) -> None:
    """Have kube-scheduler refuse one of the gang for long enough, from an instant on."""
    refuse(scene)
    now = [at]
    gates = gates_of(scene, now)
    for seconds in (0, 10, 20):
        now[0] = at + timedelta(seconds=seconds)
        gates.reconcile()
    assert scene.leaves("g-1")


def told_of(scene: Scene, plan: str = "plan-00002") -> list[Raw]:
    """Return which gangs were called back, as a plan says."""
    status: Raw = scene.kube.objects[plan_path(plan)]["status"]
    told: list[Raw] = status["recalled"]
    return told


def comes_again(scene: Scene, **labels: str) -> None:
    """Have the gang's pods be gone, and made anew."""
    for name in ("g-0", "g-1"):
        raw = raw_pod(name, gpus=8)
        raw["metadata"] |= {"uid": f"new-{name}", "labels": raw["metadata"]["labels"] | LABELS}
        raw["metadata"]["labels"] |= labels
        scene.kube.add(pod_path(key(name)), raw)


def test_a_gang_that_is_refused_is_remembered_in_the_newest_plan(pinned: Scene) -> None:
    """It started twice a minute: nobody knew that it was the same gang again, or where."""
    call_back(pinned)

    (told,) = told_of(pinned)
    assert (told["gang"], told["pod"], told["times"]) == ("g", "g-1", 1)
    assert told["message"] == "no such volume"
    assert [node["name"] for node in told["nodes"]] == ["n2"]
    assert "and on n2 again from 12:01:20 UTC" in pinned.told.notes[-1]


def test_a_gang_whose_node_was_lost_is_not_remembered_as_refused(pinned: Scene) -> None:
    """kube-scheduler says so, too: the pods told of a riddle, and the gang was kept from nodes."""
    refuse(pinned, "no such node")
    now = [NOW + timedelta(seconds=20)]
    gates = gates_of(pinned, now)
    del pinned.kube.objects[node_path("n2")]
    gates.reconcile()
    now[0] = NOW + timedelta(seconds=30)

    gates.reconcile()

    assert pinned.leaves("g-0")
    assert "recalled" not in pinned.status("plan-00002")
    assert "n2 is gone" in pinned.told.notes[-1]


def test_when_it_was_is_told_by_the_api_servers_clock(pinned: Scene) -> None:
    """To a planner whose clock is right it would lie in the future, and keep nobody waiting."""
    pinned.kube.ahead_s = 5.0

    call_back(pinned)

    (told,) = told_of(pinned)
    assert told["at"] == "2026-05-01T12:00:15Z"


def test_a_node_that_has_refused_many_is_read_once_in_a_look(
    pinned: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 gangs and 16 nodes each were a thousand requests."""
    call_back(pinned)
    (recall,) = pinned.plans.recalled(now=NOW.timestamp() + 60).values()
    newest = pinned.plans.newest()
    assert newest is not None
    gangs = (GangKey(namespace="ns", name=f"g-{n}") for n in range(3))
    told = tuple(replace(recall, group=gang) for gang in gangs)
    pinned.plans.wrote_recalled(newest.parts[0].published, told, pinned.kube.version + 1)
    asked: list[str] = []
    get = pinned.kube.get

    def noted(path: str) -> Raw | None:
        asked.append(path)
        return get(path)

    monkeypatch.setattr(pinned.kube, "get", noted)

    Recalls(pinned.kube, pinned.plans, now=lambda: NOW).review([], {})

    assert asked.count(node_path("n2")) == 1
    assert len(pinned.plans.recalled(now=NOW.timestamp() + 60)) == 3


def test_an_operator_that_starts_knows_how_many_times_it_was(pinned: Scene) -> None:
    """Each start would have made the pause short again."""
    call_back(pinned)
    raw = pinned.kube.objects[plan_path("plan-00002")]
    anew = Plans(pinned.kube)

    (recall,) = anew.recalled(now=NOW.timestamp() + 60).values()

    assert recall.times == 1
    assert raw["status"]["phase"], "the rest of the status is there, too"


def test_what_is_said_of_steps_later_leaves_it_there(pinned: Scene) -> None:
    """Two write the status of a plan: each would take away what the other one has written."""
    call_back(pinned)
    del pinned.kube.objects[pod_path(key("g-1"))]
    before = pinned.status("plan-00002")

    pinned.look()

    after = pinned.status("plan-00002")
    assert after["recalled"] == before["recalled"]
    assert after["message"] != before["message"]
    assert pinned.plans.recalled(now=NOW.timestamp() + 60)


@pytest.mark.parametrize(
    ("labels", "on_node", "counts"),
    [
        pytest.param({}, {}, True, id="nothing"),
        pytest.param({"pod-template-hash": "2"}, {}, False, id="its template"),
        pytest.param({}, {"labels": {"disks": "mended"}}, False, id="the node"),
    ],
)
def test_it_starts_anew_when_its_pods_or_its_node_change(
    pinned: Scene,
    labels: dict[str, str],
    on_node: dict[str, object],
    counts: bool,  # noqa: FBT001 - a case
) -> None:
    """Who has mended what was wrong would wait for an hour."""
    call_back(pinned)
    comes_again(pinned, **labels)
    pinned.kube.objects[node_path("n2")]["metadata"] |= on_node
    now = [NOW + timedelta(seconds=30)]

    gates_of(pinned, now).reconcile()

    assert bool(told_of(pinned)) is counts
    assert bool(pinned.plans.recalled(now=now[0].timestamp())) is counts
