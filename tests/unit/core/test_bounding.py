"""A plan of any size fits into objects that the API server takes, and nothing of it is lost."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bayplan.bounding import bounded
from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.codec import PublishedPlan, decisions, joined, plan_manifests, published_plan_of
from bayplan.codec.parts import MAX_BYTES, MAX_PARTS
from bayplan.plan import Bind, Certificate, Hold, Plan, Reason, Rejection, Result, Verdict
from bayplan.policy import Order
from bayplan.triggers import repeats

CERTIFICATE = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.IMPROVED)


def bind(name: str, *, gang: str = "", priority: int = 0) -> Bind:
    """Return a bind to n1."""
    key = PodKey(namespace="default", name=name)
    return Bind(
        pod=key,
        uid=name,
        node=NodeName("n1"),
        gang=GangKey(namespace="default", name=gang) if gang else None,
        priority=priority,
    )


def hold(name: str) -> Hold:
    """Return a hold."""
    why = Rejection(reason=Reason.INSUFFICIENT_ROOM, message="needs more")
    return Hold(pod=PodKey(namespace="default", name=name), uid=name, rejection=why)


def test_gangs_stay_whole_and_the_highest_priority_stays_in() -> None:
    """Half a gang would be released, or the urgent pods left for later."""
    plan = Plan(
        certificate=CERTIFICATE,
        binds=(
            bind("a1", gang="a"),
            bind("a2", gang="a"),
            bind("b", priority=9),
            bind("c1", gang="c", priority=5),
            bind("c2", gang="c", priority=5),
        ),
        holds=(hold("h"),),
    )

    kept = bounded(plan, 4)

    assert [b.pod.name for b in kept.binds] == ["b", "c1", "c2"]
    assert [h.pod.name for h in kept.holds] == ["h"]


def test_a_plan_that_fits_is_left_as_it_is() -> None:
    """Reasons would be lost for nothing."""
    plan = Plan(certificate=CERTIFICATE, binds=(bind("a"),), holds=(hold("h"),))

    assert bounded(plan, 2) == plan


def test_a_large_plan_is_told_whole_in_a_few_objects() -> None:
    """Seen: of 5,000 pods 2,000 were placed at first, and nobody was told why 3,000 others wait."""
    binds = tuple(bind(f"b{i:04}", gang=f"g{i // 8}", priority=i % 3) for i in range(5000))
    holds = tuple(hold(f"h{i:04}") for i in range(3000))
    plan = Plan(certificate=CERTIFICATE, binds=binds, holds=holds)

    manifests = manifests_of(plan)

    assert 4 <= len(manifests) <= MAX_PARTS
    assert [each["metadata"]["name"] for each in manifests[:2]] == [
        "plan-00001",
        "plan-00001-part-2",
    ]
    told = read(manifests)
    assert told.plan == plan
    assert (told.name, told.truncated) == ("plan-00001", False)
    assert repeats(told, plan)
    counts = [each["spec"]["counts"] for each in manifests]
    assert (sum(c["bound"] for c in counts), sum(c["held"] for c in counts)) == (5000, 3000)


def test_a_gang_that_no_object_can_hold_is_placed_all_the_same() -> None:
    """Seen: it was left out of each plan, for ever."""
    gang = tuple(bind(f"b{i:04}", gang="g") for i in range(2500))

    assert read(manifests_of(Plan(certificate=CERTIFICATE, binds=gang))).plan.binds == gang


def test_a_plan_of_which_an_object_is_missing_is_none() -> None:
    """Half of what the planner decided would be carried out while the rest is being written."""
    holds = tuple(hold(f"h{i:04}") for i in range(4100))
    pages = [
        published_plan_of(each) for each in manifests_of(Plan(certificate=CERTIFICATE, holds=holds))
    ]
    older = replace(pages[0], sequence=0, parts=1)
    contrary = replace(pages[1], parts=7)

    assert decisions([pages[2], older, pages[0]]) == ((older,),)
    assert decisions([pages[2], contrary, pages[0]]) == ()
    assert decisions([pages[2], pages[1], older, pages[0]]) == ((older,), tuple(pages))


def test_what_is_left_out_of_a_huge_plan_is_counted_as_held() -> None:
    """The columns would claim that thousands of pods do not exist."""
    binds = tuple(bind(f"p{i:05}") for i in range(20_000))

    manifests = manifests_of(Plan(certificate=CERTIFICATE, binds=binds))

    counts = [each["spec"]["counts"] for each in manifests]
    assert [each["bound"] for each in counts] == [2000] * 8
    assert [each["held"] for each in counts] == [0] * 7 + [4000]
    assert read(manifests).truncated


def test_what_would_help_is_left_out_before_reasons_are() -> None:
    """The API server would refuse a plan with long sentences for ever, and nobody be placed."""
    wordy = replace(hold("h"), remedy="free " + "x" * 1000)
    holds = tuple(replace(wordy, uid=f"uid-{i}") for i in range(10_000))

    manifests = manifests_of(Plan(certificate=CERTIFICATE, holds=holds))

    told = read(manifests)
    assert len(told.plan.holds) == 10_000
    assert not any(each.remedy for each in told.plan.holds)
    assert max(map(size, manifests)) <= MAX_BYTES


def test_objects_of_long_names_leave_room_for_how_far_they_are() -> None:
    """They would be published, and what the operator reports on them be refused."""
    name = "n" * 240
    binds = tuple(bind(f"{name}-{i}", gang=f"{name}-{i // 8}") for i in range(5000))

    manifests = manifests_of(Plan(certificate=CERTIFICATE, binds=binds, holds=(hold("h"),)))

    bound = [each["spec"]["counts"]["bound"] for each in manifests]
    assert sum(bound) == 5000
    for manifest, number in zip(manifests, bound, strict=True):
        assert number % 8 == 0
        assert size(manifest) + number * (300 + len(name)) <= 1.1 * MAX_BYTES


def manifests_of(plan: Plan) -> tuple[dict[str, Any], ...]:
    """Return the objects that publish a plan."""
    return plan_manifests(Result(plan=plan, digest="d", engine="greedy"), sequence=1)


def read(manifests: Iterable[dict[str, Any]]) -> PublishedPlan:
    """Return the plan that objects hold."""
    (pages,) = decisions(map(published_plan_of, manifests))
    return joined(pages)


def size(manifest: dict[str, Any]) -> int:
    """Return the bytes of an object as it is sent."""
    return len(json.dumps(manifest, separators=(",", ":")).encode())
