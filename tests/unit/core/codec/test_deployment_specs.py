"""What an InferenceDeployment asks for: how it is read, and what is refused."""

from typing import Any

import pytest

from bayplan.codec import DecodeError
from bayplan.codec.deployments import deployment_of, drain_s_of
from tests.scenes.children import chat, deployment, template


def shared(fraction: str) -> dict[str, Any]:
    """Return a template that asks for a whole GPU and for a share of one."""
    return template(1) | {"metadata": {"annotations": {"gpu-fraction": fraction}}}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        pytest.param(
            {"schedulerName": "default-scheduler"},
            "spec.pools[0].template.spec.schedulerName: is set by the operator: remove it, or say"
            " bayplan",
            id="another scheduler",
        ),
        pytest.param(
            {"nodeName": "n1"},
            "spec.pools[0].template.spec.nodeName: would bypass the plan: remove it, and use"
            " nodeSelector or affinity",
            id="a fixed node",
        ),
        pytest.param(
            {"schedulingGates": [{"name": "x"}]},
            "spec.pools[0].template.spec.schedulingGates: are set by the operator: remove them",
            id="gates of its own",
        ),
        pytest.param(
            {"restartPolicy": "Never"},
            "spec.pools[0].template.spec.restartPolicy: must be Always, the default: remove it",
            id="a pod that ends",
        ),
        pytest.param(
            {"priorityClassName": "p"},
            "spec.pools[0].template.spec.priorityClassName: holds for the whole unit: remove it,"
            " and set spec.priorityClassName",
            id="a priority for one pool",
        ),
        pytest.param(
            {"containers": []},
            "spec.pools[0].template.spec.containers: is empty: add the container that serves the"
            " model",
            id="no containers",
        ),
    ],
)
def test_a_template_that_cannot_be_placed_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    """The sentence is what the user reads in the condition."""
    pools = [{"role": "Aggregated", "template": template(1, **wrong)}]

    with pytest.raises(DecodeError) as caught:
        deployment(pools=pools)

    assert str(caught.value) == f"InferenceDeployment team/chat: {sentence}"


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        pytest.param(
            {"pools": [{"role": "Both", "template": template(1)}]},
            "spec.pools[0].role: should be one of Prefill, Decode, Aggregated, is 'Both'",
            id="an unknown role",
        ),
        pytest.param(
            {"pools": [{"role": "Aggregated", "template": shared("2")}]},
            "spec.pools[0].template.metadata.annotations.gpu-fraction: should be the part of one"
            " GPU that the pod asks for, above 0 and below 1 such as \"0.5\", is '2'; whole GPUs"
            " are asked for as nvidia.com/gpu",
            id="a share that is none",
        ),
        pytest.param(
            {"pools": [{"role": "Aggregated", "template": shared("0.5")}]},
            "spec.pools[0].template.metadata.annotations.gpu-fraction: the pod asks for 1 GPU as"
            " well; remove the annotation or the request",
            id="a share beside a whole GPU",
        ),
        pytest.param(
            {"ratio": {"prefill": -1}},
            "spec.ratio.prefill: should be 0 to 256, is -1",
            id="a negative ratio",
        ),
        pytest.param(
            {"ratio": {"decode": 2, "mode": "Auto"}},
            "spec.ratio.mode: Auto and spec.ratio.bounds go together: say the bounds of prefill or"
            " decode, or set it to Fixed and remove the bounds",
            id="an automatic ratio without bounds",
        ),
        pytest.param(
            {"ratio": {"decode": 2, "bounds": {"decode": {"min": 1, "max": 2}}}},
            "spec.ratio.mode: Auto and spec.ratio.bounds go together: say the bounds of prefill or"
            " decode, or set it to Fixed and remove the bounds",
            id="bounds of a fixed ratio",
        ),
        pytest.param(
            {"ratio": {"decode": 5, "mode": "Auto", "bounds": {"decode": {"min": 1, "max": 2}}}},
            "spec.ratio.bounds.decode: spec.ratio.decode is 5, not 1 to 2: change it, or the"
            " bounds",
            id="a ratio out of bounds",
        ),
        pytest.param(
            {"ratio": {"decode": 2, "mode": "Auto", "bounds": {"decode": {"min": 3, "max": 2}}}},
            "spec.ratio.bounds.decode: min 3 is above max 2: lower min or raise max",
            id="bounds that nothing is within",
        ),
        pytest.param(
            {"ratio": {"decode": 2, "mode": "Auto", "bounds": {"decode": {"max": 2}}}},
            "spec.ratio.bounds.decode.min: should be an integer, is missing",
            id="bounds without a least",
        ),
        pytest.param(
            {"rollout": {"maxUnavailable": 0, "maxSurge": 0}},
            (
                "spec.rollout: maxUnavailable and maxSurge are both 0, so that no unit could ever"
                " be replaced: set one of them to at least 1"
            ),
            id="a rollout that can never do anything",
        ),
        pytest.param(
            {"rollout": {"maxSurge": -1}},
            "spec.rollout.maxSurge: should be 0 or more units, is -1",
            id="fewer than no units",
        ),
        pytest.param(
            {"replicas": "two"},
            "spec.replicas: should be an integer, is a string",
            id="words for numbers",
        ),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused(spec: dict[str, Any], sentence: str) -> None:
    """Files have not been through the API server."""
    with pytest.raises(DecodeError) as caught:
        deployment(**spec)

    assert str(caught.value) == f"InferenceDeployment team/chat: {sentence}"


def test_a_name_that_is_too_long_for_labels_is_refused() -> None:
    """Its pods' labels would be refused, one by one, much later."""
    raw = chat()
    raw["metadata"]["name"] = "c" * 53

    with pytest.raises(DecodeError, match="at most 52 characters"):
        deployment_of(raw)


@pytest.mark.parametrize(
    ("disruption", "want"),
    [
        pytest.param({}, 120, id="two minutes where nobody says"),
        pytest.param({"drainTimeoutSeconds": 0}, 0, id="none"),
        pytest.param({"drainTimeoutSeconds": 600}, 600, id="as said"),
    ],
)
def test_how_long_a_unit_may_finish_its_requests(disruption: dict[str, Any], want: int) -> None:
    """The bound of a drain."""
    assert deployment(disruption=disruption).drain_s == want


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param({"disruption": {"drainTimeoutSeconds": 600}}, 600, id="as said"),
        pytest.param({"pools": "none"}, 120, id="although something else is wrong"),
        pytest.param({"disruption": {"drainTimeoutSeconds": "long"}}, 120, id="that is wrong"),
    ],
)
def test_how_long_a_drain_may_take_is_known_of_any_object(spec: dict[str, Any], want: int) -> None:
    """A plan that makes a pod leave must not stand still over a spec that is refused."""
    assert drain_s_of({"metadata": {"name": "chat"}, "spec": spec}) == want


def test_a_drain_of_less_than_no_time_is_refused() -> None:
    """With the field and what it should be."""
    with pytest.raises(DecodeError, match=r"disruption\.drainTimeoutSeconds: should be 0 or more"):
        deployment(disruption={"drainTimeoutSeconds": -1})


@pytest.mark.parametrize(
    ("topology", "complaint"),
    [
        pytest.param([{"key": "a,b"}], "topology.0..key", id="two labels in one"),
        pytest.param([{"key": "a", "mode": "Soon"}], "Required, Preferred", id="a strange mode"),
        pytest.param(
            [{"key": "a", "mode": "Required"}, {"key": "b", "mode": "Required"}],
            "requires a second label beside a",
            id="two required labels",
        ),
    ],
)
def test_a_bad_placement_is_named(topology: list[dict[str, str]], complaint: str) -> None:
    """Units would be scattered without a word."""
    with pytest.raises(DecodeError, match=complaint):
        deployment(placement={"topology": topology})
