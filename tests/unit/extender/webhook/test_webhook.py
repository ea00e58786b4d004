"""The extender protocol, as kube-scheduler speaks it."""

import json
import threading
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from bayplan.cluster.keys import NodeName
from bayplan.codec import PublishedPlan
from bayplan.plan import Bind, Certificate, Plan, Verdict
from bayplan.policy import Order
from bayplan_extender.view import View
from bayplan_extender.webhook import recent
from bayplan_extender.webhook.app import create_app
from bayplan_extender.webhook.body_limit import MAX_BODY
from tests.builders import pod
from tests.webhook_server import NODES, arguments, listed_view


@pytest.fixture
def view() -> View:
    """Return a view of two nodes and one waiting pod, all listed."""
    return listed_view()


@pytest.fixture
def client(view: View) -> TestClient:
    """Return a client of the webhook; an error in it fails the test."""
    app = create_app(view, clock=lambda: 0.0)
    return TestClient(app, client=("127.0.0.1", 50000))


def promise(view: View, plan: Plan, *, phase: str = "Executing") -> None:
    """Let the view see a plan that is being carried out."""
    seen = PublishedPlan(name="plan-1", uid="uid-plan", sequence=1, plan=plan, phase=phase)
    view.plans = {seen.name: seen}
    view.reserve()


def test_filter_answers_names_with_names(client: TestClient) -> None:
    """With nodeCacheCapable the scheduler reads NodeNames alone."""
    reply = client.post("/filter", json=arguments()).json()

    assert reply == {
        "Nodes": None,
        "NodeNames": ["n1"],
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {},
        "Error": "",
    }


def test_filter_answers_objects_with_objects(client: TestClient) -> None:
    """Without nodeCacheCapable the scheduler reads Nodes alone, and takes null for no node."""
    items = [{"metadata": {"name": name}, "spec": {}, "status": {}} for name in NODES]
    sent = arguments(names=None) | {"Nodes": {"metadata": {}, "items": items}}

    reply = client.post("/filter", json=sent).json()

    assert reply["Nodes"] == {"metadata": {}, "items": items[:1]}
    assert reply["NodeNames"] is None


def test_refused_nodes_are_unresolvable_and_say_why(client: TestClient) -> None:
    """FailedNodes would set off the scheduler's own preemption, and a hot loop."""
    reply = client.post("/filter", json=arguments(gpus=16)).json()

    assert reply["NodeNames"] == []
    assert reply["FailedAndUnresolvableNodes"]["n1"] == "needs 16 GPUs; n1 has 8 in all"


def test_a_refusal_is_logged_once_and_counted_every_time(
    client: TestClient, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedulers ask again for ever: a pod that waits for days would fill the log."""
    monkeypatch.setattr(recent, "MOST", 2)

    def refuse(name: str = "a", gpus: int = 16) -> list[str]:
        sent = arguments(gpus=gpus)
        sent["Pod"]["metadata"] |= {"name": name, "uid": f"uid-{name}"}
        with capture_logs() as events:
            client.post("/filter", json=sent)
        return [event["reason"] for event in events if event["event"] == "pod_refused"]

    assert (refuse(), refuse(), refuse(gpus=17)) == (["NodeTooSmall"], [], [])

    view.cache.set_pod(replace(pod("other", on="n1"), uid="o1"))
    view.cache.set_pod(replace(pod("another", on="n2"), uid="o2"))
    assert (refuse(gpus=8), refuse(), refuse(gpus=8)) == (["InsufficientRoom"], [], [])
    assert [refuse("b"), refuse("a"), refuse("b"), refuse("c")] == [
        ["NodeTooSmall"],
        [],
        [],
        ["NodeTooSmall"],
    ]
    assert refuse("a") == ["NodeTooSmall"]  # forgotten: the longest without a call
    counted = client.get("/metrics").text
    assert 'bayplan_extender_refusals_total{reason="NodeTooSmall"} 9.0' in counted
    assert 'bayplan_extender_refusals_total{reason="InsufficientRoom"} 2.0' in counted


def test_a_planned_pod_is_assumed_on_the_node_it_was_told(client: TestClient, view: View) -> None:
    """Until the watch shows the binding its room would look free."""
    waiting = pod("a")
    bind = Bind(pod=waiting.key, uid=waiting.uid, node=NodeName("n2"))
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
    promise(view, Plan(certificate=certificate, binds=(bind,)))

    reply = client.post("/filter", json=arguments()).json()

    assert reply["NodeNames"] == ["n2"]
    assert view.cache.assumed_nodes(waiting.uid) == ("n2",)


def test_prioritize_answers_a_bare_list(client: TestClient) -> None:
    """The scheduler decodes a list of Host and Score, nothing around it."""
    reply = client.post("/prioritize", json=arguments()).json()

    assert reply == [{"Host": "n1", "Score": 10}, {"Host": "n2", "Score": 10}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b"[]",
        b'{"Pod": 3, "NodeNames": []}',
        b'{"Pod": {}, "NodeNames": null, "Nodes": null}',
        json.dumps(arguments() | {"NodeNames": [1]}).encode(),
        json.dumps(arguments() | {"Nodes": {"items": [{"metadata": {}}]}}).encode(),
    ],
)
def test_rubbish_gets_an_error_the_scheduler_understands(client: TestClient, body: bytes) -> None:
    """Anything but status 200 loses the message."""
    reply = client.post("/filter", content=body)

    assert reply.status_code == 200
    assert reply.json()["Error"]
    assert client.post("/prioritize", content=body).json() == []


def test_an_extender_that_has_not_seen_the_cluster_does_not_guess() -> None:
    """It would refuse every node; an error makes an ignorable extender be skipped."""
    client = TestClient(create_app(View()))

    assert "has not listed" in client.post("/filter", json=arguments()).json()["Error"]
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_a_dead_watch_is_unhealthy(view: View) -> None:
    """The webhook would answer from an old picture for ever."""
    never_started = threading.Thread(name="reflector-pods")
    client = TestClient(create_app(view, watches=[never_started]))

    reply = client.get("/healthz")

    assert (reply.status_code, reply.text) == (503, "ended: reflector-pods\n")


def test_metrics_count_calls_by_verb(client: TestClient) -> None:
    """Operators of the extender watch its latency."""
    client.post("/filter", json=arguments())

    text = client.get("/metrics").text
    assert 'bayplan_extender_request_duration_seconds_count{verb="filter"} 1.0' in text


@pytest.mark.parametrize("path", ["/filter", "/nothing"])
def test_what_is_no_call_of_a_verb_is_not_there(client: TestClient, path: str) -> None:
    """A scanner's GET would be answered as if a scheduler had asked."""
    assert client.get(path).status_code == 404


def test_a_request_without_end_is_not_read(client: TestClient) -> None:
    """One caller could fill the memory, and the scheduler get no answers any more."""
    reply = client.post("/filter", content=b" " * (MAX_BODY + 1))

    assert "larger than" in reply.json()["Error"]
    assert reply.headers["connection"] == "close"


def test_who_asks_from_the_pod_is_told_why(client: TestClient) -> None:
    """Where a pod without a plan went is written down nowhere else."""
    client.post("/filter", json=arguments())

    told = client.get("/explain/default/a").text

    assert "Was given n1 (8 GPUs free): the scheduler asked about 2 nodes." in told
    assert "Runner-up: n2 (8 GPUs free)." in told
    assert client.get("/explain/default/nobody").status_code == 404


def test_a_planned_pod_is_told_its_plan(client: TestClient, view: View) -> None:
    """The webhook has seen the plans as well."""
    bind = Bind(pod=pod("a").key, uid=pod("a").uid, node=NodeName("n2"))
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
    promise(view, Plan(certificate=certificate, binds=(bind,)))
    assert "plan-1 gives it n2" in client.get("/explain/default/a").text

    view.cache.set_pod(pod("a", on="n2"))
    assert "plan-1 placed it: verdict Optimal" in client.get("/explain/default/a").text


def test_a_pod_whose_plan_may_be_gone_is_not_said_to_have_had_none(
    client: TestClient, view: View
) -> None:
    """Only twenty plans are kept, and annotations are not."""
    view.cache.set_pod(pod("a", on="n2"))

    assert "No plan that is kept placed it" in client.get("/explain/default/a").text


@pytest.mark.parametrize("host", ["10.0.0.9", "nowhere"])
def test_nobody_else_is_told_anything(view: View, host: str) -> None:
    """Names and labels of all pods would be there for every pod in the cluster to read."""
    stranger = TestClient(create_app(view), client=(host, 50000))

    assert stranger.get("/explain/default/a").status_code == 403
    assert stranger.get("/healthz").status_code == 200


def test_metrics_show_what_the_webhook_sees(client: TestClient, view: View) -> None:
    """An alert on a watch that lags, or on room that is held for ever, would never fire."""
    bind = Bind(pod=pod("a").key, uid=pod("a").uid, node=NodeName("n2"))
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
    view.cache.set_pod(pod("b", gpus=3, on="n1"))
    view.current = {"pods": -7.0}
    view.listed = {"pods": -60.0}
    promise(view, Plan(certificate=certificate, binds=(bind,)))

    lines = client.get("/metrics").text.splitlines()

    assert {
        "bayplan_extender_waiting_pods 1.0",
        "bayplan_extender_reserved_gpus 1.0",
        'bayplan_extender_free_slots{gpus="8"} 1.0',
        'bayplan_extender_free_slots{gpus="4"} 3.0',
        'bayplan_extender_cache_lag_seconds{kind="pods"} 7.0',
        'bayplan_extender_cache_listed_seconds{kind="pods"} 60.0',
    } <= set(lines)
    assert any(line.startswith("bayplan_extender_plan_age_seconds ") for line in lines)
