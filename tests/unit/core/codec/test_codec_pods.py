"""Pods are read into values: what they ask for, where they are, what may be done to them."""

from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.constraints import Toleration
from bayplan.cluster.keys import GangKey, Owner, PodKey
from bayplan.cluster.pods import UNKNOWN_COUNT, Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.codec import (
    DecodeError,
    pod_of,
    stand_in_of,
)
from bayplan.codec.pods import selector_of
from bayplan.codec.replacements import FailedMove, failed_move_in
from bayplan.inference.replacements import Failing
from tests.builders import GPU, node, pod, snapshot
from tests.scenes.codec import decoded, pinned, raw_pod


def test_a_gated_pod_waits_with_all_that_it_asks_for() -> None:
    """The planner would plan the wrong thing, or nothing."""
    pod = decoded(raw_pod())

    assert pod == Pod(
        key=PodKey(namespace="team", name="web-1"),
        uid="u1",
        requests=Resources.of({GPU: 2, "cpu": 500, "pods": 1}),
        priority=5,
        waiting=True,
        disruption=Disruption.MOVABLE,
        labels=((names.LABEL_MANAGED, "true"),),
        owner=Owner(kind="ReplicaSet", namespace="team", name="web", uid="rs-1"),
        created_at=1_769_860_800,
        bound=False,
    )


def test_a_pod_with_another_gate_beside_ours_does_not_wait_for_us_yet() -> None:
    """Lifting our gate would not start it, and its room would be held for nothing."""
    gates = [{"name": names.GATE}, {"name": "kueue.x-k8s.io/topology"}]

    assert not decoded(raw_pod(schedulingGates=gates)).waiting


def test_a_released_pod_counts_on_the_node_it_is_pinned_to() -> None:
    """Between release and binding its room would look free."""
    pod = decoded(raw_pod(schedulingGates=[], affinity=pinned("n1")))

    assert (pod.node, pod.bound, pod.waiting) == ("n1", False, False)
    assert pod.disruption is Disruption.FIXED


@pytest.mark.parametrize(
    "field",
    [
        {"key": "metadata.name", "operator": "In", "values": ["n1", "n2"]},
        {"key": "metadata.name", "operator": "NotIn", "values": ["n1"]},
    ],
    ids=["one of two nodes", "any node but one"],
)
def test_who_may_be_on_several_nodes_is_on_none_yet(field: dict[str, Any]) -> None:
    """Its room would be held where it does not go."""
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}

    assert decoded(raw_pod(schedulingGates=[], affinity=affinity)).node is None


def test_a_pod_says_when_it_will_have_left() -> None:
    """Its room would be promised to others for ever, or never."""
    raw = raw_pod(schedulingGates=[], nodeName="n1")
    raw["metadata"]["deletionTimestamp"] = "2026-05-01T12:00:30Z"

    assert (decoded(raw).terminating, decoded(raw).leaves_at) == (True, 1_777_636_830)


def test_a_pod_that_is_being_deleted_says_what_may_keep_it() -> None:
    """Nobody would know whose word is missing before its room is free."""
    raw = raw_pod(schedulingGates=[], nodeName="n1")
    raw["metadata"]["finalizers"] = ["example.com/y"]
    runs = decoded(raw)
    raw["metadata"]["deletionTimestamp"] = "2026-05-01T12:00:30Z"

    assert (runs.finalizers, decoded(raw).finalizers) == ((), ("example.com/y",))


def test_what_a_pod_tolerates_is_read_word_by_word() -> None:
    """It would be kept off nodes that are meant for it, or sent to others."""
    every = {"key": "role", "operator": "Equal", "value": "infra", "effect": "NoExecute"}

    assert decoded(raw_pod(tolerations=[every, {}])).constraints.tolerations == (
        Toleration(),
        Toleration(**every),
    )


@pytest.mark.parametrize(
    ("gates", "serves_by", "node"),
    [
        ([names.GATE], "2026-05-01T12:00:00Z", "n1"),
        ([names.GATE], "", None),
        ([names.GATE], "soon", None),
        ([names.GATE, "other"], "2026-05-01T12:00:00Z", None),
    ],
    ids=["it starts first", "a user's pin", "what is no instant", "a gate of others"],
)
def test_a_replacement_that_starts_first_has_its_room_from_the_beginning(
    gates: list[str], serves_by: str, node: str | None
) -> None:
    """Its gate is lifted a moment later, and in between its room would be given away."""
    pin = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [pin]}}
    raw = raw_pod(
        schedulingGates=[{"name": gate} for gate in gates], affinity={"nodeAffinity": required}
    )
    raw["metadata"]["annotations"] = {
        names.ANNOTATION_PLAN: "plan-1",
        names.ANNOTATION_SERVES_BY: serves_by,
        names.ANNOTATION_GIVES_WAY_BY: "2026-05-01T12:00:10Z",
        names.ANNOTATION_MOVE_FAILED: "plan-1 2026-05-01T12:00:20Z Crashes",
    }
    others = pod_of(raw)
    raw["metadata"]["ownerReferences"][0]["kind"] = "InferenceDeployment"

    read = pod_of(raw)

    assert read is not None
    assert (read.node, read.waiting) == (node, node is None and gates == [names.GATE])
    assert (read.gives_way_by, read.move_failed_at) == (1_777_636_810, 1_777_636_820)
    assert read.serves_by == (1_777_636_800 if serves_by.startswith("2026") else 0)
    # Nobody else starts one pod before the other goes: what such a pod says is not believed.
    assert others is not None
    assert (others.node, others.gives_way_by, others.serves_by) == (None, 0, 0)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (
            "plan-1 2026-05-01T12:00:20Z Crashes",
            FailedMove(plan="plan-1", at=1_777_636_820, why=Failing.CRASHES),
        ),
        ("plan-1 2026-05-01T12:00:20Z", FailedMove(plan="plan-1", at=1_777_636_820)),
        ("plan-1 soon Whatever", FailedMove(plan="plan-1")),
        ("plan-1", FailedMove()),
        ("plan-1 2026-05-01T12:00:20Z Crashes again", FailedMove()),
        ("", FailedMove()),
    ],
)
def test_what_a_pod_says_of_a_move_that_failed_is_read_or_says_nothing(
    text: str, read: FailedMove
) -> None:
    """Anybody may write on a pod."""
    raw = raw_pod()
    raw["metadata"]["annotations"] = {names.ANNOTATION_MOVE_FAILED: text}

    assert failed_move_in(raw) == read


def test_the_pin_of_a_plan_is_no_constraint_once_the_pod_runs() -> None:
    """No pod that a plan has placed could ever be moved: seen as evictions where moves would do."""
    raw = raw_pod(nodeName="n1", schedulingGates=[], affinity=pinned("n1"))
    raw["metadata"]["annotations"] = {names.ANNOTATION_PLAN: "plan-1"}

    assert decoded(raw).constraints.affinity == ()

    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    required = raw["spec"]["affinity"]["nodeAffinity"]
    terms = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    terms[0]["matchExpressions"] = [zone]
    (term,) = decoded(raw).constraints.affinity
    assert ([r.key for r in term.labels], term.fields) == (["zone"], ())


def test_the_pin_of_a_user_stays_a_constraint() -> None:
    """A pod that must be on one node would be moved off it."""
    raw = raw_pod(nodeName="n1", schedulingGates=[], affinity=pinned("n1"))

    assert len(decoded(raw).constraints.affinity) == 1


def test_a_gated_pod_that_its_user_pinned_still_waits() -> None:
    """A pin is a constraint of the pod, not a placement, while the gate is there."""
    pod = decoded(raw_pod(affinity=pinned("n1")))

    assert pod.waiting
    assert pod.node is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({}, Disruption.MOVABLE, id="ours is movable: it comes back through us"),
        pytest.param({"schedulerName": "default-scheduler"}, Disruption.EVICTABLE, id="foreign"),
        pytest.param({"priority": 2_000_001_000}, Disruption.FIXED, id="the cluster's own"),
    ],
)
def test_what_may_be_done_to_a_running_pod(change: dict[str, object], expected: Disruption) -> None:
    """A plan would disturb what it must not touch."""
    raw = raw_pod(nodeName="n1", schedulingGates=[], **change)

    assert decoded(raw).disruption is expected


def test_a_pod_of_an_older_template_is_not_moved() -> None:
    """It does not come again; for a higher priority its unit goes as a whole."""
    raw = raw_pod(nodeName="n1", schedulingGates=[])
    raw["metadata"]["annotations"] = {names.ANNOTATION_OUTDATED: "true"}

    assert decoded(raw).disruption is Disruption.EVICTABLE


@pytest.mark.parametrize("kind", ["DaemonSet", "Node", None])
def test_a_pod_that_no_controller_makes_again_elsewhere_is_fixed(kind: str | None) -> None:
    """Evicting a bare pod would lose it; a DaemonSet's or static pod comes straight back."""
    raw = raw_pod(nodeName="n1", schedulingGates=[])
    raw["metadata"]["ownerReferences"] = (
        [{"kind": kind, "name": "x", "uid": "x", "controller": True}] if kind else []
    )

    assert decoded(raw).disruption is Disruption.FIXED


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ({"karpenter.sh/do-not-disrupt": "true"}, Disruption.FIXED),
        ({"karpenter.sh/do-not-disrupt": "false"}, Disruption.MOVABLE),
        ({"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}, Disruption.FIXED),
        ({"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}, Disruption.MOVABLE),
        ({names.ANNOTATION_MOVE_COST: "7"}, Disruption.MOVABLE),
        ({names.ANNOTATION_MOVE_COST: "0"}, Disruption.FIXED),
        ({names.ANNOTATION_MOVE_COST: "101"}, Disruption.FIXED),
        ({names.ANNOTATION_MOVE_COST: "dear"}, Disruption.FIXED),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else value.value,
)
def test_who_asks_not_to_be_disturbed_stays(
    annotation: dict[str, str], expected: Disruption
) -> None:
    """A pod would be moved that says no, or whose cost nobody can read."""
    raw = raw_pod(nodeName="n1", schedulingGates=[])
    raw["metadata"]["annotations"] = annotation

    assert decoded(raw).disruption is expected


@pytest.mark.parametrize(("text", "cost"), [(None, 1), ("7", 7), ("100", 100), ("101", 1)])
def test_a_pod_says_what_a_move_costs(text: str | None, cost: int) -> None:
    """Models that start for minutes would be moved like those that start at once."""
    raw = raw_pod()
    raw["metadata"]["annotations"] = {names.ANNOTATION_MOVE_COST: text} if text else {}

    assert decoded(raw).move_cost == cost


def test_a_nominated_pod_has_its_room_on_the_node() -> None:
    """Room that another scheduler is just making for it would be given away."""
    raw = raw_pod(schedulerName="default-scheduler", schedulingGates=[])
    raw["status"]["nominatedNodeName"] = "n1"

    nominated = decoded(raw)

    assert (nominated.node, nominated.bound, nominated.waiting) == ("n1", False, False)
    assert nominated.disruption is Disruption.FIXED


def test_a_nomination_does_not_keep_our_own_pod_from_a_plan() -> None:
    """A gated pod that was nominated once would never be planned."""
    raw = raw_pod()
    raw["status"]["nominatedNodeName"] = "n1"

    assert decoded(raw).waiting


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, "Ready"),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}, "Unready"),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "Unknown"}]}, "Unready"),
        ({"phase": "Running", "conditions": [{"type": "Initialized"}]}, "Unready"),
        ({"phase": "Running"}, "Unready"),
        ({"phase": "Pending", "conditions": [{"type": "Ready", "status": "True"}]}, "Pending"),
        ({}, "Ready"),
    ],
    ids=[
        *("ready", "not ready", "nobody knows", "other conditions", "no conditions"),
        *("has not begun", "a manifest"),
    ],
)
def test_how_a_running_pod_does_is_read(status: dict[str, object], health: str) -> None:
    """A budget would count it otherwise than the API server does."""
    running = raw_pod(nodeName="n1", schedulingGates=[]) | {"status": status}

    assert decoded(running).health == health


def test_how_a_pod_without_a_node_does_is_nothing_to_anybody() -> None:
    """Every waiting pod would be longer in recordings, and change when nothing has."""
    assert decoded(raw_pod()).health == "Ready"


def test_a_pod_that_has_ended_uses_no_room() -> None:
    """Completed Jobs would fill the cluster."""
    assert pod_of(raw_pod() | {"status": {"phase": "Succeeded"}}) is None


def test_requests_are_the_larger_of_init_containers_and_containers_plus_overhead() -> None:
    """kube-scheduler would refuse the node that we chose."""

    def container(cpu: str, **more: object) -> dict[str, object]:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    pod = decoded(
        raw_pod(
            initContainers=[container("1", restartPolicy="Always"), container("4")],
            containers=[container("1"), container("2")],
            overhead={"cpu": "250m"},
        )
    )

    assert pod.requests["cpu"] == 5250


def test_what_a_pod_asks_for_as_a_whole_goes_before_its_containers() -> None:
    """It would be pinned to a node that kube-scheduler refuses, again and again."""
    container = {"name": "c", "resources": {"requests": {"cpu": "1", GPU: "1"}}}
    whole = {"requests": {"cpu": "32"}, "limits": {"cpu": "64", "memory": "1Gi"}}

    pod = decoded(raw_pod(containers=[container], resources=whole, overhead={"cpu": "250m"}))

    assert (pod.requests["cpu"], pod.requests["memory"], pod.requests[GPU]) == (32_250, 1024, 1)


def test_a_limit_of_a_pod_as_a_whole_counts_where_no_container_says_a_request() -> None:
    """In a file that no API server has read the pod seemed to ask for all that it may use."""
    containers = [{"name": n, "resources": {"requests": {"cpu": "1"}}} for n in "ab"]
    whole = {"limits": {"cpu": "64", "memory": "1Gi"}}

    pod = decoded(raw_pod(containers=containers, resources=whole))

    assert (pod.requests["cpu"], pod.requests["memory"], pod.requests["pods"]) == (2000, 1024, 1)


def test_a_gang_whose_label_does_not_say_its_size_is_never_whole() -> None:
    """The pod would vanish from sight: not planned, not told why, not counted."""
    raw = raw_pod()
    raw["metadata"]["labels"] = {names.LABEL_GANG: "g"}

    assert decoded(raw).gang_min_count == UNKNOWN_COUNT

    raw["metadata"]["labels"][names.LABEL_GANG_MIN_COUNT] = "3"
    pod = decoded(raw)
    assert (pod.gang, pod.gang_min_count) == (GangKey(namespace="team", name="g"), 3)


def grouped(group: str, **annotations: str) -> dict[str, Any]:
    """Return a running pod of a LeaderWorkerSet of which each group is to be a gang."""
    raw = raw_pod(nodeName="n1", schedulingGates=[])
    gang = {names.LABEL_GANG: "chat", names.LABEL_GANG_MIN_COUNT: "4"}
    raw["metadata"]["labels"] = {**gang, names.LABEL_LWS_GROUP: group}
    raw["metadata"]["annotations"] = annotations
    return raw


def test_each_group_of_a_leader_worker_set_is_a_gang_of_its_own() -> None:
    """All have the labels of one template: half of one and half of another made a whole gang."""
    first, second = (decoded(grouped(group)).gang for group in ("0", "1"))

    assert first is not None
    assert first != second
    assert selector_of(first) == ("bayplan.dev/gang=chat,leaderworkerset.sigs.k8s.io/group-index=0")
    assert selector_of(GangKey(namespace="team", name="chat-0")) == (
        "bayplan.dev/gang=chat-0,!leaderworkerset.sigs.k8s.io/group-index"
    )


def test_a_unit_is_one_gang_though_a_template_of_its_pods_says_a_group() -> None:
    """One pool's template comes from a LeaderWorkerSet's pod: no unit would ever be whole."""
    raw = grouped("0")
    raw["metadata"]["ownerReferences"][0]["kind"] = names.KIND_DEPLOYMENT

    assert decoded(raw).gang == GangKey(namespace="team", name="chat")


@pytest.mark.parametrize(("size", "may"), [("4", "Evictable"), ("1", "Movable")])
def test_a_pod_of_a_group_of_several_is_not_moved(size: str, may: str) -> None:
    """Its group starts anew as a whole, and the others would have no place in the plan."""
    pod = decoded(grouped("0", **{names.ANNOTATION_LWS_SIZE: size}))

    assert pod.disruption == may


def test_a_running_pod_keeps_its_room_even_with_a_spoilt_gang_label() -> None:
    """Its node would look emptier than it is, and be over-committed."""
    raw = raw_pod(nodeName="n1", schedulingGates=[])
    raw["metadata"]["labels"] = {names.LABEL_GANG: "g", names.LABEL_GANG_MIN_COUNT: "many"}

    assert decoded(raw).gang is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"containers": [{"name": "c", "resources": {"limits": {GPU: "eight"}}}]},
            r"Pod team/web-1: spec.containers\[0\].resources.limits.nvidia.com/gpu: 'eight' is not",
        ),
        ({"containers": {}}, r"spec.containers: should be a list, is an object"),
        ({"priority": "high"}, r"spec.priority: should be an integer, is a string"),
        ({"priority": -(2**70)}, r"spec.priority: should be a number up to 9007199254740992"),
        ({"nodeSelector": {"zone": 1}}, r"spec.nodeSelector.zone: should be a string"),
        (
            {"containers": [{"name": n, "resources": {"limits": {GPU: 2**53}}} for n in "ab"]},
            r"Pod team/web-1: spec: requests 18014398509481984 of nvidia.com/gpu in sum, which is",
        ),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], complaint: str) -> None:
    """A user would have to guess which of a thousand pods is wrong."""
    with pytest.raises(DecodeError, match=complaint):
        pod_of(raw_pod(**change))


def test_a_limit_counts_only_where_nothing_is_requested() -> None:
    """A running pod would be unreadable, and its GPUs free, for a limit that nothing depends on."""
    resources = {"limits": {"cpu": "9E", GPU: "8"}, "requests": {"cpu": "1m"}}
    raw = raw_pod(containers=[{"name": "c", "resources": resources}], nodeName="n1")

    assert decoded(raw).requests == Resources.of({"cpu": 1, GPU: 8, "pods": 1})


def test_a_running_pod_that_cannot_be_read_takes_its_whole_node() -> None:
    """Its room would be given away, and two pods would share a GPU or one be refused by kubelet."""
    resources = {"requests": {"cpu": "9E", GPU: "8"}}
    raw = raw_pod(containers=[{"name": "c", "resources": resources}], nodeName="n1")
    with pytest.raises(DecodeError):
        pod_of(raw)

    there = stand_in_of(raw)

    assert there is not None
    assert (str(there.key), there.uid, there.node) == ("team/web-1", "u1", "n1")
    assert there.disruption is Disruption.FIXED
    (free,) = snapshot(node("n1"), there).free().values()
    assert free[GPU] < 0
    assert not pod("another", gpus=0).requests.fits(free)
    assert stand_in_of(raw_pod()) is None


@pytest.mark.parametrize(
    ("spec", "reason", "want"),
    [
        pytest.param({"schedulingGates": []}, "Unschedulable", "no claim", id="it was tried"),
        pytest.param({"schedulingGates": []}, "SchedulingGated", "", id="of another reason"),
        pytest.param({}, "Unschedulable", "", id="it waits behind a gate"),
        pytest.param(
            {"schedulingGates": [], "nodeName": "n1"}, "Unschedulable", "", id="it has a node"
        ),
    ],
)
def test_what_kube_scheduler_refuses_is_read(
    spec: dict[str, object], reason: str, want: str
) -> None:
    """A pod would be said to be bound next that never will be."""
    said = {"type": "PodScheduled", "status": "False", "reason": reason, "message": "no claim"}

    read = pod_of(raw_pod(**spec) | {"status": {"phase": "Pending", "conditions": [said]}})

    assert read is not None
    assert read.refused == want
