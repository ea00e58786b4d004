"""The patches that release a pod, applied and read again."""

from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.keys import NodeName
from bayplan.codec import pod_of
from bayplan.codec.releases import offer_patch, release_patch, ungate_patch
from tests.fake_kube import apply_patch

Raw = dict[str, Any]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PIN = {"key": "metadata.name", "operator": "In", "values": ["n1"]}


def gated(*, affinity: Raw | None = None, gates: tuple[str, ...] = (names.GATE,)) -> Raw:
    """Return a raw pod behind gates."""
    spec: Raw = {"containers": [{"name": "c"}], "schedulingGates": [{"name": g} for g in gates]}
    if affinity is not None:
        spec["affinity"] = affinity
    metadata: Raw = {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7"}
    metadata |= {"labels": {names.LABEL_MANAGED: "true"}}
    return {"metadata": metadata, "spec": spec}


def terms(*wanted: Raw) -> Raw:
    """Return an affinity that requires one of these terms."""
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(wanted)}}}


def zone(name: str) -> Raw:
    """Return the requirement of a zone."""
    return {"key": "zone", "operator": "In", "values": [name]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, terms({"matchFields": [PIN]}), id="no affinity"),
        pytest.param({}, terms({"matchFields": [PIN]}), id="an empty affinity"),
        pytest.param(
            {"podAntiAffinity": {"x": 1}},
            {"podAntiAffinity": {"x": 1}, **terms({"matchFields": [PIN]})},
            id="another affinity stays",
        ),
        pytest.param(
            {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            {
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [],
                    REQUIRED: {"nodeSelectorTerms": [{"matchFields": [PIN]}]},
                }
            },
            id="a preference stays",
        ),
        pytest.param(
            terms({"matchExpressions": [zone("a")]}, {"matchExpressions": [zone("b")]}),
            terms(
                {"matchExpressions": [zone("a")], "matchFields": [PIN]},
                {"matchExpressions": [zone("b")], "matchFields": [PIN]},
            ),
            id="every term is tightened",
        ),
        pytest.param(
            terms({}, {"matchExpressions": [zone("a")]}, {"matchExpressions": []}),
            terms(
                {},
                {"matchExpressions": [zone("a")], "matchFields": [PIN]},
                {"matchExpressions": []},
            ),
            id="an empty term matches no node and stays so",
        ),
        pytest.param(
            terms({"matchFields": [{**PIN, "values": ["n1", "n2"]}]}),
            terms({"matchFields": [{**PIN, "values": ["n1", "n2"]}, PIN]}),
            id="a field that is there stays",
        ),
    ],
)
def test_a_release_pins_and_opens_the_gate(before: Raw | None, after: Raw) -> None:
    """The API server refuses anything but tightening."""
    raw = gated(affinity=before)
    untouched = repr(raw)

    released = apply_patch(raw, release_patch(raw, NodeName("n1"), {"why": "plan-1"}))

    assert released["spec"]["affinity"] == after
    assert released["spec"]["schedulingGates"] == []
    assert released["metadata"]["annotations"] == {"why": "plan-1"}
    assert repr(raw) == untouched


@pytest.mark.parametrize("more", [(), ({},)], ids=["one term", "an empty one beside it"])
def test_a_released_pod_is_read_as_pinned(more: tuple[Raw, ...]) -> None:
    """The codec and the patch must mean the same by a pin."""
    raw = gated(affinity=terms({"matchExpressions": [zone("a")]}, *more))
    annotations = {names.ANNOTATION_REPLACES: "old"}

    pod = pod_of(apply_patch(raw, release_patch(raw, NodeName("n1"), annotations)))

    assert pod is not None
    assert (pod.node, pod.bound, pod.waiting, pod.replaces) == ("n1", False, False, "old")


def test_lifting_the_gate_alone_leaves_the_choice_of_node() -> None:
    """The default algorithm places it."""
    raw = gated()

    pod = pod_of(apply_patch(raw, ungate_patch(raw, {})))

    assert pod is not None
    assert (pod.node, pod.waiting) == (None, False)


def test_gates_of_others_stay_shut() -> None:
    """They have their own reasons."""
    raw = gated(gates=("other", names.GATE))

    assert apply_patch(raw, ungate_patch(raw, {}))["spec"]["schedulingGates"] == [{"name": "other"}]


def test_a_patch_is_for_the_pod_as_it_was_read() -> None:
    """The API server refuses it with 409 once the pod has changed."""
    raw = gated()

    patches = [release_patch(raw, NodeName("n1"), {}), ungate_patch(raw, {}), offer_patch(raw, {})]

    assert [patch["metadata"]["resourceVersion"] for patch in patches] == ["7"] * 3


def test_annotations_of_others_stay() -> None:
    """The patch does not even tell them."""
    raw = gated()
    raw["metadata"]["annotations"] = {"theirs": "1"}

    patched = apply_patch(raw, ungate_patch(raw, {"ours": "2"}))

    assert patched["metadata"]["annotations"] == {"theirs": "1", "ours": "2"}


def offered() -> Raw:
    """Return a pod that node autoscalers were shown."""
    raw = gated()
    raw["spec"]["schedulerName"] = names.SCHEDULER
    return apply_patch(raw, offer_patch(raw, {}))


def test_a_pod_shown_to_autoscalers_still_waits_for_its_plan() -> None:
    """Nobody would plan it any more, and it would stay pending beside the new node."""
    raw = offered()
    pod = pod_of(raw)

    assert raw["spec"]["schedulingGates"] == []
    assert pod is not None
    assert (pod.waiting, pod.offered, pod.node) == (True, True, None)


def test_its_home_is_an_annotation_for_its_affinity_cannot_change_any_more() -> None:
    """The API server would refuse the pin."""
    raw = offered()
    note = {names.ANNOTATION_PLAN: "p"}
    pod = pod_of(released := apply_patch(raw, release_patch(raw, NodeName("n1"), note)))

    assert "affinity" not in released["spec"]
    assert released["metadata"]["annotations"] == {names.ANNOTATION_HOME: "n1"} | note
    assert pod is not None
    assert (pod.waiting, pod.bound, pod.node) == (False, False, "n1")


def test_a_home_without_a_plan_is_none() -> None:
    """A pod would count on a node, and be let in there, because somebody wrote so."""
    raw = offered()
    raw["metadata"]["annotations"][names.ANNOTATION_HOME] = "n1"

    pod = pod_of(raw)

    assert pod is not None
    assert (pod.waiting, pod.offered, pod.node) == (True, True, None)


def test_without_a_planner_it_is_let_go_where_the_scheduler_likes() -> None:
    """The webhook would keep it off every node for ever."""
    raw = offered()
    pod = pod_of(apply_patch(raw, ungate_patch(raw, {"why": "no planner"})))

    assert pod is not None
    assert (pod.waiting, pod.offered, pod.node) == (False, False, None)


def test_a_home_means_nothing_behind_a_gate_or_with_another_scheduler() -> None:
    """Anybody can write annotations: a pod would count where it never will be."""
    behind, foreign = gated(), gated(gates=())
    for raw in (behind, foreign):
        raw["metadata"]["annotations"] = {names.ANNOTATION_HOME: "n1"}

    seen = [pod_of(raw) for raw in (behind, foreign)]

    assert [pod.node for pod in seen if pod] == [None, None]
    assert [pod.offered for pod in seen if pod] == [False, False]
