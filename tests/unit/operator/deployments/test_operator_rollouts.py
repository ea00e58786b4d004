"""Rollouts, repair and drains against an API server in memory."""

from datetime import timedelta

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan_operator.cluster.kube import node_path, pod_path
from tests.scenes import deployments
from tests.scenes.deployments import Engine, Scene, run

engine, scene = deployments.engine, deployments.scene


def test_a_failed_pod_is_kept_for_a_while_and_its_failures_are_remembered(scene: Scene) -> None:
    """In the status, so that a restart of the operator does not forget them."""
    scene.look()
    name = "chat-0-aggregated-0"
    created = scene.clock.isoformat().replace("+00:00", "Z")
    scene.pod(name)["metadata"]["creationTimestamp"] = created
    scene.pod(name)["status"] = {"phase": "Failed"}

    assert scene.look() == 20
    assert scene.status()["reason"] == "PodsFailing"
    assert name in scene.pods()

    scene.clock += timedelta(seconds=20)
    scene.look()
    assert name not in scene.pods()
    assert scene.status()["failures"] == [{"pod": name, "times": 1}]
    scene.look()
    assert name in scene.pods()


def test_pods_of_an_older_template_are_marked_until_it_is_the_newest_again(scene: Scene) -> None:
    """Planners read the mark, and leave its units together."""
    scene.look()
    run(scene)
    template = {"metadata": {"labels": {"version": "2"}}}
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 2}}}
    newer = {"role": "Aggregated", "template": {**template, "spec": {"containers": [container]}}}

    scene.apply(pools=[newer], rollout={"paused": True})
    scene.look()

    marks = [scene.pod(name)["metadata"]["annotations"] for name in scene.pods()]
    assert [mark.get(names.ANNOTATION_OUTDATED) for mark in marks] == ["true"] * 2
    scene.apply()
    scene.look()
    marks = [scene.pod(name)["metadata"]["annotations"] for name in scene.pods()]
    assert not any(names.ANNOTATION_OUTDATED in mark for mark in marks)


def test_a_pod_that_cannot_be_marked_stops_no_rollout(scene: Scene) -> None:
    """Its annotations are full: all else of the pass is done."""
    scene.look()
    run(scene)
    full = pod_path(PodKey(namespace="ns", name="chat-0-aggregated-0"))
    scene.kube.refusals[full] = (422, "metadata.annotations: Too long")
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 1}}}
    template = {"spec": {"containers": [container]}}

    scene.apply(pools=[{"role": "Aggregated", "template": template}])
    scene.look()

    assert "chat-2-aggregated-0" in scene.pods()


def test_a_rollout_is_told_in_events(scene: Scene) -> None:
    """Once for each thing that it comes to."""
    scene.look()
    run(scene)
    scene.look()

    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 1}}}
    pools = [{"role": "Aggregated", "template": {"spec": {"containers": [container]}}}]
    scene.apply(pools=pools, rollout={"maxSurge": 0})
    for _ in range(12):
        scene.look()
        run(scene)
        scene.clock += timedelta(seconds=6)

    told = [note.split()[2].rstrip(":") for note in scene.told.notes if "Roll" in note]
    assert told == ["RolledOut", "RollingOut", "RolledOut"]
    assert scene.status()["units"] == {"desired": 2, "scheduled": 2, "ready": 2, "updated": 2}


def test_a_unit_that_is_to_go_is_out_of_service_first_and_waits_for_its_engine(
    scene: Scene, engine: Engine
) -> None:
    """Requests in flight are not cut off, and the engine with the fewest goes."""
    scene.look()
    run(scene)
    for name, address in zip(scene.pods(), ("127.0.0.2", "127.0.0.1"), strict=True):
        pod = scene.pod(name)
        pod["metadata"]["annotations"] = {"prometheus.io/port": str(engine.port)}
        pod["status"]["podIP"] = address
    engine.requests = {"127.0.0.1": 3, "127.0.0.2": 2}
    scene.look()

    scene.apply(replicas=1)
    assert scene.look() == 2
    run(scene)
    condition = next(
        c
        for c in scene.pod("chat-0-aggregated-0")["status"]["conditions"]
        if c["type"] == names.CONDITION_IN_SERVICE
    )
    assert (condition["status"], condition["reason"]) == ("False", "Drains")

    scene.clock += timedelta(seconds=60)
    assert scene.look() == 2
    assert len(scene.pods()) == 2
    assert scene.status()["ready"] == "1/1"
    engine.requests["127.0.0.2"] = 0
    scene.look()
    assert scene.pods() == ["chat-1-aggregated-0"]


def test_a_stranger_that_looks_like_ours_is_not_asked(scene: Scene, engine: Engine) -> None:
    """Anybody may give a pod our label, and a metrics address."""
    scene.look()
    run(scene)
    scene.look()
    said = {"prometheus.io/port": str(engine.port)}
    scene.pod("chat-0-aggregated-0")["metadata"]["annotations"] = said
    scene.pod("chat-0-aggregated-0")["status"]["podIP"] = "127.0.0.1"
    labels = {names.LABEL_DEPLOYMENT: "chat"}
    scene.kube.add(
        pod_path(PodKey(namespace="ns", name="stranger")),
        {
            "metadata": {"name": "stranger", "labels": labels, "annotations": said},
            "spec": {"nodeName": "n1"},
            "status": {"podIP": "127.0.0.2"},
        },
    )
    engine.requests = {"127.0.0.1": 1, "127.0.0.2": 1}
    scene.apply(replicas=1)

    scene.look()

    assert engine.asked == {"127.0.0.1"}


def test_a_unit_that_is_wanted_again_is_put_back_into_service(scene: Scene) -> None:
    """Scaling down by mistake costs nobody a cold start."""
    scene.look()
    run(scene)
    scene.look()
    scene.apply(replicas=1)
    scene.look()
    run(scene)
    scene.apply(replicas=2)
    scene.look()
    run(scene)
    scene.look()

    assert scene.status()["ready"] == "2/2"
    assert len(scene.pods()) == 2


def test_what_is_left_on_a_node_that_is_gone_does_not_keep_its_name(scene: Scene) -> None:
    """Nobody is left to confirm that the pod has ended."""
    scene.look()
    run(scene)
    scene.look()
    del scene.kube.objects[node_path("n1")]

    scene.look()
    scene.look()

    assert all(scene.pod(name)["spec"]["schedulingGates"] for name in scene.pods())
    assert len(scene.pods()) == 2
