"""Which pods wait for a plan, and whose pin it is that they carry."""

from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import Pod
from bayplan.codec import DecodeError, pod_of, snapshot_of
from bayplan.codec.releases import release_patch
from bayplan.rules.filters import static_rejection
from tests.builders import node
from tests.fake_kube import apply_patch

GATED = {"schedulingGates": [{"name": names.GATE}]}


def raw_pod(**metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a managed pod behind our gate."""
    labels = {names.LABEL_MANAGED: "true"}
    return {
        "kind": "Pod",
        "metadata": {
            "namespace": "ns",
            "name": "p",
            "uid": "u",
            "resourceVersion": "1",
            "labels": labels,
            **metadata,
        },
        "spec": {"schedulerName": names.SCHEDULER, "containers": [], **GATED},
    }


def read(raw: dict[str, Any]) -> Pod:
    """Return the pod."""
    found = pod_of(raw)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("metadata", "waits"),
    [
        pytest.param({}, True, id="gate and label"),
        pytest.param({"labels": {}}, False, id="no label: the operator does not see it"),
        pytest.param({"labels": {names.LABEL_MANAGED: "no"}}, False, id="another label"),
        pytest.param(
            {"deletionTimestamp": "2026-05-01T12:00:00Z"}, False, id="it goes, whoever keeps it"
        ),
    ],
)
def test_who_waits_for_a_plan(metadata: dict[str, Any], waits: bool) -> None:  # noqa: FBT001
    """Each plan with one that the operator cannot release fails, and so does the next."""
    assert read(raw_pod(**metadata)).waiting is waits


def test_a_manifest_counts_as_what_the_api_server_makes_of_it() -> None:
    """Admission gives it the label; the offline command would plan nothing for it."""
    manifest = raw_pod(labels={})
    del manifest["metadata"]["uid"]

    assert [pod.waiting for pod in snapshot_of([manifest]).pods] == [True]
    assert [pod.waiting for pod in snapshot_of([raw_pod(labels={})]).pods] == [False]


def test_a_pod_made_from_the_manifest_of_a_placed_one_keeps_its_pin() -> None:
    """It was pinned to a second node, and fitted none any more."""
    copied = raw_pod(annotations={names.ANNOTATION_PLAN: "plan-00007"})
    copied = apply_patch(copied, release_patch(copied, NodeName("old"), {}))
    copied["spec"] |= GATED
    told = {names.ANNOTATION_PLAN: "plan-00008"}

    pod = read(copied)
    released = read(apply_patch(copied, release_patch(copied, NodeName("old"), told)))

    assert (pod.node, pod.waiting) == (None, True)
    assert static_rejection(pod, node("new")) is not None
    assert static_rejection(pod, node("old")) is None
    assert released.node == "old"
    assert static_rejection(released, node("new")) is not None


def test_a_released_pod_is_not_known_by_our_pin() -> None:
    """The pod in its place may go anywhere that the pod itself accepts."""
    raw = raw_pod()
    released = apply_patch(
        raw, release_patch(raw, NodeName("n1"), {names.ANNOTATION_PLAN: "plan-00001"})
    )

    assert read(released).node == "n1"
    assert static_rejection(read(released), node("n2")) is None


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        pytest.param(
            {"labels": {names.LABEL_MANAGED: "true", names.LABEL_GANG_MIN_COUNT: "4"}},
            "metadata.labels.bayplan.dev/gang-min-count",
            id="a size without a name",
        ),
        pytest.param(
            {"annotations": {names.LABEL_GANG: "g"}},
            "metadata.annotations.bayplan.dev/gang",
            id="the name as an annotation",
        ),
        pytest.param(
            {"annotations": {names.LABEL_GANG_MIN_COUNT: "4"}},
            "metadata.annotations.bayplan.dev/gang-min-count",
            id="the size as an annotation",
        ),
    ],
)
def test_a_pod_that_is_of_a_gang_by_halves_is_not_planned(
    metadata: dict[str, Any], field: str
) -> None:
    """It was placed alone without a word, and held its room while the others waited."""
    raw = raw_pod(**metadata)

    with pytest.raises(DecodeError) as caught:
        pod_of(raw)

    assert str(caught.value) == (
        f"Pod ns/p: {field}: the pod is of no gang without the label bayplan.dev/gang: add that"
        " one, with the name of the gang, and its size as the label bayplan.dev/gang-min-count; or"
        " remove this"
    )
    raw["spec"] = {**raw["spec"], "nodeName": "n1", "schedulingGates": []}
    assert read(raw).gang is None, "it runs already"
