"""What leads to the pods of an InferenceDeployment: Services, and an InferencePool if asked for."""

import copy
from typing import Any

import pytest

from bayplan.api import names
from bayplan.api.conditions import ConditionStatus
from bayplan.codec.deployments import child_of, deployment_of
from bayplan.inference import manifests, network
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.exposed import exposed
from bayplan.inference.network import Exposure

OWNER = {
    "apiVersion": "bayplan.dev/v1alpha1",
    "kind": "InferenceDeployment",
    "name": "chat",
    "uid": "u-chat",
    "controller": True,
    "blockOwnerDeletion": True,
}

HTTP = {"name": "http", "containerPort": 8000}


def pool(role: str, *ports: dict[str, Any], **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a pool whose container declares these ports."""
    spec = {"containers": [{"name": "vllm", "ports": list(ports)}]}
    return {"role": role, "template": {"spec": spec}, **fields}


def chat(*pools: dict[str, Any], **spec: Any) -> Deployment:  # noqa: ANN401 - JSON
    """Return a deployment of these pools, by default of one port each."""
    listed = pools or (pool("Prefill", HTTP), pool("Decode", HTTP))
    metadata = {"name": "chat", "namespace": "team", "uid": "u-chat"}
    return deployment_of({"metadata": metadata, "spec": {"pools": list(listed), **spec}})


def stored(of: Deployment) -> list[dict[str, Any]]:
    """Return what the API server shows once everything was applied: more than was said."""
    made = copy.deepcopy(list(network.manifests(of)))
    for raw in made:
        raw["metadata"] |= {"uid": f"u-{raw['metadata']['name']}", "resourceVersion": "7"}
        raw["spec"] |= {"sessionAffinity": "None", "ipFamilies": ["IPv4"]}
        for port in raw["spec"].get("ports", ()):
            port["nodePort"] = 0
    return made


def pods(of: Deployment) -> list[Child]:
    """Return the pods of a deployment."""
    return [child_of(raw) for raw in manifests.manifests(of)]


def called(raws: Any) -> list[str]:  # noqa: ANN401 - raw objects
    """Return the names of objects."""
    return [raw["metadata"]["name"] for raw in raws]


def test_a_pool_has_a_service_over_what_takes_requests() -> None:
    """Golden: the whole Service."""
    (service, _) = network.manifests(chat())

    assert service == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "chat-prefill",
            "namespace": "team",
            "labels": {
                "app.kubernetes.io/instance": "chat",
                "app.kubernetes.io/managed-by": "bayplan",
                "bayplan.dev/deployment": "chat",
                "bayplan.dev/pool": "prefill",
            },
            "ownerReferences": [OWNER],
        },
        "spec": {
            "selector": {
                "bayplan.dev/deployment": "chat",
                "bayplan.dev/pool": "prefill",
                "bayplan.dev/worker-index": "0",
            },
            "ports": [{"name": "http", "port": 8000, "protocol": "TCP", "targetPort": "http"}],
        },
    }


@pytest.mark.parametrize(
    "of",
    [chat(), chat(pool("Prefill", HTTP), pool("Decode", HTTP, podsPerReplica=2))],
    ids=["single pods", "a replica of two"],
)
def test_each_selector_finds_the_pods_that_it_is_meant_for(of: Deployment) -> None:
    """Workers take no requests; peers find every pod."""
    selectors = {raw["metadata"]["name"]: raw["spec"]["selector"] for raw in network.manifests(of)}

    found = {
        name: [
            pod["metadata"]["name"]
            for pod in manifests.manifests(of)
            if selector.items() <= pod["metadata"]["labels"].items()
        ]
        for name, selector in selectors.items()
    }

    assert found["chat-prefill"] == ["chat-0-prefill-0"]
    assert found["chat-decode"] == ["chat-0-decode-0"]
    if of.pools[1].size > 1:
        assert len(found["chat-peers"]) == of.unit_size


def test_peers_have_a_service_without_an_address_before_they_are_ready() -> None:
    """A leader waits for its workers before it is ready: its name must be known by then."""
    of = chat(pool("Prefill"), pool("Decode", podsPerReplica=2))

    (peers,) = network.manifests(of)

    assert peers["metadata"]["name"] == "chat-peers"
    assert peers["spec"] == {
        "selector": {"bayplan.dev/deployment": "chat"},
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
    }
    said = manifests.manifests(of)[1]["spec"]
    assert said["subdomain"] == "chat-peers"


@pytest.mark.parametrize(
    ("ports", "want"),
    [
        pytest.param(
            [{"containerPort": 8000}],
            [{"name": "tcp-8000", "port": 8000, "protocol": "TCP", "targetPort": 8000}],
            id="without a name",
        ),
        pytest.param(
            [HTTP, {"containerPort": 9, "protocol": "UDP"}],
            [
                {"name": "http", "port": 8000, "protocol": "TCP", "targetPort": "http"},
                {"name": "udp-9", "port": 9, "protocol": "UDP", "targetPort": 9},
            ],
            id="two",
        ),
        pytest.param(
            [HTTP, {"containerPort": 8000}],
            [{"name": "http", "port": 8000, "protocol": "TCP", "targetPort": "http"}],
            id="one twice",
        ),
        pytest.param(
            [HTTP, {"name": "http", "containerPort": 8001}],
            [
                {"name": "http", "port": 8000, "protocol": "TCP", "targetPort": "http"},
                {"name": "tcp-8001", "port": 8001, "protocol": "TCP", "targetPort": 8001},
            ],
            id="two of one name",
        ),
    ],
)
def test_a_service_has_the_ports_of_the_template(
    ports: list[dict[str, Any]], want: list[dict[str, Any]]
) -> None:
    """A named port is aimed at by name: two templates may have it at different numbers."""
    (service,) = network.manifests(chat(pool("Aggregated", *ports)))

    assert service["spec"]["ports"] == want


def test_ports_of_a_sidecar_count_and_those_of_init_containers_do_not() -> None:
    """llm-d puts its routing proxy in front of a decode engine as a sidecar."""
    made = pool("Aggregated")
    made["template"]["spec"]["initContainers"] = [
        {"name": "proxy", "restartPolicy": "Always", "ports": [HTTP]},
        {"name": "copy", "ports": [{"containerPort": 1}]},
    ]

    (service,) = network.manifests(chat(made))

    assert [port["port"] for port in service["spec"]["ports"]] == [8000]


POOL = {"endpointPicker": "epp", "targetPort": 8000}


def test_an_inference_pool_is_over_all_pods_that_take_requests() -> None:
    """Its endpoint picker tells prefill from decode by llm-d's label."""
    (pool_,) = (r for r in network.manifests(chat(inferencePool=POOL)) if r["kind"] != "Service")

    assert (pool_["apiVersion"], pool_["kind"]) == (network.INFERENCE_API, "InferencePool")
    assert pool_["metadata"]["name"] == "chat"
    assert pool_["metadata"]["ownerReferences"] == [OWNER]
    assert pool_["spec"] == {
        "selector": {
            "matchLabels": {"bayplan.dev/deployment": "chat", "bayplan.dev/worker-index": "0"}
        },
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
    }


def test_what_is_there_is_left_alone() -> None:
    """Defaults of the API server are no difference; a write on every pass would be a loop."""
    of = chat(pool("Prefill", HTTP), pool("Decode", HTTP, podsPerReplica=2), inferencePool=POOL)

    assert network.changes(of, pods(of), stored(of)) == Exposure()


def test_what_was_changed_by_hand_is_corrected_in_that_very_object() -> None:
    """The uid keeps a namesake that is made meanwhile from being taken over."""
    of = chat()
    there = stored(of)
    there[0]["spec"]["selector"] = {"app": "mine"}

    found = network.changes(of, pods(of), there)

    assert called(found.apply) == ["chat-prefill"]
    assert found.apply[0]["metadata"]["uid"] == "u-chat-prefill"


@pytest.mark.parametrize("owners", [[], [OWNER | {"uid": "u-other"}]], ids=["nobody", "a namesake"])
def test_an_object_of_another_owner_is_left_alone(owners: list[dict[str, Any]]) -> None:
    """Somebody's Service must not begin to lead to our pods."""
    of = chat()
    there = stored(of)
    there[0]["metadata"]["ownerReferences"] = owners
    there[0]["spec"] = {}

    found = network.changes(of, pods(of), there)

    assert found == Exposure(taken=("Service chat-prefill",))


def test_the_service_of_a_renamed_pool_stays_as_long_as_its_pods() -> None:
    """During the rollout the old pods still serve those who know the old name."""
    before, after = chat(), chat(pool("Prefill", HTTP), pool("Decode", HTTP, name="small"))

    during = network.changes(after, [*pods(before), *pods(after)], stored(before))
    finally_ = network.changes(after, pods(after), stored(before))

    assert (called(during.apply), called(during.delete)) == (["chat-small"], [])
    assert called(finally_.delete) == ["chat-decode"]


def test_what_is_not_asked_for_any_more_goes() -> None:
    """An InferencePool over pods that no gateway should choose from, peers of single pods."""
    before = chat(pool("Prefill", HTTP), pool("Decode", HTTP, podsPerReplica=2), inferencePool=POOL)
    after = chat()

    assert called(network.changes(after, pods(after), stored(before)).delete) == [
        "chat-peers",
        "chat",
    ]


@pytest.mark.parametrize(
    ("actual", "wanted", "covered"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": None}, False),
        ({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, True),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}]}, False),
        ({"a": "x"}, {"a": ["x"]}, False),
        ([], {"a": 1}, False),
    ],
)
def test_covers(actual: object, wanted: object, covered: bool) -> None:  # noqa: FBT001 - a column
    """A false yes leaves a wrong Service; a false no writes on every pass."""
    assert network.covers(actual, wanted) is covered


@pytest.mark.parametrize(
    ("of", "made", "more", "want"),
    [
        pytest.param(
            chat(),
            Exposure(),
            {},
            ("True", "Exposed", "Service chat-prefill, Service chat-decode"),
            id="all is there",
        ),
        pytest.param(
            chat(pool("Prefill"), pool("Decode", HTTP)),
            Exposure(silent=("prefill",)),
            {},
            (
                "True",
                "Exposed",
                (
                    "Service chat-decode; no Service for prefill: declare the ports of the"
                    " containers to have one"
                ),
            ),
            id="a pool without ports",
        ),
        pytest.param(
            chat(pool("Prefill"), pool("Decode")),
            Exposure(silent=("prefill", "decode")),
            {},
            (
                "False",
                "NoPorts",
                "no Service for prefill, decode: declare the ports of the containers to have one",
            ),
            id="no ports at all",
        ),
        pytest.param(
            chat(),
            Exposure(taken=("Service chat-decode",)),
            {},
            (
                "False",
                "NamesTaken",
                (
                    "Service chat-decode: there is one of another owner; delete it, or rename this"
                    " InferenceDeployment or its pool"
                ),
            ),
            id="a name is taken",
        ),
        pytest.param(
            chat(inferencePool=POOL),
            Exposure(),
            {"unknown": True},
            (
                "False",
                "InferencePoolUnknown",
                (
                    "the cluster does not know InferencePool (inference.networking.k8s.io/v1):"
                    " install the Gateway API Inference Extension, or remove spec.inferencePool;"
                    " all else works"
                ),
            ),
            id="an add-on is missing",
        ),
        pytest.param(
            chat(),
            Exposure(),
            {"refusal": "the API server refuses Service chat-decode: quota"},
            ("False", "Refused", "the API server refuses Service chat-decode: quota"),
            id="a quota",
        ),
    ],
)
def test_the_condition(
    of: Deployment, made: Exposure, more: dict[str, Any], want: tuple[str, str, str]
) -> None:
    """What a user reads in `kubectl describe`."""
    found = exposed(of, made, **more)

    assert (found.type, (found.status, found.reason, found.message)) == (
        "Exposed",
        (ConditionStatus(want[0]), *want[1:]),
    )


def test_outside_a_cluster_objects_have_no_owner() -> None:
    """The offline command plans manifests that were never applied."""
    metadata = {"name": "chat", "namespace": "team"}
    of = deployment_of({"metadata": metadata, "spec": {"pools": [pool("Aggregated", HTTP)]}})

    assert "ownerReferences" not in network.manifests(of)[0]["metadata"]
    assert names.LABEL_DEPLOYMENT in network.manifests(of)[0]["metadata"]["labels"]
