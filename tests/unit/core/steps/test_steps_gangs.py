"""Carrying out a plan step by step: who need not leave, and gangs that leave or stay whole."""

from dataclasses import replace

import pytest

from bayplan import steps
from bayplan.cluster.pods import Disruption, Pod
from bayplan.steps import Phase
from tests.builders import apart, node, pod
from tests.scenes.steps import advance, bind, done, evict, move, plan, told


@pytest.mark.parametrize(
    "newcomer",
    [
        pytest.param(pod("a", gpus=4), id="its home has come free by itself"),
        pytest.param(pod("a", gpus=4, on="n1"), id="it has its home already"),
    ],
)
def test_nobody_leaves_for_a_newcomer_that_has_room_without(newcomer: Pod) -> None:
    """Seen: a victim whose budget refused it for a minute was evicted when nobody needed it."""
    made = plan(bind("a", "n1"), evict("v", "n1"))

    found = advance(made, node("n1"), newcomer, pod("v", gpus=4, on="n1"))

    assert "evict v from n1" not in done(found)
    assert f"Evict v Done: {steps.SPARED}" in told(found)


def test_a_victim_is_not_spared_for_room_when_somebody_is_kept_apart() -> None:
    """The newcomer would be pinned beside the pod that it excludes, and never bound."""
    shy = pod("a", gpus=1, constraints=apart("host", app="x"))
    victim = pod("v", gpus=1, on="n1", labels={"app": "x"})
    found = advance(plan(bind("a", "n1"), evict("v", "n1")), node("n1"), shy, victim)

    assert "evict v from n1" in done(found)


def test_a_victim_that_keeps_the_newcomer_out_is_not_spared() -> None:
    """There is room for both, and the newcomer would be pinned where it is never bound."""
    shy = pod("v", gpus=1, on="n1", constraints=apart("host", app="x"))
    newcomer = pod("a", gpus=1, labels={"app": "x"})
    found = advance(plan(bind("a", "n1"), evict("v", "n1")), node("n1"), newcomer, shy)

    assert "evict v from n1" in done(found)


def test_who_is_kept_apart_elsewhere_spares_a_victim_all_the_same() -> None:
    """One such pod in a plan would have all of its victims leave for nothing."""
    made = plan(bind("a", "n1"), bind("shy", "n2"), evict("v", "n1"))
    shy = pod("shy", gpus=1, constraints=apart("host", app="x"))

    found = advance(made, node("n1"), node("n2"), shy, pod("a", gpus=1), pod("v", gpus=1, on="n1"))

    assert done(found) == ["release a to n1", "release shy to n2"]


def test_a_victim_is_not_spared_when_one_that_moves_there_is_kept_apart() -> None:
    """Its replacement would be bound nowhere."""
    made = plan(bind("a", "n2"), move("shy", "n2", "n1"), evict("v", "n1"))
    shy = pod("shy", gpus=8, on="n2", constraints=apart("host", app="x"))

    found = advance(
        made, node("n1", gpus=16), node("n2"), shy, pod("a", gpus=8), pod("v", gpus=8, on="n1")
    )

    assert done(found) == ["evict shy from n2", "evict v from n1"]


def test_a_victim_is_spared_for_the_room_of_a_stranger_that_is_leaving() -> None:
    """There is enough in a moment, with what is free and with what that gives back."""
    made = plan(bind("a", "n1"), evict("v", "n1"))
    stranger = pod("s", gpus=4, on="n1", terminating=True)

    found = advance(made, node("n1"), pod("a", gpus=6), pod("v", gpus=2, on="n1"), stranger)

    assert not done(found)
    assert f"Evict v Done: {steps.SPARED}" in told(found)


def test_a_victim_on_a_node_that_is_gone_is_not_asked_to_leave() -> None:
    """Its room is nobody's home any more, and there is nothing to count."""
    made = plan(bind("a", "n1"), evict("v", "n1"))

    found = advance(made, pod("a", gpus=6), pod("v", gpus=2, on="n1"))

    assert (done(found), found.phase) == ([], Phase.FAILED)


def test_a_move_that_is_spared_spares_whom_it_would_have_displaced() -> None:
    """A chain of moves would go on although its first link is not needed."""
    made = plan(bind("a", "n1"), move("v", "n1", "n2"), evict("w", "n2"))
    things = [pod("a", gpus=4), pod("v", gpus=4, on="n1"), pod("w", gpus=8, on="n2")]

    found = advance(made, node("n1"), node("n2"), *things)

    assert done(found) == ["release a to n1"]


def test_a_plan_of_which_a_move_is_spared_is_completed() -> None:
    """It would be at work until it fails, and no better one be made."""
    made = plan(bind("a", "n1"), move("v", "n1", "n2"))
    things = [pod("a", gpus=4, on="n1"), pod("v", gpus=4, on="n1")]

    found = advance(made, node("n1"), node("n2"), *things)

    assert (found.todo, found.phase) == ((), Phase.COMPLETED)
    assert f"Move v Done: {steps.SPARED}" in told(found)


#: Gang g runs on two nodes, and the room of va is for the pod a.
GANG_PLAN = plan(bind("a", "n1"), evict("va", "n1", "g"), evict("vb", "n2", "g"))
VA = pod("va", gpus=4, on="n1", gang="g", min_count=2)
VB = pod("vb", gpus=8, on="n2", gang="g", min_count=2)


def test_a_gang_is_spared_whole() -> None:
    """Seen: a stranger ended, va stayed, and vb was evicted although nobody needed its room."""
    found = advance(GANG_PLAN, node("n1"), node("n2"), VA, VB, pod("a", gpus=4))

    assert done(found) == ["release a to n1"]
    assert told(found)[:2] == [f"Evict {name} Done: {steps.SPARED}" for name in ("va", "vb")]


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([pod("a", gpus=8)], id="its homes are there"),
        pytest.param([], id="its homes are gone"),
    ],
)
@pytest.mark.parametrize(
    "va", [[], [replace(VA, terminating=True)]], ids=["one has left", "one is leaving"]
)
def test_a_gang_that_has_begun_to_leave_goes_whole(others: list[Pod], va: list[Pod]) -> None:
    """Seen: the newcomer was deleted in between, and half the gang stayed, of use to nobody."""
    found = advance(GANG_PLAN, node("n1"), node("n2"), VB, *va, *others, max_parallel=1)

    assert "evict vb from n2" in done(found)
    assert found.phase is Phase.EXECUTING


def test_the_rest_of_a_gang_is_asked_for_alone() -> None:
    """A budget that refuses another victim of the pass would keep it, half of it gone."""
    made = plan(*GANG_PLAN.binds, *GANG_PLAN.evictions, evict("u", "n3"))
    nodes = [node(name) for name in ("n1", "n2", "n3")]

    found = advance(made, *nodes, VB, pod("u", on="n3"), pod("a", gpus=8))

    assert done(found) == ["release a to n1", "evict vb from n2"]


def test_a_gang_of_which_one_may_not_be_disturbed_any_more_stays_whole() -> None:
    """Nobody of it has begun to leave."""
    fixed = replace(VB, disruption=Disruption.FIXED)

    found = advance(GANG_PLAN, node("n1"), node("n2"), VA, fixed, pod("a", gpus=8))

    assert (done(found), found.phase) == ([], Phase.FAILED)


@pytest.mark.parametrize(
    ("on_their_way", "asked"),
    [
        pytest.param(0, ["evict va from n1", "evict vb from n2"], id="nobody is on the way"),
        pytest.param(1, [], id="the rest of the limit is too small for it"),
    ],
)
def test_a_gang_larger_than_the_limit_goes_whole_in_its_turn(
    on_their_way: int, asked: list[str]
) -> None:
    """Member by member, every stop of the plan would find half of it gone."""
    made = plan(*GANG_PLAN.binds, *GANG_PLAN.evictions, evict("u", "n3"))
    u = pod("u", on="n3", terminating=bool(on_their_way))
    nodes = [node(name) for name in ("n1", "n2", "n3")]

    found = advance(made, *nodes, VA, VB, u, pod("a", gpus=8), max_parallel=1)

    assert done(found) == asked


def test_a_gang_is_not_spared_when_a_member_may_be_in_the_way_of_anybody() -> None:
    """One leaves a node that is nobody's home: it may be near to any of them."""
    made = plan(*GANG_PLAN.binds, bind("shy", "n3"), *GANG_PLAN.evictions)
    nodes = [node(name) for name in ("n1", "n2", "n3")]
    shy = pod("shy", gpus=4, constraints=apart("zone", app="x"))

    found = advance(made, *nodes, VA, VB, pod("a", gpus=4), shy)

    assert {"evict va from n1", "evict vb from n2"} <= set(done(found))


def test_a_gang_is_not_spared_when_somebody_is_kept_apart_from_a_member_elsewhere() -> None:
    """The room is there, but a pod on another node of the zone may be what is in the way."""
    shy = pod("a", gpus=4, constraints=apart("zone", app="x"))

    found = advance(GANG_PLAN, node("n1"), node("n2"), VA, VB, shy)

    assert {"evict va from n1", "evict vb from n2"} <= set(done(found))
