"""Moves whose replacement starts first, step by step: who starts, who waits, who leaves first."""

from dataclasses import replace
from typing import Any

import pytest

from bayplan.cluster.constraints import Constraints, Peers
from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import GOODBYE_S, Disruption
from bayplan.cluster.snapshot import Snapshot
from bayplan.inference.drains import DrainState
from bayplan.inference.replacements import Failing
from bayplan.policy import Policy
from bayplan.steps import (
    STALL_S,
    Phase,
    StartPod,
    SurgeContext,
    advance,
)
from tests.builders import budget, node, pod
from tests.scenes.steps import bind, evict, pinned, plan, told
from tests.scenes.surges import (
    DRAINS,
    HAS_DRAINED,
    MADE,
    SCENE,
    SERVES,
    done,
    look,
    may,
    move,
    serving,
    starting,
)


def test_the_replacement_starts_where_there_is_room_and_the_owner_allows_it() -> None:
    """It would be out of service for a cold start."""
    found = look(MADE, *SCENE, surge=may("v"), drains={"v": SERVES})

    assert found.todo == (StartPod(pod=pod("v").key, uid="uid-v", node=NodeName("n2")),)
    assert told(found) == [
        "Bind w Waiting: waits for room on n1, which default/v is to leave first",
        "Move v Starting: has its replacement start on n2, then leaves n1",
    ]
    assert found.patient
    assert found.phase is Phase.EXECUTING


@pytest.mark.parametrize(
    "surge",
    [
        pytest.param(may(), id="its owner allows none"),
        pytest.param(may("v", refused=["v"]), id="the API server refuses it"),
        pytest.param(SurgeContext(), id="nobody knows its owner"),
    ],
)
def test_without_leave_to_start_first_it_leaves_first(surge: SurgeContext) -> None:
    """The plan would wait for ever."""
    assert done(look(MADE, *SCENE, surge=surge, drains={"v": SERVES})) == ["drain v"]


def test_one_that_drains_already_goes_on_with_that() -> None:
    """It would be out of service, and its replacement not there either."""
    found = look(MADE, *SCENE, surge=may("v"), drains={"v": HAS_DRAINED})

    assert done(found) == ["evict v"]


@pytest.mark.parametrize(
    ("ready", "drain", "words"),
    [
        (False, SERVES, "Starting: serves on n1 until v2 on n2 serves in its place"),
        (True, SERVES, "Started: is to leave n1, for v2 serves on n2 in its place"),
        (True, DRAINS, "Draining: finishes its requests before it leaves, until 00:01:00"),
        (True, HAS_DRAINED, "Started: is to leave n1, for v2 serves on n2 in its place"),
    ],
)
def test_once_it_has_begun_the_plan_only_tells_how_far_it_is(
    *, ready: bool, drain: DrainState, words: str
) -> None:
    """Two would drain and evict the pod."""
    there = (node("n1"), node("n2"), serving("v", "n1", gives_way_by=900), pod("w", gpus=8))
    new = starting("v2", "n2", "v", ready=ready)

    found = look(MADE, *there, new, surge=may(), drains={"v": drain})

    assert found.todo == ()
    assert told(found)[1].startswith(f"Move v {words}")
    assert found.patient
    assert found.phase is Phase.EXECUTING


def test_one_that_gives_way_is_not_spared_for_the_room_that_it_leaves() -> None:
    """The plan would say that it stays, and end before it has left."""
    there = (node("n1"), node("n2"), serving("v", "n1", gives_way_by=900), pod("w", gpus=4))
    small = (*there, serving("x", "n1"), starting("v2", "n2", "v"))

    assert "Move v Starting" in told(look(MADE, *small, surge=may()))[1]


def test_when_the_old_pod_is_gone_the_move_is_done_and_the_waiting_pod_goes_there() -> None:
    """It would be looked for among those that wait."""
    found = look(
        MADE,
        *(node("n1"), node("n2"), pod("w", gpus=8), starting("v2", "n2", "v", ready=True)),
        surge=may(),
    )

    assert done(found) == ["other w"]
    assert told(found)[1] == "Move v Done: in its place v2 runs on n2"


@pytest.mark.parametrize(
    ("why", "message"),
    [
        (Failing.LATE, "on n2 did not come to serve in time and was removed"),
        (Failing.CRASHES, "on n2 crashes again and again (a container was restarted 3 times)"),
    ],
)
def test_a_replacement_that_failed_ends_the_plan_and_nobody_else_has_left(
    why: Failing, message: str
) -> None:
    """It would be tried again at once, and others would leave for nothing."""
    there = (*SCENE, serving("x", "n1", gpus=4))
    made = plan(bind("w", "n1"), move("v", "n1", "n2"), evict("x", "n1"))

    found = look(made, *there, surge=may("v", failed=["v"], why=why), drains={"v": SERVES})

    assert found.todo == ()
    assert found.phase is Phase.FAILED
    assert message in found.message
    assert ("coldStartSeconds" in found.message) == (why is Failing.LATE)


def test_while_a_replacement_starts_nobody_else_leaves() -> None:
    """They would be out of service for nothing if it fails, and for longer if it does not."""
    there = (*SCENE, serving("x", "n1", gpus=4))
    made = plan(bind("w", "n1"), move("v", "n1", "n2"), evict("x", "n1"))

    found = look(made, *there, surge=may("v"), drains={"v": SERVES})

    assert done(found) == ["start v"]
    assert "Evict x Waiting: waits until the replacements that are starting serve" in told(found)


def test_while_a_replacement_starts_who_has_drained_leaves() -> None:
    """It would serve nobody for as long as the other one starts."""
    there = (*SCENE, serving("x", "n1", gpus=4))
    made = plan(bind("w", "n1"), move("v", "n1", "n2"), evict("x", "n1"))

    found = look(made, *there, surge=may("v"), drains={"v": SERVES, "x": HAS_DRAINED})

    assert done(found) == ["start v", "evict x"]


def test_while_a_replacement_starts_the_rest_of_a_gang_leaves() -> None:
    """Half of it would run on, of use to nobody."""
    gang = [pod(name, gpus=2, on="n1", gang="g", terminating=name == "x") for name in "xy"]
    leave = [evict(name, "n1", "g") for name in "xy"]

    made = plan(bind("w", "n1"), move("v", "n1", "n2"), *leave)

    found = look(made, *SCENE, *gang, surge=may("v"), drains={"v": SERVES})

    assert done(found) == ["start v", "evict y"]


def test_once_it_serves_the_others_leave() -> None:
    """They would wait until the old pod has left."""
    there = (
        *(node("n1"), node("n2"), serving("v", "n1", gives_way_by=900), pod("w", gpus=8)),
        *(serving("x", "n1"), starting("v2", "n2", "v", ready=True)),
    )
    made = plan(bind("w", "n1"), move("v", "n1", "n2"), evict("x", "n1"))

    assert done(look(made, *there, surge=may())) == ["evict x"]


def test_no_more_are_doubled_than_the_owner_allows() -> None:
    """It would take room that nobody has asked for."""
    there = (node("n1"), node("n2"), serving("a", "n1"), serving("b", "n1"), pod("w", gpus=8))
    made = plan(bind("w", "n1"), move("a", "n1", "n2"), move("b", "n1", "n2"))
    serves = dict.fromkeys("ab", SERVES)

    one, both, none = (
        look(made, *there, surge=may("a", "b", left=left, doubled=1), drains=serves)
        for left in (1, 2, 0)
    )

    assert (done(one), done(both), done(none)) == (["start a"], ["start a", "start b"], [])
    assert "1 pod of InferenceDeployment" in told(none)[2]


def test_a_budget_that_admits_one_keeps_no_two_from_starting_first_one_after_the_other() -> None:
    """Each is replaced before it leaves, so the plan need not wait until both may go together."""
    of, labels = budget("x", allowed=1, healthy=2, desired=1, app="x"), (("app", "x"),)
    there = (node("n1"), node("n2"), pod("w", gpus=8), serving("b", "n1", labels=labels), of)
    made = plan(bind("w", "n1"), move("a", "n1", "n2"), move("b", "n1", "n2"))
    old, new = serving("a", "n1", labels=labels), starting("a2", "n2", "a", ready=True)
    serves = dict.fromkeys("ab", SERVES)

    first = look(made, *there, old, surge=may("a", "b"), drains=serves)
    then = look(made, *there, new, surge=may("b"), drains=serves)

    assert done(first) == ["start a"]
    assert "Move b Waiting: waits for its turn" in told(first)[2]
    assert done(then) == ["start b"]


def test_no_more_start_than_may_be_on_their_way() -> None:
    """A fleet would start at once."""
    there = (node("n1"), node("n2"), serving("a", "n1"), serving("b", "n1"), pod("w", gpus=8))
    made = plan(bind("w", "n1"), move("a", "n1", "n2"), move("b", "n1", "n2"))
    serves = dict.fromkeys("ab", SERVES)

    found = look(made, *there, surge=may("a", "b", left=2), drains=serves, max_parallel=1)

    assert done(found) == ["start a"]


def test_one_that_gives_way_is_on_its_way() -> None:
    """The limit would count those alone that begin in the same pass."""
    old, new = serving("a", "n1", gives_way_by=900), starting("a2", "n2", "a")
    there = (node("n1"), node("n2"), old, new, serving("b", "n1"), pod("w", gpus=8))
    made = plan(bind("w", "n1"), move("a", "n1", "n2"), move("b", "n1", "n2"))
    serves = dict.fromkeys("ab", SERVES)

    one, two = (
        look(made, *there, surge=may("b", left=2), drains=serves, max_parallel=most)
        for most in (1, 2)
    )

    assert (done(one), done(two)) == ([], ["start b"])


def test_two_do_not_start_in_the_room_of_one() -> None:
    """The other one has its room when a pod that is leaving has ended."""
    there = (
        *(node("n1"), node("n2"), pod("w", gpus=8)),
        *(serving("a", "n1"), serving("b", "n1"), pod("x", gpus=4, on="n2", terminating=True)),
    )
    made = plan(bind("w", "n1"), move("a", "n1", "n2"), move("b", "n1", "n2"))
    serves = dict.fromkeys("ab", SERVES)

    found = look(made, *there, surge=may("a", "b", left=2), drains=serves)

    assert done(found) == ["start a"]
    waits = "waits until its replacement has room to start on n2"
    assert f"Move b Waiting: {waits}, which default/x leaves by 00:00:00 UTC at most" in told(found)


def test_who_waits_to_start_where_a_pod_hangs_says_so_first() -> None:
    """It said only that it waits for room, and the plan told of another step."""
    stuck = replace(pod("x", gpus=8, on="n2", terminating=True), leaves_at=60)
    there = (node("n1"), node("n2"), pod("w", gpus=8), serving("a", "n1"), stuck)

    found = look(
        plan(bind("w", "n1"), move("a", "n1", "n2")),
        *there,
        surge=may("a"),
        drains={"a": SERVES},
        now=600,
    )

    hung = "room to start on n2, on which default/x has hung since 00:01:00 UTC"
    assert f"0 of 2 steps done: default/a waits until its replacement has {hung}" in found.message


def test_one_waits_for_room_that_somebody_is_evicted_from() -> None:
    """It would be cut off for room that comes free without that."""
    there = (
        *(node("n1"), node("n2"), pod("w", gpus=8)),
        *(serving("a", "n1"), pod("e", gpus=8, on="n2")),
    )
    made = plan(bind("w", "n1"), move("a", "n1", "n2"), evict("e", "n2"))

    found = look(made, *there, surge=may("a"), drains={"a": SERVES})

    assert done(found) == ["evict e"]
    waits = "waits until its replacement has room to start on n2"
    assert f"Move a Waiting: {waits}, which default/e is to leave first" in told(found)


@pytest.mark.parametrize(
    "change",
    [{"idle_s": STALL_S}, {"failed": ["a"]}],
    ids=["the plan has stood still", "another one has failed"],
)
def test_nothing_more_starts_for_a_plan_that_ends(change: dict[str, Any]) -> None:
    """It would be doubled for nothing."""
    there = (node("n1"), node("n2"), serving("a", "n1"), serving("b", "n1"), pod("w", gpus=8))
    made = plan(bind("w", "n1"), move("a", "n1", "n2"), move("b", "n1", "n2"))
    surge = may("a", "b", left=2, failed=change.get("failed", ()))
    serves = dict.fromkeys("ab", SERVES)

    found = look(made, *there, surge=surge, drains=serves, idle_s=change.get("idle_s", 0))

    assert (done(found), found.phase) == ([], Phase.FAILED)


def test_one_that_may_not_be_moved_any_more_does_not_start_elsewhere() -> None:
    """Its template was changed meanwhile."""
    fixed = replace(serving("v", "n1"), disruption=Disruption.EVICTABLE)

    found = look(MADE, *SCENE[:2], fixed, SCENE[3], surge=may("v"), drains={"v": SERVES})

    assert (done(found), found.phase) == ([], Phase.FAILED)


def test_the_replacement_of_a_share_that_starts_first_is_told_its_gpu() -> None:
    """Others have a part of each."""
    moved = replace(move("v", "n1", "n2"), device=3)
    share = replace(pod("v", share=500, device=0, on="n1"), owner=serving("v", "n1").owner)

    found = look(plan(moved), *SCENE[:2], share, surge=may("v"), drains={"v": SERVES})

    assert [step.device for step in found.todo if isinstance(step, StartPod)] == [3]


def test_one_waits_for_room_that_another_move_leaves() -> None:
    """It would be cut off although its place is free a moment later."""
    there = (
        *(node("n1"), node("n2"), node("n3"), pod("w", gpus=8)),
        *(serving("a", "n1"), serving("b", "n2", gpus=8)),
    )
    made = plan(bind("w", "n1"), move("a", "n1", "n2"), move("b", "n2", "n3"))

    found = look(made, *there, surge=may("a", "b", left=2), drains=dict.fromkeys("ab", SERVES))

    assert done(found) == ["start b"]
    waits = "waits until its replacement has room to start on n2"
    assert f"Move a Waiting: {waits}, which default/b is to leave first" in told(found)


def test_of_two_that_change_places_one_leaves_first_and_the_other_starts_first_then() -> None:
    """Both would wait for the other's room for ever."""
    there = (
        *(node("n1"), node("n2")),
        *(serving("a", "n1", gpus=8), serving("b", "n2", gpus=8)),
    )
    made = plan(move("a", "n1", "n2"), move("b", "n2", "n1"))
    serves = dict.fromkeys("ab", SERVES)

    found = look(made, *there, surge=may("a", "b", left=2), drains=serves)
    assert done(found) == ["drain a"]

    again = replace(pod("a", gpus=8, owner="chat"), uid="uid-a2")
    gone = [again if each is there[2] else each for each in there]
    found = look(made, *gone, surge=may("b", left=2), drains={"b": SERVES})
    assert done(found) == ["start b"]


def test_a_replacement_that_starts_is_no_standstill_for_whoever_waits_for_the_room() -> None:
    """A newer plan would give up after two minutes, again and again."""
    there = (node("n1"), serving("v", "n1", gives_way_by=900), pod("w", gpus=8))

    found = look(plan(bind("w", "n1")), *there, surge=may())

    assert found.patient
    assert told(found) == [
        "Bind w Waiting: waits for room on n1, which default/v is to leave first"
    ]
    stays = (node("n1"), serving("v", "n1"), pod("w", gpus=8))
    assert look(plan(bind("w", "n1")), *stays, surge=may()).phase is Phase.FAILED


def test_a_newer_plan_does_not_move_again_who_gives_way() -> None:
    """Two replacements would start, or the old pod would leave before one serves."""
    there = (node("n1"), node("n2"), serving("v", "n1", gives_way_by=900), pod("w", gpus=8))

    found = look(MADE, *there, surge=may("v"), drains={"v": SERVES})

    assert found.todo == ()
    assert "Move v Starting: serves on n1 until its replacement serves" in told(found)[1]


def test_a_newer_plan_waits_for_who_gives_way_though_others_took_its_place() -> None:
    """It would fail for a home that nobody needs any more."""
    there = (node("n1"), node("n2"), serving("v", "n1", gives_way_by=900), pod("w", gpus=8))

    found = look(MADE, *there, pod("x", gpus=8, on="n2"), surge=may())

    assert found.phase is Phase.EXECUTING
    assert "Move v Starting: serves on n1 until its replacement serves" in told(found)[1]


def test_nothing_starts_once_a_plan_cannot_be_completed() -> None:
    """The replacement would start for nothing."""
    there = (node("n1"), node("n2"), serving("v", "n1"))  # who was to wait is gone

    found = look(MADE, *there, surge=may("v"), drains={"v": SERVES})

    assert found.todo == ()
    assert found.phase is Phase.FAILED


def test_one_that_is_not_bound_counts_as_starting() -> None:
    """Its node's room is taken, and it is not ready because nobody says so."""
    new = replace(pinned("v2", "n2", gpus=4), replaces="uid-v", serves_by=900)
    there = (node("n1"), node("n2"), serving("v", "n1", gives_way_by=900), pod("w", gpus=8))

    found = look(MADE, *there, new, surge=may(), drains={"v": SERVES})

    assert "Move v Starting" in told(found)[1]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"claims": ("disk",)}, id="its volume is in use"),
        pytest.param(
            {"constraints": Constraints(peers=Peers())}, id="it is kept apart from its like"
        ),
    ],
)
def test_what_cannot_be_there_twice_leaves_first(fields: dict[str, Any]) -> None:
    """The replacement would never start, again and again, and the newcomer wait for good."""
    victim = serving("v", "n1", **fields)
    things = (node("n1"), node("n2"), victim, pod("w", gpus=8))

    assert done(look(MADE, *things, surge=may("v"), drains={"v": SERVES})) == ["drain v"]


def test_nobody_is_evicted_who_is_being_moved() -> None:
    """The replacement would start alone, in a unit that was to go."""
    old = serving("v", "n1", gives_way_by=900)
    things = (node("n1"), node("n2"), old, starting("v2", "n2", "v"), pod("w", gpus=8))

    found = look(plan(bind("w", "n1"), evict("v", "n1")), *things, surge=may("v"))

    assert done(found) == []
    assert "Evict v Failed: is being moved: its replacement is there already" in told(found)
    assert found.phase is Phase.FAILED


def test_when_one_is_being_moved_who_was_to_be_evicted_nobody_else_leaves() -> None:
    """The newcomer would not get the room of all."""
    old = serving("v", "n1", gives_way_by=900)
    things = (node("n1"), node("n2"), old, starting("v2", "n2", "v"), pod("w", gpus=8))
    made = plan(bind("w", "n1"), evict("v", "n1"), evict("x", "n1"))

    found = look(made, *things, serving("x", "n1"), surge=may("v"))

    assert (done(found), found.phase) == ([], Phase.FAILED)


def test_one_that_is_leaving_by_itself_is_not_doubled() -> None:
    """A replacement would start beside the one that its owner makes anyway."""
    leaving = serving("v", "n1", terminating=True, leaves_at=90)

    found = look(MADE, *SCENE[:2], leaving, SCENE[3], surge=may("v"), drains={"v": SERVES})

    assert found.todo == ()
    assert "Move v Started: is leaving n1, by 00:01:30 UTC at most" in told(found)


@pytest.mark.parametrize(
    ("now", "left"), [(0, "15 min more"), (600, "5 min more"), (901, "0 min more")]
)
def test_it_is_told_how_long_a_replacement_may_still_take(now: float, left: str) -> None:
    """Somebody who looks at the plan wants to know."""
    there = (node("n1"), node("n2"), serving("v", "n1", gives_way_by=900), pod("w", gpus=8))
    new = starting("v2", "n2", "v")

    found = look(MADE, *there, new, surge=may(), now=now)

    assert told(found)[1].endswith(f"in its place, until 00:15:00 UTC at most ({left})")


def test_one_whose_replacement_is_overdue_serves_on() -> None:
    """It may be all that serves: nobody looked after the pair while the operator was away."""
    old = serving("v", "n1", gives_way_by=900)
    seen = Snapshot(
        nodes=(node("n1"), node("n2")),
        pods=(old, starting("v2", "n2", "v"), pod("w", gpus=8)),
    )
    late = seen.without_overdue(900 + GOODBYE_S + 1)

    found = advance(MADE, late, Policy(), idle_s=0, drains={"uid-v": SERVES}, surge=may("v"))

    assert done(found) == []
    assert "Move v Failed: may not be disturbed any more" in told(found)


@pytest.mark.parametrize(
    ("made", "released"),
    [("chat-0-decode-0", True), ("chat-0-prefill-0", False), ("chat-1-decode-0", False)],
    ids=["of its unit and pool", "of another pool", "of another unit"],
)
def test_a_pod_made_again_has_the_lowest_number_that_is_free(made: str, *, released: bool) -> None:
    """After a move that started first its home would wait for a name that nobody gets."""
    leaves = move("chat-0-decode-1", "n1", "n2")
    newcomer = serving(made, "n1")
    waits = replace(newcomer, node=None, bound=False, waiting=True)

    found = look(plan(leaves), node("n1"), node("n2"), waits, surge=SurgeContext())

    assert [step.pod.name for step in found.todo] == ([made] if released else [])
