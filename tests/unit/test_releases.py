"""The patches that release a pod, applied and read again."""

from typing import Any

import pytest

from bayplan.api import names
from bayplan.codec import pod_of
from bayplan.codec.releases import release_patch, ungate_patch
from bayplan.snapshot import NodeName
from tests.fake_kube import apply_patch

Raw = dict[str, Any]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PIN = {"key": "metadata.name", "operator": "In", "values": ["n1"]}


def gated(*, affinity: Raw | None = None, gates: tuple[str, ...] = (names.GATE,)) -> Raw:
    """Return a raw pod behind gates."""
    spec: Raw = {"containers": [{"name": "c"}], "schedulingGates": [{"name": g} for g in gates]}
    if affinity is not None:
        spec["affinity"] = affinity
    metadata = {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7"}
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


def test_a_released_pod_is_read_as_pinned() -> None:
    """The codec and the patch must mean the same by a pin."""
    raw = gated(affinity=terms({"matchExpressions": [zone("a")]}))
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

    first = release_patch(raw, NodeName("n1"), {})[0]

    assert first == {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}


def test_annotations_of_others_stay() -> None:
    """They are replaced as a whole, in case there were none."""
    raw = gated()
    raw["metadata"]["annotations"] = {"theirs": "1"}

    patched = apply_patch(raw, ungate_patch(raw, {"ours": "2"}))

    assert patched["metadata"]["annotations"] == {"theirs": "1", "ours": "2"}
