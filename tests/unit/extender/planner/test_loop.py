"""The planner's loop: what makes it plan, and what it publishes."""

import math
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from urllib3.exceptions import ReadTimeoutError

from bayplan import planner, triggers
from bayplan.cluster.keys import PodKey
from bayplan.cluster.pods import Disruption
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan, parts
from bayplan.plan import Certificate, Plan, Reason, Result, Verdict
from bayplan.policy import Defragmentation, Order, Policy, Window
from bayplan.validate import Code, Violation
from bayplan_extender.planner import loop as loops
from bayplan_extender.planner import relevance
from bayplan_extender.planner.loop import Loop
from bayplan_extender.planner.publisher import Dropped, Publisher
from bayplan_extender.planner.recorder import Pass, Recorder
from bayplan_extender.planner.relevance import BrokenOff
from bayplan_extender.reflector import STALE_S
from bayplan_extender.view import View
from tests.builders import node, pod

#: Open at every minute of the week.
ALWAYS = Defragmentation(windows=(Window(start_minute=0, minutes=1440),))

#: Seconds within which another thread does what it does at once, on a busy machine too.
SOON_S = 60.0


class Kept(Publisher):
    """Keeps plans, and shows them in the view as if the watch had brought them."""

    def __init__(self, view: View) -> None:
        self.results: list[Result] = []
        self.sequences: list[int] = []
        self._view = view

    def publish(self, result: Result, *, sequence: int) -> str:
        """Keep a plan, as one that is completed."""
        self.results.append(result)
        self.sequences.append(sequence)
        name = f"plan-{len(self.results)}"
        self._view.plans[name] = PublishedPlan(
            name=name,
            uid=name,
            sequence=len(self.results),
            plan=result.plan,
            phase="Completed",
        )
        return name

    def clear_away(self, plans: Iterable[PublishedPlan]) -> None:
        """Leave history alone."""


class Refused(Kept):
    """Can publish nothing."""

    def __init__(self, view: View, error: Exception) -> None:
        super().__init__(view)
        self._error = error

    def publish(self, result: Result, *, sequence: int) -> str:
        """Raise what the API server answers, or that it does not."""
        super().publish(result, sequence=sequence)
        raise self._error


class Scene:
    """A planner and what it sees."""

    def __init__(self) -> None:
        self.view = View()
        self.registry = CollectorRegistry()
        self.publisher = Kept(self.view)
        self.recorder = Recorder()
        self.passes: list[bool] = []
        self.loop = Loop(
            *(self.view, self.publisher, self.recorder, self.registry), passed=self.passed
        )

    def passed(self, *, well: bool) -> None:
        """Take how a pass of the running loop ended."""
        self.passes.append(well)

    def look(self) -> list[Result]:
        """Let the planner do one pass; return the plans that it published."""
        before = len(self.publisher.results)
        self.loop._pass()  # noqa: SLF001 - one turn of the loop, without its waiting
        return self.publisher.results[before:]

    def figure(self, name: str, **labels: str) -> float | None:
        """Return a figure as Prometheus would read it."""
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def scene() -> Scene:
    """Return a planner that sees two nodes."""
    made = Scene()
    for name in ("n1", "n2"):
        made.view.cache.set_node(node(name))
    return made


def hurry(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a planner's loop begin, for everything is listed, and not pause."""
    monkeypatch.setattr(loops, "SETTLE_S", 0.0)
    monkeypatch.setattr(loops, "RETRY_S", 0.0)
    for kind in scene.view.missing:
        scene.view.done(kind)


@pytest.fixture
def hurried(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Return a planner whose loop does not pause, and for which a pod waits."""
    hurry(scene, monkeypatch)
    scene.view.cache.set_pod(pod("a", gpus=2))
    return scene


def test_what_waits_is_planned_once(scene: Scene) -> None:
    """The same plan would be published for every event of the cluster."""
    scene.view.cache.set_pod(pod("a", gpus=16))

    (result,) = scene.look()

    assert [hold.pod.name for hold in result.plan.holds] == ["a"]
    assert scene.look() == []


def test_what_one_plan_cannot_list_is_in_the_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published would be another plan than the one that was validated."""
    monkeypatch.setattr(parts, "MAX_PARTS", 1)
    monkeypatch.setattr(parts, "MAX_ACTIONS", 2)
    pods = [pod(name, priority=priority) for priority, name in enumerate("abc")]
    for each in pods:
        scene.view.cache.set_pod(each)

    (result,) = scene.look()

    assert [bind.pod.name for bind in result.plan.binds] == ["b", "c"]
    assert [hold.pod.name for hold in result.plan.holds] == ["a"]
    assert "one plan can list" in result.plan.holds[0].rejection.message
    for bind in result.plan.binds:
        bound = next(each for each in pods if each.key == bind.pod)
        scene.view.cache.set_pod(replace(bound, node=bind.node, waiting=False))
    (result,) = scene.look()
    assert [bind.pod.name for bind in result.plan.binds] == ["a"]


def test_a_plan_that_somebody_deletes_is_made_again(scene: Scene) -> None:
    """Those it decided on would wait until something else happens in the cluster."""
    scene.view.cache.set_pod(pod("a", gpus=16))
    assert len(scene.look()) == 1
    assert scene.look() == []

    scene.view.plans.clear()

    assert len(scene.look()) == 1


def test_another_policy_is_another_question(scene: Scene) -> None:
    """Somebody who allows moves would wait for the next change of the cluster."""
    for name in ("n1", "n2"):
        scene.view.cache.set_pod(pod(f"small-{name}", gpus=2, on=name))
    scene.view.cache.set_pod(pod("big", gpus=8))
    scene.view.policy = Policy(max_moves=0)
    assert scene.look()[0].plan.holds

    scene.view.policy = Policy()

    (result,) = scene.look()
    assert [bind.pod.name for bind in result.plan.binds] == ["big"]


def test_slots_are_won_in_an_open_window_and_only_there(scene: Scene) -> None:
    """Running pods would be moved at noon."""
    for name in ("n1", "n2"):
        scene.view.cache.set_pod(pod(f"small-{name}", gpus=2, on=name))
    assert scene.look() == []

    scene.view.policy = Policy(defragmentation=ALWAYS)

    (result,) = scene.look()
    assert result.plan.certificate.order is Order.DEFRAGMENT
    assert len(result.plan.moves) == 1
    recording = scene.recorder.recording()
    assert recording is not None
    assert recording.policy.order is Order.DEFRAGMENT
    assert scene.look() == []  # the same cluster, and too soon


def test_what_a_window_has_left_undone_is_done_in_the_next_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moves that were given up when it closed would wait until something else changes."""
    monkeypatch.setattr(loops, "DEFRAGMENT_EVERY_S", 0.0)
    for name in ("n1", "n2"):
        scene.view.cache.set_pod(pod(f"small-{name}", gpus=2, on=name))
    scene.view.policy = Policy(defragmentation=ALWAYS)
    scene.look()
    scene.view.plans["plan-1"] = replace(scene.view.plans["plan-1"], phase="Completed")
    assert scene.look() == []

    scene.view.policy = Policy()
    assert scene.look() == []
    scene.view.policy = Policy(defragmentation=ALWAYS)

    (again,) = scene.look()
    assert len(again.plan.moves) == 1


def test_who_waits_goes_before_slots(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod would wait for its place until a window has no more to win."""
    monkeypatch.setattr(loops, "DEFRAGMENT_EVERY_S", 0.0)
    for name in ("n1", "n2"):
        scene.view.cache.set_pod(pod(f"small-{name}", gpus=2, on=name))
    scene.view.cache.set_pod(pod("new", gpus=4))
    scene.view.policy = Policy(defragmentation=ALWAYS)

    (first,) = scene.look()

    assert first.plan.certificate.order is Order.PLACE_FIRST
    assert [bind.pod.name for bind in first.plan.binds] == ["new"]


def test_a_clock_that_runs_behind_does_not_keep_failed_plans(scene: Scene) -> None:
    """A planner whose clock is an hour late would answer no failure for an hour."""
    scene.view.cache.set_pod(pod("a", gpus=2))
    scene.look()
    failed = replace(scene.view.plans["plan-1"], phase="Failed")
    in_an_hour = int(time.time()) + 3600
    scene.view.plans["plan-1"] = replace(failed, created_at=in_an_hour)

    assert len(scene.look()) == 1


def test_the_failure_of_a_plan_holds_up_only_those_it_had_homes_for(scene: Scene) -> None:
    """One pod that somebody deletes would keep all who come after it waiting for seconds."""
    scene.view.cache.set_pod(pod("a", gpus=2))
    scene.look()
    failed = replace(scene.view.plans["plan-1"], phase="Failed", created_at=int(time.time()))
    scene.view.plans["plan-1"] = failed
    assert scene.look() == []

    scene.view.cache.remove_pod(pod("a").key)
    scene.view.cache.set_pod(pod("b", gpus=2))

    (result,) = scene.look()
    assert [bind.pod.name for bind in result.plan.binds] == ["b"]


def test_half_a_gang_is_planned_when_its_rest_does_not_come(
    hurried: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new gang would be told first that it is infeasible, or half of one nothing at all."""
    for module in (loops, triggers):
        monkeypatch.setattr(module, "MAKING_S", 0.01)
    half = replace(pod("a", gang="g", min_count=2), created_at=int(time.time()) + 1)
    now = iter([half.created_at + 0.001])
    monkeypatch.setattr(time, "time", lambda: next(now, half.created_at + 1.0))
    hurried.view.cache.set_pod(half)
    monkeypatch.setattr(hurried.publisher, "clear_away", lambda _: hurried.loop.stop())

    hurried.loop.run()

    assert hurried.passes == [True, True]
    assert [hold.pod.name for hold in hurried.publisher.results[0].plan.holds] == ["a"]


def test_who_waits_for_a_cooldown_is_planned_as_soon_as_it_ends(
    hurried: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: nothing else happened, and the pod waited for up to half a minute more."""
    monkeypatch.setattr(loops, "TAKE_UP_S", 0.0)
    monkeypatch.setattr(loops, "RESYNC_S", math.inf)  # no wait takes as long
    start = int(time.time())
    moved = replace(pod("moved", gpus=2, on="n1"), replaces="old", started_at=start)
    now = iter([start + 9.99])
    monkeypatch.setattr(time, "time", lambda: next(now, start + 10.0))
    hurried.view.policy = Policy(cooldown_s=10)
    hurried.view.cache.set_pod(moved)
    hurried.view.cache.set_pod(pod("other", gpus=2, on="n2", disruption=Disruption.FIXED))
    hurried.view.cache.set_pod(pod("a", gpus=8))
    cleared = iter([lambda: None, hurried.loop.stop])
    monkeypatch.setattr(hurried.publisher, "clear_away", lambda _: next(cleared)())

    hurried.loop.run()

    told, placed = hurried.publisher.results
    assert "wait until" in told.plan.holds[0].remedy
    assert [bind.pod.name for bind in placed.plan.binds] == ["a"]


def test_who_was_not_admitted_is_planned_as_soon_as_that_is_over(
    hurried: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else happens, and the pod would wait for up to half a minute more."""
    monkeypatch.setattr(loops, "TAKE_UP_S", 0.0)
    monkeypatch.setattr(loops, "RESYNC_S", math.inf)  # no wait takes as long
    start = int(time.time())
    now = iter([start + 59.99])
    monkeypatch.setattr(time, "time", lambda: next(now, start + 60.0))
    hurried.view.policy = Policy(cooldown_s=10)
    new = pod("a", gpus=8)
    hurried.view.cache.set_pod(new)
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
    hurried.view.plans["plan-0"] = PublishedPlan(
        name="plan-0",
        uid="u",
        sequence=0,
        plan=Plan(certificate=certificate),
        phase="Superseded",
        created_at=start,
        finished_at=start,
        refused={new.uid: "by a policy"},
    )
    cleared = iter([lambda: None, hurried.loop.stop])
    monkeypatch.setattr(hurried.publisher, "clear_away", lambda _: next(cleared)())

    hurried.loop.run()

    told, placed = hurried.publisher.results
    assert [hold.rejection.reason for hold in told.plan.holds] == [Reason.NOT_ADMITTED]
    assert [bind.pod.name for bind in placed.plan.binds] == ["a"]


def test_slots_are_won_as_soon_as_a_window_opens(
    hurried: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to half a minute of a short window would be lost."""
    monkeypatch.setattr(loops, "RESYNC_S", math.inf)  # no wait takes as long
    hurried.view.cache.remove_pod(pod("a").key)
    for name in ("n1", "n2"):
        hurried.view.cache.set_pod(pod(f"small-{name}", gpus=2, on=name))
    opens = 1_777_636_800.0  # 2026-05-01T12:00:00Z
    now = iter([opens - 0.01])
    monkeypatch.setattr(time, "time", lambda: next(now, opens))
    noon = Window(start_minute=12 * 60, minutes=10)
    hurried.view.policy = Policy(defragmentation=Defragmentation(windows=(noon,)))
    monkeypatch.setattr(hurried.publisher, "clear_away", lambda _: hurried.loop.stop())

    hurried.loop.run()

    (result,) = hurried.publisher.results
    assert result.plan.certificate.order is Order.DEFRAGMENT
    assert hurried.passes == [True, True]


def test_figures_tell_queue_room_and_plans(scene: Scene) -> None:
    """A dashboard would show nothing, or yesterday's numbers."""
    scene.view.cache.set_pod(replace(pod("a", gpus=8), created_at=1))
    scene.view.cache.set_pod(pod("b", gpus=2, on="n1"))
    scene.look()

    assert scene.figure("bayplan_waiting_pods") == 1
    assert scene.figure("bayplan_free_slots", gpus="8") == 1
    assert scene.figure("bayplan_planned_actions_total", type="Bind") == 1
    assert scene.figure("bayplan_plans_total", verdict="Optimal") == 1
    assert scene.figure("bayplan_plan_age_seconds") == 0
    oldest = scene.figure("bayplan_oldest_waiting_pod_age_seconds")
    assert oldest is not None
    assert oldest > 0
    scene.view.plans["plan-1"] = replace(scene.view.plans["plan-1"], phase="Executing")
    scene.look()
    assert scene.figure("bayplan_reserved_gpus") == 8


def test_an_answer_that_the_validator_refuses_is_counted_and_logged(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect that costs plans would show nowhere: a plan is made all the same."""
    wrong = Violation(code=Code.OVER_COMMITTED, message="n0 would lack 1 GPU")
    findings = iter([(wrong,)])
    monkeypatch.setattr("bayplan.planner.validate", lambda *_: next(findings, ()))
    scene.view.cache.set_pod(pod("a", gpus=2))

    with capture_logs() as logs:
        scene.look()

    assert scene.figure("bayplan_answers_refused_total") == 1
    assert [line["error"] for line in logs if line["event"] == "plan_not_valid"] == [
        "OverCommitted: n0 would lack 1 GPU"
    ]


@pytest.mark.parametrize(
    "error",
    [
        ApiException(status=422, reason="too large"),
        ReadTimeoutError(None, "/apis", "no answer"),  # type: ignore[arg-type]
        Dropped("somebody else has published plan-00001"),
        ZeroDivisionError("integer modulo by zero"),
    ],
    ids=["refused", "not answered", "taken", "a fault of ours"],
)
def test_a_planner_that_can_publish_nothing_stops_leading(
    hurried: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It would hold the lease for ever, and no gate would be lifted."""
    publisher = Refused(hurried.view, error)
    loop = Loop(
        *(hurried.view, publisher, hurried.recorder, CollectorRegistry()), passed=hurried.passed
    )
    monkeypatch.setattr(hurried.view, "newest_plan", lambda: None)

    with capture_logs() as logs, pytest.raises(type(error)):
        loop.run()

    assert len(publisher.results) == loops.MAX_REFUSALS
    assert hurried.passes == [False] * loops.MAX_REFUSALS
    told = "pass_failed" if isinstance(error, ZeroDivisionError) else "plan_not_published"
    assert told in {line["event"] for line in logs}


def test_who_no_longer_leads_publishes_nothing(
    hurried: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another planner may lead by then. Who leads again later plans what it did not."""
    loop, place = hurried.loop, hurried.loop._place  # noqa: SLF001 - to lose the lease in the middle

    def losing(seen: loops._Seen) -> Pass | None:
        found = place(seen)
        loop.stop()
        return found

    monkeypatch.setattr(loop, "_place", losing)
    loop.run()
    assert (hurried.publisher.results, hurried.passes) == ([], [True])

    monkeypatch.setattr(loop, "_place", place)
    publish = loop._publish  # noqa: SLF001 - the same

    def published(seen: loops._Seen, result: Result) -> str:
        loop.stop()
        return publish(seen, result)

    monkeypatch.setattr(loop, "_publish", published)
    loop.run()
    assert len(hurried.publisher.results) == 1


def test_a_plan_has_the_number_after_those_that_were_seen_when_it_was_made(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another planner's that came meanwhile was overtaken by one from an older look."""
    loop, place = scene.loop, scene.loop._place  # noqa: SLF001 - to publish in the middle
    scene.view.numbers = {"plan-00006": 6, "plan-00007-of-another-version": 7}

    def overtaken(seen: loops._Seen) -> Pass | None:
        scene.view.numbers["plan-00008"] = 8
        return place(seen)

    monkeypatch.setattr(loop, "_place", overtaken)
    scene.view.cache.set_pod(pod("a", gpus=2))
    scene.look()

    assert scene.publisher.sequences == [8]


def test_a_plan_that_is_dropped_is_made_anew_from_another_look(
    hurried: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be published as it is, or its pods wait for the next change."""
    publish = hurried.publisher.publish

    def taken(result: Result, *, sequence: int) -> str:
        if sequence == 1:
            hurried.view.numbers["plan-00001"] = 1  # somebody else's, which the watch shows now
            hurried.view.cache.set_pod(pod("b", gpus=2))
            raise Dropped("somebody else has published plan-00001")
        hurried.loop.stop()
        return publish(result, sequence=sequence)

    monkeypatch.setattr(hurried.publisher, "publish", taken)
    hurried.loop.run()

    (result,) = hurried.publisher.results
    assert hurried.publisher.sequences == [2]
    assert [bind.pod.name for bind in result.plan.binds] == ["a", "b"]


def test_nothing_is_planned_from_what_is_long_out_of_date(hurried: Scene) -> None:
    """Rights are taken away from a planner that runs; it would lead on with an old picture."""
    hurried.view.failing["pods"] = (time.monotonic() - STALE_S - 1, "403 Forbidden")

    with pytest.raises(loops.Stale, match=r"pods for 6\d s: 403 Forbidden"):
        hurried.loop.run()
    assert hurried.publisher.results == []

    hurried.view.failing["pods"] = (time.monotonic() - STALE_S / 2, "503")
    assert len(hurried.look()) == 1


def test_a_loop_that_is_stopped_before_it_begins_does_nothing(scene: Scene) -> None:
    """The lease may be lost before the thread that plans has started."""
    scene.view.cache.set_pod(pod("a", gpus=2))
    scene.loop.stop()
    scene.loop.run()
    assert scene.publisher.results == []


@pytest.mark.parametrize("leaving", ["n1", "n2"])
def test_nobody_waits_for_room_while_there_is_some(scene: Scene, leaving: str) -> None:
    """A pod would wait for an hour for one that drains, beside an empty node."""
    drains = pod("old", gpus=8, on=leaving, terminating=True)
    scene.view.cache.set_pod(replace(drains, leaves_at=int(time.time()) + 3600))
    scene.view.cache.set_pod(pod("new", gpus=8))

    (result,) = scene.look()

    assert {bind.node for bind in result.plan.binds} == {"n1", "n2"} - {leaving}
    recording = scene.recorder.recording()
    assert recording is not None
    assert recording.digest == result.digest == recording.snapshot.digest


def test_who_finds_no_room_now_is_promised_that_of_those_who_leave(scene: Scene) -> None:
    """Somebody else would be moved or evicted for it."""
    scene.view.cache.set_pod(pod("small", gpus=2, on="n2"))
    drains = pod("old", gpus=8, on="n1", terminating=True)
    scene.view.cache.set_pod(replace(drains, leaves_at=int(time.time()) + 3600))
    scene.view.cache.set_pod(pod("new", gpus=8))

    (result,) = scene.look()

    assert [bind.node for bind in result.plan.binds] == ["n1"]
    assert not result.plan.moves


class Untouched(Kept):
    """Keeps plans that nobody has begun to carry out."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self.published = threading.Semaphore(0)
        self.phases_before: list[str] = []

    def publish(self, result: Result, *, sequence: int) -> str:
        """Keep a plan as pending, and how far the one before it was."""
        newest = self._view.newest_plan()
        self.phases_before.append(newest.phase if newest is not None else "")
        name = super().publish(result, sequence=sequence)
        self._view.plans[name] = replace(self._view.plans[name], phase="Pending")
        self.published.release()
        return name


@pytest.fixture
def running(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Scene, Untouched]]:
    """Yield a planner at work whose plans nobody begins."""
    hurry(scene, monkeypatch)
    publisher = Untouched(scene.view)
    scene.loop = Loop(
        *(scene.view, publisher, scene.recorder, CollectorRegistry()), passed=scene.passed
    )
    thread = threading.Thread(target=scene.loop.run)
    thread.start()
    yield scene, publisher
    scene.loop.stop()
    thread.join(SOON_S)
    assert not thread.is_alive()


def test_no_plan_overtakes_one_that_is_not_taken_up(
    running: tuple[Scene, Untouched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a burst each plan would stop the operator before it had carried out the last one."""
    scene, publisher = running
    asked, is_taken_up = threading.Event(), scene.loop._is_taken_up  # noqa: SLF001 - to know when

    def asking() -> bool:
        found = is_taken_up()
        asked.set()
        return found

    monkeypatch.setattr(loops, "TAKE_UP_S", 3600.0)
    monkeypatch.setattr(scene.loop, "_is_taken_up", asking)
    _arrive(scene, "a")
    assert publisher.published.acquire(timeout=SOON_S)

    _arrive(scene, "b")
    assert asked.wait(SOON_S)
    with scene.view.lock:
        scene.view.plans["plan-1"] = replace(scene.view.plans["plan-1"], phase="Executing")
    scene.view.changed.set()

    assert publisher.published.acquire(timeout=SOON_S)
    assert publisher.phases_before == ["", "Executing"]


def test_an_operator_that_is_away_does_not_keep_plans_from_being_made(
    running: tuple[Scene, Untouched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would be told why pods wait until it is back."""
    scene, publisher = running
    monkeypatch.setattr(loops, "TAKE_UP_S", 0.0)

    for name in ("a", "b"):
        _arrive(scene, name)
        assert publisher.published.acquire(timeout=SOON_S)

    assert publisher.phases_before == ["", "Pending"]


@pytest.mark.parametrize(("took_s", "rest_s"), [(0.5, 0.5), (3600.0, loops.REST_S)])
def test_the_next_plan_waits_as_long_as_the_last_one_took_to_be_taken_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, took_s: float, rest_s: float
) -> None:
    """Under load many small plans would cost more than they place."""
    monkeypatch.setattr(loops, "TAKE_UP_S", 1e6)
    scene.view.cache.set_pod(pod("a", gpus=2))
    scene.look()  # its plan shows as ended at once
    published_at = time.monotonic() - took_s
    scene.loop._published_at = published_at  # noqa: SLF001 - as if it had been so long ago

    scene.loop._await_operator()  # noqa: SLF001 - a part of the loop

    rests_until = scene.loop._rests_until  # noqa: SLF001 - what came of it
    assert rests_until >= published_at + took_s + rest_s - 1e-6
    assert rests_until <= time.monotonic() + loops.REST_S


def _arrive(scene: Scene, name: str) -> None:
    with scene.view.lock:
        scene.view.cache.set_pod(pod(name, gpus=2))
    scene.view.changed.set()


def test_passes_end_while_somebody_leaves_and_others_come_and_go(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would get a plan if a look at what is free at once counted as a pass that ended."""
    monkeypatch.setattr(relevance, "_LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(relevance, "_MOST_LIMITS", 0.0)
    make = planner.plan

    def make_slowly(snapshot: Snapshot, policy: Policy, **how: Any) -> Result:  # noqa: ANN401 - as it is called
        if not any(each.terminating for each in snapshot.pods):
            scene.view.cache.remove_pod(PodKey(namespace="default", name="brief"))
            scene.view.changed.set()
        return make(snapshot, policy, **how)

    monkeypatch.setattr(planner, "plan", make_slowly)
    drains = pod("old", gpus=8, on="n1", terminating=True)
    scene.view.cache.set_pod(replace(drains, leaves_at=int(time.time()) + 3600))
    scene.view.cache.set_pod(pod("small", gpus=2, on="n2"))
    scene.view.cache.set_pod(pod("new", gpus=8))
    scene.view.cache.set_pod(pod("brief", gpus=1))
    with pytest.raises(BrokenOff):
        scene.look()

    scene.view.cache.set_pod(pod("brief", gpus=1))
    assert len(scene.look()) == 1
