"""What the planner learns from the status of its last plans."""

from typing import Any

import pytest
from kubernetes import client

from bayplan.cluster.keys import NodeName
from bayplan.codec import plan_manifests
from bayplan.codec.recalls import Recall, recall_manifest
from bayplan.plan import Bind, Certificate, Evict, Plan, Reason, Result, Verdict
from bayplan.planner import plan
from bayplan.policy import Order
from bayplan_extender.sinks import reflectors
from bayplan_extender.view import View
from tests.builders import node, pod

ENDED = 1_777_636_800  # 2026-05-01T12:00:00Z


def test_what_a_plan_was_refused_the_next_one_does_not_ask_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each planner made the same plan again, also one that had just begun to lead."""
    monkeypatch.setattr("bayplan_extender.sinks.Reflector", lambda name, _, sink: (name, sink))
    view = View(planning=True)
    of: dict[str, Any] = dict(reflectors(view, client.ApiClient()))  # type: ignore[arg-type]
    new, low = pod("new", gpus=8, priority=9), pod("low", gpus=8, on="n1")
    view.cache.set_node(node("n1"))
    for each in (new, low):
        view.cache.set_pod(each)
    bind = Bind(pod=new.key, uid=new.uid, node=NodeName("n1"))
    evict = Evict(pod=low.key, uid=low.uid, node=NodeName("n1"), priority=0)
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
    made = Plan(certificate=certificate, binds=(bind,), evictions=(evict,))
    (raw,) = plan_manifests(Result(plan=made, digest="d", engine="hand"), sequence=1)
    step = {"pod": str(new.key), "type": "Bind", "state": "Refused", "message": "by a policy"}
    status = {"phase": "Failed", "finishedAt": "2026-05-01T12:00:00Z", "steps": [step]}

    of["packingplans"].replace([{**raw, "status": status}])
    soon = plan(view.snapshot(ENDED + 1), view.policy, clock=lambda: 0.0).plan
    later = plan(view.snapshot(ENDED + 601), view.policy, clock=lambda: 0.0).plan

    assert (soon.binds, soon.evictions) == ((), ())
    assert [hold.rejection.reason for hold in soon.holds] == [Reason.NOT_ADMITTED]
    assert [bind.uid for bind in later.binds] == [new.uid]


def test_a_gang_that_was_called_back_is_kept_from_the_node_that_refused_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each planner released it to the same node again, twice a minute."""
    monkeypatch.setattr("bayplan_extender.sinks.Reflector", lambda name, _, sink: (name, sink))
    view = View(planning=True)
    of: dict[str, Any] = dict(reflectors(view, client.ApiClient()))  # type: ignore[arg-type]
    new = pod("new", gpus=8, gang="g", min_count=1)
    view.cache.set_node(node("n1"))
    view.cache.set_pod(new)
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
    (raw,) = plan_manifests(
        Result(plan=Plan(certificate=certificate), digest="d", engine="hand"), sequence=1
    )
    assert new.gang is not None
    recall = Recall(
        group=new.gang,
        pod="new",
        message="no such disk",
        nodes=((NodeName("n1"), "s"),),
        revisions=(),
        times=1,
        at=ENDED,
    )

    of["packingplans"].replace([{**raw, "status": {"recalled": [recall_manifest(recall)]}}])
    soon, later = view.snapshot(ENDED + 59), view.snapshot(ENDED + 60)

    assert soon.digest != later.digest, "no pass would be made when the pause is over"
    held = plan(soon, view.policy, clock=lambda: 0.0).plan
    assert [hold.rejection.reason for hold in held.holds] == [Reason.REFUSED_ON_NODE]
    placed = plan(later, view.policy, clock=lambda: 0.0).plan
    assert [bind.uid for bind in placed.binds] == [new.uid]
