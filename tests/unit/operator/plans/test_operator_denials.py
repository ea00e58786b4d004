"""What the API server denies for good: nobody is disturbed for it, and gangs stay whole."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bayplan.api import names
from bayplan.cluster.keys import GangKey, NodeName
from bayplan.codec import published_plan_of
from bayplan.plan import Bind
from bayplan.steps import ReleasePod
from bayplan_operator.cluster.kube import plan_path, pod_path
from bayplan_operator.plans.releases import whole
from tests.scenes.execution import Scene, bind, evict, key

TOO_LONG = (422, "metadata.annotations: Too long")
POLICY = (403, "denied by policy")


@pytest.fixture
def clock() -> list[float]:
    """Return the time, which can be set."""
    return [0.0]


@pytest.fixture
def scene(clock: list[float]) -> Iterator[Scene]:
    """Return the cluster."""
    with ThreadPoolExecutor(2) as pool:
        yield Scene(pool, clock=lambda: clock[0])


@pytest.fixture
def looks(scene: Scene, clock: list[float]) -> Callable[[int], None]:
    """Return what makes so many passes, a second after each other."""

    def look(times: int) -> None:
        for _ in range(times):
            scene.look()
            clock[0] += 1

    return look


def of_gang(made: Bind) -> Bind:
    """Return a bind of a pod of a gang."""
    return replace(made, gang=GangKey(namespace="ns", name="g"))


def evictions(scene: Scene) -> list[str]:
    """Return the evictions that were more than rehearsed."""
    return [write for write in scene.kube.writes if write.startswith("create") and "evict" in write]


@pytest.mark.parametrize("refusal", [TOO_LONG, POLICY], ids=["it is too long", "by a policy"])
def test_nobody_leaves_for_a_pod_that_may_not_come(
    scene: Scene, looks: Callable[[int], None], refusal: tuple[int, str]
) -> None:
    """Somebody was evicted, nobody came, and the next plan was the same."""
    scene.add("urgent", gpus=8)
    scene.add("low", gpus=8, on="n1")
    scene.kube.refusals[pod_path(key("urgent"))] = refusal
    plan = scene.publish(bind("urgent", "n1"), evict("low", "n1"))

    looks(10)

    assert evictions(scene) == []
    status = scene.status(plan)
    assert (status["phase"], status["steps"][1]["state"]) == ("Failed", "Refused")
    assert refusal[1] in status["message"]
    published = published_plan_of(scene.kube.objects[plan_path(plan)])
    assert list(published.refused) == ["uid-urgent"]


def test_what_is_admitted_after_all_is_not_given_up(
    scene: Scene, looks: Callable[[int], None]
) -> None:
    """Who corrects a policy is often at it when it refuses something."""
    scene.add("urgent", gpus=8)
    scene.add("low", gpus=8, on="n1")
    scene.kube.refusals[pod_path(key("urgent"))] = POLICY
    scene.publish(bind("urgent", "n1"), evict("low", "n1"))
    looks(2)

    scene.kube.refusals.clear()
    looks(2)

    assert len(evictions(scene)) == 1


def test_each_plan_asks_once_whether_a_pod_may_come(
    scene: Scene, looks: Callable[[int], None]
) -> None:
    """Each look would cost a request for each pod that waits, or go by what held for another."""
    for name, node in (("urgent", ""), ("low", "n1"), ("other", "n2")):
        scene.add(name, gpus=8, **({"on": node} if node else {}))

    def asked() -> int:
        return scene.kube.writes.count(f"rehearse {pod_path(key('urgent'))}")

    scene.kube.refusals[f"{pod_path(key('low'))}/eviction"] = (429, "wait")
    scene.publish(bind("urgent", "n1"), evict("low", "n1"))
    looks(20)
    assert asked() == 1

    scene.kube.refusals[f"{pod_path(key('other'))}/eviction"] = (429, "wait")
    scene.publish(bind("urgent", "n2"), evict("other", "n2"), sequence=2)
    looks(20)
    assert asked() == 2


def test_no_pod_of_a_gang_goes_where_another_one_may_not(
    scene: Scene, looks: Callable[[int], None]
) -> None:
    """Half a gang would hold its room for ever, for gates cannot be shut again."""
    for name in ("g-0", "g-1"):
        scene.add(name, gpus=8)
    scene.kube.refusals[pod_path(key("g-1"))] = TOO_LONG
    plan = scene.publish(of_gang(bind("g-0", "n1")), of_gang(bind("g-1", "n2")))

    looks(10)

    assert scene.pod("g-0")["spec"]["schedulingGates"] == [{"name": names.GATE}]
    assert [step["state"] for step in scene.status(plan)["steps"]] == ["Waiting", "Refused"]
    assert scene.status(plan)["phase"] == "Failed"


def test_a_gang_goes_when_all_of_it_may_be_tried_again() -> None:
    """Those that were not refused would go before the one that was, and hold their room for it."""

    def released(name: str, gang: str = "") -> ReleasePod:
        group = GangKey(namespace="ns", name=gang) if gang else None
        return ReleasePod(pod=key(name), uid=f"uid-{name}", node=NodeName("n1"), gang=group)

    todo = [released("a"), released("b"), released("g-0", "g"), released("g-1", "g")]
    todo += [released("h-0", "h"), released("h-1", "h")]

    def going(*late: str) -> list[str]:
        return [step.pod.name for step in whole(todo, lambda uid: uid not in late)]

    assert going() == ["a", "b", "g-0", "g-1", "h-0", "h-1"]
    assert going("uid-a", "uid-g-1") == ["b", "h-0", "h-1"]
    assert going("uid-g-0", "uid-h-0", "uid-h-1") == ["a", "b"]


def test_a_gang_of_which_a_pod_is_gone_stays_until_that_is_seen(scene: Scene) -> None:
    """The rest of it would go to its nodes without it."""
    for name in ("g-0", "g-1"):
        scene.add(name, gpus=8)
    scene.kube.refusals[pod_path(key("g-1"))] = (409, "the object has been modified")
    scene.publish(of_gang(bind("g-0", "n1")), of_gang(bind("g-1", "n2")))

    scene.look()

    assert scene.pod("g-0")["spec"]["schedulingGates"] == [{"name": names.GATE}]
    scene.kube.refusals.clear()
    scene.look()
    assert [scene.pod(name)["spec"]["schedulingGates"] for name in ("g-0", "g-1")] == [[], []]


def test_a_gang_whose_patches_are_admitted_goes_at_once(scene: Scene) -> None:
    """To ask first costs a request for each pod, not a pass."""
    for name in ("g-0", "g-1"):
        scene.add(name, gpus=8)
    scene.publish(of_gang(bind("g-0", "n1")), of_gang(bind("g-1", "n2")))

    scene.look()

    assert [scene.pod(name)["spec"]["schedulingGates"] for name in ("g-0", "g-1")] == [[], []]


def test_a_pod_that_goes_alone_to_room_that_is_there_is_one_request(scene: Scene) -> None:
    """Thousands of them go in a burst."""
    scene.add("a")
    scene.publish(bind("a", "n1"))

    scene.look()

    assert not [write for write in scene.kube.writes if write.startswith("rehearse")]


def test_a_victim_that_may_not_go_ends_the_plan_with_the_reason(
    scene: Scene, looks: Callable[[int], None]
) -> None:
    """Nothing else of the plan happened meanwhile, and the next one chose the same victim."""
    scene.add("urgent", gpus=8)
    scene.add("low", gpus=8, on="n1")
    scene.kube.refusals[f"{pod_path(key('low'))}/eviction"] = POLICY
    plan = scene.publish(bind("urgent", "n1"), evict("low", "n1"))

    looks(10)

    published = published_plan_of(scene.kube.objects[plan_path(plan)])
    assert published.phase == "Failed"
    assert published.refused == {
        "uid-low": "stays on n1, for its going is refused: denied by policy"
    }


def test_what_kept_a_victim_is_told_after_the_plan_has_ended(
    scene: Scene, looks: Callable[[int], None]
) -> None:
    """It was only said while the plan was at work, and nobody could look it up."""
    scene.add("urgent", gpus=8)
    scene.add("low", gpus=8, on="n1")
    scene.kube.refusals[f"{pod_path(key('low'))}/eviction"] = (503, "webhook is down")
    plan = scene.publish(bind("urgent", "n1"), evict("low", "n1"))

    looks(125)

    assert scene.status(plan)["phase"] == "Failed"
    assert "webhook is down" in scene.status(plan)["steps"][0]["message"]
