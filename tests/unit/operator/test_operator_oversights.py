"""Pods that wait where nobody looks for them hear of it."""

from concurrent.futures import ThreadPoolExecutor

from bayplan.api import names
from bayplan_operator.cluster.kube import pod_path
from tests.scenes.execution import NOW, Scene, bind, gates_of, key, raw_pod


def test_a_gated_pod_without_the_label_is_told_once_and_harms_nobody() -> None:
    """It would wait for ever without a word, and with it everybody who needs somebody to go."""
    with ThreadPoolExecutor(2) as pool:
        scene = Scene(pool)
        scene.add("a")
        overlooked = raw_pod("odd")
        del overlooked["metadata"]["labels"]
        scene.kube.add(pod_path(key("odd")), overlooked)
        foreign = raw_pod("foreign", gated=False)
        del foreign["metadata"]["labels"]
        scene.kube.add(pod_path(key("foreign")), foreign)
        plan = scene.publish(bind("a", "n1"))
        gates = gates_of(scene, [NOW])

        scene.look()
        gates.reconcile()
        gates.reconcile()

    assert scene.status(plan)["phase"] == "Executing"
    (note,) = scene.told.notes
    assert note == (
        f"Pod odd Overlooked: has the gate {names.GATE}, but no plan is made for it and its gate"
        f' is never lifted: give it the label {names.LABEL_MANAGED}: "true" as well'
    )


def test_a_pod_behind_gates_of_others_is_told_once_which() -> None:
    """`kubectl describe` was silent: the pod had our gate, and no plan said a word of it."""
    with ThreadPoolExecutor(2) as pool:
        scene = Scene(pool)
        raw = raw_pod("a")
        raw["spec"]["schedulingGates"].append({"name": "example.com/quota"})
        scene.kube.add(pod_path(key("a")), raw)
        gates = gates_of(scene, [NOW])

        gates.reconcile()
        gates.reconcile()

    (note,) = scene.told.notes
    assert note == (
        "Pod a OtherGates: waits behind gates of others (example.com/quota): it is planned once"
        " they are lifted"
    )
