"""The latest pass of the planner, for whoever wants to make it again."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bayplan.codec import recording_of
from bayplan.plan import plan_digest
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan_extender.planner.recorder import Pass, Recorder
from tests.builders import node, pod, snapshot


@pytest.fixture
def recorder() -> Recorder:
    """Return one that has nothing yet."""
    return Recorder()


def client(recorder: Recorder, host: str = "127.0.0.1") -> TestClient:
    """Return a client that asks from `host`."""
    app = FastAPI()
    app.include_router(recorder.router())
    return TestClient(app, client=(host, 50000))


def test_the_latest_pass_can_be_made_again(recorder: Recorder) -> None:
    """A plan that surprises somebody in production could be looked at nowhere else."""
    seen, policy = snapshot(node("n1"), pod("a"), pod("b", gpus=16)), Policy(max_moves=3)
    made = plan(seen, policy, clock=lambda: 0.0)
    recorder.keep(Pass(snapshot=seen, policy=policy, result=made))

    recorded = recording_of(client(recorder).get("/snapshot").json())

    assert (recorded.snapshot, recorded.policy) == (seen, policy)
    assert recorded.digest == seen.digest
    again = plan(recorded.snapshot, recorded.policy, clock=lambda: 0.0, seed=recorded.seed)
    assert plan_digest(again.plan) == recorded.plan_digest


def test_a_replica_that_does_not_lead_says_so(recorder: Recorder) -> None:
    """An empty answer would look like an empty cluster."""
    reply = client(recorder).get("/snapshot")

    assert (reply.status_code, "ask the replica that leads" in reply.text) == (404, True)


def test_nobody_else_may_see_the_whole_cluster(recorder: Recorder) -> None:
    """The port is there for probes: every pod in the cluster reaches it."""
    assert client(recorder, "10.0.0.9").get("/snapshot").status_code == 403
