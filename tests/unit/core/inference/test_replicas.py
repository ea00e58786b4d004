"""Replicas of several pods: they start together, fail together and come back together."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bayplan.api.pools import Role
from bayplan.cluster.keys import NodeName
from bayplan.cluster.resources import Resources
from bayplan.inference import readiness, rollout
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment, Pool
from bayplan.inference.rollout import Changes
from bayplan.inference.slots import Slot
from bayplan.inference.tally import News, Tally
from tests.scenes.children import fill, unit_slots

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())

CHAT = Deployment(
    namespace="ns",
    name="chat",
    uid="u-chat",
    pools=(
        Pool(name="p", role=Role.PREFILL, count=1, template={}, requests=Resources()),
        Pool(name="d", role=Role.DECODE, count=2, template={}, requests=Resources(), size=2),
    ),
)

#: Unit 0: one prefill pod, two decode replicas of two pods.
FIRST, SECOND = ["chat-0-d-0", "chat-0-d-0-1"], ["chat-0-d-1", "chat-0-d-1-1"]


def child(slot: Slot) -> Child:
    """Return the pod of a slot, serving for a minute."""
    return fill(slot, uid=slot.name, node=NodeName("n1"), ready=True, created_at=NOW_S - 60)


UNIT = {slot.name: child(slot) for slot in unit_slots(CHAT, 0, CHAT.revision)}

FAILED = {"ended": True, "ready": False}
GOING = {"terminating": True, "ready": False}
GATED = {"node": None, "gated": True, "ready": False}


def seen(changed: Mapping[str, Mapping[str, object] | None]) -> list[Child]:
    """Return the unit with some pods changed, or taken away."""
    return [
        replace(pod, **(changed.get(name) or {}))  # type: ignore[arg-type] # fields of Child
        for name, pod in UNIT.items()
        if changed.get(name, {}) is not None
    ]


def names(things: Iterable[Child | Slot]) -> list[str]:
    """Return the names of pods or slots."""
    return sorted(thing.name for thing in things)


def look(
    changed: Mapping[str, Mapping[str, object] | None],
    failures: Mapping[str, int] | None = None,
    now: int = NOW_S,
) -> Changes:
    """Return what follows from the unit with some pods changed."""
    return rollout.changes(CHAT, seen(changed), failures=failures, now=now)


def test_who_is_to_be_deleted_is_not_put_into_service_first() -> None:
    """That would change it, and who has changed is not deleted in that pass."""
    found = look({"chat-0-d-0": FAILED, "chat-0-d-0-1": {"switched": True, "ready": False}})

    assert names(found.delete) == FIRST
    assert not set(names(found.serve)) & set(FIRST)


@pytest.mark.parametrize(
    ("changed", "deleted", "created"),
    [
        pytest.param({}, [], [], id="all serve"),
        pytest.param({"chat-0-d-0-1": FAILED}, FIRST, [], id="a worker fails"),
        pytest.param({"chat-0-d-0": FAILED}, FIRST, [], id="a leader fails"),
        pytest.param({"chat-0-d-0-1": GOING}, FIRST[:1], [], id="somebody deletes a worker"),
        pytest.param({"chat-0-d-0-1": None}, FIRST[:1], [], id="a worker is gone with its node"),
        pytest.param({"chat-0-d-0": None}, FIRST[1:], [], id="a leader is gone"),
        pytest.param(
            {"chat-0-d-0": GOING, "chat-0-d-0-1": GOING}, [], [], id="both end: none is made yet"
        ),
        pytest.param(
            {"chat-0-d-0": GOING, "chat-0-d-0-1": None}, [], [], id="one still ends: none is made"
        ),
        pytest.param(
            {"chat-0-d-0": {**GATED, **GOING}, "chat-0-d-0-1": None},
            [],
            [],
            id="one that never ran still ends",
        ),
        pytest.param(
            {"chat-0-d-0": None, "chat-0-d-0-1": None}, [], FIRST, id="both are gone: both are made"
        ),
        pytest.param(
            {"chat-0-d-0": GATED, "chat-0-d-0-1": None}, [], FIRST[1:], id="one is made already"
        ),
        pytest.param(
            {"chat-0-d-0": GATED, "chat-0-d-0-1": GATED}, [], [], id="both wait for a plan"
        ),
        pytest.param({"chat-0-d-1": {"ready": False}}, [], [], id="one does not serve yet"),
        pytest.param(
            {"chat-0-p-0": FAILED, "chat-0-d-1-1": FAILED},
            ["chat-0-p-0", *SECOND],
            [],
            id="a single pod fails beside",
        ),
    ],
)
def test_a_lost_pod_takes_its_replica_along_and_nothing_else(
    changed: dict[str, dict[str, object] | None], deleted: list[str], created: list[str]
) -> None:
    """The rest of an engine waits for ever for a peer that does not know it."""
    found = look(changed)

    assert (names(found.delete), names(found.create)) == (sorted(deleted), created)


def test_a_replica_fails_once_however_many_of_its_pods_do() -> None:
    """Two failures at once would double the back-off."""
    found = look({"chat-0-d-0": FAILED, "chat-0-d-0-1": FAILED})

    assert found.failures == {"chat-0-d-0": 1}


def test_a_replica_that_fails_again_waits_longer() -> None:
    """A node that breaks every replica must not be fed with new ones in a hot loop."""
    failures = {"chat-0-d-0": 2}  # 80 s from the making of the youngest pod

    early = look({"chat-0-d-0-1": FAILED}, failures)
    due = look({"chat-0-d-0-1": FAILED}, failures, now=NOW_S + 20)

    assert (names(early.back_off), early.delete) == (FIRST, ())
    assert early.retry_at == NOW_S + 20
    assert early.failures == failures
    assert names(due.delete) == FIRST
    assert due.failures == {"chat-0-d-0": 3}


def test_all_pods_of_a_replica_wait_for_the_youngest() -> None:
    """A leader that goes earlier than its worker leaves half an engine behind."""
    young = {"created_at": NOW_S - 10}

    early = look({"chat-0-d-0-1": {**FAILED, **young}})
    due = look({"chat-0-d-0-1": {**FAILED, **young}}, now=NOW_S + 10)

    assert (early.delete, early.retry_at) == ((), NOW_S + 10)
    assert names(due.delete) == FIRST


def test_during_back_off_the_condition_names_the_pod_that_failed() -> None:
    """Its log says why; the leader's says only that a peer is gone."""
    pods = seen({"chat-0-d-0-1": FAILED})
    found = rollout.changes(CHAT, pods, failures={"chat-0-d-0": 2}, now=NOW_S)

    status = readiness.status(Tally.of(CHAT, pods), found, News(), before={}, now=NOW)

    degraded = next(c for c in status["conditions"] if c["type"] == "Degraded")
    assert degraded["reason"] == "PodsFailing"
    assert degraded["message"] == (
        "chat-0-d-0-1 has failed and all 2 of its replica are made anew no sooner than 80 s after"
        " it was made; its log says why"
    )
    assert status["units"]["ready"] == 0


def test_failures_are_forgotten_when_the_leader_has_served_for_long() -> None:
    """One failure a month must not add up."""
    found = look({}, {"chat-0-d-0": 3}, now=NOW_S + 600)

    assert not found.failures


def test_an_older_unit_with_a_torn_replica_is_replaced_whole() -> None:
    """Its template is gone, so that its pods cannot be made again."""
    newer = replace(CHAT, priority_class="other")

    found = rollout.changes(newer, seen({"chat-0-d-0-1": FAILED}), now=NOW_S)

    assert names(found.delete) == sorted(UNIT)
    assert {slot.unit for slot in found.create} == {1}
