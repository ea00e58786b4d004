"""What kube-scheduler is told about one pod."""

from dataclasses import replace

import pytest

from bayplan.answers import Answer, Reservations, agreed
from bayplan.cache import Cache
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.plan import Bind, Evict, Move, Plan, Reason
from tests.builders import GPU, node, pod
from tests.scenes.answers import CERTIFICATE, N1, N2, N3, answer, cache_of, planned, reasons


def test_a_planned_pod_is_told_its_one_node() -> None:
    """The scheduler would put it where its own scores like it."""
    waiting = pod("a")
    cache = cache_of(node("n1"), node("n2"), waiting)

    reply = answer(waiting, [N1, N2], cache, planned(waiting, N2))

    assert reply == Answer(node=N2)


def test_a_planned_pod_waits_where_its_home_is_not_on_offer() -> None:
    """The scheduler samples nodes of a large cluster: another one would break the plan."""
    waiting = pod("a")
    cache = cache_of(node("n1"), node("n2"), waiting)

    reply = answer(waiting, [N1], cache, planned(waiting, N2))

    assert reply.node is None
    assert reasons(reply) == {"n1": Reason.PLANNED_ELSEWHERE}


def test_a_planned_pod_waits_for_the_room_that_victims_still_take() -> None:
    """Another node would break the plan; the reason is what is short at home."""
    waiting = pod("a", gpus=8)
    cache = cache_of(node("n1"), node("n2"), waiting, pod("v", on="n2"))

    reply = answer(waiting, [N1, N2], cache, planned(waiting, N2))

    assert reply.node is None
    assert set(reasons(reply).values()) == {Reason.INSUFFICIENT_ROOM}


def test_a_pod_pinned_to_a_full_node_does_not_stand_in_its_own_way() -> None:
    """Its own room counts as taken once it is released; it must not refuse itself."""
    pinned = replace(pod("a", gpus=8, on="n1"), bound=False)
    cache = cache_of(node("n1"), pinned)

    assert answer(pinned, [N1], cache, Reservations()).node == N1


def test_a_port_that_is_taken_is_told_as_such() -> None:
    """The refusal would speak of room, of which there is enough."""
    pinned = replace(pod("a", on="n1", ports=(80,)), bound=False)
    cache = cache_of(node("n1"), node("n2"), pinned)

    other = pod("b", ports=(80,))

    assert answer(pinned, [N1], cache, Reservations()).node == N1
    assert answer(other, [N1, N2], cache, Reservations()).node == N2
    refused = answer(other, [N1], cache, Reservations())
    assert reasons(refused) == {"n1": Reason.HOST_PORT_TAKEN}


def test_a_pod_that_the_plan_before_has_pinned_is_let_in() -> None:
    """Seen: a new plan had another home for it, and it waited between the two for ever."""
    pinned = replace(pod("a", gpus=8, on="n1"), bound=False)
    other = pod("b", gpus=8)
    cache = cache_of(node("n1"), node("n2"), pinned, other)
    binds = tuple(
        Bind(pod=each.key, uid=each.uid, node=on) for each, on in ((pinned, N2), (other, N1))
    )
    reservations = Reservations(Plan(certificate=CERTIFICATE, binds=binds))

    assert answer(pinned, [N1], cache, reservations).node == N1


def test_a_pod_without_a_plan_gets_a_node_with_room() -> None:
    """Ungated pods would wait although there is room."""
    cache = cache_of(node("n1"), node("n2"), pod("b", gpus=8, on="n1"))

    assert answer(pod("a"), [N1, N2], cache, Reservations()).node == N2


def test_a_pod_without_a_plan_goes_where_it_breaks_the_least() -> None:
    """Single-GPU pods would nibble at empty 8-GPU nodes."""
    cache = cache_of(node("n1"), node("n2"), node("n3"), pod("b", gpus=5, on="n2"))

    assert answer(pod("a"), [N1, N2, N3], cache, Reservations()).node == N2
    assert answer(pod("c", gpus=4), [N1, N2, N3], cache, Reservations()).node == N1


def test_a_choice_names_the_runner_up_and_the_room_beside_promises() -> None:
    """The explanation would speak of room that is not to be had."""
    waiting = pod("w", gpus=6)
    cache = cache_of(node("n1"), node("n2"), node("n3"), waiting, pod("b", gpus=8, on="n3"))

    choice = answer(pod("a", gpus=2), [N1, N2, N3], cache, planned(waiting, N2)).choice

    assert choice is not None
    assert {choice.node, choice.runner_up} == {N1, N2}
    rooms = {choice.node: choice.room, choice.runner_up: choice.runner_up_room}
    assert (rooms[N1][GPU], rooms[N2][GPU]) == (8, 2)


def test_a_pod_that_no_node_takes_is_told_why_by_node() -> None:
    """`kubectl describe pod` would say nothing."""
    cache = cache_of(node("n1", gpus=1), node("n2"), pod("b", gpus=8, on="n2"))

    reply = answer(pod("a", gpus=2), [N1, N2, N3], cache, Reservations())

    assert reply.node is None
    assert reasons(reply) == {
        "n1": Reason.TOO_SMALL,
        "n2": Reason.INSUFFICIENT_ROOM,
        "n3": Reason.NO_NODES,
    }


def test_a_pod_that_was_seen_on_a_node_is_told_that_node() -> None:
    """The binding's reply was lost, and the scheduler asks again."""
    bound = pod("a", gpus=8, on="n2")
    cache = cache_of(node("n1"), node("n2"), bound)

    again = replace(bound, node=None)

    assert answer(again, [N1, N2], cache, Reservations()).node == N2


def test_room_that_a_plan_has_promised_is_refused_to_others() -> None:
    """A gang would come to find half its homes taken."""
    waiting = pod("a", gpus=8)
    cache = cache_of(node("n1"), node("n2"), waiting)

    reservations = planned(waiting, N1)

    assert answer(pod("b", gpus=1), [N1, N2], cache, reservations).node == N2
    assert reasons(answer(pod("b"), [N1], cache, reservations)) == {"n1": Reason.RESERVED}


def test_a_promise_ends_when_its_pod_has_arrived() -> None:
    """Room would be counted twice: once for the pod, once for its promise."""
    waiting = pod("a", gpus=4)
    cache = cache_of(node("n1"), waiting)
    reservations = planned(waiting, N1)

    cache.set_pod(replace(waiting, node=N1, waiting=False))

    assert answer(pod("b", gpus=4), [N1], cache, reservations).node == N1


def test_the_target_of_a_move_is_held_until_somebody_has_taken_the_victims_place() -> None:
    """The moved pod would find its new home taken and lose its room."""
    victim = pod("v", gpus=4, on="n1")
    move = Move(
        pod=victim.key, uid=victim.uid, source=N1, target=N2, owner=victim.owner, priority=0
    )
    reservations = Reservations(Plan(certificate=CERTIFICATE, moves=(move,)))
    cache = cache_of(node("n1"), node("n2", gpus=4), victim)

    assert reasons(answer(pod("b"), [N2], cache, reservations)) == {"n2": Reason.RESERVED}

    cache.remove_pod(victim.key)
    assert reasons(answer(pod("b"), [N2], cache, reservations)) == {"n2": Reason.RESERVED}

    taken = replace(pod("v-2", gpus=4, on="n2"), bound=False, replaces=victim.uid)
    cache.set_pod(taken)
    assert answer(taken, [N2], cache, reservations).node == N2
    assert reasons(answer(pod("b"), [N2], cache, reservations)) == {"n2": Reason.INSUFFICIENT_ROOM}


def test_an_unknown_node_is_refused() -> None:
    """A node the watch has not shown yet cannot be judged."""
    assert reasons(answer(pod("a"), [N1], Cache(), Reservations())) == {"n1": Reason.NO_NODES}


def test_an_assumed_pod_takes_its_room_from_the_next_one() -> None:
    """Two pods asked about in a row would be promised the same GPUs."""
    first, second = pod("a", gpus=8), pod("b", gpus=8)
    cache = cache_of(node("n1"), first, second)

    cache.assume(first, N1, until=30.0)

    assert answer(second, [N1], cache, Reservations()).node is None
    assert answer(first, [N1], cache, Reservations()).node == N1


def test_a_pod_that_our_watch_has_not_shown_takes_room_all_the_same() -> None:
    """The scheduler's watch may be ahead of ours: two pods would be told the same room."""
    unseen, second = pod("a", gpus=8), pod("b", gpus=8)
    cache = cache_of(node("n1"))

    cache.assume(unseen, N1, until=30.0)

    assert answer(second, [N1], cache, Reservations()).node is None


def test_a_promise_is_not_held_twice_once_its_pod_is_assumed_there() -> None:
    """The rest of the node would look full until the watch shows the pod."""
    waiting = pod("a", gpus=4)
    cache = cache_of(node("n1"), waiting)
    reservations = planned(waiting, N1)

    cache.assume(waiting, N1, until=30.0)

    assert answer(pod("b", gpus=4), [N1], cache, reservations).node == N1


def test_a_promise_is_held_while_its_pod_is_assumed_elsewhere() -> None:
    """An older plan had told it another node; the newer one's room would go to others."""
    waiting = pod("a", gpus=4)
    cache = cache_of(node("n1"), node("n2"), waiting)
    reservations = planned(waiting, N1)

    cache.assume(waiting, N2, until=30.0)

    assert answer(pod("b", gpus=8), [N1], cache, reservations).node is None


def test_a_reply_that_was_lost_is_given_again() -> None:
    """Another node would be told now, and the room on the first one be lost until the end."""
    first, later = pod("a", gpus=4), pod("b", gpus=8)
    cache = cache_of(node("n1"), node("n2"), first, later, pod("x", gpus=4, on="n1"))
    cache.assume(first, N2, until=30.0)

    assert answer(first, [N1, N2], cache, Reservations()).node == N2
    assert answer(first, [N1], cache, Reservations()).node == N1
    assert answer(first, [N1, N2], cache, planned(later, N2)).node == N1


def test_a_promise_is_for_the_pod_that_was_planned() -> None:
    """Room would be kept for a pod that nobody has decided on."""
    old, again = pod("a", gpus=8), replace(pod("a", gpus=8), uid="uid-again")
    cache = cache_of(node("n1"), again)

    assert answer(pod("b", gpus=8), [N1], cache, planned(old, N1)).node == N1


@pytest.mark.parametrize(
    "there",
    [
        [pod("x", gpus=8, on="n1"), pod("y", gpus=6, on="n1")],
        [
            pod("x", gpus=8, on="n1"),
            node("n2", gpus=16),
            replace(pod("q", gpus=16, on="n2"), bound=False),
        ],
    ],
    ids=["who runs on an over-full node", "a pin to another node"],
)
def test_only_a_pin_that_cannot_be_kept_leaves_its_room(there: list[Node | Pod]) -> None:
    """A planned pod would be bound where there is no room."""
    waiting = pod("a", gpus=2)
    cache = cache_of(node("n1"), waiting, *there)

    assert answer(waiting, [N1], cache, planned(waiting, N1)).node is None


def test_a_late_repetition_of_an_older_call_frees_no_room() -> None:
    """Seen: the pod was bound on the first node by then, and that was told to another one."""
    first, second = pod("a", gpus=8), pod("b", gpus=8)
    cache = cache_of(node("n1"), node("n2"), first, second)
    cache.assume(first, N1, until=30.0)

    late = answer(first, [N2], cache, Reservations())
    assert late.node == N2
    cache.assume(first, N2, until=40.0)

    assert answer(second, [N1, N2], cache, Reservations()).node is None
    assert answer(first, [N1], cache, Reservations()).node == N1
    cache.expire(30.0)
    assert answer(second, [N1, N2], cache, Reservations()).node == N1


def test_a_pod_that_the_plan_moves_is_where_the_plan_saw_it() -> None:
    """Seen: a call from before its binding got the room that was promised to what replaces it."""
    moved = pod("a", gpus=4, owner="team")
    cache = cache_of(node("n1"), node("n2"), moved)  # the watch of pods is behind that of plans
    move = Move(pod=moved.key, uid=moved.uid, source=N1, target=N2, owner=None, priority=0)
    reservations = Reservations(Plan(certificate=CERTIFICATE, moves=(move,)))

    refused = answer(moved, [N2], cache, reservations)

    assert reasons(refused) == {"n2": Reason.PLANNED_ELSEWHERE}
    assert answer(moved, [N1, N2], cache, reservations).node == N1


def evicting(newcomer: Pod, *victims: Pod) -> Reservations:
    """Return what a plan reserves that makes room for `newcomer` on n1."""
    bind = Bind(pod=newcomer.key, uid=newcomer.uid, node=N1)
    evictions = tuple(Evict(pod=v.key, uid=v.uid, node=N1, priority=0) for v in victims)
    return Reservations(Plan(certificate=CERTIFICATE, binds=(bind,), evictions=evictions))


def test_preemption_agrees_to_victims_of_the_plan_that_are_leaving() -> None:
    """The scheduler may do on the planned node what is done anyway; it does so without a drain."""
    newcomer, victim, other = pod("a"), pod("v"), pod("w")
    reservations = evicting(newcomer, victim, other)
    proposed = {N1: (victim.uid,), N2: ("uid-x",)}

    assert agreed(newcomer.uid, proposed, reservations, [newcomer, victim, other]) == {}
    leaving = replace(victim, terminating=True)
    known = [newcomer, leaving, other, pod("stranger", terminating=True)]
    assert agreed(newcomer.uid, proposed, reservations, known) == {N1: (victim.uid,)}
    both = {N1: (victim.uid, other.uid)}
    gone = [newcomer, leaving, replace(other, terminating=True)]
    assert agreed(newcomer.uid, both, reservations, gone) == both


@pytest.mark.parametrize(
    ("uid", "proposed"),
    [
        ("uid-a", {N1: ("uid-v", "uid-x")}),
        ("uid-a", {N2: ("uid-v",)}),
        ("uid-a", {N1: ()}),
        ("uid-b", {N1: ("uid-v",)}),
    ],
    ids=["a pod that stays", "another node", "nobody", "for a pod without a plan"],
)
def test_preemption_beyond_the_plan_is_not_agreed_to(
    uid: str, proposed: dict[NodeName, tuple[str, ...]]
) -> None:
    """The scheduler knows no budget and no other node: pods would die for nothing."""
    leaving = [replace(pod(name), terminating=True) for name in ("v", "x")]
    assert agreed(uid, proposed, evicting(pod("a"), pod("v")), leaving) == {}


def test_a_pod_shown_to_autoscalers_is_kept_off_every_node_but_its_home() -> None:
    """Half of a gang would run on the nodes that have room for one of its pods."""
    shown = replace(pod("p"), offered=True)
    cache = cache_of(node("n1"), node("n2"), shown)

    assert answer(shown, [N1, N2], cache, planned(shown, N1)).node is None
    homed = replace(shown, node=N1, waiting=False, bound=False)
    assert answer(homed, [N1, N2], cache, Reservations()).node == N1
    assert answer(homed, [N2], cache, Reservations()).node is None


def test_a_pin_that_cannot_be_kept_keeps_nobody_from_its_planned_home() -> None:
    """A pod that is never scheduled would close a node to the plan."""
    waiting = pod("a", gpus=8)
    phantom = replace(pod("x", gpus=16, on="n1"), bound=False)
    cache = cache_of(node("n1"), waiting, phantom)

    assert answer(waiting, [N1], cache, planned(waiting, N1)) == Answer(node=N1)


def test_a_pin_that_will_be_kept_keeps_its_room() -> None:
    """The node would be given to two."""
    waiting = pod("a", gpus=8)
    sure = replace(pod("x", gpus=8, on="n1"), bound=False)
    cache = cache_of(node("n1"), waiting, sure)

    assert answer(waiting, [N1], cache, planned(waiting, N1)).node is None


def test_a_home_in_an_annotation_gives_no_right_to_promised_room() -> None:
    """Whoever writes an annotation would get what a plan holds for another."""
    waiting = pod("a", gpus=8)
    claims = replace(pod("x", gpus=8, on="n1"), bound=False, offered=True)
    cache = cache_of(node("n1"), waiting, claims)

    assert answer(claims, [N1], cache, planned(waiting, N1)).node is None
    assert answer(claims, [N1], cache, planned(claims, N1)).node == N1
