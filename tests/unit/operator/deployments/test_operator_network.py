"""What leads to the pods, against an API server in memory."""

import pytest

from bayplan.api import names
from tests.scenes import deployments
from tests.scenes.deployments import PATH, Scene

scene = deployments.scene

PORT = {"name": "http", "containerPort": 8000}
SERVED = [
    {
        "role": "Aggregated",
        "template": {"spec": {"containers": [{"name": "c", "ports": [PORT]}]}},
    }
]
SERVICE = "/api/v1/namespaces/ns/services/chat-aggregated"
INFERENCE_POOL = "/apis/inference.networking.k8s.io/v1/namespaces/ns/inferencepools/chat"
GATEWAY = {"endpointPicker": "epp", "targetPort": 8000}


def exposed_of(scene: Scene) -> tuple[str, str]:
    """Return status and reason of the condition Exposed."""
    found = next(c for c in scene.status()["conditions"] if c["type"] == "Exposed")
    return found["status"], found["reason"]


def network_writes(scene: Scene) -> list[str]:
    """Return the writes to Services and InferencePools."""
    return [w for w in scene.kube.writes if "services/" in w or "inferencepools/" in w]


def test_what_leads_to_the_pods_is_made_once_and_made_again(scene: Scene) -> None:
    """By one field manager; somebody deletes it, and it is there again."""
    scene.apply(pools=SERVED, inferencePool=GATEWAY)
    for _ in range(3):
        scene.look()

    made = [f"apply as {names.MANAGER_NETWORK} {path}" for path in (SERVICE, INFERENCE_POOL)]
    assert network_writes(scene) == made
    assert exposed_of(scene) == ("True", "Exposed")
    del scene.kube.objects[SERVICE]
    scene.look()
    assert network_writes(scene) == [*made, made[0]]


def test_a_cluster_without_gateways_serves_all_the_same(scene: Scene) -> None:
    """The add-on is missing: the pods are made, and the condition says what to install."""
    scene.kube.refusals[INFERENCE_POOL] = (404, "404 page not found")
    scene.apply(pools=SERVED, inferencePool=GATEWAY)

    scene.look()

    assert exposed_of(scene) == ("False", "InferencePoolUnknown")
    assert len(scene.pods()) == 2
    assert SERVICE in scene.kube.objects


def test_an_inference_pool_goes_when_it_is_not_asked_for_any_more(scene: Scene) -> None:
    """A gateway would go on sending requests."""
    scene.apply(pools=SERVED, inferencePool=GATEWAY)
    scene.look()
    scene.apply(pools=SERVED)
    scene.kube.objects[PATH]["metadata"]["generation"] = 2

    scene.look()

    assert INFERENCE_POOL not in scene.kube.objects
    assert SERVICE in scene.kube.objects


def test_somebody_elses_service_is_not_touched(scene: Scene) -> None:
    """It leads elsewhere, and must go on to."""
    theirs = {"metadata": {"name": "chat-aggregated"}, "spec": {"selector": {"app": "mine"}}}
    scene.kube.add(SERVICE, {"kind": "Service", **theirs})
    scene.apply(pools=SERVED)

    scene.look()

    assert network_writes(scene) == []
    assert exposed_of(scene) == ("False", "NamesTaken")
    scene.look()
    told = [note for note in scene.told.notes if "NotExposed" in note]
    assert len(told) == 1
    assert "NamesTaken: Service chat-aggregated: there is one of another owner" in told[0]
    assert len(scene.pods()) == 2


@pytest.mark.parametrize("status", [403, 500])
def test_a_service_that_is_refused_holds_nothing_up(scene: Scene, status: int) -> None:
    """A quota on Services must not keep pods from being made."""
    scene.kube.refusals[SERVICE] = (status, "exceeded quota: services")
    scene.apply(pools=SERVED)

    scene.look()

    assert exposed_of(scene) == ("False", "Refused")
    assert len(scene.pods()) == 2
