"""Rollouts and scaling, case by case: which pods are made and deleted."""

from dataclasses import replace
from typing import Any

import pytest

from bayplan.inference import rollout
from bayplan.inference.children import Child
from bayplan.inference.units import Around
from tests.scenes.rollout import NEW, NOW_S, OLD, chat, coming, going, uids, unit, units, waiting


@pytest.mark.parametrize(
    ("how", "seen", "held", "goes", "comes"),
    [
        pytest.param(
            {}, units(OLD, 0, 1, 2), [], set(), {3}, id="a surge unit is tried before any goes"
        ),
        pytest.param(
            {},
            units(OLD, 0, 1, 2) + waiting(NEW, 3),
            [],
            set(),
            set(),
            id="nobody goes while the plan has not said whether it fits",
        ),
        pytest.param(
            {},
            units(OLD, 0, 1, 2) + waiting(NEW, 3),
            waiting(NEW, 3),
            {2},
            {4},
            id="where it does not fit, an old unit goes first",
        ),
        pytest.param(
            {"max_unavailable": 0},
            units(OLD, 0, 1, 2) + waiting(NEW, 3),
            waiting(NEW, 3),
            set(),
            set(),
            id="unless none may be missing",
        ),
        pytest.param(
            {},
            units(OLD, 0, 1, 2) + unit(NEW, 3, ready=False),
            [],
            set(),
            set(),
            id="nobody goes while the surge unit starts",
        ),
        pytest.param(
            {},
            units(OLD, 0, 1, 2) + units(NEW, 3),
            [],
            {2},
            {4},
            id="a unit that serves makes one superfluous",
        ),
        pytest.param(
            {},
            units(OLD, 0, 1) + unit(OLD, 2, ready=False, terminating=True) + waiting(NEW, 3),
            waiting(NEW, 3),
            set(),
            {4},
            id="the next one is made ahead, and no other goes below the floor",
        ),
        pytest.param(
            {"max_surge": 0}, units(OLD, 0, 1, 2), [], {2}, {3}, id="without surge one goes at once"
        ),
        pytest.param(
            {"max_surge": 0, "max_unavailable": 2},
            units(OLD, 0, 1, 2),
            [],
            {1, 2},
            {3, 4},
            id="or two, where two may be missing",
        ),
        pytest.param(
            {"max_surge": 0},
            units(OLD, 0, 1) + unit(NEW, 3, ready=False),
            [],
            set(),
            set(),
            id="and then none until its successor serves",
        ),
        pytest.param(
            {"max_surge": 0},
            units(OLD, 0, 2) + unit(OLD, 1, ready=False),
            [],
            {1},
            {3},
            id="a unit that does not serve goes before any that does",
        ),
        pytest.param(
            {"max_surge": 0},
            units(OLD, 0, 1, 2)[:-1],
            [],
            {2},
            {3},
            id="a unit that has lost a pod goes whole: its template is gone",
        ),
        pytest.param(
            {},
            units(NEW, 0) + waiting(OLD, 1) + waiting(OLD, 2),
            [],
            {1, 2},
            set(),
            id="units that never ran go at once, and come again under their names",
        ),
        pytest.param(
            {"paused": True}, units(OLD, 0, 1, 2), [], set(), set(), id="paused, all stay"
        ),
        pytest.param(
            {"paused": True},
            units(OLD, 0, 1),
            [],
            set(),
            {2},
            id="paused, a unit that is added is of the newest template",
        ),
        pytest.param(
            {"max_surge": 0},
            units(OLD, 0, 1, 2)[:-1] + unit(OLD, 2, terminating=True, ready=False)[-1:],
            [],
            {2},
            {3},
            id="what is left of a unit that is going goes too",
        ),
    ],
)
def test_rollout(
    how: dict[str, Any], seen: list[Child], held: list[Child], goes: set[int], comes: set[int]
) -> None:
    """Three units are asked for, of the newest template."""
    found = rollout.changes(chat("new", **how), seen, around=Around(held=uids(held)), now=NOW_S)

    assert (going(found), coming(found)) == (goes, comes)


@pytest.mark.parametrize(
    ("replicas", "seen", "goes"),
    [
        pytest.param(1, units(NEW, 0, 1, 2), {1, 2}, id="the highest of those alike"),
        pytest.param(2, units(NEW, 0, 1) + waiting(NEW, 2), {2}, id="one that waits"),
        pytest.param(
            2, units(NEW, 1, 2) + unit(NEW, 0, ready=False), {0}, id="one that does not serve"
        ),
        pytest.param(1, units(OLD, 0) + units(NEW, 1), {0}, id="one of an older template"),
        pytest.param(0, units(OLD, 0) + units(NEW, 1), {0, 1}, id="all"),
        pytest.param(
            1, units(NEW, 0) + units(NEW, 1)[:1], {1}, id="the rest of one that is half gone"
        ),
    ],
)
def test_scaling_down_takes_whole_units(replicas: int, seen: list[Child], goes: set[int]) -> None:
    """Those first that nobody misses."""
    found = rollout.changes(chat("new", replicas=replicas), seen, now=NOW_S)

    assert going(found) == goes
    assert uids(found.delete) == uids(pod for pod in seen if pod.unit in goes)


def test_scaling_up_during_a_rollout_makes_units_of_the_newest_template_only() -> None:
    """Nothing is made that would have to go again at once."""
    of = chat("new", replicas=5)

    found = rollout.changes(of, units(OLD, 0, 1, 2), now=NOW_S)

    assert coming(found) == {3, 4, 5}
    assert {slot.revision for slot in found.create} == {of.revision}
    assert not found.delete


def test_to_apply_the_older_template_again_keeps_its_units() -> None:
    """An undo restarts nothing that still runs from what is wanted again."""
    seen = units(OLD, 0, 1) + unit(NEW, 3, ready=False)

    found = rollout.changes(chat("old", max_surge=0), seen, now=NOW_S)

    assert going(found) == {3}


def test_no_pod_is_made_in_a_unit_where_one_of_another_revision_is_ending() -> None:
    """A mixed pair would fail in the hand-over of its cache, and look healthy."""
    ending = unit(OLD, 0, terminating=True, ready=False)
    seen = [*ending[:1], *unit(NEW, 0)[1:]]

    found = rollout.changes(chat("new", replicas=1), seen, now=NOW_S)

    assert not found.create


def test_a_lost_pod_is_made_anew_in_its_unit_and_the_others_stay() -> None:
    """A dead prefill pod must not cost its decode pods."""
    found = rollout.changes(NEW, units(NEW, 0, 1, 2)[:-1], now=NOW_S)

    assert [slot.name for slot in found.create] == ["chat-2-decode-0"]
    assert not found.delete


@pytest.mark.parametrize("paused", [True, False])
def test_pods_of_an_older_template_are_marked_so_that_no_plan_moves_them(
    paused: bool,  # noqa: FBT001 - a column
) -> None:
    """Nobody could make the moved pod again: its unit, which serves, would go with it."""
    of, seen = chat("new", paused=paused), [*units(OLD, 0, 1), *units(NEW, 2)]

    found = rollout.changes(of, seen, now=NOW_S)

    assert {patch.pod.unit for patch in found.patch} == {0, 1}
    marked = [replace(pod, outdated=pod.unit in {0, 1}) for pod in seen]
    assert not rollout.changes(of, marked, now=NOW_S).patch
    undone = rollout.changes(chat("old"), marked, now=NOW_S)
    assert {(each.pod.unit, *each.annotations.values()) for each in undone.patch} == {
        (0, None),
        (1, None),
        (2, "true"),
    }


def test_a_unit_that_was_moved_whole_is_made_again_under_its_names() -> None:
    """A plan's move waits for the replacement by name."""
    of = chat("new", replicas=1)
    half = unit(of, 0, terminating=True, ready=False)[:1]

    assert [slot.name for slot in rollout.changes(of, half, now=NOW_S).create] == [
        "chat-0-decode-0"
    ]
