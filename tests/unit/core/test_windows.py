"""Windows open when they say, and only what is worth its moves is done in them."""

import calendar
import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import Disruption
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import DecodeError, policy_of
from bayplan.plan import Certificate, Move, Plan, Verdict
from bayplan.planner import defragment
from bayplan.policy import Day, Defragmentation, Order, Policy, Window
from bayplan.slots import free_slots, promised_gpus, won
from bayplan.windows import is_worth_it, moves_left, next_opening, opened_at
from tests.builders import node, pod, snapshot, spread

#: Two o'clock at night for an hour, from Saturday to Sunday.
WEEKEND = Window(start_minute=120, minutes=60, days=(Day.SAT, Day.SUN))

#: From half past eleven at night until one o'clock, on Fridays.
OVERNIGHT = Window(start_minute=23 * 60 + 30, minutes=90, days=(Day.FRI,))


def still() -> float:
    """Return the time on a clock that stands still: only effort ends a search."""
    return 0.0


def at(text: str) -> float:
    """Return an instant of May 2026, whose first day is a Friday: "2 02:30"."""
    return datetime.strptime(f"2026-05-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("windows", "now", "opens"),
    [
        ((WEEKEND,), "1 12:00", at("2 02:00")),
        ((WEEKEND,), "2 02:00", at("3 02:00")),
        ((WEEKEND,), "3 02:00", at("9 02:00")),
        ((OVERNIGHT,), "1 23:30", at("8 23:30")),
        ((WEEKEND, OVERNIGHT), "1 12:00", at("1 23:30")),
        ((), "1 12:00", math.inf),
    ],
    ids=["tomorrow", "it opens now", "next week", "the same day", "the first of two", "no window"],
)
def test_it_is_known_when_the_next_window_opens(
    windows: tuple[Window, ...], now: str, opens: float
) -> None:
    """Nothing in the cluster tells the planner of it."""
    assert next_opening(windows, at(now)) == opens


@pytest.mark.parametrize(
    ("window", "now", "opened"),
    [
        (WEEKEND, "2 01:59", None),
        (WEEKEND, "2 02:00", "2 02:00"),
        (WEEKEND, "3 02:59", "3 02:00"),
        (WEEKEND, "3 03:00", None),
        (WEEKEND, "4 02:30", None),
        (OVERNIGHT, "1 23:30", "1 23:30"),
        (OVERNIGHT, "2 00:59", "1 23:30"),
        (OVERNIGHT, "2 23:45", None),
        (replace(WEEKEND, days=()), "4 02:30", "4 02:00"),
    ],
    ids=[
        "before it opens",
        "as it opens",
        "in its last minute",
        "as it closes",
        "on another day",
        "in the evening",
        "past midnight",
        "the evening after",
        "every day",
    ],
)
def test_a_window_is_open_when_it_says(window: Window, now: str, opened: str | None) -> None:
    """Pods would be moved at the busiest hour, or never."""
    assert opened_at((window,), at(now)) == (at(opened) if opened else None)


def test_days_are_those_of_the_calendar() -> None:
    """Every window would be a day early."""
    for number in range(1, 8):
        name = Day(calendar.day_abbr[datetime(2026, 5, number, tzinfo=UTC).weekday()])
        window = Window(start_minute=0, minutes=1440, days=(name,))
        assert opened_at((window,), at(f"{number} 12:00")) is not None


def test_of_two_windows_that_are_open_the_first_counts() -> None:
    """Moves would be allowed again as each one opens."""
    later = replace(WEEKEND, start_minute=150)

    assert opened_at((later, WEEKEND), at("2 02:45")) == at("2 02:00")
    assert opened_at((WEEKEND, later), at("2 02:45")) == at("2 02:00")


def test_what_was_moved_since_the_window_opened_counts() -> None:
    """A planner that restarts in a window would begin to count anew."""
    settings = Defragmentation(windows=(WEEKEND,), max_moves=3)
    moved = replace(pod("new", on="n1"), replaces="uid-old", created_at=int(at("2 02:10")))
    before = replace(moved, key=pod("early").key, uid="early", created_at=int(at("2 01:50")))
    other = replace(pod("other", on="n1"), created_at=int(at("2 02:20")))
    world = snapshot(node("n1"), moved, before, other)

    assert moves_left(world, settings, at("2 02:30")) == 2
    first = replace(before, created_at=int(at("2 02:00")))
    assert moves_left(snapshot(node("n1"), moved, first), settings, at("2 02:30")) == 1
    assert moves_left(world, settings, at("2 03:30")) == 0
    assert moves_left(world, replace(settings, max_moves=0), at("2 02:30")) == 0


def scattered(*costs: int) -> Snapshot:
    """Return nodes with one small pod each, of these move costs, beside one node half full."""
    nodes = [node(f"n{i}") for i in range(len(costs) + 1)]
    small = [pod(f"p{i}", on=f"n{i + 1}", move_cost=cost) for i, cost in enumerate(costs)]
    return snapshot(*nodes, pod("base", gpus=4, on="n0", move_cost=50), *small)


def test_slots_are_counted_on_nodes_that_take_pods() -> None:
    """Room on a cordoned node would be promised to somebody."""
    world = snapshot(node("n1"), node("n2", schedulable=False), node("n3"), pod("p", on="n3"))

    assert free_slots(world) == {8: 1, 4: 3, 2: 7, 1: 15}


def test_a_window_wins_whole_nodes() -> None:
    """The one thing it is there for."""
    world = scattered(1, 1, 1)
    made = defragment(world, Policy(), max_moves=20, clock=still)

    assert made is not None
    allowed, found = made
    assert (allowed.max_moves, allowed.max_evictions) == (20, 0)
    assert won(world, found.plan) == (8, 3)
    assert len(found.plan.moves) == 3
    assert not found.plan.evictions
    assert found.plan.certificate.order is Order.DEFRAGMENT
    assert found.plan.certificate.verdict is Verdict.OPTIMAL
    assert promised_gpus(world, found.plan) == 3


def test_a_node_is_drained_where_rules_between_pods_let_it() -> None:
    """The tightest place breaks the spread: the plan was thrown away, and nothing won."""
    label, rule, fixed = {"app": "web"}, spread("zone", 1, app="web"), Disruption.FIXED
    world = snapshot(
        *(node(f"n{i}", labels={"zone": "ab"[i % 2]}) for i in range(4)),
        pod("w0", on="n0", labels=label, constraints=rule),
        pod("w1", on="n1", labels=label, constraints=rule, disruption=fixed),
        pod("f", gpus=6, on="n2", disruption=fixed),
        pod("g", gpus=7, on="n3", disruption=fixed),
    )
    found = defragment(world, Policy(), max_moves=5, clock=still)

    assert found is not None
    moves = found[1].plan.moves
    assert [(move.pod.name, move.target) for move in moves] == [("w0", "n2")]


def test_no_plan_costs_more_than_it_wins() -> None:
    """Models that load for minutes would be restarted for one free slot."""
    dear = Policy(defragmentation=Defragmentation(moves_per_slot=4))

    assert defragment(scattered(9, 9), dear, max_moves=9, clock=still) is None
    cheap = defragment(scattered(9, 1), dear, max_moves=9, clock=still)
    assert cheap is not None
    assert [move.pod.name for move in cheap[1].plan.moves] == ["p1"]


def test_a_fleet_that_is_packed_is_left_alone() -> None:
    """Every look would move somebody to and fro."""
    world = snapshot(node("n1"), node("n2"), pod("a", gpus=4, on="n1"), pod("b", gpus=2, on="n1"))

    assert defragment(world, Policy(), max_moves=9, clock=still) is None


def test_smaller_slots_count_where_no_larger_one_changes() -> None:
    """On nodes that are never empty nothing would be worth a move."""
    world = snapshot(
        *(node("n1"), node("n2"), pod("a", gpus=4, on="n1"), pod("b", gpus=5, on="n2")),
        pod("small", on="n1"),
    )
    small = world.by_key[pod("small").key]
    move = Move(
        pod=small.key,
        uid=small.uid,
        source=NodeName("n1"),
        target=NodeName("n2"),
        owner=small.owner,
        priority=0,
    )
    stay = Plan(certificate=Certificate(order=Order.DEFRAGMENT, verdict=Verdict.IMPROVED))
    made = replace(stay, moves=(move,))

    assert won(world, made) == (4, 1)
    assert is_worth_it(world, made, Defragmentation())
    assert won(world, stay) == (0, 0)
    assert not is_worth_it(world, stay, Defragmentation())


def test_what_a_slot_may_cost_is_as_many_moves_as_the_policy_says() -> None:
    """An administrator's bound would be another one than what is written."""
    world = scattered(3, 3)
    moves = tuple(
        Move(
            pod=each.key,
            uid=each.uid,
            source=NodeName(f"n{i}"),
            target=NodeName("n0"),
            owner=each.owner,
            priority=0,
        )
        for i, each in ((i, world.by_key[pod(f"p{i - 1}").key]) for i in (1, 2))
    )
    made = Plan(certificate=Certificate(order=Order.DEFRAGMENT, verdict=Verdict.IMPROVED))
    made = replace(made, moves=moves)

    # Two slots for moves that cost six.
    assert won(world, made) == (8, 2)
    assert is_worth_it(world, made, Defragmentation(moves_per_slot=3))
    assert not is_worth_it(world, made, Defragmentation(moves_per_slot=2))


def test_windows_are_read_from_the_policy() -> None:
    """A window that is written must be the one that opens."""
    raw = {
        "kind": "PackingPolicy",
        "metadata": {"name": "default"},
        "spec": {
            "defragmentation": {
                "windows": [{"start": "02:30", "durationMinutes": 90, "days": ["Sat"]}],
                "maxMoves": 5,
            }
        },
    }
    settings = policy_of(raw).defragmentation

    assert settings.windows == (Window(start_minute=150, minutes=90, days=(Day.SAT,)),)
    assert (settings.max_moves, settings.moves_per_slot) == (5, 8)


@pytest.mark.parametrize(
    ("window", "complaint"),
    [
        ({"start": "night", "durationMinutes": 5}, "start: should be a time"),
        ({"start": "24:00", "durationMinutes": 5}, "start: should be before"),
        ({"start": "02:00", "durationMinutes": 0}, "durationMinutes: should be 1 to 1440"),
        ({"start": "02:00", "durationMinutes": 5, "days": ["Caturday"]}, "should be one of Mon"),
    ],
    ids=["no time", "no such hour", "no duration", "no such day"],
)
def test_a_window_that_makes_no_sense_is_named(window: object, complaint: str) -> None:
    """The planner would crash on it, or move pods at another time."""
    raw = {"metadata": {"name": "default"}, "spec": {"defragmentation": {"windows": [window]}}}

    with pytest.raises(DecodeError, match=complaint):
        policy_of(raw)
