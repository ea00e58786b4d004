"""A plan of any size fits into one object."""

import json
from dataclasses import replace
from typing import Any

from bayplan.bounding import bounded
from bayplan.codec import plan_manifest, published_plan_of
from bayplan.codec.plans import MAX_BYTES
from bayplan.plan import Bind, Certificate, Hold, Plan, Reason, Rejection, Result, Verdict
from bayplan.policy import Order
from bayplan.snapshot import GangKey, NodeName, PodKey

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


def test_what_is_left_out_is_counted_as_held() -> None:
    """The columns would claim that thousands of pods do not exist."""
    binds = tuple(bind(f"p{i}") for i in range(3000))
    result = Result(plan=Plan(certificate=CERTIFICATE, binds=binds), digest="d", engine="greedy")

    manifest = plan_manifest(result, sequence=1)

    assert len(manifest["spec"]["actions"]) == 2000
    assert manifest["spec"]["counts"] == {"bound": 2000, "moved": 0, "evicted": 0, "held": 1000}
    assert published_plan_of(manifest).truncated


def test_what_would_help_is_left_out_before_reasons_are() -> None:
    """The API server would refuse a plan with long sentences for ever, and nobody be placed."""
    wordy = replace(hold("h"), remedy="free " + "x" * 1000)
    holds = tuple(replace(wordy, uid=f"uid-{i}") for i in range(2000))

    manifest = manifest_of(Plan(certificate=CERTIFICATE, holds=holds))

    actions = manifest["spec"]["actions"]
    assert len(actions) == 2000
    assert not any("remedy" in action for action in actions)
    assert size(manifest) <= MAX_BYTES


def test_a_plan_of_long_names_leaves_room_for_how_far_it_is() -> None:
    """It would be published, and what the operator reports on it be refused."""
    name = "n" * 240
    binds = tuple(bind(f"{name}-{i}", gang=f"{name}-{i // 8}") for i in range(2000))

    plan = Plan(certificate=CERTIFICATE, binds=binds, holds=(hold("h"),))
    manifest = manifest_of(plan)

    bound = [action for action in manifest["spec"]["actions"] if action["type"] == "Bind"]
    assert len(bound) > 500
    assert len(bound) % 8 == 0
    assert size(manifest) + len(bound) * (300 + len(name)) <= 1.1 * MAX_BYTES


def manifest_of(plan: Plan) -> dict[str, Any]:
    """Return the object that publishes a plan."""
    return plan_manifest(Result(plan=plan, digest="d", engine="greedy"), sequence=1)


def size(manifest: dict[str, Any]) -> int:
    """Return the bytes of an object as it is sent."""
    return len(json.dumps(manifest, separators=(",", ":")).encode())
