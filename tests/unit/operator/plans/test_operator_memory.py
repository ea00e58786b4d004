"""What the operator knows of plans between two passes, and for whom they are."""

from bayplan_operator.cluster.kube import POLICY, plan_path
from tests.scenes import execution
from tests.scenes.execution import NOW, OWNER, Scene, bind, evict, gates_of, hold, move

scene = execution.scene


def end(scene: Scene, plan: str, phase: str = "Completed") -> None:
    """Have a plan end, as the watch tells it."""
    raw = scene.kube.objects[plan_path(plan)]
    scene.plans.see(scene.kube.add(plan_path(plan), {**raw, "status": {"phase": phase}}))


def test_a_plan_tells_whom_it_makes_leave_while_it_is_at_work(scene: Scene) -> None:
    """A deployment would leave a pod out of service for a plan of yesterday."""
    name = scene.publish(evict("v", "n1"), move("m"))
    assert scene.plans.leaving() == {"uid-v", "uid-m"}

    end(scene, name)

    assert scene.plans.leaving() == frozenset()


def test_a_plan_is_told_to_those_whom_it_is_for(scene: Scene) -> None:
    """Every deployment would say that it waits for the plan of another one."""
    plans = scene.plans
    name = scene.publish(bind("a", "n1"), bind("b", "n1"), move("m"))
    told = f"{name}: is about to be carried out"
    assert [plans.executing_for(uids, "") for uids in ({"uid-b"}, {"uid-c"})] == [told, ""]
    assert [plans.executing_for((), uid) for uid in (OWNER.uid, "other")] == [told, ""]

    end(scene, name)

    assert plans.executing_for({"uid-b"}, OWNER.uid) == ""


def test_the_newest_plan_is_known_without_asking_once_plans_are_read(scene: Scene) -> None:
    """Every deployment would be looked at for every plan."""
    assert scene.plans.newest_known() is None, "the plan at work may not have been heard of"
    scene.publish(bind("old", "n1"))
    name = scene.publish(bind("a", "n1"), hold("b"), sequence=2)
    assert scene.plans.newest() is not None

    known = scene.plans.newest_known() or ()
    end(scene, name)

    assert [each.pod.name for plan in known for each in plan.binds] == ["a"]
    assert scene.plans.newest_known() == known, "that it has ended is news for them"


def test_how_far_the_plan_at_work_is_is_known_without_asking(scene: Scene) -> None:
    """Those whom it is for would go on saying that it is about to be carried out."""
    scene.add("a", gpus=8)
    known = [scene.plans.progress_known()]
    name = scene.publish(bind("a", "n1"))
    known.append(scene.plans.progress_known())
    scene.look()
    known.append(scene.plans.progress_known())
    end(scene, name)

    told = "0 of 1 steps done: ns/a is released to its node"
    assert [*known, scene.plans.progress_known()] == [("", ""), ("", ""), (name, told), ("", "")]


def test_a_hold_is_told_to_its_pod(scene: Scene) -> None:
    """The newest plan says why each one waits."""
    scene.publish(hold("a"), hold("b"))

    assert [told.uid for told in scene.plans.holds_for({"uid-b"})] == ["uid-b"]


def test_replacements_are_awaited_of_a_plan_that_moves_and_is_at_work(scene: Scene) -> None:
    """Every new pod of a cluster would have the plan looked at again."""
    first = scene.publish(bind("a", "n1"))
    assert scene.look()
    assert not scene.plans.awaits_replacements()

    second = scene.publish(move("m"), sequence=2)
    assert scene.plans.awaits_replacements()

    end(scene, first)
    end(scene, second)
    assert not scene.plans.awaits_replacements()


def test_a_finished_plan_keeps_no_gate_shut(scene: Scene) -> None:
    """A pod that it did not come to release would wait for ever without a planner."""
    scene.kube.add(POLICY, {"metadata": {"name": "default"}, "spec": {"gateTimeoutSeconds": 20}})
    scene.add("a")
    end(scene, scene.publish(bind("a", "n1")), "Failed")
    now = [NOW]
    gates = gates_of(scene, now)
    now[0] = NOW.replace(second=21)

    gates.reconcile()

    assert not scene.pod("a")["spec"]["schedulingGates"]


def test_a_plan_that_is_gone_overtakes_nobody(scene: Scene) -> None:
    """The watch may miss a deletion, and the plan before it would be given up for nothing."""
    scene.add("a")
    first = scene.publish(bind("a", "n1"))
    second = scene.publish(sequence=2)
    del scene.kube.objects[plan_path(second)]

    scene.look()

    assert not scene.pod("a")["spec"]["schedulingGates"]
    assert scene.status(first)["phase"] == "Executing"


def test_an_echo_does_not_open_a_plan_again(scene: Scene) -> None:
    """It would be carried out once more."""
    name = scene.publish(bind("a", "n1"))
    scene.look()
    assert scene.status(name)["phase"] == "Failed"

    late = {**scene.kube.objects[plan_path(name)], "status": {"phase": "Executing"}}
    scene.plans.see(late)

    newest = scene.plans.newest()
    assert newest is not None
    assert not newest.open


def test_the_end_of_another_plan_of_the_name_is_no_end(scene: Scene) -> None:
    """It was deleted and made anew, and the watch tells of both in its own order."""
    name = scene.publish(bind("a", "n1"))
    scene.look()

    scene.plans.forget(name, "uid of the one before")
    assert scene.plans.newest() is not None

    scene.plans.forget(name, scene.kube.objects[plan_path(name)]["metadata"]["uid"])
    assert scene.plans.newest() is None
