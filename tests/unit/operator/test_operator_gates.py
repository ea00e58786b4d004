"""Gates without a planner, and pins that cannot be kept, against an API server in memory."""

import pytest
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan_operator.cluster.kube import POLICY, lease_path, node_path, pod_path
from bayplan_operator.cluster.patches import note_failure
from bayplan_operator.metrics import Metrics
from tests.fake_kube import Raw
from tests.scenes import execution
from tests.scenes.execution import NOW, Scene, bind, gates_of, key

scene = execution.scene

#: What Kubernetes says of a node that is silent.
SILENT = "node.kubernetes.io/unreachable"


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
        "Pod a GatesLifted: no planner has worked for 20 s: the default algorithm places it"
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


def test_a_clock_that_is_behind_keeps_no_gate_shut(scene: Scene) -> None:
    """Pods are told their age by the API server's clock: of tomorrow they waited till tomorrow."""
    scene.add("a")
    clock = [NOW]
    gates = gates_of(scene, [NOW.replace(year=2020)], clock=clock)
    gates.reconcile()
    assert scene.pod("a")["spec"]["schedulingGates"] == [{"name": names.GATE}]

    clock[0] = NOW.replace(hour=13)
    gates.reconcile()

    assert scene.pod("a")["spec"]["schedulingGates"] == []


def test_a_pod_pinned_to_a_lost_node_is_replaced_after_a_while(scene: Scene) -> None:
    """Its affinity cannot be changed any more; its owner makes a gated one."""
    scene.add("a")
    scene.publish(bind("a", "n1"))
    scene.look()
    del scene.kube.objects[node_path("n1")]
    now = [NOW]
    gates = gates_of(scene, now)
    gates.reconcile()
    assert not scene.leaves("a")

    now[0] = NOW.replace(second=31)
    gates.reconcile()

    assert scene.leaves("a")
    assert scene.told.notes[-1] == (
        "Pod a Evicted: it could not be bound where it was pinned: n1 is gone"
    )


@pytest.mark.parametrize(
    ("said", "soon"),
    [
        pytest.param(
            {"metadata": {"labels": {names.LABEL_UNHEALTHY: "xid-79"}}}, True, id="broken"
        ),
        pytest.param({"spec": {"unschedulable": True}}, True, id="cordoned"),
        pytest.param({"spec": {"taints": [{"key": "repair"}]}}, True, id="tainted"),
        pytest.param({"spec": {"taints": [{"key": SILENT}]}}, False, id="silent for a moment"),
        pytest.param(
            {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, False, id="unready"
        ),
    ],
)
def test_a_pod_pinned_to_a_node_that_is_shut_is_replaced_at_once(
    scene: Scene,
    said: Raw,
    soon: bool,  # noqa: FBT001 - a case
) -> None:
    """kube-scheduler asked for it hundreds of times, for as long as there was still hope."""
    scene.add("a")
    scene.publish(bind("a", "n1"))
    scene.look()
    node = scene.kube.objects[node_path("n1")]
    for part, more in said.items():
        node[part] = {**node.get(part, {}), **more}
    gates = gates_of(scene, [NOW])

    gates.reconcile()

    assert scene.leaves("a") is soon


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

    gone = [scene.leaves(name) for name in "ab"]
    assert gone == [False, True]
    assert any(note.startswith("Pod odd Unreadable") for note in scene.told.notes)

    del scene.kube.refusals[path]
    gates.reconcile()
    assert scene.leaves("a")


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


def test_the_size_of_a_gang_without_its_name_is_told_once(scene: Scene) -> None:
    """Its owner would think that it goes with the others."""
    scene.add("a")
    scene.pod("a")["metadata"]["labels"][names.LABEL_GANG_MIN_COUNT] = "4"
    gates = gates_of(scene, [NOW])

    gates.reconcile()
    gates.reconcile()

    (note,) = scene.told.notes
    assert note.startswith(
        "Pod a Unreadable: cannot be planned, correct it: metadata.labels.bayplan.dev/"
        "gang-min-count: the pod is of no gang without the label bayplan.dev/gang: add that one"
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
    ("renewals", "said"),
    [
        pytest.param([0], {}, id="it died after it had led"),
        pytest.param([0, 10, 20], {names.ANNOTATION_PASSES: names.PASSES_FAIL}, id="it fails"),
    ],
)
def test_a_planner_that_plans_nothing_is_none(
    scene: Scene, renewals: list[int], said: dict[str, str]
) -> None:
    """Its lease is there, and nobody would ever place a pod."""
    scene.kube.add(POLICY, {"metadata": {"name": "default"}, "spec": {"gateTimeoutSeconds": 20}})
    scene.add("a")
    now = [NOW]
    gates = gates_of(scene, now)
    for second in (0, 10, 20):
        if second in renewals:
            spec = {"renewTime": f"2026-05-01T12:00:{second:02}.000000Z"}
            lease = {"metadata": {"name": "l", "annotations": said}, "spec": spec}
            scene.kube.add(lease_path("bayplan-system"), lease)
        now[0] = NOW.replace(second=second)
        gates.reconcile()

    assert (gates.away_s, scene.pod("a")["spec"]["schedulingGates"]) == (20, [])


@pytest.mark.parametrize(
    "change",
    [{"annotations": {}}, {"deletionTimestamp": "2026-05-01T12:00:00Z"}],
    ids=["somebody else pinned it", "it is being deleted"],
)
def test_a_pod_that_is_no_matter_of_ours_is_left_alone(scene: Scene, change: Raw) -> None:
    """Whoever pinned it may be waiting for the node."""
    scene.add("a")
    scene.publish(bind("a", "n1"))
    scene.look()
    scene.pod("a")["metadata"].update(change)
    del scene.kube.objects[node_path("n1")]
    now = [NOW]
    gates = gates_of(scene, now)
    for minute in (0, 5):
        now[0] = NOW.replace(minute=minute)
        gates.reconcile()

    assert scene.told.notes == []
    assert not [write for write in scene.kube.writes if "eviction" in write]


@pytest.mark.parametrize(
    "condition",
    [
        {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"},
        {"type": "Other", "status": "False", "reason": "Unschedulable"},
    ],
    ids=["somebody else's gate keeps it", "somebody else says so"],
)
def test_only_the_scheduler_refuses_a_pin(scene: Scene, condition: Raw) -> None:
    """The pod would be replaced again and again while others are at work on it."""
    scene.add("a")
    scene.publish(bind("a", "n1"))
    scene.look()
    scene.kube.add(pod_path(key("a")), {**scene.pod("a"), "status": {"conditions": [condition]}})
    now = [NOW]
    gates = gates_of(scene, now)
    for minute in (0, 5):
        now[0] = NOW.replace(minute=minute)
        gates.reconcile()

    assert not scene.leaves("a")


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
    """It would hold its GPUs for ever; but not before kube-scheduler has tried it again."""
    refused = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "no available disk",
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
    now[0] = NOW.replace(second=29)
    gates.reconcile()
    assert not scene.leaves("a")

    now[0] = NOW.replace(second=30)
    gates.reconcile()

    assert any("kube-scheduler refused a on n1" in note for note in scene.told.notes)
