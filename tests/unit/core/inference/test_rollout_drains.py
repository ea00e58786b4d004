"""Units that are to go finish their requests first, case by case."""

from dataclasses import replace

import pytest

from bayplan.inference import rollout
from bayplan.inference.children import Child
from bayplan.inference.rollout import Changes
from bayplan.inference.units import Around
from tests.scenes.rollout import (
    NEW,
    NOW_S,
    OLD,
    going,
    in_service,
    out,
    uids,
    unit,
    units,
    yielding,
)


@pytest.mark.parametrize(
    ("seen", "loads", "deleted", "drained", "again_s"),
    [
        pytest.param(in_service(0, 1), {}, set(), {1}, 2, id="first it takes no new requests"),
        pytest.param(
            in_service(0, 1), {0: 2, 1: 3}, set(), {0}, 2, id="the one with the fewest requests"
        ),
        pytest.param(in_service(0, 1), {0: None, 1: 9}, set(), {1}, 2, id="silence is no idleness"),
        pytest.param(in_service(0) + out(1, since=5), {}, set(), set(), 1, id="gateways notice"),
        pytest.param(
            in_service(0) + out(1, since=6), {}, {1}, set(), None, id="nobody knows more: it goes"
        ),
        pytest.param(
            in_service(0) + out(1, since=6), {0: 0, 1: 0}, {1}, set(), None, id="it is idle"
        ),
        pytest.param(
            in_service(0) + out(1, since=6), {0: 0, 1: 4}, set(), set(), 2, id="it is busy"
        ),
        pytest.param(
            in_service(0) + out(1, since=60), {0: 0, 1: 4}, set(), set(), 1, id="to the end"
        ),
        pytest.param(
            in_service(0) + out(1, since=61), {0: 0, 1: 4}, {1}, set(), None, id="time is up"
        ),
        pytest.param(
            units(NEW, 0, 1), {}, {1}, set(), None, id="made without a switch it goes at once"
        ),
        pytest.param(
            in_service(0) + unit(NEW, 1, ready=False, switched=True, in_service=True),
            {},
            {1},
            set(),
            None,
            id="who does not serve has nothing to finish",
        ),
    ],
)
def test_a_unit_that_serves_is_drained(
    seen: list[Child],
    loads: dict[int, int | None],
    deleted: set[int],
    drained: set[int],
    again_s: int | None,
) -> None:
    """One of two units is to go; it may take 60 s."""
    of = replace(NEW, replicas=1, drain_s=60)
    around = Around(loads={pod.uid: loads[pod.unit] for pod in seen if pod.unit in loads})

    found = rollout.changes(of, seen, around=around, now=NOW_S)

    assert going(found) == deleted
    assert {pod.unit for pod in found.drain} == drained
    assert found.retry_at == (None if again_s is None else NOW_S + again_s)


def test_what_drains_counts_as_gone_but_not_as_room() -> None:
    """The next unit goes when a successor serves, and comes when the one before has ended."""
    of = replace(NEW, drain_s=60)
    old = unit(OLD, 2, ready=False, switched=True, drains_since=NOW_S - 1)
    seen = [*units(OLD, 0, 1), *old, *units(NEW, 3)]

    found = rollout.changes(of, seen, now=NOW_S)

    assert not found.drain
    assert not found.delete
    assert not found.create


def test_a_unit_that_is_wanted_again_is_put_back_into_service() -> None:
    """An undo in time costs nobody a cold start."""
    of = replace(NEW, replicas=2, drain_s=60)

    found = rollout.changes(of, in_service(0) + out(1, since=4), now=NOW_S)

    assert uids(found.serve) == uids(out(1, since=4))
    assert not found.delete


def test_a_unit_that_yields_to_a_plan_at_work_is_left_to_it() -> None:
    """Two who put it back and take it out in turn would never end."""
    of, pods = replace(NEW, replicas=2, drain_s=60), yielding(1, since=30)

    at_work = rollout.changes(
        of, in_service(0) + pods, around=Around(leaving=uids(pods)), now=NOW_S
    )
    over = rollout.changes(of, in_service(0) + pods, now=NOW_S)

    assert at_work == Changes()
    assert uids(over.serve) == uids(pods), "nobody stays out of service for a plan that has ended"


def test_a_unit_that_is_wanted_again_does_not_wait_for_a_plan_that_makes_it_leave_later() -> None:
    """It was taken out of service for another reason, which is gone."""
    of, pods = replace(NEW, replicas=2, drain_s=60), out(1, since=4)

    found = rollout.changes(of, in_service(0) + pods, around=Around(leaving=uids(pods)), now=NOW_S)

    assert uids(found.serve) == uids(pods)


def test_a_pod_that_yields_on_broken_hardware_is_not_taken_for_one_that_failed() -> None:
    """It is not ready because it finishes its requests, and its plan makes it leave anyway."""
    of, pods = replace(NEW, replicas=1, drain_s=60), yielding(0, since=30)
    pods[0] = replace(pods[0], broken=True)

    found = rollout.changes(of, pods, around=Around(leaving=uids(pods)), now=NOW_S)

    assert not found.delete


def test_a_unit_that_yields_is_the_first_to_go() -> None:
    """It serves nobody, and its time runs already."""
    of, pods = replace(NEW, replicas=1, drain_s=60), yielding(0, since=30)

    found = rollout.changes(of, pods + in_service(1), around=Around(leaving=uids(pods)), now=NOW_S)

    assert going(found) == {0}
    assert not found.drain
