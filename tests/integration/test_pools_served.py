"""Pools, replicas of several pods and what leads to them, on a real API server.

As in `operator_scene`, plans are written and pods are bound by hand.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bayplan.api import names
from e2e.cluster import Cluster, CommandFailed, eventually
from tests.integration import operator_scene
from tests.integration.operator_scene import Object, User, condition, pod_spec, uid

nodes, operator, user = operator_scene.nodes, operator_scene.operator, operator_scene.user

#: Seconds within which the garbage collector has learnt of a new kind, and autoscalers look.
SLOW_S = 120.0

CHAT = ["chat-0-prefill-0", "chat-0-decode-0", "chat-0-decode-0-1"]


def pool(role: str, *, gpus: int = 2, **fields: Any) -> Object:  # noqa: ANN401 - JSON
    """Return a pool whose container has a port."""
    spec = pod_spec(gpus)
    spec["containers"][0]["ports"] = [{"name": "http", "containerPort": 8000}]
    return {"role": role, "template": {"spec": spec}, **fields}


def chat(*pools: Object, **spec: Any) -> Object:  # noqa: ANN401 - JSON
    """Return a deployment of one prefill pod and one decode replica of two pods."""
    listed = list(pools) or [pool("Prefill"), pool("Decode", podsPerReplica=2)]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceDeployment",
        "metadata": {"name": "chat"},
        "spec": {"pools": listed, **spec},
    }


def services(user: User) -> dict[str, Object]:
    """Return the Services of the namespace by name."""
    raw = user.cluster.read("services", namespace=user.namespace)
    return {service["metadata"]["name"]: service for service in raw["items"]}


def reached_through(user: User, service: str) -> list[str]:
    """Return the names of the ready pods behind a Service."""
    labels = f"kubernetes.io/service-name={service}"
    raw = user.cluster.read("endpointslices", namespace=user.namespace, labels=labels)
    return sorted(
        endpoint["targetRef"]["name"]
        for part in raw["items"]
        for endpoint in part.get("endpoints") or []
        if endpoint["conditions"]["ready"]
    )


def test_a_unit_with_a_replica_of_two_pods_is_made_reached_and_restarted(
    user: User, nodes: tuple[str, ...]
) -> None:
    """One gang of three pods; requests go to leaders; a lost worker takes its leader along."""
    user.apply(chat())
    waiting = user.await_pods(CHAT)
    gangs = {pod["metadata"]["labels"][names.LABEL_GANG_MIN_COUNT] for pod in waiting.values()}
    assert gangs == {"3"}
    user.place(dict.fromkeys(CHAT, nodes[0]))
    status = user.await_reason("UnitsReady")
    assert (status["ratio"], status["gpus"]) == ("1:1", 6)
    assert condition(status, "Exposed") == (
        "True",
        "Exposed",
        "Service chat-prefill, Service chat-decode, Service chat-peers",
    )

    def reached() -> bool:
        assert reached_through(user, "chat-decode") == ["chat-0-decode-0"]
        assert reached_through(user, "chat-prefill") == ["chat-0-prefill-0"]
        return reached_through(user, "chat-peers") == sorted(CHAT)

    eventually(reached, what="Services lead to those who take requests")
    before = user.pods()

    user.kubectl("delete", "pod", "chat-0-decode-0-1")

    def anew() -> bool:
        pods = user.pods()
        lost = CHAT[1:]
        return all(name in pods and uid(pods[name]) != uid(before[name]) for name in lost)

    eventually(anew, what="both pods of the replica are made anew")
    after = user.await_pods(CHAT)
    assert uid(after[CHAT[0]]) == uid(before[CHAT[0]])
    assert all(after[name]["spec"]["schedulingGates"] for name in CHAT[1:])
    assert user.get("infd", "chat")["status"]["failures"] == [
        {"pod": "chat-0-decode-0", "times": 1}
    ]


def test_several_pools_of_a_role_are_one_unit(user: User) -> None:
    """Two length classes of prefill, and their counts."""
    pools = [
        pool("Prefill", name="short", replicas=2),
        pool("Prefill", name="long", replicas=1, accelerators=["H200", "H100"]),
        pool("Decode"),
    ]
    user.apply(chat(*pools, ratio={"prefill": 3, "decode": 1}))

    pods = user.await_pods(["chat-0-short-0", "chat-0-short-1", "chat-0-long-0", "chat-0-decode-0"])

    assert {pod["metadata"]["labels"][names.LABEL_GANG] for pod in pods.values()} == {"chat-0"}
    wanted = pods["chat-0-long-0"]["spec"]["affinity"]["nodeAffinity"]
    assert len(wanted["preferredDuringSchedulingIgnoredDuringExecution"]) == 2
    status = user.await_reason("WaitingForPlan")
    assert [(each["name"], each["desired"]) for each in status["pools"]] == [
        ("short", 2),
        ("long", 1),
        ("decode", 1),
    ]


def test_a_template_that_sets_what_is_ours_disturbs_nothing_that_runs(user: User) -> None:
    """The API server does not look into containers; the operator says which line to remove."""
    user.apply(chat())
    before = user.await_pods(CHAT)
    wrong = pool("Decode", podsPerReplica=2)
    wrong["template"]["spec"]["containers"][0]["env"] = [{"name": "LWS_GROUP_SIZE", "value": "9"}]

    user.apply(chat(pool("Prefill"), wrong))

    status = user.await_reason("InvalidSpec")
    assert condition(status, "Degraded")[2] == (
        "spec.pools[1].template.spec.containers[0].env[0].name: LWS_GROUP_SIZE is set by the"
        " operator where podsPerReplica is above 1: remove it"
    )
    assert {name: uid(pod) for name, pod in user.pods().items()} == {
        name: uid(pod) for name, pod in before.items()
    }


def test_somebody_elses_service_is_left_alone(user: User) -> None:
    """And the user is told, while the pods are made all the same."""
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chat-decode"},
        "spec": {"selector": {"app": "mine"}, "ports": [{"port": 80}]},
    }
    user.apply(theirs)

    user.apply(chat())

    user.await_pods(CHAT)
    status = user.await_reason("WaitingForPlan")
    assert condition(status, "Exposed")[:2] == ("False", "NamesTaken")
    assert services(user)["chat-decode"]["spec"]["selector"] == {"app": "mine"}


def test_services_follow_the_pools_and_go_with_the_deployment(user: User) -> None:
    """A port that is renumbered, a pool that is renamed while its pods wait, and the end."""
    user.apply(chat())
    user.await_pods(CHAT)
    eventually(
        lambda: sorted(services(user)) == ["chat-decode", "chat-peers", "chat-prefill"],
        what="the Services are there",
    )
    user.kubectl("annotate", "service", "chat-prefill", "example.com/note=kept")
    other = pool("Prefill")
    other["template"]["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 9000}]

    user.apply(chat(other, pool("Decode", name="small")))

    def followed() -> bool:
        found = services(user)
        assert sorted(found) == ["chat-prefill", "chat-small"]
        ports = found["chat-prefill"]["spec"]["ports"]
        return [(port["port"], port["targetPort"]) for port in ports] == [(9000, "http")]

    eventually(followed, what="the Services follow")
    metadata = services(user)["chat-prefill"]["metadata"]
    assert metadata["annotations"]["example.com/note"] == "kept"
    user.kubectl("delete", "infd", "chat")
    eventually(lambda: not services(user), what="no Service is left", timeout_s=SLOW_S)


@pytest.fixture
def gateways(cluster: Cluster) -> Iterator[None]:
    """Have the API server know InferencePools."""
    group, plural = "inference.networking.k8s.io", "inferencepools"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": "inferencepool", "kind": "InferencePool"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
    cluster.kubectl_run("apply", "-f", "-", input=json.dumps(definition))
    eventually(
        lambda: cluster.read(plural) is not None,
        what="InferencePools are served",
        retry_on=(CommandFailed,),
    )
    yield
    cluster.kubectl_run("delete", "--wait", "crd", f"{plural}.{group}")


POOL = {"endpointPicker": "chat-epp", "targetPort": 8000}


def test_without_gateways_the_condition_says_what_is_missing(user: User) -> None:
    """And everything else is there."""
    user.apply(chat(inferencePool=POOL))

    user.await_pods(CHAT)
    status = user.await_reason("WaitingForPlan")
    assert condition(status, "Exposed")[:2] == ("False", "InferencePoolUnknown")
    assert "chat-decode" in services(user)


@pytest.mark.usefixtures("gateways")
def test_gateways_get_their_inference_pool_until_it_is_not_asked_for(user: User) -> None:
    """It selects the pods that take requests, and is owned like them."""
    user.apply(chat(inferencePool=POOL))
    pods = user.await_pods(CHAT)

    found = eventually(
        lambda: user.cluster.read("inferencepools", namespace=user.namespace)["items"],
        what="the InferencePool is there",
    )[0]

    selector = found["spec"]["selector"]["matchLabels"]
    selected = [n for n, p in pods.items() if selector.items() <= p["metadata"]["labels"].items()]
    assert selected == ["chat-0-decode-0", "chat-0-prefill-0"]
    assert found["spec"]["endpointPickerRef"] == {"name": "chat-epp", "port": {"number": 9002}}
    assert uid(user.get("infd", "chat")) == found["metadata"]["ownerReferences"][0]["uid"]

    def told() -> bool:
        return "InferencePool chat" in condition(user.get("infd", "chat")["status"], "Exposed")[2]

    eventually(told, what="the condition names it")

    user.apply(chat())

    eventually(
        lambda: not user.cluster.read("inferencepools", namespace=user.namespace)["items"],
        what="the InferencePool is gone",
    )


def test_an_autoscaler_changes_the_units(user: User) -> None:
    """Kubernetes' own one, by the scale subresource: up to its minimum, down to its maximum."""
    user.apply(chat(pool("Aggregated")))
    user.await_pods(["chat-0-aggregated-0"])
    target = {"apiVersion": names.API_VERSION, "kind": "InferenceDeployment", "name": "chat"}
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "chat"},
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3},
    }

    user.apply(scaler)

    def units(n: int) -> bool:
        asked = user.get("infd", "chat")["spec"]["replicas"]
        return asked == n and len(user.pods()) == n

    eventually(lambda: units(2), what="the autoscaler asks for two units", timeout_s=SLOW_S)
    user.kubectl("scale", "infd/chat", "--replicas=5")
    eventually(lambda: units(3), what="the autoscaler asks for three", timeout_s=SLOW_S)
