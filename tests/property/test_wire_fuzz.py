"""Whatever bytes arrive, the reply is one that kube-scheduler understands."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bayplan_extender.webhook.app import create_app
from tests.builders import GPU
from tests.webhook_server import listed_view

VERBS = ("filter", "prioritize", "preempt", "bind")

#: Values that manifests and Go programs do not send: too large, too deep, of the wrong type.
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
quantities = odd | st.sampled_from(
    ["1", "8", "1e999999999", "-1", "9" * 5000, "1Ei", "NaN", "\ud800"]
)


def spoilt(good: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401 - any JSON
    """Return the JSON value with anything in place of any part of it."""
    if isinstance(good, dict):
        parts = {key: spoilt(value) for key, value in good.items()}
        return st.fixed_dictionaries({}, optional=parts) | st.fixed_dictionaries(parts) | odd
    if isinstance(good, list):
        return st.tuples(*map(spoilt, good)).map(list) | odd
    return st.just(good) | quantities


REQUEST = {
    "Pod": {
        "metadata": {
            "name": "a",
            "namespace": "default",
            "uid": "uid-a",
            "resourceVersion": "7",
            "labels": {"bayplan.dev/gang": "g", "bayplan.dev/gang-min-count": "2"},
            "annotations": {"bayplan.dev/replaces": "uid-b"},
            "creationTimestamp": "2026-01-31T12:00:00Z",
            "ownerReferences": [{"kind": "Job", "name": "j", "uid": "u", "controller": True}],
        },
        "spec": {
            "priority": 5,
            "nodeSelector": {"zone": "a"},
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "containers": [{"name": "c", "resources": {"limits": {GPU: "1", "cpu": "500m"}}}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchFields": [{"key": "k", "operator": "In", "values": ["n1"]}]}
                        ]
                    }
                }
            },
        },
        "status": {"phase": "Pending"},
    },
    "Nodes": {"metadata": {}, "items": [{"metadata": {"name": "n1"}}]},
    "NodeNames": ["n1", "n2"],
    "NodeNameToMetaVictims": {"n1": {"Pods": [{"UID": "uid-b"}], "NumPDBViolations": 0}},
    "NodeNameToVictims": {"n1": {"Pods": [{"metadata": {"uid": "uid-b"}}]}},
    "PodName": "a",
    "PodNamespace": "default",
    "PodUID": "uid-a",
    "Node": "n1",
}


@pytest.fixture(scope="module")
def client() -> TestClient:
    """Return a client of a webhook that sees two nodes; an error in it fails the test."""
    return TestClient(create_app(listed_view(), clock=lambda: 0.0))


@pytest.mark.parametrize("verb", VERBS)
@given(body=st.binary(max_size=64))
@example(body=b"[" * 100_000)
@example(body=b'{"Pod":' * 20_000)
@example(body=b"\xff\xfe{\x00}\x00")
@example(body=b'{"a":' + b"9" * 5000 + b"}")
def test_bytes(client: TestClient, verb: str, body: bytes) -> None:
    """A proxy in between, a scanner, a truncated request."""
    assert_understood(client, verb, body)


@pytest.mark.parametrize("verb", VERBS)
@given(request=spoilt(REQUEST))
def test_requests_with_anything_in_them(
    client: TestClient, verb: str, request: dict[str, Any]
) -> None:
    """Pods are written by users: what they write must never stop the scheduler."""
    assert_understood(client, verb, json.dumps(request).encode())


@pytest.mark.parametrize("verb", VERBS)
def test_huge_lists(client: TestClient, verb: str) -> None:
    """More nodes than any cluster has."""
    names = [f"node-{i}" for i in range(20_000)]
    pods = [{"UID": name} for name in names]
    body = REQUEST | {
        "Nodes": None,
        "NodeNames": names,
        "NodeNameToMetaVictims": {"n1": {"Pods": pods}},
    }
    assert_understood(client, verb, json.dumps(body).encode())


def assert_understood(client: TestClient, verb: str, body: bytes) -> None:
    """Assert that kube-scheduler can decode the reply, and that a failure says why."""
    with capture_logs() as events:
        reply = client.post(f"/{verb}", content=body)

    assert not [event for event in events if event["event"] == "request_failed"]
    assert reply.status_code == 200
    told = reply.json()
    if verb == "prioritize":
        assert all(0 <= each["Score"] <= 10 for each in told)
        return
    keys = {
        "filter": {"Nodes", "NodeNames", "FailedNodes", "FailedAndUnresolvableNodes", "Error"},
        "preempt": {"NodeNameToMetaVictims"},
        "bind": {"Error"},
    }
    assert set(told) == keys[verb]
    if verb == "filter":
        assert told["Error"] or (told["Nodes"] is None) != (told["NodeNames"] is None)
