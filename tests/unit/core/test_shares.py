"""Shares of GPUs from the pod's annotation to its release: one case that can be had, one not."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan import slots, steps
from bayplan.answers import Reservations, answer
from bayplan.api import names
from bayplan.cache import Cache
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.codec import DecodeError, plan_manifest, pod_of, published_plan_of
from bayplan.online.advisor import Advisor
from bayplan.plan import (
    Bind,
    Certificate,
    Evict,
    Hold,
    Move,
    Plan,
    Reason,
    Result,
    Verdict,
    plan_of,
)
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.preparation import prepared
from bayplan.rules import filters
from bayplan.solver.exact.constraints import allowed
from bayplan.solver.local import ejection, exchange, greedy
from bayplan.solver.problem.assignment import present
from bayplan.solver.problem.counting import build
from bayplan.solver.problem.goals import Place
from bayplan.solver.problem.instance import PlaceGroup
from bayplan.validate import Code, validate
from tests.builders import GPU, node, pod, snapshot

POLICY = Policy()
N = NodeName("n")
CERTIFICATE = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.IMPROVED)
FIXED: dict[str, Any] = {"disruption": Disruption.FIXED}


def raw_pod(annotations: dict[str, Any], *, on: str = "", gpus: str = "") -> dict[str, Any]:
    """Return a pod with annotations as the API server prints it."""
    owner = {"kind": "ReplicaSet", "name": "web", "uid": "rs-1", "controller": True}
    resources = {"limits": {GPU: gpus}} if gpus else {}
    where = {"nodeName": on} if on else {"schedulingGates": [{"name": names.GATE}]}
    return {
        "metadata": {
            "name": "a",
            "namespace": "ns",
            "uid": "u",
            "labels": {names.LABEL_MANAGED: "true"},
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": {
            "schedulerName": names.SCHEDULER,
            "containers": [{"name": "c", "resources": resources}],
            **where,
        },
    }


def read(annotations: dict[str, Any], *, on: str = "", gpus: str = "") -> Pod:
    """Return what is read of such a pod."""
    found = pod_of(raw_pod(annotations, on=on, gpus=gpus))
    assert found is not None
    return found


def bind(of: Pod, device: int | None, to: str = "n") -> Bind:
    """Return the pod's bind with a GPU."""
    return Bind(pod=of.key, uid=of.uid, node=NodeName(to), device=device)


def planned(*actions: Bind | Move | Evict | Hold) -> Plan:
    """Return a plan of these actions."""
    return plan_of(CERTIFICATE, actions)


def codes(plan_: Plan, *things: Node | Pod) -> set[Code]:
    """Return what is wrong with a plan."""
    return {violation.code for violation in validate(snapshot(*things), POLICY, plan_)}


def made(*things: Node | Pod, policy: Policy = POLICY) -> Plan:
    """Return the plan, which must be valid and proved."""
    of = snapshot(*things)
    found = plan(of, policy, clock=lambda: 0.0).plan
    assert validate(of, policy, found) == ()
    assert found.certificate.gap == 0
    return found


def homes(found: Plan) -> dict[str, tuple[str, int | None]]:
    """Return node and GPU of each pod that is placed."""
    return {each.pod.name: (str(each.node), each.device) for each in found.binds}


# What a pod asks for.


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        *(("0.5", 500), ("0.25", 250), ("500m", 500), ("0.4001", 401), ("0.0001", 1)),
        # As many go on a GPU as really do.
        *(("0.33", 330), ("0.333", 333), ("0.3333", 333), ("0.3333333333333333", 333)),
        *(("0.16666", 166), ("0.142857", 142), ("0.0909", 90)),
        # And no more than that.
        *(("0.3334", 334), ("0.1667", 167), ("0.0015", 2)),
    ],
)
def test_a_share_is_read_in_thousandths_of_which_as_many_fit(text: str, milli: int) -> None:
    """Seen: three thirds did not fit on one GPU. Three thirds and a bit must not."""
    found = read({"gpu-fraction": text})

    assert found.requests.share_milli == milli
    assert found.requests.device is None
    assert found.waiting


@given(parts=st.integers(1, 999_999))
def test_no_more_equal_shares_fit_than_a_gpu_has(parts: int) -> None:
    """A GPU would be over-committed by a kind of share alone."""
    milli = read({"gpu-fraction": f"{parts / 1_000_000:.6f}"}).requests.share_milli

    assert 1000 // milli <= 1_000_000 // parts
    assert milli * 1000 > parts - 1000


@pytest.mark.parametrize("text", ["0", "1", "1.5", "-0.5", "half", "", "nan", 2, ["0.5"]])
def test_what_is_no_share_is_told_with_the_field_and_what_to_write(text: object) -> None:
    """The pod would be planned by its other requests, onto a GPU that is full."""
    with pytest.raises(DecodeError) as caught:
        read({"gpu-fraction": text})

    assert caught.value.where == "Pod ns/a"
    assert caught.value.path == "metadata.annotations.gpu-fraction"
    assert 'above 0 and below 1 such as "0.5"' in caught.value.problem


def test_a_share_beside_whole_gpus_is_refused() -> None:
    """Nobody could say which of both the pod needs."""
    with pytest.raises(DecodeError, match="asks for 2 GPUs as well; remove the annotation or"):
        read({"gpu-fraction": "0.5"}, gpus="2")


def test_a_running_share_is_on_the_gpu_that_its_annotation_says() -> None:
    """Two shares on one GPU would count as two GPUs."""
    known = read({"gpu-fraction": "0.5", names.ANNOTATION_GPU_DEVICE: "3"}, on="n")

    assert (known.requests.device, known.requests.share_milli) == (3, 500)
    assert known.disruption is Disruption.MOVABLE


@pytest.mark.parametrize("number", ["", "-1", "x", "99999", "٣"])
def test_a_running_share_on_an_unknown_gpu_stays(number: str) -> None:
    """Nobody would know which GPU becomes free, and for whom."""
    found = read({"gpu-fraction": "0.5", names.ANNOTATION_GPU_DEVICE: number}, on="n")

    assert (found.requests.device, found.requests.share_milli) == (None, 500)
    assert found.disruption is Disruption.FIXED


@pytest.mark.parametrize(("text", "gpus"), [("half", ""), ("0.5", "1"), ("7", "1")])
def test_a_running_pod_that_cannot_be_read_keeps_a_whole_gpu(text: str, gpus: str) -> None:
    """It would vanish, and its room be given away."""
    found = read({"gpu-fraction": text}, on="n", gpus=gpus)

    assert found.requests[GPU] == 1
    assert found.requests.share_milli == 0
    assert found.disruption is Disruption.FIXED


# What is decided.


def test_two_shares_of_more_than_a_half_get_two_gpus() -> None:
    """They would land on one, and both fail."""
    one = made(node("n", gpus=1), pod("a", share=600), pod("b", share=600))
    two = made(node("n", gpus=2), pod("a", share=600), pod("b", share=600))

    assert homes(one) == {"a": ("n", 0)}
    assert homes(two) == {"a": ("n", 0), "b": ("n", 1)}


def test_shares_that_fit_beside_each_other_share_a_gpu() -> None:
    """Each would break another whole GPU."""
    found = made(node("n", gpus=2), pod("a", share=600), pod("b", share=400), pod("c", gpus=1))

    assert homes(found) == {"a": ("n", 0), "b": ("n", 0), "c": ("n", None)}


def test_a_whole_gpu_is_nobody_elses() -> None:
    """A share would run on the GPU of a pod that asked for a whole one."""
    found = made(node("n", gpus=1), pod("a", gpus=1, on="n", **FIXED), pod("b", share=100))

    assert homes(found) == {}


def test_a_share_goes_beside_one_that_runs() -> None:
    """What is left of a GPU would be lost."""
    runs = pod("r", share=700, on="n", device=5, **FIXED)

    fits = made(
        node("n", gpus=8), *(pod(f"w{i}", gpus=1) for i in range(7)), runs, pod("b", share=300)
    )
    not_so = made(
        node("n", gpus=8), *(pod(f"w{i}", gpus=1) for i in range(7)), runs, pod("b", share=301)
    )

    assert homes(fits)["b"] == ("n", 5)
    assert len(homes(fits)) == 8
    # One of the eight waits, whichever it is.
    assert len(homes(not_so)) == 7


def test_a_share_on_an_unknown_gpu_counts_as_a_whole_one() -> None:
    """Somebody would get the GPU that it is on."""
    unknown = pod("r", share=100, on="n", **FIXED)

    assert homes(made(node("n", gpus=1), unknown, pod("a", share=100))) == {}
    assert homes(made(node("n", gpus=2), unknown, pod("a", share=100))) == {"a": ("n", 0)}


def test_shares_move_together_to_free_a_gpu() -> None:
    """A pod would wait for a GPU that two halves could leave."""
    found = made(
        node("n", gpus=2),
        node("m", gpus=1),
        pod("x", share=600, on="n", device=0),
        pod("y", share=400, on="n", device=1),
        pod("w", gpus=2),
    )

    assert homes(found) == {"w": ("n", None)}
    assert {(move.pod.name, str(move.target), move.device) for move in found.moves} == {
        ("x", "m", 0),
        ("y", "m", 0),
    }


def test_a_share_gives_way_to_a_higher_tier_only_where_that_helps() -> None:
    """Somebody would be evicted from a GPU on which the newcomer has no room all the same."""
    low = [
        pod(f"l{d}", share=300, on="n", device=d, disruption=Disruption.EVICTABLE) for d in (0, 1)
    ]
    stays = pod("s", share=300, on="n", device=0, **FIXED)

    found = made(node("n", gpus=2), *low, stays, pod("h", share=800, priority=10))

    assert [each.pod.name for each in found.evictions] == ["l1"]
    assert homes(found) == {"h": ("n", 1)}


def test_whoever_is_over_full_already_stays_and_nobody_joins() -> None:
    """A plan would be refused for what it has not done, or make it worse."""
    crowd = [pod(f"r{i}", share=600, on="n", device=0, **FIXED) for i in range(2)]

    assert homes(made(node("n", gpus=4), *crowd, pod("a", share=100), pod("b", gpus=1))) == {}


@pytest.mark.parametrize("devices", [(0, 0), (None, None)], ids=["one GPU", "one GPU too few"])
@pytest.mark.parametrize("disruption", [Disruption.FIXED, Disruption.MOVABLE])
def test_shares_that_are_too_much_are_in_nobodys_way_who_asks_for_no_gpu(
    devices: tuple[int | None, ...], disruption: Disruption
) -> None:
    """A node would stay without pods of any kind for two numbers that cannot be."""
    kept = disruption if devices[0] is not None else Disruption.FIXED
    crowd = [
        pod(f"r{i}", share=600, on="n", device=device, disruption=kept)
        for i, device in enumerate(devices)
    ]
    cpu = pod("cpu", gpus=0, cpu_milli=1000)

    found = made(node("n", gpus=1), *crowd, cpu, pod("gpu", gpus=1), pod("share", share=300))

    assert homes(found) == {"cpu": ("n", None)}


def test_nobody_gets_a_gpu_of_a_node_with_too_much_on_one() -> None:
    """Planner, explainer and webhook would each say something else of the GPUs beside it."""
    crowd = [pod(f"r{i}", share=600, on="n", device=0, **FIXED) for i in range(2)]
    room = snapshot(node("n", gpus=4), *crowd).free()[N]
    asks = [pod("whole", gpus=1), pod("share", share=100), pod("cpu", gpus=0)]

    assert [each.requests.fits(room) for each in asks] == [False, False, True]
    # Who has its GPU from a plan already asks for nothing of the other ones.
    assert pod("planned", share=100, device=1).requests.fits(room)
    refusals = [filters.room_rejection(each.requests, room) for each in asks]
    assert [refusal and refusal.message for refusal in refusals] == [
        "needs 1 GPU; 0 free on the node",
        "needs 0.1 of a GPU; no part of one is free on the node",
        None,
    ]


def test_who_is_over_full_stays_while_others_move() -> None:
    """The exact model would have no solution, and prove nothing."""
    found = made(
        node("crowded", gpus=2),
        node("n", gpus=2),
        node("m", gpus=1),
        *(pod(f"r{i}", share=600, on="crowded", device=0) for i in range(2)),
        pod("x", share=600, on="n", device=0),
        pod("y", share=400, on="n", device=1),
        pod("w", gpus=2),
    )

    assert homes(found) == {"w": ("n", None)}
    assert sorted(move.pod.name for move in found.moves) == ["x", "y"]


def test_a_defragmentation_leaves_shares_on_their_gpus() -> None:
    """A drained node would be filled with shares that do not fit."""
    policy = replace(POLICY, order=Order.DEFRAGMENT)
    found = made(
        node("n", gpus=2),
        node("m", gpus=2),
        pod("x", share=600, on="n", device=0),
        pod("y", share=600, on="m", device=0),
        policy=policy,
    )

    assert [move.device for move in found.moves] == [1]
    assert found.certificate.stages[-1].value == 2


def test_a_gpu_that_is_shared_is_no_part_of_a_slot() -> None:
    """A window would find nothing to win, and metrics would promise whole nodes."""
    seen = snapshot(
        node("n"),
        node("m"),
        pod("x", share=500, on="n", device=0),
        pod("y", share=400, on="m", device=0),
    )
    moves = plan(seen, replace(POLICY, order=Order.DEFRAGMENT), clock=lambda: 0.0).plan

    assert slots.free_slots(seen)[8] == 0
    assert slots.won(seen, moves) == (8, 1)


# Why not, and what would help.


def test_the_refusal_says_which_share_does_not_fit_and_what_is_left() -> None:
    """The sums would suggest that there is enough."""
    runs = [pod(f"r{d}", share=600, on="n", device=d, **FIXED) for d in range(2)]

    (hold,) = made(node("n", gpus=2), *runs, pod("a", share=500)).holds

    assert hold.rejection.reason is Reason.OUTRANKED
    assert hold.rejection.message == (
        "needs 0.5 of a GPU; pods of priority >= 0 and pods that must stay leave at most 0.4 of one"
    )
    assert hold.remedy == (
        "free 0.5 of a GPU on n (at most 0.4 of one is free), or add 1 node like n (2 GPUs)"
    )


def test_that_nothing_is_left_of_any_gpu_is_said_so() -> None:
    """Seen: "at most 0 of one is free", which reads as if somebody had counted wrongly."""
    runs = [pod(f"r{d}", share=1000, on="n", device=d, **FIXED) for d in range(2)]

    (hold,) = made(node("n", gpus=2), *runs, pod("a", share=500)).holds

    assert hold.rejection.message == (
        "needs 0.5 of a GPU; pods of priority >= 0 and pods that must stay leave no part of one"
    )
    assert hold.remedy == (
        "free 0.5 of a GPU on n (no part of one is free), or add 1 node like n (2 GPUs)"
    )


def test_the_remedy_names_a_share_whose_going_is_enough() -> None:
    """People would evict somebody from a GPU that is then still too full."""
    small = pod("small", share=300, on="n", device=0, priority=5)
    large = pod("large", share=600, on="n", device=1, priority=5)
    fixed = pod("fixed", share=600, on="n", device=0, priority=5, **FIXED)

    (hold,) = made(node("n", gpus=2), small, large, fixed, pod("a", share=900)).holds

    assert "the owner of default/large (priority 5;" in hold.remedy


def test_what_one_gpu_never_holds_on_a_node_without_any() -> None:
    """It would look like a matter of waiting."""
    (hold,) = made(node("n", gpus=0), pod("a", share=500)).holds

    assert hold.rejection.reason is Reason.TOO_SMALL
    assert hold.rejection.message == "needs 0.5 of a GPU; no node has a GPU to share"


def test_a_gang_of_shares_waits_whole() -> None:
    """The sum of its shares is one and a half GPUs, of which there are two."""
    gang = [pod(f"g{i}", share=600, gang="g", min_count=3) for i in range(3)]

    short, enough = made(node("n", gpus=2), *gang), made(node("n", gpus=3), *gang)

    assert homes(short) == {}
    assert {hold.rejection.reason for hold in short.holds} == {Reason.GANG_DOES_NOT_FIT}
    assert "3 x 0.6 of a GPU): 2 of its 3 pods have room" in short.holds[0].rejection.message
    assert sorted(device for _, device in homes(enough).values() if device is not None) == [0, 1, 2]


def test_members_of_a_gang_share_gpus_in_what_is_told() -> None:
    """People would be told to add GPUs for pods that have one."""
    sizes = (600, 400, 300)
    gang = [pod(f"g{i}", share=s, gang="g", min_count=3) for i, s in enumerate(sizes)]

    short, enough = made(node("n", gpus=1), *gang), made(node("n", gpus=2), *gang)

    assert "2 of its 3 pods have room; beside them g2: 0 of 1" in short.holds[0].rejection.message
    assert len(homes(enough)) == 3


def test_a_gang_of_a_share_and_of_whole_gpus_hears_what_would_help() -> None:
    """More nodes have room for the share than it needs: looking for the rest raised."""
    gang = [pod("g0", share=500, gang="g", min_count=2), pod("g1", gang="g", gpus=8, min_count=2)]
    busy = [pod(f"b{n}", on=f"n{n}", gpus=2 + n, **FIXED) for n in range(2)]

    found = made(node("n0"), node("n1"), *gang, *busy)

    assert homes(found) == {}
    assert "add 1 node" in found.holds[0].remedy


def test_a_share_on_a_gpu_that_is_not_listed_any_more_stops_nobody() -> None:
    """No plan was valid as long as a share waited, and every pod of the cluster was held."""
    lost = pod("lost", on="n0", share=500, device=7)
    waiting = [pod("share", share=500), pod("whole", gpus=8)]

    seen = snapshot(node("n0", gpus=7), node("n1"), lost, *waiting)
    found = plan(prepared(seen, POLICY, plans=(), now=0.0), POLICY, clock=lambda: 0.0).plan

    assert homes(found)["share"] in {("n0", device) for device in range(7)}
    assert homes(found)["whole"] == ("n1", None)


# What the validator thinks of plans that others make.


def test_the_validator_packs_by_itself() -> None:
    """A wrong engine would be believed."""
    a, b, c = pod("a", share=600), pod("b", share=600), pod("c", gpus=1)
    two = node("n", gpus=2)

    assert codes(planned(bind(a, 0), bind(b, 1)), two, a, b) == set()
    assert codes(planned(bind(a, 0), bind(b, 0)), two, a, b) == {Code.OVER_COMMITTED}
    assert codes(planned(bind(a, 0), bind(b, 1), bind(c, None)), two, a, b, c) == {
        Code.OVER_COMMITTED
    }
    assert codes(planned(bind(a, 0), bind(c, None)), two, a, c) == set()


def test_the_validator_knows_what_runs() -> None:
    """A share would be put on a GPU that is full, or beside one that nobody knows."""
    runs, unknown = pod("r", share=500, on="n", device=1), pod("u", share=100, on="n", **FIXED)
    a = pod("a", share=600)

    assert codes(planned(bind(a, 1)), node("n", gpus=2), runs, a) == {Code.OVER_COMMITTED}
    assert codes(planned(bind(a, 0)), node("n", gpus=2), runs, a) == set()
    assert codes(planned(bind(a, 0)), node("n", gpus=2), runs, unknown, a) == {Code.OVER_COMMITTED}
    assert codes(planned(bind(a, 0)), node("n", gpus=3), runs, unknown, a) == set()
    whole = pod("w", gpus=2)
    assert codes(planned(bind(whole, None)), node("n", gpus=2), runs, whole) == {
        Code.OVER_COMMITTED
    }


@pytest.mark.parametrize(("share", "device"), [(600, None), (600, 2), (600, -1), (0, 0)], ids=str)
def test_the_validator_wants_a_gpu_for_each_share_and_for_nobody_else(
    share: int, device: int | None
) -> None:
    """Whoever carries the plan out would not know which GPU to give."""
    a = pod("a", share=share)

    assert codes(planned(bind(a, device)), node("n", gpus=2), a) == {Code.WRONG_DEVICE}


def test_the_validator_wants_the_same_of_those_who_move() -> None:
    """A pod would come back on a GPU that is not there, or on one that it did not ask for."""
    share, whole = pod("s", share=600, on="n", device=0), pod("w", gpus=1, on="n")
    things = (node("n", gpus=2), node("m", gpus=2), share, whole)
    to_m = {
        each.key.name: Move(
            pod=each.key,
            uid=each.uid,
            source=N,
            target=NodeName("m"),
            owner=each.owner,
            priority=0,
        )
        for each in (share, whole)
    }

    def found(name: str, device: int | None) -> set[Code]:
        return codes(planned(replace(to_m[name], device=device)), *things)

    # They move for nobody.
    assert found("s", 0) == found("w", None) == {Code.NO_GAIN}
    assert found("s", None) == found("s", 2) == {Code.NO_GAIN, Code.WRONG_DEVICE}
    assert found("w", 0) == {Code.NO_GAIN, Code.WRONG_DEVICE}


def test_one_gpu_too_many_is_found_beside_pods_that_get_none() -> None:
    """A pod of a plan without shares would be told to share a GPU."""
    a, b = pod("a"), pod("b")

    assert codes(planned(bind(a, None), bind(b, 1)), node("n"), a, b) == {Code.WRONG_DEVICE}


def test_a_share_for_a_node_that_is_gone_is_found() -> None:
    """The pass would end in an error of its own."""
    a = pod("a", share=600)

    assert codes(planned(bind(a, 0, to="gone")), node("n"), a) == {Code.UNKNOWN_NODE}
    assert codes(planned(bind(a, 0)), node("n")) == {Code.UNKNOWN_POD}


def test_a_moved_share_leaves_its_gpu_behind() -> None:
    """Its number belongs to the node that it leaves."""
    runs, other = (pod(name, share=600, on="n", device=1) for name in ("r", "o"))
    other = pod("o", share=600, on="m", device=1)
    move = Move(
        pod=runs.key, uid=runs.uid, source=N, target=NodeName("m"), owner=runs.owner, priority=0
    )
    nodes = (node("n", gpus=2), node("m", gpus=2))

    # It moves for nobody.
    assert codes(planned(replace(move, device=0)), *nodes, runs, other) == {Code.NO_GAIN}
    assert Code.OVER_COMMITTED in codes(planned(replace(move, device=1)), *nodes, runs, other)


# What the engines do alone.


@pytest.mark.parametrize("engine", [ejection, exchange])
def test_chains_and_exchanges_make_room_for_a_share(engine: Any) -> None:  # noqa: ANN401 - a module
    """Only the exact model would, which is for small clusters."""
    instance = build(
        snapshot(
            node("m", gpus=1),
            node("n", gpus=1),
            pod("x", share=300, on="n", device=0),
            pod("y", share=600, on="m", device=0, **FIXED),
            pod("a", share=800),
        )
    )
    start = greedy.fill(instance, Order.PLACE_FIRST)
    goal = Place(PlaceGroup(0, preempts=True))
    assert goal.value(instance, start) == 0

    found = list(engine.improvements(instance, POLICY, start, goal=goal, ended=lambda: False))

    assert goal.value(instance, found[-1]) == 1
    assert allowed(instance, POLICY, found[-1])


def test_the_present_is_allowed_and_one_share_more_on_a_full_gpu_is_not() -> None:
    """An engine's own mistake would go through to the validator, and the whole plan be lost."""
    instance = build(
        snapshot(node("n", gpus=1), pod("r", share=600, on="n", device=0), pod("a", share=300))
    )
    now = present(instance)
    waits = next(i for i, each in enumerate(instance.classes) if each.waiting)
    once, twice = now.final.copy(), now.final.copy()
    once[waits, 0], twice[waits, 0] = 1, 2

    assert allowed(instance, POLICY, now)
    assert allowed(instance, POLICY, replace(now, final=once))
    assert not allowed(instance, POLICY, replace(now, final=twice))


# Carrying it out.


def test_a_share_is_released_with_its_gpu() -> None:
    """Whoever gives pods their GPUs would have to guess."""
    a = pod("a", share=600)

    found = steps.advance(planned(bind(a, 1)), snapshot(node("n", gpus=2), a), POLICY, idle_s=0)

    (step,) = found.todo
    assert isinstance(step, steps.ReleasePod)
    assert (step.node, step.device) == ("n", 1)


def test_a_share_waits_until_its_gpu_has_room() -> None:
    """It would be pinned beside one that is still leaving."""
    leaving = pod("r", share=600, on="n", device=1, terminating=True)
    a = pod("a", share=600)

    found = steps.advance(
        planned(bind(a, 1)), snapshot(node("n", gpus=2), a, leaving), POLICY, idle_s=0
    )

    assert found.todo == ()
    assert found.reports[0].message.startswith("waits for room on n, which default/r ")


def test_a_plan_fails_when_others_took_the_gpu() -> None:
    """Two shares of 0.6 would be released to one GPU, though the node has room elsewhere."""
    other, a = pod("r", share=600, on="n", device=1), pod("a", share=600)

    found = steps.advance(
        planned(bind(a, 1)), snapshot(node("n", gpus=2), a, other), POLICY, idle_s=0
    )

    assert found.phase is steps.Phase.FAILED
    assert found.reports[0].message == ("cannot go to n: others took its room (0.6 of a GPU short)")


def test_room_on_a_gpu_that_the_plan_promises_is_kept() -> None:
    """An ungated pod would take the whole GPU of which a share is promised."""
    promised, whole, share = pod("a", share=600), pod("w", gpus=1), pod("s", share=300)
    cache = Cache()
    cache.set_node(node("n", gpus=1))
    for each in (promised, whole, share):
        cache.set_pod(each)
    reservations, ranking = Reservations(planned(bind(promised, 0))), Advisor(cache)

    assert answer(promised, [N], cache, reservations, ranking).node == N
    assert answer(share, [N], cache, reservations, ranking).node == N
    assert answer(whole, [N], cache, reservations, ranking).node is None


def test_a_published_plan_says_which_gpu() -> None:
    """The operator reads the plan from the API server."""
    a, r = pod("a", share=600), pod("r", share=600, on="m", device=0, owner="web")
    move = Move(pod=r.key, uid=r.uid, source=NodeName("m"), target=N, owner=None, priority=0)
    what = planned(bind(a, 0), replace(move, device=1))

    manifest = plan_manifest(Result(plan=what, digest="d", engine="hand"), sequence=1)

    assert published_plan_of(manifest).plan == what
    assert [action["gpuDevice"] for action in manifest["spec"]["actions"]] == [1, 0]
    manifest["spec"]["actions"][0]["gpuDevice"] = -1
    with pytest.raises(DecodeError, match=r"gpuDevice.*should be the number of a GPU"):
        published_plan_of(manifest)


def test_room_is_told_in_shares() -> None:
    """A person would read resource names that no cluster has."""
    room = Resources.of({GPU: 1})
    asks = pod("a", share=600).requests + pod("b", share=600).requests

    assert asks.shortfall(room + Resources.of({"pods": 9})).items == (("gpu share 600", 1),)
