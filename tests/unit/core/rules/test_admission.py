"""Who is left out of plans for a while: the API server did not admit what the last one asked."""

import math
from dataclasses import replace

import pytest

from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan
from bayplan.gates import to_offer
from bayplan.plan import Certificate, Plan, Reason, Verdict
from bayplan.planner import plan
from bayplan.policy import NodeProvisioning, Order, Policy
from bayplan.rules.admission import next_end, refused, set_aside
from tests.builders import node, pod, snapshot

POLICY = Policy(cooldown_s=600)
ENDED = PublishedPlan(
    name="plan-00001",
    uid="u",
    sequence=1,
    plan=Plan(certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)),
    phase="Failed",
    created_at=1000,
    finished_at=1000,
    refused={"uid-a": "why"},
)


def planned(there: Snapshot) -> Plan:
    """Return the plan for a cluster."""
    return plan(there, POLICY, clock=lambda: 0.0).plan


@pytest.mark.parametrize(
    ("published", "now", "cooldown_s", "left_out"),
    [
        pytest.param(ENDED, 1599, 600, True, id="for the cooldown after the plan has ended"),
        pytest.param(ENDED, 1600, 600, False, id="then it is tried again"),
        pytest.param(ENDED, 1059, 0, True, id="a minute at least, or plans would fail on end"),
        pytest.param(replace(ENDED, phase="Executing"), 9999, 600, True, id="while it is at work"),
        pytest.param(
            replace(ENDED, finished_at=9_000_000_000), 1599, 600, True, id="a clock was wrong"
        ),
        pytest.param(
            replace(ENDED, finished_at=9_000_000_000), 1600, 600, False, id="not for years"
        ),
        pytest.param(replace(ENDED, refused={}), 1001, 600, False, id="nobody was refused"),
    ],
)
def test_how_long_somebody_is_left_out(
    published: PublishedPlan,
    now: float,
    cooldown_s: float,
    left_out: bool,  # noqa: FBT001 - a case
) -> None:
    """For ever would be as bad as not at all."""
    ends_at = next_end([published], now=now, cooldown_s=cooldown_s)
    known = left_out and published.finished
    assert ends_at == (1000 + max(60, cooldown_s) if known else math.inf)
    assert ("uid-a" in refused([published], now=now, cooldown_s=cooldown_s)) is left_out


def test_what_the_newest_plan_was_told_counts() -> None:
    """The reason before may be mended, and nobody would learn of the next one."""
    newer = replace(ENDED, sequence=2, refused={"uid-a": "newer"})

    assert refused([newer, ENDED], now=1001, cooldown_s=600) == {"uid-a": "newer"}


def test_who_may_not_go_to_a_node_is_held_and_others_are_placed() -> None:
    """One such pod kept all evictions and moves from happening."""
    there = snapshot(node("n1"), pod("a", gpus=4, priority=9), pod("b", gpus=8))

    made = planned(set_aside(there, {"uid-a": "cannot go to n1, which is refused: by policy"}))

    assert [bind.uid for bind in made.binds] == ["uid-b"]
    (hold,) = made.holds
    assert hold.rejection.reason is Reason.NOT_ADMITTED
    assert "by policy" in hold.rejection.message
    assert "cooldownSeconds" in hold.remedy
    always = replace(POLICY, node_provisioning=NodeProvisioning.WHEN_INFEASIBLE)
    assert not to_offer(made.holds, always)


def test_a_gang_waits_with_the_pod_that_may_not_go() -> None:
    """Half of it would be of no use."""
    members = [pod(name, gpus=4, gang="g", min_count=2) for name in ("a", "b")]
    there = snapshot(node("n1"), *members)

    made = planned(set_aside(there, {"uid-a": "which is refused"}))

    assert not made.binds
    assert {hold.rejection.reason for hold in made.holds} == {Reason.NOT_ADMITTED}


def test_who_may_not_leave_is_no_victim_again() -> None:
    """The other one can go."""
    low = [pod(name, gpus=8, on=on) for name, on in (("a", "n1"), ("b", "n2"))]
    there = snapshot(node("n1"), node("n2"), *low, pod("urgent", gpus=8, priority=9))

    chosen = planned(there).evictions[0]
    others = planned(set_aside(there, {chosen.uid: "which is refused"})).evictions

    assert [evict.uid for evict in others] == list({"uid-a", "uid-b"} - {chosen.uid})


@pytest.mark.parametrize(
    "left",
    [
        replace(pod("a", on="n1", disruption=Disruption.FIXED), fixed_by="its owner says so"),
        replace(pod("a", on="n1"), bound=False),
    ],
    ids=["it stays anyway", "it is on its way"],
)
def test_who_is_asked_for_nothing_is_as_before(left: Pod) -> None:
    """Why it stays would be told wrongly."""
    there = snapshot(node("n1"), left)

    assert set_aside(there, {"uid-a": "which is refused"}) == there


def test_it_is_news_to_the_planner_that_somebody_was_refused() -> None:
    """It would not plan again for the others."""
    there = snapshot(node("n1"), pod("a"))

    assert set_aside(there, {"uid-a": "why"}).digest != there.digest
    assert set_aside(there, {"uid-b": "why"}) is there
