"""A plan is made when one is due, and only then."""

from dataclasses import replace

import pytest

from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan
from bayplan.plan import Bind, Certificate, Evict, Hold, Move, Plan, Reason, Rejection, Verdict
from bayplan.policy import Order
from bayplan.triggers import (
    are_being_made,
    is_defragmentation_due,
    is_due,
    is_useless,
    repeats,
    uncovered,
)
from tests.builders import node, pod, snapshot

CERTIFICATE = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
N1, N2 = NodeName("n1"), NodeName("n2")


def published(plan: Plan, phase: str = "Executing") -> PublishedPlan:
    """Return a plan as it stands in the API server."""
    return PublishedPlan(name="plan-1", uid="p", sequence=1, plan=plan, phase=phase)


def young(
    name: str, *, gang: str = "g", at: int = 1000, on: str | None = None, gone: bool = False
) -> Pod:
    """Return a pod of a gang of two, made at an instant."""
    made = pod(name, gang=gang, min_count=2, on=on, terminating=gone)
    return replace(made, created_at=at)


def bind(name: str) -> Bind:
    """Return the bind of the builders' pod `name`."""
    return Bind(pod=PodKey(namespace="default", name=name), uid=f"uid-{name}", node=N1)


def test_nothing_waits_nothing_is_due() -> None:
    """An idle cluster would be flooded with empty plans."""
    assert not is_due(snapshot(node("n1")), None, digest=lambda: "a", last_digest="")


def test_a_waiting_pod_is_planned_once_per_state_of_the_cluster() -> None:
    """A pod that cannot be placed would be planned for ever."""
    world = snapshot(node("n1"), pod("a"))

    assert is_due(world, None, digest=lambda: "a", last_digest="")
    assert not is_due(world, None, digest=lambda: "a", last_digest="a")
    assert is_due(world, None, digest=lambda: "b", last_digest="a")


def test_a_plan_at_work_is_left_alone_while_it_covers_all() -> None:
    """Plans would overtake each other and move pods for nothing."""
    world = snapshot(node("n1"), pod("a"))
    at_work = published(Plan(certificate=CERTIFICATE, binds=(bind("a"),)))

    assert not is_due(world, at_work, digest=lambda: "b", last_digest="a")


def test_a_new_pod_is_not_made_to_wait_for_a_plan_at_work() -> None:
    """An urgent pod would wait behind a plan that drains slowly."""
    world = snapshot(node("n1"), pod("a"), pod("b"))
    at_work = published(Plan(certificate=CERTIFICATE, binds=(bind("a"),)))

    assert uncovered(world, at_work) == ("uid-b",)
    assert is_due(world, at_work, digest=lambda: "b", last_digest="a")


def test_a_failed_plan_is_followed_by_a_new_one_whatever_has_changed() -> None:
    """Pods would wait for ever: a budget that refused an eviction is not in the snapshot."""
    world = snapshot(node("n1"), pod("a"))
    plan = Plan(certificate=CERTIFICATE, binds=(bind("a"),))
    failed = published(plan, phase="Failed")

    assert is_due(world, failed, digest=lambda: "a", last_digest="a")
    assert not repeats(failed, plan)
    assert repeats(published(plan), plan)
    assert not repeats(None, plan)


def test_a_plan_that_is_done_is_not_followed_by_another_before_something_has_changed() -> None:
    """Whoever fits nowhere would be planned for again and again."""
    done = published(Plan(certificate=CERTIFICATE, binds=(bind("a"),)), phase="Completed")
    of = snapshot(node("n1"), pod("b"))

    assert not is_due(of, done, digest=lambda: "a", last_digest="a")
    assert is_due(of, done, digest=lambda: "b", last_digest="a")


def test_a_plan_that_decides_otherwise_is_no_repetition() -> None:
    """It would not be published, and the pod that it places wait."""
    why = Rejection(reason=Reason.TOO_SMALL, message="needs more")
    hold = Hold(pod=pod("b").key, uid="uid-b", rejection=why)
    plan = Plan(certificate=CERTIFICATE, binds=(bind("a"),), holds=(hold,))

    assert repeats(published(plan), plan)
    assert not repeats(published(plan), replace(plan, binds=(bind("b"),)))
    assert not repeats(published(plan), replace(plan, holds=()))
    assert not repeats(published(plan, phase="Superseded"), plan)


def test_a_moved_pods_replacement_is_covered_once_for_each_move() -> None:
    """Every move would trigger a plan of its own and supersede the one at work."""
    victim = pod("old", on="n1", owner="team")
    assert victim.owner is not None
    move = Move(
        pod=victim.key,
        uid=victim.uid,
        source=N1,
        target=N2,
        owner=victim.owner,
        priority=0,
    )
    plan = Plan(certificate=CERTIFICATE, moves=(move,))
    replacement = replace(pod("new", owner="team"), owner=victim.owner)
    another = replace(pod("newer", owner="team"), owner=victim.owner)

    assert uncovered(snapshot(node("n1"), replacement), published(plan)) == ()
    assert uncovered(snapshot(node("n1"), replacement, another), published(plan)) == ("uid-newer",)
    bare = replace(pod("bare"), owner=None)
    assert uncovered(snapshot(node("n1"), replacement, bare), published(plan)) == ("uid-bare",)
    twice = replace(plan, moves=(move, replace(move, uid="uid-other")))
    assert uncovered(snapshot(node("n1"), replacement, another), published(twice)) == ()


def test_once_a_replacement_has_its_place_another_pod_of_its_owner_is_news() -> None:
    """It would wait for as long as a replacement starts."""
    victim = pod("old", on="n1", owner="team")
    move = Move(
        pod=victim.key, uid=victim.uid, source=N1, target=N2, owner=victim.owner, priority=0
    )
    at_work = published(Plan(certificate=CERTIFICATE, moves=(move,)))
    starts = replace(pod("old-1", on="n2", owner="team"), replaces=victim.uid)
    other = pod("newer", owner="team")

    assert uncovered(snapshot(node("n1"), victim, other), at_work) == ()
    assert uncovered(snapshot(node("n1"), victim, starts, other), at_work) == ("uid-newer",)
    # Anybody may say so of a pod.
    forged = replace(starts, owner=pod("x").owner)
    assert uncovered(snapshot(node("n1"), victim, forged, other), at_work) == ()


def test_what_takes_the_place_of_an_evicted_pod_does_not_overtake_the_plan() -> None:
    """Seen: each eviction's replacement superseded the plan that was still evicting."""
    victim = pod("old", on="n1", owner="team")
    evict = Evict(pod=victim.key, uid=victim.uid, node=N1, priority=0, owner=victim.owner)
    replacement = replace(pod("new", owner="team"), owner=victim.owner)
    at_work = published(Plan(certificate=CERTIFICATE, evictions=(evict,)))

    assert not is_due(
        snapshot(node("n1"), replacement), at_work, digest=lambda: "b", last_digest="a"
    )


def test_a_plan_that_only_holds_is_not_at_work() -> None:
    """A held pod would never be planned again after room has come free."""
    world = snapshot(node("n1"), pod("a"))
    why = Rejection(reason=Reason.TOO_SMALL, message="needs more")
    hold = Hold(pod=PodKey(namespace="default", name="a"), uid="uid-a", rejection=why)
    holding = published(Plan(certificate=CERTIFICATE, holds=(hold,)), phase="Pending")

    assert is_due(world, holding, digest=lambda: "b", last_digest="a")


def test_a_plan_too_large_for_its_object_has_decided_on_older_pods_all_the_same() -> None:
    """It would be made again and again while it is being carried out."""
    old = replace(pod("old"), created_at=50)
    new = replace(pod("new"), created_at=200)
    large = published(Plan(certificate=CERTIFICATE, binds=(bind("a"),)))
    large = replace(large, truncated=True, created_at=100)

    assert uncovered(snapshot(node("n1"), old, new), large) == ("uid-new",)
    whole = replace(large, truncated=False)
    assert uncovered(snapshot(node("n1"), old, new), whole) == ("uid-new", "uid-old")
    as_old = replace(old, created_at=100)
    assert uncovered(snapshot(node("n1"), as_old), large) == ("uid-old",)


def test_slots_are_sought_once_per_state_of_the_cluster_and_never_beside_a_plan() -> None:
    """An open window would keep the planner busy, or a plan of its own would overtake another."""
    at_work = published(Plan(certificate=CERTIFICATE, binds=(bind("a"),)))
    done = replace(at_work, phase="Completed")

    assert is_defragmentation_due(None, moves=1, digest="a", last_digest="")
    assert is_defragmentation_due(done, moves=1, digest="a", last_digest="")
    assert not is_defragmentation_due(done, moves=1, digest="a", last_digest="a")
    assert not is_defragmentation_due(at_work, moves=1, digest="a", last_digest="")
    assert not is_defragmentation_due(done, moves=0, digest="a", last_digest="")


def world(*more: Pod, without: str = "", tired: bool = False) -> Snapshot:
    """Return two nodes and two waiting pods, with some more or less."""
    pods = [each for each in (pod("a", priority=5), pod("b"), *more) if each.key.name != without]
    return snapshot(node("n1"), node("n2", schedulable=not tired), *pods)


def test_a_pass_is_useless_once_what_it_decides_on_is_gone() -> None:
    """Its plan would place a pod that is gone, on a node that takes none, or below its rank."""
    assert not is_useless(world(), world())
    assert is_useless(world(), world(without="a"))
    assert is_useless(world(), world(tired=True))
    assert is_useless(world(), world(pod("urgent", priority=1)))
    assert is_useless(snapshot(node("n1")), world())


def test_a_pass_is_worth_finishing_while_others_only_join() -> None:
    """In a cluster where pods keep coming no pass would ever end."""
    assert not is_useless(world(), world(pod("c")))
    assert not is_useless(world(tired=True), world())
    assert not is_useless(world(), world(pod("running", on="n1")))
    assert not is_useless(world(tired=True), world(tired=True))


def test_a_pass_for_a_node_that_is_not_ready_any_more_is_useless() -> None:
    """Its plan would place pods where they never start."""
    well, ill = (snapshot(node("n1"), node("n2", ready=r), pod("a")) for r in (True, False))

    assert is_useless(well, ill)
    assert not is_useless(ill, ill)


@pytest.mark.parametrize(
    ("things", "made"),
    [
        pytest.param([young("a")], True, id="the rest is missing"),
        pytest.param([young("a"), young("b")], False, id="whole"),
        pytest.param([young("a", at=998)], False, id="the rest does not come"),
        pytest.param([young("a", at=1002)], False, id="by a clock that is behind"),
        pytest.param([young("a"), pod("single")], False, id="another pod waits"),
        pytest.param([replace(pod("single"), created_at=1000)], False, id="no gang"),
        pytest.param([young("a"), young("h", gang="h")], True, id="two gangs"),
        pytest.param(
            [young("a"), *(young(name, gang="h") for name in "hi")], False, id="one of two is whole"
        ),
        pytest.param([young("a"), young("b", on="n1")], False, id="the rest runs"),
        pytest.param([young("a"), young("b", gone=True)], True, id="the rest leaves"),
        pytest.param([pod("r", on="n1")], False, id="nobody waits"),
    ],
)
def test_half_a_gang_is_not_planned_while_the_rest_is_made(things: list[Pod], made: bool) -> None:  # noqa: FBT001 - a case
    """Each new gang would be told first that it is infeasible."""
    assert are_being_made(snapshot(node("n1"), *things), 1000.5) is made
