"""Carrying out a plan step by step: what comes in the place of a pod that is moved."""

from dataclasses import replace

import pytest

from bayplan import steps
from bayplan.api import names as ours
from bayplan.cluster.keys import NodeName, Owner
from bayplan.cluster.pods import Pod
from bayplan.plan import Bind, Hold
from bayplan.steps import EvictPod, Phase, ReleasePod
from tests.builders import node, pod
from tests.scenes.steps import advance, bind, done, hold, move, plan, told


def test_a_move_waits_for_its_replacement_and_releases_it_to_the_target() -> None:
    """From eviction to arrival, pass by pass."""
    made = plan(move("m", "n1", "n2"))
    nodes = [node("n1"), node("n2")]
    new = replace(pod("m-2", owner="m"), created_at=5)

    asked = advance(made, *nodes, pod("m", on="n1"))
    leaving = advance(made, *nodes, pod("m", on="n1", terminating=True))
    gone = advance(made, *nodes)
    back = advance(made, *nodes, new)
    pin = replace(new, node=NodeName("n2"), waiting=False, bound=False, replaces="uid-m")
    on_its_way = advance(made, *nodes, pin)
    arrived = advance(made, *nodes, replace(pin, bound=True))

    assert done(asked) == ["evict m from n1"]
    assert [s.target for s in asked.todo if isinstance(s, EvictPod)] == ["n2"]
    assert told(asked) == ["Move m Waiting: is asked to leave n1"]
    assert told(leaving) == ["Move m Started: is leaving n1, by 00:00:00 UTC at most"]
    assert told(gone) == [
        "Move m Waiting: waits for ReplicaSet default/m to make a pod in its place"
    ]
    assert done(back) == ["release m-2 to n2 for uid-m"]
    assert told(on_its_way) == [
        "Move m Started: in its place m-2 is pinned to n2; the scheduler binds it next",
    ]
    assert arrived.phase is Phase.COMPLETED


def test_a_replacement_that_comes_while_the_victim_leaves_is_released_at_once() -> None:
    """A ReplicaSet makes the new pod as soon as the old one is terminating."""
    pods = [pod("m", on="n1", terminating=True), pod("m-2", owner="m")]

    found = advance(plan(move("m", "n1", "n2")), node("n1"), node("n2"), *pods)

    assert done(found) == ["release m-2 to n2 for uid-m"]


def test_a_pod_that_waits_before_the_victim_has_left_is_no_replacement() -> None:
    """It came by scaling up; taking it would leave the real replacement without a home."""
    pods = [pod("m", on="n1"), pod("m-2", owner="m")]

    found = advance(plan(move("m", "n1", "n2")), node("n1"), node("n2"), *pods)

    assert done(found) == ["evict m from n1"]


@pytest.mark.parametrize(
    ("decided", "there", "steps_due"),
    [
        (hold("m-0"), pod("m-0", owner="m"), []),
        (bind("m-0", "n1"), pod("m-0", owner="m"), ["release m-0 to n1"]),
        (hold("other"), pod("m-0", owner="m", on="n1"), []),
        (hold("other"), replace(pod("m-0"), owner=None), []),
    ],
    ids=["it is held", "it has a home", "it runs elsewhere", "it has no owner"],
)
def test_another_pod_is_no_replacement(
    decided: Bind | Hold, there: Pod, steps_due: list[str]
) -> None:
    """It would be sent away from where it is, or where it is to be."""
    made = plan(move("m", "n1", "n2"), decided)

    assert done(advance(made, node("n1"), node("n2"), there)) == steps_due


def test_a_replacement_of_an_inference_deployment_has_the_old_name() -> None:
    """Its other new pods may be of another pool and size."""
    owner = Owner(kind="InferenceDeployment", namespace="default", name="chat", uid="u")
    made = plan(move("chat-0-decode-0", "n1", "n2", owner))
    others = replace(pod("chat-1-prefill-0"), owner=owner)
    again = replace(pod("chat-0-decode-0"), owner=owner, uid="new", created_at=9)

    before = advance(made, node("n1"), node("n2"), others)
    after = advance(made, node("n1"), node("n2"), others, again)

    assert not before.todo
    assert done(after) == ["release chat-0-decode-0 to n2 for uid-chat-0-decode-0"]


def test_two_moves_of_one_owner_take_two_replacements() -> None:
    """The oldest newcomer goes to the first target."""
    owner = Owner(kind="ReplicaSet", namespace="default", name="m", uid="m")
    made = plan(move("m-1", "n1", "n2", owner), move("m-2", "n1", "n3", owner))
    new = [replace(pod(name, owner="m"), created_at=at) for name, at in (("a", 2), ("b", 1))]

    found = advance(made, node("n1"), node("n2"), node("n3"), *new)

    assert done(found) == ["release b to n2 for uid-m-1", "release a to n3 for uid-m-2"]


def test_two_replacements_do_not_get_the_room_of_one() -> None:
    """What one takes is gone for the other, until a pod that leaves has ended."""
    made = plan(move("u", "n1", "n2"), move("v", "n1", "n2"))
    leaving = pod("s", gpus=4, on="n2", terminating=True)
    new = [pod(f"{name}-2", gpus=4, owner=name) for name in "uv"]

    found = advance(made, node("n1"), node("n2"), leaving, *new)

    assert done(found) == ["release u-2 to n2 for uid-u"]


def test_a_replacement_is_not_released_to_a_node_that_takes_nobody() -> None:
    """It was cordoned when the old pod had left already; the room is there."""
    made = plan(move("m", "n1", "n2"))

    found = advance(made, node("n1"), node("n2", schedulable=False), pod("m-2", owner="m"))

    assert (done(found), found.phase) == ([], Phase.FAILED)


def test_the_replacement_of_a_share_is_told_which_gpu_it_gets() -> None:
    """Others have a part of each."""
    moved = replace(move("m", "n1", "n2"), device=3)

    found = advance(plan(moved), node("n1"), node("n2"), pod("m-2", share=500, owner="m"))

    assert [step.device for step in found.todo if isinstance(step, ReleasePod)] == [3]


def test_a_replacement_that_is_deleted_again_is_replaced() -> None:
    """Its home would be kept for a pod that is gone."""
    old = pod("m-2", owner="m", on="n2", terminating=True)
    there = [replace(old, bound=False, replaces="uid-m"), replace(pod("m-3", owner="m"))]

    found = advance(plan(move("m", "n1", "n2")), node("n1"), node("n2"), *there)

    assert done(found) == ["release m-3 to n2 for uid-m"]


@pytest.mark.parametrize(
    ("kind", "names", "released"),
    [
        ("StatefulSet", ["web-0", "web-1"], ["release web-1 to n2 for uid-web-1"]),
        ("StatefulSet", ["web-0"], []),
        (ours.KIND_DEPLOYMENT, ["web-0", "web-1"], ["release web-1 to n2 for uid-web-1"]),
        (ours.KIND_DEPLOYMENT, ["web-0"], ["release web-0 to n2 for uid-web-1"]),
    ],
)
def test_who_comes_under_the_same_name_is_the_replacement(
    kind: str, names: list[str], released: list[str]
) -> None:
    """Of an InferenceDeployment one with a lower number may come in its place, too."""
    owner = Owner(kind=kind, namespace="default", name="web", uid="u")
    made = plan(move("web-1", "n1", "n2", owner))
    again = [replace(pod(name), owner=owner, created_at=9) for name in names]

    found = advance(made, node("n1"), node("n2"), *[replace(p, uid=f"new-{p.uid}") for p in again])

    assert done(found) == released


def test_a_replacement_whose_target_was_taken_waits_for_a_new_plan() -> None:
    """It goes on waiting behind its gate."""
    made = plan(move("m", "n1", "n2"))
    pods = [pod("m-2", gpus=4, owner="m"), pod("x", gpus=6, on="n2")]

    found = advance(made, node("n1"), node("n2"), *pods)

    assert found.phase is Phase.FAILED
    assert told(found) == [
        "Move m Failed: in its place m-2 cannot go to n2: others took its room (2 GPUs short)"
    ]


def test_a_replacement_that_never_comes_does_not_hold_up_the_plan() -> None:
    """Its owner was scaled down meanwhile."""
    made = plan(move("m", "n1", "n2"))

    found = advance(made, node("n1"), node("n2"), idle_s=steps.REPLACEMENT_GRACE_S)

    assert found.phase is Phase.COMPLETED
    assert told(found) == ["Move m Done: left, and nothing was made in its place"]
