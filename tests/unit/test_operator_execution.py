"""Carrying out plans against an API server in memory: refusals, reports, superseding."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from bayplan import steps
from bayplan.api import names
from bayplan.codec import parts, plan_manifests, pod_of
from bayplan.keys import GangKey, NodeName, Owner, PodKey
from bayplan.plan import (
    Bind,
    Certificate,
    Evict,
    Hold,
    Move,
    Plan,
    Reason,
    Rejection,
    Result,
    Verdict,
)
from bayplan.policy import Order
from bayplan_operator import execution, holds
from bayplan_operator.claims import Claims
from bayplan_operator.execution import Execution
from bayplan_operator.gates import Gates
from bayplan_operator.kube import POLICY, lease_path, node_path, plan_path, pod_path
from bayplan_operator.metrics import Metrics
from bayplan_operator.patches import note_failure
from bayplan_operator.plans import Plans
from tests.fake_kube import FakeKube, Raw, Told

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
OWNER = Owner(kind="ReplicaSet", namespace="ns", name="web", uid="uid-web")


class Scene:
    """A cluster with two 8-GPU nodes, and an operator that carries out plans on it."""

    def __init__(self, pool: Executor, clock: Callable[[], float] = time.monotonic) -> None:
        self.kube = FakeKube()
        self.told = Told()
        self.plans = Plans(self.kube)
        self.execution = Execution(
            *(self.kube, self.plans, self.told, Metrics()),
            claims=Claims(),
            pool=pool,
            now=lambda: NOW,
            clock=clock,
        )
        for name in ("n1", "n2"):
            self.kube.add(node_path(name), raw_node(name))

    def publish(self, *actions: Bind | Move | Evict | Hold, sequence: int = 1) -> str:
        """Write a plan as the planner would."""
        plan = Plan(
            certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL),
            binds=tuple(a for a in actions if isinstance(a, Bind)),
            moves=tuple(a for a in actions if isinstance(a, Move)),
            evictions=tuple(a for a in actions if isinstance(a, Evict)),
            holds=tuple(a for a in actions if isinstance(a, Hold)),
        )
        result = Result(plan=plan, digest="d", engine="hand")
        for manifest in plan_manifests(result, sequence=sequence):
            self.plans.see(self.kube.add(plan_path(manifest["metadata"]["name"]), manifest))
        return f"plan-{sequence:05d}"

    def look(self) -> float | None:
        """Let the operator do one pass."""
        return self.execution.reconcile()

    def add(self, name: str, **spec: Any) -> None:  # noqa: ANN401 - JSON
        """Add a pod of the ReplicaSet `web`."""
        self.kube.add(pod_path(key(name)), raw_pod(name, **spec))

    def pod(self, name: str) -> Raw:
        """Return a pod."""
        return self.kube.objects[pod_path(key(name))]

    def status(self, plan: str) -> Raw:
        """Return a plan's status."""
        found: Raw = self.kube.objects[plan_path(plan)]["status"]
        return found


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return the cluster."""
    with ThreadPoolExecutor(2) as pool:
        yield Scene(pool)


def key(name: str) -> PodKey:
    """Return a pod's key."""
    return PodKey(namespace="ns", name=name)


def raw_node(name: str) -> Raw:
    """Return an 8-GPU node."""
    return {
        "metadata": {"name": name},
        "status": {"allocatable": {"nvidia.com/gpu": "8", "pods": 9}},
    }


def raw_pod(name: str, *, gpus: int | str = 4, on: str = "", gated: bool = True) -> Raw:
    """Return a managed pod, behind our gate unless it is on a node."""
    spec: Raw = {
        "schedulerName": names.SCHEDULER,
        "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": gpus}}}],
    }
    if on:
        spec["nodeName"] = on
    elif gated:
        spec["schedulingGates"] = [{"name": names.GATE}]
    owner = {"kind": "ReplicaSet", "name": "web", "uid": "uid-web", "controller": True}
    metadata = {
        "namespace": "ns",
        "name": name,
        "labels": {names.LABEL_MANAGED: "true"},
        "ownerReferences": [owner],
        "creationTimestamp": "2026-05-01T11:00:00Z",
    }
    return {"metadata": metadata, "spec": spec, "status": {}}


def bind(name: str, on: str) -> Bind:
    """Return a bind."""
    return Bind(pod=key(name), uid=f"uid-{name}", node=NodeName(on))


def evict(name: str, on: str) -> Evict:
    """Return an eviction."""
    return Evict(pod=key(name), uid=f"uid-{name}", node=NodeName(on), priority=0)


def move(name: str, *, uid: str = "") -> Move:
    """Return a move from n1 to n2."""
    return Move(
        pod=key(name),
        uid=uid or f"uid-{name}",
        source=NodeName("n1"),
        target=NodeName("n2"),
        owner=OWNER,
        priority=0,
    )


def hold(name: str) -> Hold:
    """Return a hold."""
    rejection = Rejection(reason=Reason.TOO_SMALL, message="needs 16 GPUs; n1 has 8 in all")
    return Hold(pod=key(name), uid=f"uid-{name}", rejection=rejection, remedy="add a larger node")


def test_a_pod_that_changed_before_its_release_is_looked_at_again_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for as long as one that the scheduler is about to bind."""
    scene.add("w")
    scene.publish(bind("w", "n1"))

    def patch(*_: object, **__: object) -> Raw:
        raise ApiException(status=409)

    with monkeypatch.context() as patched:
        patched.setattr(scene.kube, "patch", patch)
        soon_s = scene.look()
    later_s = scene.look()

    assert soon_s is not None
    assert later_s is not None
    assert soon_s < later_s


def test_a_release_is_one_patch_with_gate_pin_and_annotations(scene: Scene) -> None:
    """Two patches would leave a moment in which the pod may go anywhere."""
    scene.add("a")
    plan = scene.publish(bind("a", "n1"))

    assert scene.look()

    metadata, spec = scene.pod("a")["metadata"], scene.pod("a")["spec"]
    assert spec["schedulingGates"] == []
    assert "nodeAffinity" in spec["affinity"]
    assert metadata["annotations"] == {
        names.ANNOTATION_PLAN: plan,
        names.ANNOTATION_DECISION: "plan-00001 places it on n1",
    }
    patches = [write for write in scene.kube.writes if write.startswith("patch")]
    assert patches == [f"patch as {names.MANAGER_PODS} {pod_path(key('a'))}"]
    assert scene.told.notes == []  # the annotation says it, and the scheduler's own event


def test_the_echo_of_our_own_report_is_no_news(scene: Scene) -> None:
    """Each report would be answered with another look at every node of the plan."""
    scene.add("a")
    name = scene.publish(bind("a", "n1"))
    scene.look()
    assert scene.status(name)["phase"] == "Executing"
    assert not scene.plans.see(scene.kube.objects[plan_path(name)])

    scene.pod("a")["spec"]["nodeName"] = "n1"
    scene.look()

    assert scene.status(name)["phase"] == "Completed"
    assert scene.plans.see(scene.kube.objects[plan_path(name)])  # deployments say it, too


def test_the_echo_of_a_phase_may_come_before_the_answer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each plan would be looked at once more, for nothing, as soon as it is begun."""
    scene.add("a")
    scene.publish(bind("a", "n1"))
    news: list[bool] = []
    apply = scene.kube.apply

    def echo(path: str, body: Raw, **how: Any) -> None:  # noqa: ANN401 - as in FakeKube
        apply(path, body, **how)
        news.append(scene.plans.see(scene.kube.objects[path.removesuffix("/status")]))

    monkeypatch.setattr(scene.kube, "apply", echo)
    scene.look()

    assert news == [False]


def test_a_plan_that_only_waits_for_the_scheduler_is_looked_at_seldom(scene: Scene) -> None:
    """A look reads every node; room that others leave free is seen in no other way."""
    scene.add("a")
    scene.publish(bind("a", "n1"))
    binding_s = scene.look()
    scene.add("v", gpus=8, on="n2")
    scene.add("b")
    scene.publish(bind("b", "n2"), evict("v", "n2"), sequence=2)

    evicting_s = scene.look()

    assert binding_s is not None
    assert evicting_s is not None
    assert evicting_s < binding_s


def test_a_release_says_which_gpu_a_share_gets(scene: Scene) -> None:
    """Whoever gives pods their GPUs reads it there, and the next plan as well."""
    scene.add("a", gpus=0)
    annotated = scene.pod("a")
    annotated["metadata"]["annotations"] = {names.ANNOTATION_GPU_SHARE: "0.5"}
    scene.publish(replace(bind("a", "n1"), device=3))

    scene.look()

    released = pod_of(scene.pod("a"))
    assert released is not None
    assert (released.node, released.requests.device) == ("n1", 3)


def test_the_whole_status_of_a_plan_at_work(scene: Scene) -> None:
    """What `kubectl get pplan -o yaml` shows."""
    scene.add("a")
    scene.add("v", gpus=8, on="n1")
    scene.publish(bind("a", "n1"), evict("v", "n1"))

    scene.look()

    assert scene.status("plan-00001") == {
        "phase": "Executing",
        "message": "0 of 2 steps done: ns/v is asked to leave n1",
        "done": 0,
        "total": 2,
        "startedAt": "2026-05-01T12:00:00Z",
        "steps": [
            {
                "pod": "ns/v",
                "type": "Evict",
                "state": "Waiting",
                "message": "is asked to leave n1",
            },
            {"pod": "ns/a", "type": "Bind", "state": "Waiting", "message": "waits for room on n1"},
        ],
    }
    assert scene.told.notes == ["Pod v Evicted: plan-00001: it makes room for ns/a"]


def test_a_move_leads_to_its_own_event(scene: Scene) -> None:
    """Moved is not lost."""
    scene.add("v", on="n1")
    made = move("v")
    scene.publish(made)

    scene.look()

    assert scene.told.notes == [
        (
            "Pod v Moved: plan-00001: it makes room for a better packing, and its replacement is"
            " planned on n2"
        )
    ]


def test_a_status_that_has_not_changed_is_not_written(scene: Scene) -> None:
    """Each write wakes every watcher of plans."""
    scene.add("a")
    scene.add("v", gpus=8, on="n1")
    scene.publish(bind("a", "n1"), evict("v", "n1"))
    scene.look()
    scene.look()
    before = list(scene.kube.writes)

    scene.look()

    assert scene.kube.writes == before


@pytest.mark.parametrize(
    "status",
    [429, 500, 503],
    ids=["by its budget", "by having two budgets", "by a server that is overloaded"],
)
def test_a_refused_eviction_is_told_and_not_repeated_at_once(scene: Scene, status: int) -> None:
    """A PodDisruptionBudget is no reason to hammer the API server."""
    scene.add("a")
    scene.add("v", gpus=8, on="n1")
    path = f"{pod_path(key('v'))}/eviction"
    scene.kube.refusals[path] = (status, "Cannot evict pod: disruption budget")
    scene.publish(bind("a", "n1"), evict("v", "n1"))

    scene.look()
    scene.look()

    assert [w for w in scene.kube.writes if path in w] == [f"rehearse {path}"]
    assert scene.status("plan-00001")["steps"][0]["message"] == (
        "is asked to leave n1, but that is refused: Cannot evict pod: disruption budget"
    )
    assert not scene.told.notes


def refuse_evictions(scene: Scene, *pods: str) -> None:
    """Have a PodDisruptionBudget keep pods."""
    for name in pods:
        path = f"{pod_path(key(name))}/eviction"
        scene.kube.refusals[path] = (429, "Cannot evict pod: disruption budget")


def test_a_moved_pod_that_is_not_made_again_is_no_progress_each_time_that_is_found() -> None:
    """A plan whose next victim may never leave would be at work for ever."""
    clock = [0.0]
    with ThreadPoolExecutor(2) as pool:
        scene = Scene(pool, lambda: clock[0])
        scene.add("a")
        scene.add("v", gpus=8, on="n1")
        refuse_evictions(scene, "v")
        gone = move("m")
        scene.publish(bind("a", "n1"), evict("v", "n1"), gone)
        scene.look()

        told = []
        while scene.status("plan-00001")["phase"] == "Executing" and clock[0] < 2 * steps.STALL_S:
            clock[0] += 10
            scene.look()
            told += [step["message"] for step in scene.status("plan-00001")["steps"]]

    assert "left, and nothing was made in its place" in told
    assert (scene.status("plan-00001")["phase"], clock[0]) == ("Failed", steps.STALL_S)


def test_who_leaves_at_the_last_moment_is_progress() -> None:
    """The plan would fail with half of a gang gone, which serves nobody."""
    clock, gang = [0.0], GangKey(namespace="ns", name="g")
    with ThreadPoolExecutor(2) as pool:
        scene = Scene(pool, lambda: clock[0])
        scene.add("a", gpus=8)
        scene.add("v", on="n1")
        scene.add("w", on="n1")
        refuse_evictions(scene, "v", "w")
        victims = [replace(evict(name, "n1"), gang=gang) for name in "vw"]
        scene.publish(bind("a", "n1"), *victims)
        scene.look()
        clock[0] = steps.STALL_S - 1
        scene.look()

        del scene.kube.objects[pod_path(key("v"))]
        clock[0] = steps.STALL_S
        scene.look()

    assert scene.status("plan-00001")["phase"] == "Executing"
    assert any(f"{pod_path(key('w'))}/eviction" in write for write in scene.kube.writes[-3:])


def test_nobody_goes_when_somebody_else_of_the_plan_may_not(scene: Scene) -> None:
    """Seen: one victim was lost although the other's budget kept the room from coming free."""
    scene.add("a")
    scene.add("v", gpus=4, on="n1")
    scene.add("w", gpus=4, on="n1")
    path = f"{pod_path(key('w'))}/eviction"
    scene.kube.refusals[path] = (429, "Cannot evict pod: disruption budget")
    scene.publish(bind("a", "n1"), evict("v", "n1"), evict("w", "n1"))

    scene.look()
    scene.look()

    assert not [write for write in scene.kube.writes if write.startswith("create")]
    assert "deletionTimestamp" not in scene.pod("v")["metadata"]


@pytest.mark.parametrize("status", [404, 409], ids=["the pod is gone", "it is another pod"])
def test_an_eviction_that_comes_too_late_is_fine(scene: Scene, status: int) -> None:
    """Somebody else was quicker."""
    scene.add("v", gpus=8, on="n1")
    scene.kube.refusals[f"{pod_path(key('v'))}/eviction"] = (status, "too late")
    scene.publish(evict("v", "n1"))

    assert scene.look()
    assert "refused" not in str(scene.status("plan-00001"))


def test_a_release_for_a_pod_that_has_changed_is_tried_with_fresh_data(scene: Scene) -> None:
    """The patch names the version that was read."""
    scene.add("a")
    path = pod_path(key("a"))
    scene.kube.refusals[path] = (409, "the object has been modified")
    scene.publish(bind("a", "n1"))
    scene.look()
    assert scene.pod("a")["spec"]["schedulingGates"]

    del scene.kube.refusals[path]
    scene.look()

    assert not scene.pod("a")["spec"]["schedulingGates"]


@pytest.mark.parametrize("status", [401, 422, 500, 503])
def test_a_release_that_is_refused_keeps_nobody_else_waiting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """An admission webhook that fails on one pod would stop the whole plan, without a word."""
    monkeypatch.setattr(execution, "_BATCH", 1)
    for name in ("a", "b"):
        scene.add(name)
    scene.kube.refusals[pod_path(key("a"))] = (status, "failed calling webhook")
    plan = scene.publish(bind("a", "n1"), bind("b", "n1"))

    scene.look()

    assert not scene.pod("b")["spec"]["schedulingGates"]
    steps = {step["pod"]: step["message"] for step in scene.status(plan)["steps"]}
    assert steps["ns/a"].endswith("but that is refused: failed calling webhook")


def test_a_new_pod_of_the_name_of_a_refused_one_does_not_wait(scene: Scene) -> None:
    """A StatefulSet makes its pod anew under its name; why the one before was refused is over."""
    scene.kube.refusals[pod_path(key("web-0"))] = (422, "failed calling webhook")
    scene.add("web-0")
    moved = move("web-0", uid="uid-that-left")
    plan = scene.publish(moved)
    scene.look()
    assert scene.status(plan)["steps"][0]["message"].endswith("failed calling webhook")

    scene.kube.refusals.clear()
    scene.look()
    assert scene.pod("web-0")["spec"]["schedulingGates"], "it waits for a while"
    anew = raw_pod("web-0")
    anew["metadata"]["uid"] = "uid-anew"
    scene.kube.add(pod_path(key("web-0")), anew)
    scene.look()

    assert not scene.pod("web-0")["spec"]["schedulingGates"]


def test_older_plans_that_are_not_finished_are_superseded(scene: Scene) -> None:
    """Even those of a time when no operator ran."""
    scene.add("a")
    scene.publish(bind("a", "n1"), sequence=1)
    scene.publish(sequence=2)

    scene.look()

    assert scene.status("plan-00001") == {
        "phase": "Superseded",
        "message": "plan-00002 took over",
        "finishedAt": "2026-05-01T12:00:00Z",
    }
    assert scene.status("plan-00002")["phase"] == "Completed"
    assert scene.pod("a")["spec"]["schedulingGates"]


def test_a_finished_plan_needs_no_look(scene: Scene) -> None:
    """Nothing polls once everything is done."""
    scene.publish()

    assert scene.look()
    assert scene.look() is None


def test_held_pods_are_told_why_once(scene: Scene) -> None:
    """`kubectl describe pod` answers; the annotation is written when it is news."""
    scene.add("a", gpus=16)
    scene.publish(hold("a"), sequence=1)
    scene.look()
    scene.publish(hold("a"), sequence=2)
    scene.look()

    assert scene.pod("a")["metadata"]["annotations"] == {
        names.ANNOTATION_DECISION: (
            "NodeTooSmall: needs 16 GPUs; n1 has 8 in all; add a larger node"
        )
    }
    merges = [write for write in scene.kube.writes if write.startswith("merge")]
    assert len(merges) == 1


@pytest.mark.parametrize(
    ("status", "tries"),
    [
        pytest.param(422, 1, id="its annotations are full"),
        pytest.param(403, 1, id="an admission policy says no"),
        pytest.param(500, 2, id="an admission webhook does not answer"),
    ],
)
def test_a_pod_that_cannot_be_told_keeps_nobody_else_from_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, status: int, tries: int
) -> None:
    """Seen: every pass over the plan ended in an error."""
    monkeypatch.setattr(holds, "_ROUND_S", 0.0)
    scene.add("a", gpus=16)
    scene.add("b", gpus=16)
    scene.kube.refusals[pod_path(key("a"))] = (status, "no")
    scene.publish(hold("a"), hold("b"))

    scene.look()
    scene.look()

    assert names.ANNOTATION_DECISION in scene.pod("b")["metadata"]["annotations"]
    written = [write for write in scene.kube.writes if write.startswith("merge")]
    assert len([write for write in written if pod_path(key("a")) in write]) == tries
    assert len([write for write in written if pod_path(key("b")) in write]) == 1


def test_a_pod_that_does_not_fit_is_shown_to_autoscalers_where_the_policy_says_so(
    scene: Scene,
) -> None:
    """They overlook pods behind gates, so no node would ever be bought."""
    scene.kube.add(
        POLICY, {"metadata": {"name": "default"}, "spec": {"nodeProvisioning": "WhenInfeasible"}}
    )
    scene.add("a")
    scene.publish(hold("a"), sequence=1)
    scene.look()

    pod = scene.pod("a")
    assert pod["spec"]["schedulingGates"] == []
    assert pod["metadata"]["annotations"][names.ANNOTATION_HOME] == ""
    assert any("Offered" in note for note in scene.told.notes)


def test_a_plan_that_is_overtaken_while_it_is_carried_out_gives_nothing_more_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last pods would take the room that the newer plan has given to others."""
    monkeypatch.setattr(execution, "_BATCH", 1)
    for name in ("a", "b"):
        scene.add(name)
    scene.publish(bind("a", "n1"), bind("b", "n2"), sequence=1)
    patch = scene.kube.patch

    def overtake(path: str, operations: Sequence[Raw], *, manager: str) -> None:
        scene.publish(bind("b", "n1"), sequence=2)
        patch(path, operations, manager=manager)

    monkeypatch.setattr(scene.kube, "patch", overtake)
    scene.look()

    assert not scene.pod("a")["spec"]["schedulingGates"]
    assert scene.pod("b")["spec"]["schedulingGates"]


def test_a_pod_that_cannot_be_read_is_told_so(scene: Scene) -> None:
    """It would wait for ever, and only a log would know why."""
    scene.add("a")
    scene.pod("a")["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "many"}}
    gates = gates_of(scene, [NOW])

    gates.reconcile()
    gates.reconcile()

    (note,) = scene.told.notes
    assert note.startswith("Pod a Unreadable: cannot be planned, correct it: spec.containers[0]")


def test_nobody_is_released_beside_a_running_pod_that_cannot_be_read(scene: Scene) -> None:
    """Its room would look free, and the newcomer be refused by the kubelet."""
    scene.add("a")
    scene.add("odd", gpus="9E", on="n1")
    scene.publish(bind("a", "n1"))

    scene.look()

    assert scene.pod("a")["spec"]["schedulingGates"]


def test_a_held_pod_gets_one_event_for_each_kind_of_reason(scene: Scene) -> None:
    """`kubectl describe` shows events; one for every plan would bury all others."""
    scene.add("a")
    for sequence in (1, 2):
        scene.publish(hold("a"), sequence=sequence)
        scene.look()

    assert len([note for note in scene.told.notes if note.startswith("Pod a")]) == 1


def test_a_plan_that_cannot_be_read_is_left_alone(scene: Scene) -> None:
    """A later version may have written it."""
    spec = {"sequence": 9, "order": "FunFirst", "verdict": "Splendid"}
    scene.kube.add(plan_path("odd"), {"metadata": {"name": "odd"}, "spec": spec})
    scene.publish()

    assert scene.look()
    assert scene.status("plan-00001")["phase"] == "Completed"


def test_a_restart_goes_on_where_it_stopped(scene: Scene) -> None:
    """Everything needed is in the plan and on the pods."""
    scene.add("a")
    scene.add("b")
    scene.publish(bind("a", "n1"), bind("b", "n1"))
    scene.look()
    with ThreadPoolExecutor(2) as pool:
        again = Scene(pool)
        again.kube.objects = scene.kube.objects
        scene.pod("a")["spec"]["nodeName"] = "n1"
        scene.pod("b")["spec"]["nodeName"] = "n1"

        again.look()

    assert again.status("plan-00001")["phase"] == "Completed"
    assert again.status("plan-00001")["startedAt"] == "2026-05-01T12:00:00Z"


# Gates.


def gates_of(scene: Scene, now: list[datetime], *, clock: list[datetime] | None = None) -> Gates:
    """Return the watch over the planner, with a time that can be set, and perhaps another clock."""

    def at() -> float:
        return (clock or now)[0].timestamp()

    with_pool = scene.execution._pool  # noqa: SLF001 - the scene's threads
    return Gates(
        scene.kube,
        scene.plans,
        scene.told,
        Metrics(),
        namespace="bayplan-system",
        pool=with_pool,
        now=lambda: now[0],
        clock=at,
    )


def test_gates_are_lifted_without_a_planner_and_shut_with_one(scene: Scene) -> None:
    """The policy says how long to wait."""
    scene.kube.add(POLICY, {"metadata": {"name": "default"}, "spec": {"gateTimeoutSeconds": 20}})
    scene.add("a")
    now = [NOW]
    gates = gates_of(scene, now)
    assert gates.reconcile() == 5
    assert (gates.away_s, scene.pod("a")["spec"]["schedulingGates"]) == (0, [{"name": names.GATE}])

    now[0] = NOW.replace(second=21)
    gates.reconcile()

    assert (gates.away_s, scene.pod("a")["spec"]["schedulingGates"]) == (20, [])
    assert scene.told.notes == [
        "Pod a GatesLifted: no planner has led for 20 s: the default algorithm places the pod"
    ]
    lease = {"metadata": {"name": "l"}, "spec": {"renewTime": "2026-05-01T12:00:20.000000Z"}}
    scene.kube.add(lease_path("bayplan-system"), lease)
    scene.add("b")
    gates.reconcile()
    assert (gates.away_s, scene.pod("b")["spec"]["schedulingGates"]) == (0, [{"name": names.GATE}])


@pytest.mark.parametrize("status", [403, 422, 500])
def test_a_gate_that_cannot_be_lifted_keeps_nobody_else_waiting(scene: Scene, status: int) -> None:
    """Pods that are stranded, or cannot be read, are looked at after the gates."""
    scene.kube.add(POLICY, {"metadata": {"name": "default"}, "spec": {"gateTimeoutSeconds": 20}})
    for name in ("a", "b", "odd"):
        scene.add(name)
    scene.pod("odd")["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "many"}}
    scene.kube.refusals[pod_path(key("a"))] = (status, "no")
    now = [NOW]
    gates = gates_of(scene, now)

    now[0] = NOW.replace(second=21)
    gates.reconcile()

    assert not scene.pod("b")["spec"]["schedulingGates"]
    assert any(note.startswith("Pod odd Unreadable") for note in scene.told.notes)


def test_a_lost_connection_is_no_matter_of_one_pod() -> None:
    """The pass ends, and is tried again as a whole."""
    with pytest.raises(ApiException):
        note_failure(ApiException(status=0), pod=key("a"), purpose="lift", metrics=Metrics())


def test_a_clock_that_jumps_lifts_no_gate(scene: Scene) -> None:
    """Whoever sets the clock of a machine would undo every plan."""
    scene.add("a")
    now = [NOW]
    gates = gates_of(scene, now, clock=[NOW])
    gates.reconcile()

    now[0] = NOW.replace(day=2)
    gates.reconcile()

    assert (gates.away_s, scene.pod("a")["spec"]["schedulingGates"]) == (0, [{"name": names.GATE}])


def test_a_pod_pinned_to_a_lost_node_is_replaced_after_a_while(scene: Scene) -> None:
    """Its affinity cannot be changed any more; its owner makes a gated one."""
    scene.add("a")
    scene.publish(bind("a", "n1"))
    scene.look()
    del scene.kube.objects[node_path("n1")]
    now = [NOW]
    gates = gates_of(scene, now)
    gates.reconcile()
    assert "deletionTimestamp" not in scene.pod("a")["metadata"]

    now[0] = NOW.replace(second=31)
    gates.reconcile()

    assert "deletionTimestamp" in scene.pod("a")["metadata"]
    assert scene.told.notes[-1] == (
        "Pod a Evicted: it could not be bound where it was pinned: n1 is gone"
    )


@pytest.mark.parametrize("status", [401, 429, 503, 504])
def test_a_pod_that_cannot_be_replaced_keeps_nobody_else_waiting(scene: Scene, status: int) -> None:
    """One answer of an overloaded API server would end the pass for all other pods."""
    for name in ("a", "b"):
        scene.add(name)
    scene.publish(bind("a", "n1"), bind("b", "n1"))
    scene.look()
    del scene.kube.objects[node_path("n1")]
    scene.add("odd", gpus="many")
    path = f"{pod_path(key('a'))}/eviction"
    scene.kube.refusals[path] = (status, "not now")
    now = [NOW]
    gates = gates_of(scene, now)
    gates.reconcile()

    now[0] = NOW.replace(second=31)
    gates.reconcile()

    gone = ["deletionTimestamp" in scene.pod(name)["metadata"] for name in "ab"]
    assert gone == [False, True]
    assert any(note.startswith("Pod odd Unreadable") for note in scene.told.notes)

    del scene.kube.refusals[path]
    gates.reconcile()
    assert "deletionTimestamp" in scene.pod("a")["metadata"]


@pytest.mark.parametrize("text", ["dear", "0", "101"])
def test_a_cost_of_a_move_that_cannot_be_read_is_told_once(scene: Scene, text: str) -> None:
    """Its owner would wonder why nothing ever moves it."""
    scene.add("a")
    scene.add("b")
    scene.pod("a")["metadata"]["annotations"] = {names.ANNOTATION_MOVE_COST: text}
    scene.pod("b")["metadata"]["annotations"] = {names.ANNOTATION_MOVE_COST: "7"}
    gates = gates_of(scene, [NOW])

    gates.reconcile()
    gates.reconcile()

    (note,) = scene.told.notes
    assert note == (
        "Pod a Unreadable: no plan disturbs it while it runs, for bayplan.dev/move-cost is"
        f" {text!r}: make it a whole number from 1 to 100"
    )


def test_a_pod_that_an_open_plan_places_keeps_its_gate(scene: Scene) -> None:
    """The plan would fail half-way, its victims gone for nothing."""
    scene.kube.add(POLICY, {"metadata": {"name": "default"}, "spec": {"gateTimeoutSeconds": 20}})
    scene.add("a")
    scene.publish(bind("a", "n1"))
    now = [NOW]
    gates = gates_of(scene, now)
    now[0] = NOW.replace(second=21)

    gates.reconcile()

    assert (gates.away_s, scene.pod("a")["spec"]["schedulingGates"]) == (20, [{"name": names.GATE}])


def test_a_lease_that_is_renewed_by_another_clock_is_alive(scene: Scene) -> None:
    """A minute of skew would lift every gate of the cluster."""
    now = [NOW]
    gates = gates_of(scene, now)
    for second, renewed in ((0, "11:00:00"), (50, "11:00:50")):
        lease = {"metadata": {"name": "l"}, "spec": {"renewTime": f"2026-05-01T{renewed}.000000Z"}}
        scene.kube.add(lease_path("bayplan-system"), lease)
        now[0] = NOW.replace(second=second)
        gates.reconcile()
    now[0] = NOW.replace(minute=1, second=20)
    gates.reconcile()

    assert gates.away_s == 0


@pytest.mark.parametrize(
    "since",
    [
        pytest.param("2026-05-01T11:00:00Z", id="the pod waited behind its gate for an hour"),
        pytest.param(None, id="no time is told"),
    ],
)
def test_a_pin_that_the_scheduler_refuses_for_long_is_given_up(
    scene: Scene, since: str | None
) -> None:
    """It would hold its GPUs for ever; but not while its plan still waits for it."""
    refused = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "didn't match pod anti-affinity rules",
        "lastTransitionTime": since,
    }
    scene.add("a")
    scene.publish(bind("a", "n1"))
    scene.look()
    raw = scene.pod("a")
    scene.kube.add(pod_path(key("a")), {**raw, "status": {"conditions": [refused]}})
    now = [NOW]
    gates = gates_of(scene, now)
    gates.reconcile()
    now[0] = NOW.replace(minute=2, second=29)
    gates.reconcile()
    assert "deletionTimestamp" not in scene.pod("a")["metadata"]

    now[0] = NOW.replace(minute=2, second=30)
    gates.reconcile()

    assert any("kube-scheduler refuses it there" in note for note in scene.told.notes)


def test_the_newest_plan_is_never_overtaken(scene: Scene) -> None:
    """It would be marked as superseded by itself, and nobody would carry it out."""
    scene.publish(bind("a", "n1"))
    scene.publish(bind("a", "n1"), sequence=2)

    assert [entry.published.name for entry in scene.plans.overtaken()] == ["plan-00001"]


@pytest.fixture
def small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an object take two actions."""
    monkeypatch.setattr(parts, "MAX_ACTIONS", 2)


@pytest.mark.usefixtures("small_objects")
def test_a_plan_in_several_objects_is_carried_out_as_one(scene: Scene) -> None:
    """Pods of a later part would wait for the first, or take the room it makes for others."""
    for name in ("a", "b", "c"):
        scene.add(name)
    scene.add("v", gpus=8, on="n1")
    plan = scene.publish(evict("v", "n1"), bind("a", "n1"), bind("b", "n1"), bind("c", "n2"))

    scene.look()

    assert not scene.pod("c")["spec"]["schedulingGates"]
    assert [scene.pod(name)["spec"]["schedulingGates"] != [] for name in "ab"] == [True, True]
    first, second = scene.status(plan), scene.status(f"{plan}-part-2")
    assert (first["message"], first["done"], first["total"]) == (
        "0 of 4 steps done: ns/v is asked to leave n1",
        0,
        2,
    )
    assert [step["pod"] for step in first["steps"]] == ["ns/v", "ns/a"]
    assert (second["phase"], second["message"], second["total"]) == (
        "Executing",
        "plan-00001 tells how far the plan is",
        2,
    )
    assert [step["pod"] for step in second["steps"]] == ["ns/b", "ns/c"]


@pytest.mark.usefixtures("small_objects")
def test_a_part_whose_steps_stand_still_is_not_written(scene: Scene) -> None:
    """Each write of a large object is a megabyte that everybody reads."""
    for name in ("a", "b", "c"):
        scene.add(name)
    scene.add("v", gpus=8, on="n2")
    plan = scene.publish(bind("a", "n1"), bind("b", "n1"), bind("c", "n2"), evict("v", "n2"))
    scene.look()
    scene.look()
    scene.kube.writes.clear()
    raw = scene.pod("b")
    scene.kube.add(pod_path(key("b")), {**raw, "spec": {**raw["spec"], "nodeName": "n1"}})

    scene.look()

    written = [write for write in scene.kube.writes if "packingplans" in write]
    assert written == [
        f"apply as {names.MANAGER_STEPS} {plan_path(f'{plan}-part-2')}/status",
        f"apply as {names.MANAGER_STEPS} {plan_path(plan)}/status",
    ]


@pytest.mark.usefixtures("small_objects")
def test_an_operator_that_dies_between_two_objects_goes_on_with_the_plan(scene: Scene) -> None:
    """The plan would stay at work for ever, with its room held."""
    for name in ("a", "b", "c"):
        scene.add(name, on="n1", gpus=1)
    plan = scene.publish(bind("a", "n1"), bind("b", "n1"), bind("c", "n1"))
    scene.kube.refusals[f"{plan_path(plan)}/status"] = (503, "unavailable")
    with pytest.raises(ApiException):
        scene.look()
    assert scene.status(f"{plan}-part-2")["phase"] == "Completed"
    assert scene.plans.newest().open  # type: ignore[union-attr]
    scene.kube.refusals.clear()

    with ThreadPoolExecutor(2) as pool:
        plans = Plans(scene.kube)
        other = Execution(
            *(scene.kube, plans, scene.told, Metrics()),
            claims=Claims(),
            pool=pool,
            now=lambda: NOW,
        )
        other.reconcile()

    assert scene.status(plan)["phase"] == "Completed"


@pytest.mark.usefixtures("small_objects")
def test_a_newer_plan_replaces_all_parts_of_the_older_and_only_when_it_is_whole(
    scene: Scene,
) -> None:
    """Two plans would be carried out at once, or none while the newer one is being written."""
    for name in ("a", "b", "c"):
        scene.add(name, gpus=1)
    older = scene.publish(bind("a", "n1"), bind("b", "n1"), bind("c", "n1"), sequence=1)
    newer = scene.publish(bind("a", "n2"), bind("b", "n2"), bind("c", "n2"), sequence=2)
    last = scene.kube.objects.pop(plan_path(f"{newer}-part-2"))
    scene.plans.forget(f"{newer}-part-2")
    assert scene.plans.newest().published.name == older  # type: ignore[union-attr]
    assert scene.plans.overtaken() == ()

    scene.plans.see(scene.kube.add(plan_path(f"{newer}-part-2"), last))
    scene.look()

    phases = [scene.status(name)["phase"] for name in (older, f"{older}-part-2", newer)]
    assert phases == ["Superseded", "Superseded", "Executing"]
    pinned = [pod_of(scene.pod(name)) for name in ("a", "b", "c")]
    assert [each.node for each in pinned if each is not None] == ["n2", "n2", "n2"]


@pytest.mark.usefixtures("small_objects")
def test_every_held_pod_of_a_large_plan_is_told_why(scene: Scene) -> None:
    """Nobody would learn why it waits beyond the first object."""
    for name in "abcde":
        scene.add(name, gpus=16)
    scene.publish(*(hold(name) for name in "abcde"))

    scene.look()
    scene.look()

    told = [scene.pod(name)["metadata"]["annotations"] for name in "abcde"]
    assert all("needs 16 GPUs" in each[names.ANNOTATION_DECISION] for each in told)


@pytest.mark.usefixtures("small_objects")
def test_only_whole_plans_keep_gates_from_being_lifted(scene: Scene) -> None:
    """After a planner died while it wrote a plan, its pods would wait for ever."""
    plan = scene.publish(bind("a", "n1"), bind("b", "n1"), bind("c", "n1"))
    assert scene.plans.bound_by_open() == {"uid-a", "uid-b", "uid-c"}

    scene.plans.forget(f"{plan}-part-2")

    assert scene.plans.bound_by_open() == frozenset()
    assert scene.plans.newest() is None
