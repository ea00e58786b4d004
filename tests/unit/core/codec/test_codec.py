"""Kubernetes objects are read into values, and plans written: nodes, policies, plans, lists."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bayplan.api.packing_plan import MAX_MESSAGE
from bayplan.cluster.constraints import Requirement, Taint
from bayplan.cluster.keys import GangKey, NodeName, Owner, PodKey
from bayplan.cluster.resources import Resources
from bayplan.codec import (
    DecodeError,
    node_of,
    plan_manifest,
    pod_of,
    policy_of,
    published_plan_of,
    snapshot_of,
    trouble_of,
)
from bayplan.codec.fields import top
from bayplan.codec.nodes import UNHEALTHY
from bayplan.inference.units import Trouble
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
from tests.builders import GPU
from tests.scenes.codec import raw_pod


def test_a_node_is_read_with_taints_labels_and_readiness() -> None:
    """Pods would be planned onto nodes that refuse them."""
    node = node_of(
        {
            "kind": "Node",
            "metadata": {"name": "n1", "labels": {"zone": "a"}},
            "spec": {
                "unschedulable": True,
                "taints": [
                    {"key": "gpu", "effect": "NoSchedule"},
                    {"key": "role", "value": "infra", "effect": "NoExecute"},
                ],
            },
            "status": {
                "allocatable": {GPU: "8", "cpu": "63500m", "memory": "1Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "Unknown"}],
            },
        }
    )

    assert node.allocatable == Resources.of({GPU: 8, "cpu": 63_500, "memory": 1024, "pods": 110})
    assert node.taints == (
        Taint(key="gpu"),
        Taint(key="role", value="infra", effect="NoExecute"),
    )
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
    with pytest.raises(DecodeError, match=r"^document: (kind: )?should be "):
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
        binds=(Bind(pod=key, uid="u1", node=n1, gang=gang, priority=7, device=0),),
        moves=(Move(pod=key, uid="u2", source=n1, target=n2, owner=owner, priority=1),),
        evictions=(Evict(pod=key, uid="u3", node=n2, priority=-1, owner=owner, gang=gang),),
        holds=(Hold(pod=key, uid="u4", rejection=why, remedy="add a node", gang=gang),),
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


def test_a_plan_that_tells_of_refusals_in_newer_words_is_a_plan() -> None:
    """Its reservations and all that it says would be unknown for the sake of a few words."""
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
    result = Result(plan=Plan(certificate=certificate), digest="d", engine="greedy")
    manifest = plan_manifest(result, sequence=1)
    manifest["status"] = {"phase": "Executing", "recalled": [{"by": "somebody new"}]}

    published = published_plan_of(manifest)

    assert (published.phase, published.recalled) == ("Executing", None)


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


@pytest.mark.parametrize(
    ("spec", "path"),
    [(3, "spec"), ({"affinity": [1]}, "spec.affinity"), ({"affinity": {"affinity": ""}}, "")],
    ids=["at once", "on the way", "at the end, which may be anything"],
)
def test_a_complaint_names_the_value_on_the_way_that_is_no_object(spec: object, path: str) -> None:
    """Whoever has to correct it would look for it below, where nothing is."""
    root = top({"metadata": {"name": "a"}, "spec": spec}, "Pod")
    said = ""

    try:
        root.get("spec", "affinity", "affinity")
    except DecodeError as error:
        said = error.path

    assert said == path
