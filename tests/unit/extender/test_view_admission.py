"""What the planner learns from the status of its last plans."""

from typing import Any

import pytest
from kubernetes import client

from bayplan.cluster.keys import NodeName
from bayplan.codec import plan_manifests
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
