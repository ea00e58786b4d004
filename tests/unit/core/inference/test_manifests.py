"""The pods of an InferenceDeployment: their names, what they look like, and their revision."""

from dataclasses import replace
from typing import Any

import pytest

from bayplan.api import names
from bayplan.codec.deployments import deployment_of
from bayplan.inference import manifests, slots
from tests.scenes.children import chat, deployment, names_of, template


@pytest.mark.parametrize(
    ("seconds", "cost"), [(1, "1"), (30, "1"), (31, "2"), (600, "20"), (86_400, "100")]
)
def test_a_pod_costs_what_its_model_takes_to_start(seconds: int, cost: int) -> None:
    """A model that loads for minutes would be moved like one that starts at once."""
    plain, slow = deployment(), deployment(disruption={"coldStartSeconds": seconds})

    annotations = manifests.manifests(slow)[0]["metadata"]["annotations"]

    assert annotations[names.ANNOTATION_MOVE_COST] == cost
    assert names.ANNOTATION_MOVE_COST not in manifests.manifests(plain)[0]["metadata"].get(
        "annotations", {}
    )
    assert [slot.revision for slot in slots.slots(slow)] == [
        slot.revision for slot in slots.slots(plain)
    ]


def test_what_a_template_says_of_its_cost_holds() -> None:
    """A pool that starts faster than the others could not say so."""
    annotations = {names.ANNOTATION_MOVE_COST: "3"}
    slow = replace(deployment(), cold_start_s=600)
    pool = slow.pools[0]
    template = {**pool.template, "metadata": {"annotations": annotations}}
    own = replace(slow, pools=(replace(pool, template=template),))

    assert manifests.manifests(own)[0]["metadata"]["annotations"].items() >= annotations.items()


def test_every_unit_has_its_pods_under_names_that_never_change() -> None:
    """A second pass would make the pods again if names were not a function of the spec."""
    assert names_of(slots.slots(deployment())) == [
        "chat-0-prefill-0",
        "chat-0-decode-0",
        "chat-0-decode-1",
        "chat-1-prefill-0",
        "chat-1-decode-0",
        "chat-1-decode-1",
    ]


def test_a_pod_is_its_template_plus_owner_labels_scheduler_gate_and_priority() -> None:
    """Golden: the whole first pod."""
    of = deployment(priorityClassName="online")
    slot = slots.slots(of)[0]

    assert manifests.manifest(of, slot) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "chat-0-prefill-0",
            "namespace": "team",
            "labels": {
                "app.kubernetes.io/name": "inference",
                "app.kubernetes.io/instance": "chat",
                "app.kubernetes.io/component": "prefill",
                "app.kubernetes.io/part-of": "chat",
                "app.kubernetes.io/managed-by": "bayplan",
                "bayplan.dev/managed": "true",
                "bayplan.dev/deployment": "chat",
                "bayplan.dev/pool": "prefill",
                "bayplan.dev/role": "prefill",
                "bayplan.dev/unit": "0",
                "bayplan.dev/replica": "0",
                "bayplan.dev/worker-index": "0",
                "bayplan.dev/revision": slot.revision,
                "llm-d.ai/role": "prefill",
                "bayplan.dev/gang": "chat-0",
                "bayplan.dev/gang-min-count": "3",
                "bayplan.dev/represents-unit": "true",
            },
            "annotations": {"bayplan.dev/unit-shape": "decode=2,prefill=1"},
            "ownerReferences": [
                {
                    "apiVersion": "bayplan.dev/v1alpha1",
                    "kind": "InferenceDeployment",
                    "name": "chat",
                    "uid": "u-chat",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "containers": [
                {"name": "vllm", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 8}}}
            ],
            "schedulerName": "bayplan",
            "schedulingGates": [{"name": "bayplan.dev/plan"}],
            "readinessGates": [{"conditionType": "bayplan.dev/in-service"}],
            "priorityClassName": "online",
        },
    }


def test_labels_of_the_template_stay_and_win_over_recommended_ones() -> None:
    """People sort their pods by their own words; gateways may know other names of roles."""
    labels = {"team": "a", "app.kubernetes.io/name": "vllm", names.LABEL_LLMD_ROLE: "encode"}
    mine = template(8) | {"metadata": {"labels": labels, "annotations": {"note": "kept"}}}
    of = deployment(
        ratio={"prefill": 1, "decode": 0}, pools=[{"role": "Prefill", "template": mine}]
    )

    metadata = manifests.manifests(of)[0]["metadata"]

    assert metadata["annotations"]["note"] == "kept"
    assert metadata["labels"].items() >= labels.items()


def test_a_deployment_outside_a_cluster_makes_pods_without_owner() -> None:
    """The offline command plans a manifest that was never applied."""
    assert (
        "ownerReferences" not in manifests.manifests(replace(deployment(), uid=""))[0]["metadata"]
    )


def test_making_manifests_leaves_the_template_alone() -> None:
    """The template object is shared by every pod of the pool."""
    raw = chat()
    before = repr(raw)

    manifests.manifests(deployment_of(raw))

    assert repr(raw) == before


@pytest.mark.parametrize(
    ("spec", "differs"),
    [
        pytest.param({}, False, id="the same spec has the same revision"),
        pytest.param({"replicas": 5}, False, id="scaling makes no new revision"),
        pytest.param({"priorityClassName": "online"}, True, id="a new priority does"),
        pytest.param(
            {"ratio": {"prefill": 1, "decode": 3}}, False, id="nor does a ratio: units grow"
        ),
        pytest.param(
            {"rollout": {"maxSurge": 0}}, False, id="nor does the way in which to roll out"
        ),
    ],
)
def test_revision(spec: dict[str, Any], differs: bool) -> None:  # noqa: FBT001 - a column
    """A missed change leaves old pods running; a false one calls all pods outdated."""
    one, other = deployment(), deployment(**spec)

    assert (one.revision != other.revision) is differs


def test_a_template_of_one_pool_makes_a_new_revision_of_all() -> None:
    """Pods of two versions must never be paired in one unit."""
    pools = chat()["spec"]["pools"]
    other = deployment(pools=[pools[0], pools[1] | {"template": template(2)}])

    assert len({slot.revision for slot in slots.slots(other)}) == 1
    assert other.revision != deployment().revision


def test_a_pod_says_how_many_units_are_needed_if_its_deployment_does() -> None:
    """Plans that need room take others first."""
    plain, needy = deployment(replicas=3), deployment(replicas=3, minReplicas=2)

    assert names.LABEL_MIN_UNITS not in manifests.manifests(plain)[0]["metadata"]["labels"]
    assert manifests.manifests(needy)[0]["metadata"]["labels"][names.LABEL_MIN_UNITS] == "2"


def test_names_and_label_values_stay_within_kubernetes_limits() -> None:
    """The longest names that the CRD allows."""
    raw = chat(
        replicas=1, pools=[{"role": "Aggregated", "name": "p" * 10, "template": template(1)}]
    )
    raw["metadata"]["name"] = "c" * 52
    of = replace(deployment_of(raw), replicas=100_000)

    last = manifests.manifest(of, replace(slots.slots(replace(of, replicas=1))[0], unit=99_999))

    assert len(last["metadata"]["name"]) <= 253
    assert all(len(value) <= 63 for value in last["metadata"]["labels"].values())
