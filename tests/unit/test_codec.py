"""Kubernetes objects are read once, and a bad field is named."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bayplan.api import names
from bayplan.api.packing_plan import MAX_MESSAGE
from bayplan.budgets import Budget
from bayplan.codec import (
    DecodeError,
    budget_of,
    node_of,
    plan_manifest,
    pod_of,
    policy_of,
    published_plan_of,
    snapshot_of,
    stand_in_of,
    trouble_of,
)
from bayplan.codec.marks import FailedMove, failed_move_in
from bayplan.codec.nodes import UNHEALTHY
from bayplan.constraints import Requirement, Taint
from bayplan.inference.parts import Trouble
from bayplan.inference.successors import Failing
from bayplan.keys import BudgetKey, GangKey, NodeName, Owner, PodKey
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
    Stage,
    Verdict,
)
from bayplan.policy import Order, Policy
from bayplan.resources import Resources
from bayplan.snapshot import UNKNOWN_COUNT, Disruption, Pod
from tests.builders import GPU, node, pod, snapshot


def raw_pod(**spec: object) -> dict[str, Any]:
    """Return a waiting pod of a ReplicaSet as the API server prints it."""
    owner = {"kind": "ReplicaSet", "name": "web", "uid": "rs-1", "controller": True}
    gates = [{"name": names.GATE}]
    container = {"name": "c", "resources": {"limits": {GPU: "2"}, "requests": {"cpu": "500m"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-1",
            "namespace": "team",
            "uid": "u1",
            "labels": {names.LABEL_MANAGED: "true"},
            "ownerReferences": [owner],
            "creationTimestamp": "2026-01-31T12:00:00Z",
        },
        "spec": {
            "schedulerName": names.SCHEDULER,
            "schedulingGates": gates,
            "priority": 5,
            "containers": [container],
        }
        | spec,
        "status": {"phase": "Pending"},
    }


def decoded(raw: dict[str, Any]) -> Pod:
    """Return the pod, which must be readable and alive."""
    pod = pod_of(raw)
    assert pod is not None
    return pod


def pinned(node: str) -> dict[str, Any]:
    """Return the affinity that pins a pod to one node."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = [{"matchFields": [field]}]
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


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


def raw_budget(**spec: object) -> dict[str, Any]:
    """Return a PodDisruptionBudget that its controller has looked at."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "team", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "web"}}} | spec,
        "status": {"disruptionsAllowed": 3, "observedGeneration": 2},
    }


def test_a_budget_is_read() -> None:
    """A plan would ask for evictions that are refused."""
    lines = [
        {"key": "tier", "operator": "NotIn", "values": ["test"]},
        {"key": "a", "operator": "Exists"},
    ]
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": lines}

    assert budget_of(raw_budget(selector=selector)) == Budget(
        key=BudgetKey("team", "web"),
        allowed=3,
        labels=(
            Requirement(key="a", operator="Exists"),
            Requirement(key="app", operator="In", values=("web",)),
            Requirement(key="tier", operator="NotIn", values=("test",)),
        ),
    )


def test_what_a_budget_makes_of_unready_pods_is_read() -> None:
    """A pod that is out of service for a move could not be moved any more."""
    status = {"disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2}
    raw = raw_budget(unhealthyPodEvictionPolicy="AlwaysAllow")

    always, by_default = budget_of(raw | {"status": status}), budget_of(raw_budget())

    assert always is not None
    assert (always.healthy, always.desired, always.always) == (2, 2, True)
    assert by_default is not None
    assert not by_default.always


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


def test_an_empty_selector_covers_all_and_none_covers_nobody() -> None:
    """The two differ by one line of YAML and mean the opposite."""
    everyone = budget_of(raw_budget(selector={}))

    assert everyone is not None
    assert everyone.labels == ()
    assert budget_of(raw_budget(selector=None)) is None


@pytest.mark.parametrize(
    "status", [{}, {"disruptionsAllowed": 3, "observedGeneration": 1}], ids=["no status", "stale"]
)
def test_a_budget_that_was_not_looked_at_admits_nothing(status: dict[str, int]) -> None:
    """The API server refuses evictions until its status is that of its spec."""
    found = budget_of(raw_budget() | {"status": status})

    assert found is not None
    assert found.allowed == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"status": {"disruptionsAllowed": -1}},
            "PodDisruptionBudget team/web: status.disruptionsAllowed: should be 0 or more, is -1",
        ),
        (
            {"status": {"disruptionsAllowed": "1"}},
            (
                "PodDisruptionBudget team/web: status.disruptionsAllowed: should be an integer,"
                " is a string"
            ),
        ),
        (
            {"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}},
            (
                "PodDisruptionBudget team/web: spec.selector.matchExpressions[0].operator: should"
                " be one of In, NotIn, Exists, DoesNotExist, is 'Gt'"
            ),
        ),
        (
            {"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}},
            (
                "PodDisruptionBudget team/web: spec.selector.matchExpressions[0].values: should"
                " list at least one value"
            ),
        ),
    ],
    ids=["negative", "text", "operator", "no values"],
)
def test_a_bad_field_of_a_budget_is_named(change: dict[str, object], complaint: str) -> None:
    """Nobody would know which budget is left out, and why."""
    with pytest.raises(DecodeError) as caught:
        budget_of(raw_budget() | change)

    assert str(caught.value) == complaint


def test_budgets_among_documents_reach_the_snapshot() -> None:
    """`bayplan plan -f` would plan evictions that a cluster refuses."""
    assert [each.allowed for each in snapshot_of([raw_budget()]).budgets] == [3]


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


def test_a_gang_whose_label_does_not_say_its_size_is_never_whole() -> None:
    """The pod would vanish from sight: not planned, not told why, not counted."""
    raw = raw_pod()
    raw["metadata"]["labels"] = {names.LABEL_GANG: "g"}

    assert decoded(raw).gang_min_count == UNKNOWN_COUNT

    raw["metadata"]["labels"][names.LABEL_GANG_MIN_COUNT] = "3"
    pod = decoded(raw)
    assert (pod.gang, pod.gang_min_count) == (GangKey(namespace="team", name="g"), 3)


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
        ({"nodeSelector": {"zone": 1}}, r"spec.nodeSelector.zone: should be a string"),
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


def test_a_node_is_read_with_taints_labels_and_readiness() -> None:
    """Pods would be planned onto nodes that refuse them."""
    node = node_of(
        {
            "kind": "Node",
            "metadata": {"name": "n1", "labels": {"zone": "a"}},
            "spec": {"unschedulable": True, "taints": [{"key": "gpu", "effect": "NoSchedule"}]},
            "status": {
                "allocatable": {GPU: "8", "cpu": "63500m", "memory": "1Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "Unknown"}],
            },
        }
    )

    assert node.allocatable == Resources.of({GPU: 8, "cpu": 63_500, "memory": 1024, "pods": 110})
    assert node.taints == (Taint(key="gpu"),)
    assert node.labels == (("zone", "a"),)
    assert (node.schedulable, node.ready) == (False, False)


def test_a_list_of_lists_is_opened_and_other_kinds_are_passed_over() -> None:
    """`kubectl get nodes,pods,… -o json` prints one List of many kinds."""
    node = {"kind": "Node", "metadata": {"name": "n1"}, "status": {"allocatable": {GPU: 8}}}
    service = {"kind": "Service", "metadata": {"name": "s"}}
    inner = {"kind": "PodList", "items": [raw_pod()]}

    snapshot = snapshot_of([{"kind": "List", "items": [node, service, inner]}])

    assert [n.name for n in snapshot.nodes] == ["n1"]
    assert [str(p.key) for p in snapshot.pods] == ["team/web-1"]


@pytest.mark.parametrize("document", [[], "text", {"items": []}, {"kind": 3}])
def test_what_is_no_kubernetes_object_is_refused(document: Any) -> None:  # noqa: ANN401 - junk
    """A wrong file would be planned as an empty cluster."""
    with pytest.raises(DecodeError, match="kind"):
        snapshot_of([document])


def test_an_empty_policy_is_the_built_in_one() -> None:
    """Defaults would differ between the schema and the code."""
    assert policy_of({"kind": "PackingPolicy", "metadata": {"name": "default"}}) == Policy()


def test_a_policy_is_read() -> None:
    """An administrator's budget would be ignored."""
    spec = {"timeLimitSeconds": 3, "maxMoves": 1, "gateTimeoutSeconds": 25}
    policy = policy_of({"kind": "PackingPolicy", "metadata": {"name": "default"}, "spec": spec})

    assert (policy.time_limit_s, policy.max_moves, policy.gate_timeout_s) == (3.0, 1, 25.0)


@pytest.mark.parametrize("seconds", [1, 15, 19.9])
def test_a_time_out_from_when_less_was_allowed_leaves_the_planner_its_time(seconds: float) -> None:
    """Gates would be lifted under a planner that lives, or while another one takes over."""
    raw = {"metadata": {"name": "default"}, "spec": {"gateTimeoutSeconds": seconds}}

    assert policy_of(raw).gate_timeout_s == 20


def test_a_plan_survives_its_way_through_the_api_server() -> None:
    """The operator would carry out something else than the planner decided."""
    key = PodKey(namespace="team", name="a")
    owner = Owner(kind="ReplicaSet", namespace="team", name="rs", uid="rs-1")
    n1, n2 = NodeName("n1"), NodeName("n2")
    stages = (Stage(name="place 1000", value=3, bound=4, seconds=0.25),)
    why = Rejection(reason=Reason.TOO_SMALL, message="needs more", resolvable=True)
    gang = GangKey(namespace="team", name="g")
    plan = Plan(
        certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.IMPROVED, stages=stages),
        binds=(Bind(pod=key, uid="u1", node=n1, gang=gang, priority=7),),
        moves=(Move(pod=key, uid="u2", source=n1, target=n2, owner=owner, priority=1),),
        evictions=(Evict(pod=key, uid="u3", node=n2, priority=-1, owner=owner, gang=gang),),
        holds=(Hold(pod=key, uid="u4", rejection=why, remedy="add a node"),),
    )
    result = Result(plan=plan, digest="d", engine="cp-sat", seconds=(("total", 1.5),))

    manifest = plan_manifest(result, sequence=7)
    published = published_plan_of(manifest)

    assert published.plan == plan
    assert (published.name, published.sequence, published.phase) == ("plan-00007", 7, "Pending")
    assert manifest["spec"]["display"] == {"gap": "25.00%", "solve": "1.50s"}


def test_pods_that_the_operator_would_make_are_planned_at_their_classs_priority() -> None:
    """`bayplan plan -f new.yaml` would not see what is asked for, or outrank nobody with it."""
    chat = list(yaml.safe_load_all(Path("docs/examples/chat.yaml").read_text()))

    snapshot = snapshot_of(chat)

    assert [(p.key.name, p.priority, p.waiting) for p in snapshot.pods][:2] == [
        ("chat-0-decode-0", 1000, True),
        ("chat-0-decode-1", 1000, True),
    ]
    assert len(snapshot.pods) == 6


def test_a_priority_class_that_nobody_knows_is_named() -> None:
    """Counting it as 0 would plan the wrong order without a word."""
    chat = list(yaml.safe_load_all(Path("docs/examples/chat.yaml").read_text()))

    with pytest.raises(DecodeError, match="PriorityClass 'online' is not among the documents"):
        snapshot_of(chat[1:])


def test_a_word_that_an_older_program_does_not_know_is_a_decode_error() -> None:
    """One plan of a newer version would blind every watch after a rollback."""
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
    result = Result(plan=Plan(certificate=certificate), digest="d", engine="greedy")
    manifest = plan_manifest(result, sequence=1)
    manifest["spec"]["verdict"] = "Splendid"

    with pytest.raises(DecodeError, match=r"spec.verdict: should be one of Optimal, .*'Splendid'"):
        published_plan_of(manifest)


def test_a_sentence_too_long_for_the_object_is_clipped() -> None:
    """The API server would refuse the whole plan for one pod's long list of labels."""
    why = Rejection(reason=Reason.POD_AFFINITY, message="x" * 5000)
    held = Hold(pod=PodKey(namespace="a", name="p"), uid="u", rejection=why, remedy="y" * 5000)
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.UNCHANGED)
    result = Result(plan=Plan(certificate=certificate, holds=(held,)), digest="d", engine="greedy")

    (action,) = plan_manifest(result, sequence=1)["spec"]["actions"]

    assert (len(action["message"]), len(action["remedy"])) == (MAX_MESSAGE, MAX_MESSAGE)


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        pytest.param({}, Trouble.NONE, id="a healthy one"),
        pytest.param({"spec": {"unschedulable": True}}, Trouble.CORDONED, id="cordoned"),
        pytest.param(
            {"metadata": {"name": "n", "labels": {"bayplan.dev/unhealthy": "xid-79"}}},
            Trouble.FAILING,
            id="labelled by a health checker",
        ),
        pytest.param(
            {"metadata": {"name": "n", "labels": {"bayplan.dev/unhealthy": "false"}}},
            Trouble.NONE,
            id="labelled as healthy",
        ),
        pytest.param(
            {
                "status": {
                    "conditions": [
                        {"type": "Ready", "status": "True"},
                        {"type": "AcceleratedHardwareReady", "status": "False"},
                    ]
                }
            },
            Trouble.FAILING,
            id="by the condition of a known health checker",
        ),
        pytest.param(
            {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            Trouble.AWAY,
            id="nothing is heard of it",
        ),
    ],
)
def test_the_trouble_of_a_node(changes: dict[str, Any], want: Trouble) -> None:
    """Who runs on a broken node must leave it, and nobody may be planned there."""
    raw = {"metadata": {"name": "n"}, **changes}

    assert trouble_of(raw) is want
    assert (UNHEALTHY in node_of(raw).taints) is (want is Trouble.FAILING)


def test_a_part_that_only_compares_equal_is_read_anew() -> None:
    """True is 1 to Python: a mistake would pass where its correct twin was read before."""
    assert pod_of(raw_pod(hostNetwork=True)) is not None

    with pytest.raises(DecodeError, match=r"hostNetwork: should be true or false"):
        pod_of(raw_pod(hostNetwork=1))


def test_a_complaint_names_the_pod_that_it_is_about() -> None:
    """A part that cannot be read would be blamed on whoever had it first."""
    for name in ("one", "other"):
        bad = raw_pod(tolerations=[{"key": 3}])
        bad["metadata"]["name"] = name

        with pytest.raises(DecodeError, match=f"{name}: spec.tolerations"):
            pod_of(bad)


def test_rules_between_pods_are_read_with_each_pods_own_labels() -> None:
    """Replicas whose labels differ would all be kept from the pods that the first one names."""
    spread = {
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "maxSkew": 1,
        "labelSelector": {},
        "matchLabelKeys": ["rev"],
    }
    found = list[object]()
    for revision in ("a", "b"):
        raw = raw_pod(topologySpreadConstraints=[spread])
        raw["metadata"]["labels"] = {"rev": revision}
        read = pod_of(raw)
        assert read is not None
        assert read.constraints.peers is not None
        found.append(read.constraints.peers.spreads[0].pods.labels)

    assert found == [(Requirement(key="rev", operator="In", values=(each,)),) for each in "ab"]
