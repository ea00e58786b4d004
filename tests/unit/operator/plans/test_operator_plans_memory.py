"""What the operator knows of plans while the API server is slow, and words come late."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import pytest

from bayplan.cluster.keys import GangKey
from bayplan.codec.recalls import recall_manifest
from bayplan_operator.cluster.kube import plan_path
from bayplan_operator.plans.memory import Plans
from tests.fake_kube import FakeKube, Raw
from tests.scenes import execution
from tests.scenes.execution import Scene, bind, hold
from tests.scenes.recalls import AT, GANG, ONCE

scene = execution.scene

#: Seconds after which whoever waits counts as stuck.
_STUCK_S = 20.0


class Slow(FakeKube):
    """An API server that begins to list, and answers when it is told to."""

    def __init__(self, objects: dict[str, Raw]) -> None:
        super().__init__(objects)
        self.asked = threading.Event()
        self.answers = threading.Event()

    def items(self, path: str, *, labels: str = "", fields: str = "") -> list[Raw]:
        """Look at what there is, and keep it back."""
        found = super().items(path, labels=labels, fields=fields)
        self.asked.set()
        assert self.answers.wait(_STUCK_S)
        return found


@pytest.fixture
def slow(scene: Scene) -> Iterator[tuple[Slow, Plans]]:
    """Return a slow API server that has plan 1, and plans that are being read from it."""
    scene.publish(bind("a", "n1"))
    kube = Slow(scene.kube.objects)
    plans = Plans(kube)
    with ThreadPoolExecutor(1) as reader:
        newest = reader.submit(plans.newest)
        assert kube.asked.wait(_STUCK_S)
        yield kube, plans
        kube.answers.set()
        newest.result(_STUCK_S)


def test_who_tells_of_a_plan_never_waits_for_the_api_server(slow: tuple[Slow, Plans]) -> None:
    """The event loop stood still with it: no probe was answered, and the operator was ended."""
    kube, plans = slow
    raw = kube.objects[plan_path("plan-00001")]

    with ThreadPoolExecutor(1) as loop:
        for tell in (
            lambda: plans.see(raw),
            plans.awaits_replacements,
            lambda: plans.forget("plan-00009", "uid"),
        ):
            loop.submit(tell).result(_STUCK_S / 4)


def test_what_is_told_while_plans_are_read_is_not_lost(slow: tuple[Slow, Plans]) -> None:
    """A plan would be carried out, or left alone, half a minute late."""
    kube, plans = slow
    first = kube.objects[plan_path("plan-00001")]
    second = deepcopy(first)
    second["metadata"] |= {"name": "plan-00002", "uid": "second", "resourceVersion": "500"}
    second["spec"]["sequence"] = 2

    plans.see(second)
    plans.forget("plan-00001", first["metadata"]["uid"])
    kube.answers.set()

    newest = plans.newest()
    assert newest is not None
    assert newest.published.name == "plan-00002"
    plans.forget("plan-00002", "second")
    assert plans.newest() is None


def test_an_older_word_that_comes_late_changes_nothing(scene: Scene) -> None:
    """The plan would be carried out once more."""
    scene.add("a")
    name = scene.publish(bind("a", "n1"))
    before = deepcopy(scene.kube.objects[plan_path(name)])
    scene.look()
    scene.pod("a")["spec"]["nodeName"] = "n1"
    scene.look()
    assert not scene.plans.newest().open  # type: ignore[union-attr]

    scene.plans.see(before)

    assert not scene.plans.newest().open  # type: ignore[union-attr]


def test_a_late_write_of_an_operator_that_is_gone_is_put_right(scene: Scene) -> None:
    """The plan stood at work for ever, and the planner left those who wait to it."""
    scene.add("a")
    name = scene.publish(bind("a", "n1"))
    scene.look()
    late = dict(scene.status(name))
    scene.pod("a")["spec"]["nodeName"] = "n1"
    scene.look()
    assert scene.status(name)["phase"] == "Completed"

    raw = scene.kube.objects[plan_path(name)]
    scene.plans.see(scene.kube.add(plan_path(name), {**raw, "status": late}))
    scene.look()

    assert scene.status(name)["phase"] == "Completed"


def test_after_a_restore_of_etcd_what_the_watch_tells_is_all_there_is(scene: Scene) -> None:
    """Versions are lower then: the plan looked ended to us, and at work to everybody else."""
    scene.add("a")
    name = scene.publish(bind("a", "n1"))
    scene.look()
    scene.plans.see(backup := deepcopy(scene.kube.objects[plan_path(name)]))
    scene.pod("a")["spec"]["nodeName"] = "n1"
    scene.look()
    scene.plans.see(scene.kube.objects[plan_path(name)])

    scene.kube.objects[plan_path(name)] = backup
    scene.kube.version = int(backup["metadata"]["resourceVersion"])
    scene.plans.see(backup)

    assert scene.plans.newest().open  # type: ignore[union-attr]
    scene.look()
    assert scene.status(name)["phase"] == "Completed"
    written = len(scene.kube.writes)
    scene.look()
    assert len(scene.kube.writes) == written, "it is not written again"


def test_a_write_that_a_restore_of_etcd_has_undone_before_the_watch_showed_it_is_missed(
    scene: Scene,
) -> None:
    """The watch went back to what it had told last: the plan stood at work to all but us."""
    now = [0.0]
    plans = Plans(scene.kube, clock=lambda: now[0])
    name = scene.publish(bind("a", "n1"))
    assert plans.newest() is not None
    plans.see(backup := deepcopy(scene.kube.objects[plan_path(name)]))
    (entry,) = plans.newest().parts  # type: ignore[union-attr]
    plans.wrote(entry, {"phase": "Completed"}, entry.version + 1)

    plans.see(backup)
    plans.look_again()
    now[0] = 59.0
    plans.look_again()
    assert not plans.newest().open, "the watch may be late"  # type: ignore[union-attr]
    now[0] = 60.0
    plans.look_again()

    assert plans.newest().open  # type: ignore[union-attr]
    now[0] = 3600.0
    asked = plans._entries  # noqa: SLF001 - read anew if it is another one
    plans.look_again()
    assert plans._entries is asked, "once is enough"  # noqa: SLF001


def test_an_older_word_takes_away_nobody_who_was_refused_since(scene: Scene) -> None:
    """What is written next of refusals would have been without it: all are written each time."""
    name = scene.publish(bind("a", "n1"))
    (entry,) = scene.plans.newest().parts  # type: ignore[union-attr]
    raw = scene.kube.objects[plan_path(name)]

    older = scene.kube.add(plan_path(name), {**raw, "status": {"phase": "Executing"}})
    scene.plans.wrote_recalled(entry.published, (ONCE,), scene.kube.version + 1)
    scene.plans.see(older)

    assert scene.plans.recalled(now=AT) == {GANG: ONCE}


def test_a_late_word_of_who_was_refused_counts_beside_a_status_that_is_newer(scene: Scene) -> None:
    """What an operator that is gone wrote last was overwritten by the next one."""
    name = scene.publish(bind("a", "n1"))
    (entry,) = scene.plans.newest().parts  # type: ignore[union-attr]
    raw = scene.kube.objects[plan_path(name)]

    late = scene.kube.add(plan_path(name), {**raw, "status": {"recalled": [recall_manifest(ONCE)]}})
    scene.plans.wrote(entry, {"phase": "Executing"}, scene.kube.version + 1)
    scene.plans.see(late)

    assert scene.plans.recalled(now=AT) == {GANG: ONCE}
    assert scene.plans.newest().open  # type: ignore[union-attr]


def test_what_may_leave_a_gang_half_is_known(scene: Scene) -> None:
    """Halves would be looked at for each plan, or ten seconds late."""
    scene.add("a")
    name = scene.publish(bind("a", "n1"))
    assert not scene.plans.may_leave_partial(name), "nothing is known of it yet"
    scene.look()
    assert not scene.plans.may_leave_partial(name)
    held = scene.publish(hold("b"), sequence=2)
    of_gang = replace(hold("c"), gang=GangKey(namespace="ns", name="g"))
    torn = scene.publish(of_gang, sequence=3)

    assert not scene.plans.may_leave_partial(held)
    assert scene.plans.may_leave_partial(torn)


def test_a_plan_that_has_failed_may_leave_a_gang_half(scene: Scene) -> None:
    """What was pinned is on no list of those that are held."""
    name = scene.publish(bind("gone", "n1"))
    scene.look()

    assert scene.status(name)["phase"] == "Failed"
    assert scene.plans.may_leave_partial(name)
    assert scene.plans.without_place() == {"uid-gone": "it is gone"}


def test_a_state_that_a_newer_version_has_left_behind_is_no_failure(scene: Scene) -> None:
    """After a rollback each look at the gates ended there: no gate was lifted any more."""
    name = scene.publish(bind("a", "n1"), bind("b", "n1"))
    raw = scene.kube.objects[plan_path(name)]
    steps = [
        {"pod": "ns/a", "type": "Bind", "state": "Postponed", "message": "waits for the moon"},
        {"pod": "ns/b", "type": "Bind", "state": "Failed", "message": "is not bound"},
    ]

    scene.plans.see(scene.kube.add(plan_path(name), {**raw, "status": {"steps": steps}}))

    assert scene.plans.without_place() == {"uid-b": "it is not bound"}
