"""What kube-scheduler is told about one pod."""

from dataclasses import replace

from bayplan.answers import Answer, Reservations, answer, scores
from bayplan.cache import Cache
from bayplan.plan import Bind, Certificate, Move, Plan, Reason, Verdict
from bayplan.policy import Order
from bayplan.snapshot import Node, NodeName, Pod
from tests.builders import node, pod

CERTIFICATE = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
N1, N2 = NodeName("n1"), NodeName("n2")


def cache_of(*things: Node | Pod) -> Cache:
    """Return a cache that has seen these."""
    cache = Cache()
    for thing in things:
        if isinstance(thing, Node):
            cache.set_node(thing)
        else:
            cache.set_pod(thing)
    return cache


def planned(waiting: Pod, on: NodeName) -> Reservations:
    """Return what a plan reserves that gives `waiting` the node `on`."""
    bind = Bind(pod=waiting.key, uid=waiting.uid, node=on)
    return Reservations(Plan(certificate=CERTIFICATE, binds=(bind,)))


def reasons(reply: Answer) -> dict[str, Reason]:
    """Return why each refused node was refused."""
    return {name: why.reason for name, why in reply.refused}


def test_a_planned_pod_is_told_its_one_node() -> None:
    """The scheduler would put it where its own scores like it."""
    waiting = pod("a")
    cache = cache_of(node("n1"), node("n2"), waiting)

    reply = answer(waiting, [N1, N2], cache, planned(waiting, N2))

    assert reply.nodes == (N2,)
    assert reasons(reply) == {"n1": Reason.PLANNED_ELSEWHERE}


def test_a_pod_pinned_to_a_full_node_does_not_stand_in_its_own_way() -> None:
    """Its own room counts as taken once it is released; it must not refuse itself."""
    pinned = replace(pod("a", gpus=8, on="n1"), bound=False)
    cache = cache_of(node("n1"), pinned)

    assert answer(pinned, [N1], cache, Reservations()).nodes == (N1,)


def test_a_port_that_is_taken_is_told_as_such() -> None:
    """The refusal would speak of room, of which there is enough."""
    pinned = replace(pod("a", on="n1", ports=(80,)), bound=False)
    cache = cache_of(node("n1"), node("n2"), pinned)

    assert answer(pinned, [N1], cache, Reservations()).nodes == (N1,)
    reply = answer(pod("b", ports=(80,)), [N1, N2], cache, Reservations())
    assert reply.nodes == (N2,)
    assert reasons(reply) == {"n1": Reason.HOST_PORT_TAKEN}


def test_a_pod_that_the_plan_before_has_pinned_is_let_in() -> None:
    """Seen: a new plan had another home for it, and it waited between the two for ever."""
    pinned = replace(pod("a", gpus=8, on="n1"), bound=False)
    other = pod("b", gpus=8)
    cache = cache_of(node("n1"), node("n2"), pinned, other)
    binds = tuple(
        Bind(pod=each.key, uid=each.uid, node=on) for each, on in ((pinned, N2), (other, N1))
    )
    reservations = Reservations(Plan(certificate=CERTIFICATE, binds=binds))

    assert answer(pinned, [N1], cache, reservations).nodes == (N1,)


def test_a_pod_without_a_plan_gets_every_node_with_room() -> None:
    """Ungated pods would wait although there is room."""
    cache = cache_of(node("n1"), node("n2"), pod("b", gpus=8, on="n2"))

    reply = answer(pod("a"), [N1, N2], cache, Reservations())

    assert reply.nodes == (N1,)
    assert reasons(reply) == {"n2": Reason.INSUFFICIENT_ROOM}


def test_room_that_a_plan_has_promised_is_refused_to_others() -> None:
    """A gang would come to find half its homes taken."""
    waiting = pod("a", gpus=8)
    cache = cache_of(node("n1"), node("n2"), waiting)

    reply = answer(pod("b", gpus=1), [N1, N2], cache, planned(waiting, N1))

    assert reply.nodes == (N2,)
    assert reasons(reply) == {"n1": Reason.RESERVED}


def test_a_promise_ends_when_its_pod_has_arrived() -> None:
    """Room would be counted twice: once for the pod, once for its promise."""
    waiting = pod("a", gpus=4)
    cache = cache_of(node("n1"), waiting)
    reservations = planned(waiting, N1)

    cache.set_pod(replace(waiting, node=N1, waiting=False))

    assert answer(pod("b", gpus=4), [N1], cache, reservations).nodes == (N1,)


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
    assert answer(taken, [N2], cache, reservations).nodes == (N2,)
    assert reasons(answer(pod("b"), [N2], cache, reservations)) == {"n2": Reason.INSUFFICIENT_ROOM}


def test_an_unknown_node_is_refused() -> None:
    """A node the watch has not shown yet cannot be judged."""
    assert reasons(answer(pod("a"), [N1], Cache(), Reservations())) == {"n1": Reason.NO_NODES}


def test_an_assumed_pod_takes_its_room_from_the_next_one() -> None:
    """Two pods asked about in a row would be promised the same GPUs."""
    first, second = pod("a", gpus=8), pod("b", gpus=8)
    cache = cache_of(node("n1"), first, second)

    cache.assume(first.key, N1, until=30.0)

    assert answer(first, [N1], cache, Reservations()).nodes == (N1,)
    assert answer(second, [N1], cache, Reservations()).nodes == ()


def test_the_best_score_goes_where_no_whole_slot_is_broken() -> None:
    """Single-GPU pods would nibble at empty 8-GPU nodes."""
    cache = cache_of(node("n1"), node("n2"), pod("b", gpus=5, on="n2"))

    marks = scores(pod("a"), [N1, N2], cache)

    assert (marks[N1], marks[N2]) == (0, 10)


def test_scores_stay_within_the_protocol() -> None:
    """kube-scheduler multiplies them without a look."""
    full = [pod(f"p{i}", gpus=i, on=f"n{i}") for i in range(1, 8)]
    cache = cache_of(*[node(f"n{i}") for i in range(1, 8)], *full)

    marks = scores(pod("a"), [NodeName(f"n{i}") for i in range(1, 8)], cache)

    assert set(marks.values()) <= set(range(11))
