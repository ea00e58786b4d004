"""A window for defragmentation that closes while its plan is carried out."""

from dataclasses import replace

import pytest

from bayplan import steps
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.plan import Bind, Certificate, Move, Plan, Verdict, plan_of
from bayplan.policy import Defragmentation, Order, Policy, Window
from bayplan.steps import Phase, Progress
from tests.builders import apart, node, pod, snapshot
from tests.scenes.steps import BUSY, bind, done, move, told

#: Open from one to two o'clock each day.
OPENS, CLOSES = 3600, 7200
WINDOWS = (Window(start_minute=60, minutes=60),)
STAYS = f"Done: {steps.GIVEN_UP}"


def defragmenting(*actions: Bind | Move) -> Plan:
    """Return the plan of these actions that was made for a window."""
    return plan_of(Certificate(order=Order.DEFRAGMENT, verdict=Verdict.OPTIMAL), actions)


def look(
    made: Plan, *things: Node | Pod, at: float = CLOSES, windows: tuple[Window, ...] = WINDOWS
) -> Progress:
    """Return the progress of a plan of which one pod may leave at a time."""
    policy = Policy(max_parallel_moves=1, defragmentation=Defragmentation(windows=windows))
    return steps.advance(made, snapshot(*things), policy, idle_s=0, now=at)


NODES = (node("n1"), node("n2"), node("n3"))
U, V = pod("u", gpus=4, on="n1"), pod("v", gpus=4, on="n2")
BOTH = defragmenting(move("u", "n1", "n3"), move("v", "n2", "n3"))


@pytest.mark.parametrize(
    ("at", "windows", "goes"),
    [
        pytest.param(CLOSES - 1, WINDOWS, True, id="open"),
        pytest.param(CLOSES, WINDOWS, False, id="closed"),
        pytest.param(OPENS - 1, WINDOWS, True, id="the planner's clock is ahead"),
        pytest.param(CLOSES - 1, (), False, id="taken out of the policy"),
    ],
)
def test_no_move_begins_when_the_window_has_closed(
    at: float, windows: tuple[Window, ...], *, goes: bool
) -> None:
    """Moves of a night would go on into the morning."""
    found = look(BOTH, *NODES, U, V, at=at, windows=windows)

    assert done(found) == (["evict u from n1"] if goes else [])
    assert found.phase is (Phase.EXECUTING if goes else Phase.COMPLETED)
    if not goes:
        assert told(found) == [f"Move u {STAYS}", f"Move v {STAYS}"]
        assert found.message == (
            "the window for defragmentation has closed: 2 moves that had not begun were given up,"
            " of 2 steps"
        )


def test_a_plan_for_pods_that_wait_needs_no_window() -> None:
    """They would wait for the night."""
    placing = replace(BOTH, certificate=replace(BOTH.certificate, order=Order.PLACE_FIRST))

    assert done(look(placing, *NODES, U, V)) == ["evict u from n1"]


def test_what_has_begun_when_the_window_closes_is_finished() -> None:
    """A pod that has left would wait for another plan, and one that drains would drain in vain."""
    leaves = replace(U, terminating=True, leaves_at=CLOSES + 30)
    again = replace(pod("again", gpus=4, owner="u"), created_at=CLOSES)

    left = look(BOTH, *NODES, leaves, V)
    back = look(BOTH, *NODES, again, V)
    placed = look(
        BOTH, *NODES, replace(again, node=NodeName("n3"), waiting=False, replaces="uid-u"), V
    )
    drains = steps.advance(
        *(BOTH, snapshot(*NODES, U, V), Policy()), idle_s=0, now=CLOSES, drains={"uid-u": BUSY}
    )

    assert told(left)[1] == f"Move v {STAYS}"
    assert (left.phase, done(left)) == (Phase.EXECUTING, [])
    assert (back.phase, done(back)) == (Phase.EXECUTING, ["release again to n3 for uid-u"])
    assert placed.phase is Phase.COMPLETED
    assert placed.message == (
        "the window for defragmentation has closed: 1 move that had not begun was given up,"
        " of 2 steps"
    )
    assert told(drains)[0].startswith("Move u Draining")
    assert told(drains)[1] == f"Move v {STAYS}"


@pytest.mark.parametrize("waits", [True, False], ids=["who waits", "who has left"])
def test_who_stands_where_another_has_its_home_moves_on(*, waits: bool) -> None:
    """Half of a chain would be left without a place."""
    full = pod("w", gpus=8, on="n2")
    onwards = move("w", "n2", "n3")
    if waits:
        made, other = defragmenting(bind("a", "n2"), onwards), pod("a", gpus=4)
    else:
        made = defragmenting(move("u", "n1", "n2"), onwards)
        other = replace(U, terminating=True, leaves_at=CLOSES)

    found = look(made, *NODES, full, other)

    assert STAYS not in " ".join(told(found))
    # One that leaves counts to how many may.
    assert done(found) == (["evict w from n2"] if waits else [])


def test_two_that_change_places_both_stay() -> None:
    """Each would be held to be needed by the other."""
    one, other = pod("u", gpus=8, on="n1"), pod("v", gpus=8, on="n2")

    found = look(defragmenting(move("u", "n1", "n2"), move("v", "n2", "n1")), *NODES, one, other)

    assert (found.phase, done(found)) == (Phase.COMPLETED, [])


def test_who_keeps_another_from_its_home_by_a_rule_moves_on() -> None:
    """That one would be pinned where kube-scheduler refuses it for ever."""
    rule = apart("kubernetes.io/hostname", app="x")
    stands = pod("w", gpus=1, on="n2", labels={"app": "x"}, constraints=rule)
    waits = pod("a", gpus=1, labels={"app": "x"}, constraints=rule)

    found = look(defragmenting(bind("a", "n2"), move("w", "n2", "n3")), *NODES, stands, waits)

    assert STAYS not in " ".join(told(found))


def test_a_home_that_is_lost_is_no_matter_of_who_stays() -> None:
    """The plan would end as failed, for a move that nobody makes."""
    found = look(BOTH, *NODES[:2], U, V)

    assert found.phase is Phase.COMPLETED


def test_a_home_that_is_lost_to_who_stays_stops_nobody_who_is_needed() -> None:
    """Whoever waits for the other's room would wait until the plan counts as stalled."""
    made = defragmenting(bind("a", "n2"), move("w", "n2", "n3"), move("u", "n1", "n4"))

    found = look(made, *NODES, pod("a", gpus=4), pod("w", gpus=8, on="n2"), U)

    assert done(found) == ["evict w from n2"]


def test_a_home_that_is_lost_to_who_stays_gives_nobody_room() -> None:
    """Who stands in the way of another would stay, for room that is counted twice."""
    made = defragmenting(bind("a", "n2"), move("w", "n2", "n3"), move("u", "n1", "n2"))
    others = pod("a", gpus=4), pod("w", gpus=6, on="n2"), pod("u", gpus=8, on="n1")

    found = look(made, *NODES, *others, pod("late", gpus=2, on="n2"))

    assert done(found) == ["evict w from n2"]


def test_who_is_needed_is_found_without_looking_at_all_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long chain that was half done kept the operator for seconds in each pass over its plan."""
    looks: list[Resources] = []
    fits = Resources.fits

    def counted(asks: Resources, room: Resources) -> bool:
        looks.append(asks)
        return fits(asks, room)

    monkeypatch.setattr(Resources, "fits", counted)

    def looks_at(moves: int) -> int:
        chain = [move(f"p{i}", f"n{i}", f"n{i + 1}") for i in reversed(range(moves))]
        nodes = [node(f"n{i}") for i in range(moves + 1)]
        there = [pod(f"p{i}", gpus=8, on=f"n{i}") for i in range(moves)]
        looks.clear()
        found = look(defragmenting(bind("a", "n0"), *chain), *nodes, *there, pod("a", gpus=8))
        assert done(found) == [f"evict p{moves - 1} from n{moves - 1}"]
        return len(looks)

    assert looks_at(64) < 3 * looks_at(32)
