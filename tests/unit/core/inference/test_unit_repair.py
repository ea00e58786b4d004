"""Repair, case by case: pods that fail, nodes that are cordoned, broken or lost."""

from dataclasses import replace
from typing import Any

import pytest

from bayplan.inference import rollout
from bayplan.inference.children import Child
from bayplan.inference.units import Around
from tests.scenes.rollout import (
    LEFT,
    NEW,
    NOW_S,
    OLD,
    chat,
    coming,
    going,
    on,
    uids,
    unit,
    units,
    waiting,
)


@pytest.mark.parametrize(
    ("failures", "age_s", "made_anew"),
    [
        pytest.param(0, 19, False, id="not at once"),
        pytest.param(0, 20, True, id="after twenty seconds"),
        pytest.param(2, 79, False, id="later after each failure"),
        pytest.param(2, 80, True, id="twice as long for each"),
        pytest.param(50, 639, False, id="but"),
        pytest.param(50, 640, True, id="never longer than the most"),
    ],
)
def test_a_pod_that_fails_again_and_again_is_made_anew_with_back_off(
    failures: int,
    age_s: int,
    made_anew: bool,  # noqa: FBT001 - a column
) -> None:
    """A node that fails every pod must not be fed in a hot loop."""
    of = chat("new", replicas=1)
    failed = replace(unit(of, 0)[0], ended=True, ready=False, created_at=NOW_S - age_s)

    found = rollout.changes(
        of, [failed, *unit(of, 0)[1:]], failures={failed.name: failures}, now=NOW_S
    )

    assert found.delete == ((failed,) if made_anew else ())
    assert found.failures == {failed.name: failures + made_anew}
    assert (found.retry_at is None) is made_anew


def test_failures_are_forgotten_once_a_pod_is_well_or_not_wanted() -> None:
    """The status must not grow, nor punish what is long past."""
    of = chat("new", replicas=1)
    pods = [replace(pod, created_at=NOW_S - 600) for pod in unit(of, 0)]

    found = rollout.changes(of, pods, failures={pods[0].name: 3, "chat-9-decode-0": 2}, now=NOW_S)

    assert found.failures == {}


@pytest.mark.parametrize(
    ("age_s", "ready"), [(599, True), (600, False)], ids=["not for long yet", "not well"]
)
def test_failures_are_remembered_until_then(
    age_s: int,
    ready: bool,  # noqa: FBT001 - a column
) -> None:
    """A pod that serves for a minute and fails would be made anew as soon each time."""
    of = chat("new", replicas=1)
    pods = [replace(pod, created_at=NOW_S - age_s, ready=ready) for pod in unit(of, 0)]

    found = rollout.changes(of, pods, failures={pods[0].name: 3}, now=NOW_S)

    assert found.failures == {pods[0].name: 3}


@pytest.mark.parametrize(
    ("how", "seen", "held", "goes", "comes"),
    [
        pytest.param(
            {}, on(LEFT, NEW, 0) + units(NEW, 1, 2), [], set(), {3}, id="a replacement comes first"
        ),
        pytest.param(
            {},
            on(LEFT, NEW, 0) + units(NEW, 1, 2) + waiting(NEW, 3),
            waiting(NEW, 3),
            set(),
            set(),
            id="without room for one nobody goes: the room that is left would be of no use",
        ),
        pytest.param(
            {},
            on(LEFT, NEW, 0) + units(NEW, 1, 2, 3),
            [],
            {0},
            set(),
            id="once it serves the unit goes",
        ),
        pytest.param(
            {"max_surge": 0}, on(LEFT, NEW, 0) + units(NEW, 1, 2), [], set(), set(), id="no surge"
        ),
        pytest.param(
            {"paused": True},
            on(LEFT, NEW, 0) + units(OLD, 1, 2),
            [],
            set(),
            {3},
            id="a paused rollout keeps nobody on a cordoned node",
        ),
        pytest.param(
            {},
            on(LEFT, NEW, 0, 1) + units(NEW, 2),
            [],
            set(),
            {3},
            id="one after the other where one may be added",
        ),
        pytest.param(
            {}, units(NEW, 0, 1, 2) + waiting(NEW, 3), [], {3}, set(), id="uncordoned in time"
        ),
        pytest.param(
            {"max_surge": 2, "max_unavailable": 0},
            on(LEFT, NEW, 0) + units(NEW, 1, 2, 3) + waiting(NEW, 4),
            waiting(NEW, 4),
            {0},
            set(),
            id="it goes as well where enough serve and one more finds no room",
        ),
    ],
)
def test_units_on_cordoned_nodes(
    how: dict[str, Any], seen: list[Child], held: list[Child], goes: set[int], comes: set[int]
) -> None:
    """Three units are asked for; the node `left` is cordoned."""
    of = chat("new", **how)

    found = rollout.changes(of, seen, around=Around(held=uids(held), cordoned={LEFT}), now=NOW_S)

    assert (going(found), coming(found)) == (goes, comes)


@pytest.mark.parametrize(
    ("how", "seen", "held", "goes"),
    [
        pytest.param({}, on(LEFT, NEW, 0) + units(NEW, 1, 2), [], set(), id="beside it at first"),
        pytest.param(
            {},
            on(LEFT, NEW, 0, 1) + units(NEW, 2) + waiting(NEW, 3),
            waiting(NEW, 3),
            {0},
            id="without room for another unit one is mended in its place",
        ),
        pytest.param(
            {"max_unavailable": 0},
            on(LEFT, NEW, 0) + units(NEW, 1, 2) + waiting(NEW, 3),
            waiting(NEW, 3),
            set(),
            id="unless none may be missing",
        ),
        pytest.param(
            {},
            on(LEFT, NEW, 0, 1) + unit(NEW, 2, ready=False) + waiting(NEW, 3),
            waiting(NEW, 3),
            set(),
            id="never a second one: a health checker gone mad takes no deployment down",
        ),
        pytest.param(
            {}, unit(NEW, 0, node=LEFT, ready=False) + units(NEW, 1, 2), [], {0}, id="a dead one"
        ),
    ],
)
def test_units_on_broken_gpus(
    how: dict[str, Any], seen: list[Child], held: list[Child], goes: set[int]
) -> None:
    """Three units are asked for; the GPUs of the node `left` are reported broken."""
    of = chat("new", **how)

    found = rollout.changes(of, seen, around=Around(held=uids(held), failing={LEFT}), now=NOW_S)

    assert going(found) == goes


def test_a_pod_on_a_broken_device_is_mended_alone() -> None:
    """Its node and the other pods of its unit are well."""
    seen = units(NEW, 0, 1, 2)
    seen[0] = replace(seen[0], broken=True, ready=False)

    assert rollout.changes(NEW, seen, now=NOW_S).delete == (seen[0],)


def test_a_unit_that_finds_no_room_for_a_pod_gives_back_the_rest_after_a_while() -> None:
    """GPUs of half a unit serve nobody; whole it may fit elsewhere."""
    of = chat("new", replicas=2)
    half = [replace(waiting(of, 1)[0], created_at=NOW_S - 9), unit(of, 1)[1]]
    seen, held = [*units(of, 0), *half], Around(held=uids(half[:1]))

    early = rollout.changes(of, seen, around=held, now=NOW_S)
    late = rollout.changes(of, seen, around=held, now=NOW_S + 1)

    assert not early.delete
    assert early.retry_at == NOW_S + 1
    assert uids(late.delete) == uids(half)
    assert not rollout.changes(of, seen, now=NOW_S + 1).delete


@pytest.mark.parametrize("ready", [True, False], ids=["serves", "starts"])
def test_a_unit_of_an_earlier_ratio_runs_on_while_its_new_pods_find_no_room(
    ready: bool,  # noqa: FBT001 - a column
) -> None:
    """A new ratio on a full cluster must not take away what is there."""
    pools = (NEW.pools[0], replace(NEW.pools[1], count=3))
    of = replace(NEW, replicas=1, pools=pools)
    before = {pod.name for pod in unit(NEW, 0)}
    more = [pod for pod in waiting(of, 0) if pod.name not in before]
    seen = [*unit(NEW, 0, ready=ready), *more]

    found = rollout.changes(of, seen, around=Around(held=uids(more)), now=NOW_S + 900)

    assert len(more) == 2
    assert not found.delete
    assert not found.drain
    assert found.retry_at is None


def test_half_a_unit_gives_back_its_room_only_when_its_requests_are_done() -> None:
    """Some engines of it may serve; no successor is made, and no other unit goes, before."""
    of = replace(NEW, replicas=2, drain_s=60)
    state = {"switched": True, "created_at": NOW_S - 100}
    halves = [[waiting(of, n)[0], unit(of, n, in_service=True, **state)[1]] for n in (0, 1)]
    held = uids(half[0] for half in halves)
    away = replace(halves[1][1], in_service=False, ready=False, drains_since=NOW_S)
    busy = Around(held=held, loads={away.uid: 3})

    first = rollout.changes(of, [*halves[0], *halves[1]], around=Around(held=held), now=NOW_S)
    later = rollout.changes(of, [*halves[0], halves[1][0], away], around=busy, now=NOW_S + 60)
    last = rollout.changes(of, [*halves[0], halves[1][0], away], around=busy, now=NOW_S + 61)

    assert (first.drain, first.delete) == ((halves[1][1],), ())
    assert (later.drain, later.delete, later.serve, later.create) == ((), (), (), ())
    assert uids(last.delete) == uids([halves[1][0], away])


def test_a_unit_that_is_being_bound_pod_by_pod_keeps_its_room() -> None:
    """Without a planner, too: gates that were lifted late are no sign of want of room."""
    of = chat("new", replicas=1)
    seen = [replace(waiting(of, 0)[0], gated=False), unit(of, 0)[1]]

    assert not rollout.changes(of, seen, now=NOW_S + 600).delete


def test_what_is_left_on_a_lost_node_is_given_up_and_made_anew() -> None:
    """Nobody is left there to say that it has ended, and its name is needed."""
    seen = [*units(NEW, 0, 1), *on(LEFT, NEW, 2)]

    found = rollout.changes(NEW, seen, around=Around(lost={LEFT}), now=NOW_S)

    assert uids(found.abandon) == uids(on(LEFT, NEW, 2))
    assert not found.delete


@pytest.mark.parametrize(
    ("overdue_s", "given_up"),
    [
        pytest.param(29, False, id="its node may come back"),
        pytest.param(30, True, id="it keeps its name no longer"),
    ],
)
def test_a_pod_that_does_not_end_on_a_silent_node_is_given_up(
    overdue_s: int,
    given_up: bool,  # noqa: FBT001 - a column
) -> None:
    """Kubernetes has evicted it, but nobody is there to stop it."""
    stuck = unit(NEW, 2, node=LEFT, ready=False, terminating=True, ends_by=NOW_S - overdue_s)

    found = rollout.changes(NEW, [*units(NEW, 0, 1), *stuck], around=Around(away={LEFT}), now=NOW_S)

    assert bool(found.abandon) is given_up
