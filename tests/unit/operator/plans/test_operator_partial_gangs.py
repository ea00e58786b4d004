"""Half a gang whose rest the API server refuses in earnest comes back behind its gates."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from bayplan.api import names
from bayplan.cluster.keys import GangKey
from bayplan_operator.cluster.kube import node_path, plan_path, pod_path
from bayplan_operator.plans import partial_gangs as module
from tests.fake_kube import Raw
from tests.scenes.execution import (
    NOW,
    Scene,
    bind,
    evict,
    gates_of,
    hold,
    key,
    raw_node,
    raw_pod,
)
from tests.scenes.partial_gangs import (
    GANG,
    LABELS,
    bound,
    gated,
    half_released,
    of_gang,
    pin_the_rest,
    refuse,
)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return a cluster in which one pod of a gang was released, and the other one refused."""
    with half_released() as made:
        yield made


def add_of_group(scene: Scene, name: str, group: str) -> None:
    """Add a waiting pod with the labels of the gang that is of a group of a LeaderWorkerSet."""
    raw = raw_pod(name, gpus=8)
    raw["metadata"]["labels"] |= LABELS | {names.LABEL_LWS_GROUP: group}
    scene.kube.add(pod_path(key(name)), raw)


def hold_the_rest(scene: Scene, *, gang: GangKey) -> None:
    """Publish that `g-1` waits in vain, and let the operator look until that is long enough."""
    now = [NOW]
    gates = gates_of(scene, now)
    scene.publish(replace(hold("g-1"), gang=gang), sequence=2)
    gates.reconcile()
    now[0] = NOW + timedelta(seconds=15)
    gates.reconcile()


class Torn:
    """A gang of which one pod has its node, and the other one is refused, though not rehearsed.

    Attributes:
        serves: Whether the API server takes the patch of the other one, too.
    """

    def __init__(self, pool: Executor, status: int) -> None:
        self.serves = False
        self._now = 0.0
        self.scene = Scene(pool, lambda: self._now)
        self._patch = self.scene.kube.patch
        self._refusal = (status, "not now")
        self.scene.kube.patch = self._answer  # type: ignore[method-assign]
        for name in ("g-0", "g-1"):
            self.scene.add(name, gpus=8)
            self.scene.pod(name)["metadata"]["labels"] |= LABELS
        self.scene.publish(of_gang(bind("g-0", "n1")), of_gang(bind("g-1", "n2")))
        self.scene.look()
        placed = self.scene.pod("g-0")
        assert not placed["spec"]["schedulingGates"]
        placed["spec"]["nodeName"] = "n1"

    def go_on(self, *, until: float) -> None:
        """Let the operator look as often as it wants to, until so many seconds are over."""
        while (wait_s := self.scene.look()) is not None and self._now + wait_s <= until:
            self._now += wait_s
        self._now = until

    def _answer(self, path: str, body: object, *, rehearse: bool = False, **how: str) -> None:
        refused = path == pod_path(key("g-1")) and not (rehearse or self.serves)
        self.scene.kube.refusals = {path: self._refusal} if refused else {}
        self._patch(path, body, rehearse=rehearse, **how)  # type: ignore[arg-type]


@pytest.fixture
def torn() -> Iterator[Callable[[int], Torn]]:
    """Return what tears a gang: the API server refuses one of it with this status."""
    with ThreadPoolExecutor(2) as pool:
        yield lambda status: Torn(pool, status)


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
        assert not scene.leaves("g-0")

    now[0] = NOW + timedelta(seconds=15)
    gates.reconcile()

    assert scene.leaves("g-0")
    assert not scene.leaves("g-1")
    assert scene.told.notes[-1].startswith(
        "Pod g-0 Evicted: the rest of its gang g waits in vain, and this pod is made anew to wait"
        " with them: needs 16"
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

    assert not scene.leaves("g-0")


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

    assert scene.leaves("g-0")


def test_a_half_that_is_kept_is_told_of_once(scene: Scene) -> None:
    """A budget that never admits it filled the log: a line every ten seconds, for days."""
    now = [NOW]
    gates = gates_of(scene, now)
    scene.publish(replace(hold("g-1"), gang=GANG), sequence=2)
    scene.kube.refusals[f"{pod_path(key('g-0'))}/eviction"] = (429, "a budget")

    with capture_logs() as logged:
        for seconds in range(0, 300, 10):
            now[0] = NOW + timedelta(seconds=seconds)
            gates.reconcile()

    assert [line["event"] for line in logged].count("partial_gang_kept") == 1


def test_a_budget_that_admits_each_alone_keeps_all_of_a_half(scene: Scene) -> None:
    """One of two that run went, and the other one ran on alone."""
    budgets = "/apis/policy/v1/namespaces/ns/poddisruptionbudgets/pair"
    scene.kube.add(budgets, budget(allowed=1))
    third = raw_pod("g-2", gpus=8, on="n2")
    third["metadata"]["annotations"] = {names.ANNOTATION_PLAN: "plan-00001"}
    scene.kube.add(pod_path(key("g-2")), third)
    for name in ("g-0", "g-1", "g-2"):
        scene.pod(name)["metadata"]["labels"] |= LABELS | {names.LABEL_GANG_MIN_COUNT: "3"}
    for name, node in (("g-0", "n1"), ("g-2", "n2")):
        bound(scene, name, node)
        scene.pod(name)["status"]["conditions"].append({"type": "Ready", "status": "True"})

    hold_the_rest(scene, gang=GANG)
    assert not scene.leaves("g-0")
    assert not scene.leaves("g-2")
    scene.kube.add(budgets, budget(allowed=2))
    gates_of(scene, [NOW + timedelta(seconds=20)]).reconcile()

    assert scene.leaves("g-0")
    assert scene.leaves("g-2")


def budget(*, allowed: int) -> Raw:
    """Return a PodDisruptionBudget over all pods of the namespace."""
    return {
        "metadata": {"namespace": "ns", "name": "pair"},
        "spec": {"selector": {}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 1},
    }


@pytest.mark.parametrize("status", [429, 503], ids=["it has too much to do", "it fails"])
@pytest.mark.parametrize("over_at", [3.0, 9.0, 13.0])
def test_the_rest_of_a_gang_goes_soon_after_the_server_takes_it(
    torn: Callable[[int], Torn], over_at: float, status: int
) -> None:
    """Half of it held its room for half a minute more: the pauses between two tries had grown."""
    gang = torn(status)

    gang.go_on(until=over_at)
    assert gated(gang.scene, "g-1")
    gang.serves = True
    gang.go_on(until=over_at + 6)

    assert not gated(gang.scene, "g-1")


def test_a_gang_whose_rest_the_server_goes_on_failing_for_is_given_up(
    torn: Callable[[int], Torn],
) -> None:
    """The plan went on for two minutes, and the next one did the same: half a gang for ever."""
    gang = torn(500)

    gang.go_on(until=12)
    assert gang.scene.status("plan-00001")["phase"] == "Executing"
    gang.go_on(until=18)

    status = gang.scene.status("plan-00001")
    assert status["phase"] == "Failed"
    assert status["steps"][1]["state"] == "Refused", "the next plan would try it again"
    assert "not now" in status["message"]


def test_of_a_leader_worker_set_only_the_group_that_is_half_is_called_back(scene: Scene) -> None:
    """All groups have one label: the other one was counted as more of the same gang."""
    for name in ("g-0", "g-1"):
        scene.pod(name)["metadata"]["labels"][names.LABEL_LWS_GROUP] = "0"
    add_of_group(scene, "g-2", "1")

    hold_the_rest(scene, gang=GangKey(namespace="ns", name="g/0"))

    assert scene.leaves("g-0")
    assert not scene.leaves("g-2")


def test_pods_of_a_leader_worker_set_with_the_label_of_a_gang_are_none_of_it(scene: Scene) -> None:
    """The gang seemed to have more pods than it needs, and its half was never called back."""
    add_of_group(scene, "g-2", "0")

    hold_the_rest(scene, gang=GANG)

    assert scene.leaves("g-0")
    assert not scene.leaves("g-2")


def test_it_is_half_from_when_the_first_has_its_node(scene: Scene) -> None:
    """The time began anew with each look that found a plan for it, and an operator's start."""
    bound(scene, "g-0", "n1")
    now = [NOW + timedelta(seconds=14)]
    gates = gates_of(scene, now)
    scene.publish(replace(hold("g-1"), gang=GANG), sequence=2)

    assert gates.reconcile() == pytest.approx(1.0), "it looks again when the time has come"
    assert not scene.leaves("g-0")
    now[0] = NOW + timedelta(seconds=15)
    gates.reconcile()

    assert scene.leaves("g-0")


def test_a_clock_that_is_behind_kube_schedulers_keeps_nobody(scene: Scene) -> None:
    """Its half would have been bound in our future for an hour."""
    bound(scene, "g-0", "n1", at="2026-05-01T13:00:00Z")
    now = [NOW]
    gates = gates_of(scene, now)
    scene.publish(replace(hold("g-1"), gang=GANG), sequence=2)
    gates.reconcile()
    now[0] = NOW + timedelta(seconds=15)

    gates.reconcile()

    assert scene.leaves("g-0")


def test_a_clock_that_is_ahead_takes_nobodys_time_away(scene: Scene) -> None:
    """A gang was called back at the first look, though its rest might have come a moment later."""
    bound(scene, "g-0", "n1")
    scene.kube.ahead_s = 3600.0
    now = [NOW + timedelta(hours=1, seconds=14)]
    gates = gates_of(scene, now)
    scene.publish(replace(hold("g-1"), gang=GANG), sequence=2)

    assert gates.reconcile() == pytest.approx(1.0)
    assert not scene.leaves("g-0")
    now[0] = NOW + timedelta(hours=1, seconds=15)
    gates.reconcile()

    assert scene.leaves("g-0")


def test_no_plan_need_follow_the_one_by_which_the_rest_is_refused() -> None:
    """That one went on for as long as somebody else took to leave, and half a gang with it."""
    with ThreadPoolExecutor(2) as pool:
        gang = Torn(pool, 403)
        scene = gang.scene
        bound(scene, "g-0", "n1")
        scene.add("slow", gpus=8, on="n2")
        scene.add("next", gpus=8)
        scene.publish(
            *(of_gang(bind("g-0", "n1")), of_gang(bind("g-1", "n3")), evict("slow", "n2")),
            bind("next", "n2"),
            sequence=2,
        )
        scene.kube.add(node_path("n3"), raw_node("n3"))
        gang.go_on(until=14)
        status = scene.status("plan-00002")
        assert status["phase"] == "Executing", status
        now = [NOW + timedelta(seconds=15)]

        gates_of(scene, now).reconcile()

    assert scene.leaves("g-0")
    assert "not now" in scene.told.notes[-1]


@pytest.fixture
def pinned(scene: Scene) -> Scene:
    """Return a cluster in which one of a gang is bound, and the other one pinned."""
    pin_the_rest(scene)
    return scene


def test_one_that_is_pinned_to_a_lost_node_is_made_anew_soon(pinned: Scene) -> None:
    """The other one had run alone for half a minute before it even began to wait."""
    now = [NOW]
    gates = gates_of(pinned, now)
    del pinned.kube.objects[node_path("n2")]

    assert gates.reconcile() == pytest.approx(5.0)
    now[0] = NOW + timedelta(seconds=5)
    gates.reconcile()

    assert pinned.leaves("g-1")
    assert not pinned.leaves("g-0"), "there may be another place for the rest"


def test_the_second_one_that_is_lost_so_takes_its_gang_with_it(pinned: Scene) -> None:
    """Each time another one was made, and the others ran on without it."""
    now = [NOW + timedelta(seconds=20)]
    gates = gates_of(pinned, now)
    del pinned.kube.objects[node_path("n2")]
    gates.reconcile()
    now[0] = NOW + timedelta(seconds=25)

    gates.reconcile()

    assert pinned.leaves("g-0")
    assert pinned.leaves("g-1")
    assert "n2 is gone" in pinned.told.notes[-1]


def test_kube_schedulers_refusal_takes_a_gang_back(pinned: Scene) -> None:
    """Its plan ended after two minutes, and half of the gang ran on beyond that."""
    refuse(pinned)
    now = [NOW + timedelta(seconds=10)]
    gates = gates_of(pinned, now)
    gates.reconcile()
    now[0] = NOW + timedelta(seconds=19)
    gates.reconcile()
    assert not pinned.leaves("g-0"), "kube-scheduler may try it once more"
    now[0] = NOW + timedelta(seconds=20)

    gates.reconcile()

    assert pinned.leaves("g-0")
    assert pinned.leaves("g-1")
    assert "no such volume" in pinned.told.notes[-1]


def test_one_that_is_queued_keeps_nobody_from_anything(pinned: Scene) -> None:
    """A slow scheduler would never get a gang whole."""
    now = [NOW]
    gates = gates_of(pinned, now)
    for seconds in range(0, 600, 10):
        now[0] = NOW + timedelta(seconds=seconds)
        gates.reconcile()

    assert not pinned.leaves("g-0")
    assert not pinned.leaves("g-1")


def test_a_plan_that_gives_up_who_is_queued_takes_nobody_back(pinned: Scene) -> None:
    """It does after two minutes, and the next plan leaves those to kube-scheduler as well."""
    step = {"pod": "ns/g-1", "type": "Bind", "state": "Failed", "message": "is not bound"}
    status = {"phase": "Failed", "message": "stopped", "steps": [step]}
    raw = pinned.kube.objects[plan_path("plan-00002")]
    pinned.plans.see(pinned.kube.add(plan_path("plan-00002"), {**raw, "status": status}))
    assert pinned.plans.without_place() == {"uid-g-1": "it is not bound"}
    now = [NOW + timedelta(minutes=3)]

    gates_of(pinned, now).reconcile()

    assert not pinned.leaves("g-0")


def test_a_pod_that_has_failed_is_none_of_its_gang_any_more(scene: Scene) -> None:
    """A ReplicaSet leaves it there and makes another one: the gang had one more than it needs."""
    bound(scene, "g-0", "n1")
    failed = raw_pod("g-2", gpus=8, on="n2")
    failed["metadata"]["labels"] |= LABELS
    failed["status"] = {"phase": "Failed", "reason": "UnexpectedAdmissionError"}
    scene.kube.add(pod_path(key("g-2")), failed)
    now = [NOW + timedelta(seconds=15)]
    gates = gates_of(scene, now)
    scene.publish(replace(hold("g-1"), gang=GANG), sequence=2)

    gates.reconcile()

    assert scene.leaves("g-0")


@pytest.mark.parametrize(
    ("of", "goes"),
    [
        pytest.param({"kind": "Job", "name": "g-1", "uid": "uid-last"}, True, id="of the last run"),
        pytest.param({"kind": "Job", "name": "g-2", "uid": "uid-this"}, False, id="of this run"),
        pytest.param(
            {"kind": "ReplicaSet", "name": "g", "uid": "uid-this"}, True, id="that is made again"
        ),
    ],
)
def test_a_pod_that_ended_well_counts_for_its_own_run(
    scene: Scene,
    of: dict[str, str],
    goes: bool,  # noqa: FBT001 - a case
) -> None:
    """A CronJob whose gang has a fixed name kept half of its next run, for the last one's pods."""
    bound(scene, "g-0", "n1")
    for name in ("g-0", "g-1"):
        job = {"kind": "Job", "name": "g-2", "uid": "uid-this", "controller": True}
        scene.pod(name)["metadata"]["ownerReferences"] = [job]
    done = raw_pod("g-2", gpus=8, on="n2")
    done["metadata"]["labels"] |= LABELS
    done["metadata"]["ownerReferences"] = [of | {"controller": True}]
    done["spec"]["restartPolicy"] = "Never" if of["kind"] == "Job" else "Always"
    done["status"] = {"phase": "Succeeded"}
    scene.kube.add(pod_path(key("g-2")), done)

    hold_the_rest(scene, gang=GANG)

    assert scene.leaves("g-0") is goes


def test_gangs_that_are_not_half_keep_no_half_from_being_looked_at(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ones were looked at in each pass: those whose owners lack quota, say."""
    monkeypatch.setattr(module, "_MOST", 2)
    bound(scene, "g-0", "n1")
    lacking = [f"{letter}-0" for letter in "abcde"]
    for name in lacking:
        scene.add(name)
        of = {names.LABEL_GANG: name[0], names.LABEL_GANG_MIN_COUNT: "2"}
        scene.pod(name)["metadata"]["labels"] |= of
    held = [replace(hold(n), gang=GangKey(namespace="ns", name=n[0])) for n in ("g-1", *lacking)]
    scene.publish(*held, sequence=2)
    now = [NOW + timedelta(seconds=15)]
    gates = gates_of(scene, now)

    for _ in range(3):
        gates.reconcile()

    assert scene.leaves("g-0")


def test_what_kube_scheduler_said_before_a_pod_had_a_home_takes_no_gang_back(
    pinned: Scene,
) -> None:
    """One that was shown to node autoscalers was refused until then: half of it left each time."""
    refuse(pinned, "no node has room")
    pinned.pod("g-1")["spec"].pop("affinity")
    pinned.pod("g-1")["metadata"]["annotations"][names.ANNOTATION_HOME] = "n2"
    now = [NOW]
    gates = gates_of(pinned, now)
    for seconds in (0, 20, 149):
        now[0] = NOW + timedelta(seconds=seconds)
        gates.reconcile()
        assert not pinned.leaves("g-0")
    now[0] = NOW + timedelta(seconds=150)

    gates.reconcile()

    assert pinned.leaves("g-0"), "kube-scheduler has tried it since"


def test_all_of_a_half_may_leave_or_nobody_does(pinned: Scene) -> None:
    """One that a budget keeps would have run on alone, and the others started for nothing."""
    refuse(pinned)
    pinned.kube.refusals[f"{pod_path(key('g-0'))}/eviction"] = (429, "a budget")
    now = [NOW]
    gates = gates_of(pinned, now)
    for seconds in (0, 10, 20):
        now[0] = NOW + timedelta(seconds=seconds)
        gates.reconcile()
    assert not pinned.leaves("g-1")
    assert "recalled" not in pinned.status("plan-00002")
    pinned.kube.refusals = {}

    gates.reconcile()

    assert pinned.leaves("g-0")
    assert pinned.leaves("g-1")


def test_a_gang_that_becomes_whole_at_that_moment_stays(
    pinned: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kube-scheduler had bound the one that it refused before, and all of it was evicted."""
    refuse(pinned)
    items = pinned.kube.items

    def bound_after(path: str, *, labels: str = "", fields: str = "") -> list[Raw]:
        found = items(path, labels=labels, fields=fields)
        if names.LABEL_GANG in labels:
            bound(pinned, "g-1", "n2")
            pinned.kube.add(pod_path(key("g-1")), pinned.pod("g-1"))
        return found

    now = [NOW]
    gates = gates_of(pinned, now)
    for seconds in (0, 10):
        now[0] = NOW + timedelta(seconds=seconds)
        gates.reconcile()
    monkeypatch.setattr(pinned.kube, "items", bound_after)
    now[0] = NOW + timedelta(seconds=20)

    gates.reconcile()

    assert not pinned.leaves("g-0")
    assert not pinned.leaves("g-1")
