"""A plan of thousands of actions, on a real API server: written, watched, reported on."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kubernetes import client

from bayplan.api.packing_plan import MAX_RECALLED, MAX_RECALLED_BYTES, MAX_REFUSING
from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.codec.parts import MAX_PARTS
from bayplan.codec.recalls import Recall, recall_manifest
from bayplan.codec.stages import folded
from bayplan.plan import (
    Bind,
    Certificate,
    Hold,
    Plan,
    Reason,
    Rejection,
    Result,
    Stage,
    Verdict,
)
from bayplan.policy import Order
from bayplan.rules.recalls import most_pressing
from bayplan.steps import Report, State
from bayplan_extender.planner import publisher as publishers
from bayplan_extender.planner.publisher import Publisher
from bayplan_extender.sinks import reflectors
from bayplan_extender.view import View
from bayplan_operator.plans.statuses import told_of
from e2e.cluster import Cluster, eventually
from tests.scenes.recalls import ONCE

pytestmark = pytest.mark.usefixtures("served")


@pytest.fixture
def view(api: client.ApiClient) -> Iterator[View]:
    """Return a view that watches plans alone."""
    seen = View()
    watches = reflectors(seen, api)
    (watch,) = [each for each in watches if each.name.endswith("packingplans")]
    watch.start()
    yield seen
    watch.stop()


def large() -> Plan:
    """Return a plan of 4,000 binds of gangs and 3,000 holds, many with the longest names."""

    def key(kind: str, i: int) -> PodKey:
        return PodKey(namespace="team", name=f"{kind}{i:05d}{'x' * (240 if i % 2 else 1)}")

    binds = [
        Bind(
            pod=key("b", i),
            uid=f"{i:036d}",
            node=NodeName("n" * 253),
            gang=GangKey(namespace="team", name=f"g{i // 8}"),
            priority=i % 3,
        )
        for i in range(4000)
    ]
    why = Rejection(reason=Reason.POD_AFFINITY, message="needs <company> & more: " + "x" * 200)
    holds = [Hold(pod=key("h", i), uid=f"{i + 9999:036d}", rejection=why) for i in range(3000)]
    stages = tuple(Stage(name=f"place {i}", value=i, bound=i) for i in range(600))
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL, stages=stages)
    return Plan(
        certificate=certificate,
        binds=tuple(sorted(binds, key=lambda each: each.pod)),
        holds=tuple(sorted(holds, key=lambda each: each.pod)),
    )


def test_a_large_plan_is_stored_watched_and_reported_on(
    cluster: Cluster, api: client.ApiClient, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planner would be refused for ever, or the webhook hold room for a part of the plan."""
    monkeypatch.setattr(publishers, "_TIMEOUT_S", (60.0, 60.0))  # it is about size, not about time
    plan = large()

    publisher = Publisher(api, leads=lambda: True)
    name = publisher.publish(Result(plan=plan, digest="d", engine="hand"), sequence=1)

    newest = eventually(view.newest_plan, what="the whole plan is seen")
    assert newest is not None
    told = replace(plan.certificate, stages=folded(plan.certificate.stages))
    assert (newest.name, newest.plan == replace(plan, certificate=told)) == (name, True)
    assert view.reservations(0.0).home(plan.binds[-1].uid) == "n" * 253
    rows = cluster.kubectl_run("get", "pplan", "--no-headers").splitlines()
    assert 3 < len(rows) <= MAX_PARTS
    assert sum(int(row.split()[2]) for row in rows) == 4000
    assert sum(int(row.split()[5]) for row in rows) == 3000
    for row in rows:
        _report_on(cluster, row.split()[0])
    cluster.kubectl_run("delete", "pplan", *(row.split()[0] for row in rows))
    eventually(lambda: view.newest_plan() is None, what="the plan is forgotten")


def _report_on(cluster: Cluster, name: str) -> None:
    """Write how far each step is where each is refused at length, and who else was."""
    raw = json.loads(cluster.kubectl_run("get", f"pplan/{name}", "-o", "json"))
    reports = [
        Report(
            pod=PodKey(action["pod"]["namespace"], action["pod"]["name"]),
            type=action["type"],
            state=State.REFUSED,
            message="the API server does not admit it: " + "x" * 2000,
        )
        for action in raw["spec"]["actions"]
        if action["type"] != "Hold"
    ]
    recalled = [recall_manifest(recall) for recall in _refused()]
    status = {"phase": "Executing", "steps": told_of(reports), "recalled": recalled}
    patch = json.dumps({"status": status})
    cluster.kubectl_run(
        *("patch", f"pplan/{name}", "--subresource=status", "--type=merge"),
        *("--patch-file", "/dev/stdin"),
        input=patch,
    )


def _refused() -> tuple[Recall, ...]:
    """Return as many refusals as a plan tells of, with the longest names."""
    nodes = tuple((NodeName(f"{n:0253}"), "s" * 16) for n in range(MAX_REFUSING))
    known = (
        replace(
            ONCE,
            group=GangKey(namespace=f"ns-{n}", name=f"{n:0253}"),
            message="x" * 300,
            nodes=nodes,
        )
        for n in range(MAX_RECALLED)
    )
    return most_pressing(known, most=MAX_RECALLED, size=MAX_RECALLED_BYTES)
