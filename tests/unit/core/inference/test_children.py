"""The pods of an InferenceDeployment: how they are read, and what happens to them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.keys import NodeName
from bayplan.codec import service
from bayplan.codec.deployments import child_of
from bayplan.inference import rollout, slots
from bayplan.inference.rollout import Changes
from bayplan.inference.units import Around
from tests.scenes.children import OLD, chat, deployment, fill, made_pod, names_of, running, second


@pytest.mark.parametrize(
    ("state", "want"),
    [
        pytest.param({"gated": True}, "keep", id="a gated pod waits"),
        pytest.param({"node": "n1"}, "keep", id="a running pod stays"),
        pytest.param(
            {"node": "n1", "terminating": True}, "wait", id="a terminating pod is awaited"
        ),
        pytest.param(
            {"node": "n1", "ended": True}, "delete", id="an ended pod makes room for anew"
        ),
        pytest.param(
            {"node": "n1", "ended": True, "terminating": True}, "wait", id="it is deleted only once"
        ),
        pytest.param(
            {"pin": "lost", "gated": False}, "delete", id="a pin to a lost node is a trap"
        ),
        pytest.param(
            {"pin": "failing", "gated": False}, "delete", id="so is one to broken hardware"
        ),
        pytest.param(
            {"pin": "n1", "gated": False}, "keep", id="a pin to a node that is there waits"
        ),
        pytest.param(
            {"node": "lost", "pin": "lost"}, "abandon", id="a pod whose node is gone is given up"
        ),
        pytest.param(
            {"revision": OLD, "node": "n1"}, "delete", id="no older pod beside newer ones"
        ),
        pytest.param({"revision": OLD}, "delete", id="an old pod that never ran is replaced"),
        pytest.param({"unit_size": 4}, "patch", id="a waiting pod that expects a larger unit"),
        pytest.param({"unit_size": 4, "node": "n1"}, "patch", id="a running one of a larger unit"),
        pytest.param({"min_units": 7, "node": "n1"}, "patch", id="one of a time with minReplicas"),
        pytest.param({"owner_uid": "other"}, "stranger", id="a namesake's pod is not touched"),
        pytest.param({"owner_uid": ""}, "stranger", id="a pod without owner is not touched"),
    ],
)
def test_what_happens_to_a_pod(state: dict[str, Any], want: str) -> None:
    """One pod of six is in the given state; all others run."""
    of = deployment()
    first = slots.slots(of)[0]
    seen = [fill(first, **state), *running(of)[1:]]

    around = Around(lost={NodeName("lost")}, failing={NodeName("failing")})
    found = rollout.changes(of, seen, around=around)

    assert bool(found.patch) is (want == "patch")
    assert (
        replace(found, failures={}, patch=())
        == {
            "patch": Changes(),
            "keep": Changes(),
            "abandon": Changes(abandon=(seen[0],)),
            "wait": Changes(),
            "delete": Changes(delete=(seen[0],)),
            "stranger": Changes(strangers=(first.name,)),
        }[want]
    )


def test_scaling_down_takes_the_highest_units_whole() -> None:
    """Units left over must be whole ones."""
    seen = running(deployment(replicas=3))

    found = rollout.changes(deployment(replicas=1), seen)

    assert names_of(found.delete) == [
        "chat-2-decode-0",
        "chat-2-decode-1",
        "chat-2-prefill-0",
        "chat-1-decode-0",
        "chat-1-decode-1",
        "chat-1-prefill-0",
    ]
    assert not found.create


def test_pods_of_a_removed_pool_go() -> None:
    """A pool that was renamed makes a unit of another revision, which replaces the whole unit."""
    pools = chat()["spec"]["pools"]
    renamed = [pools[0], pools[1] | {"name": "small"}]

    of = deployment(replicas=1, pools=renamed)
    found = rollout.changes(of, running(deployment(replicas=1)))

    assert names_of(found.create) == ["chat-1-prefill-0", "chat-1-small-0", "chat-1-small-1"]
    assert not found.delete
    assert names_of(
        rollout.changes(of, [*running(deployment(replicas=1)), *second(of)]).delete
    ) == [
        "chat-0-decode-0",
        "chat-0-decode-1",
        "chat-0-prefill-0",
    ]


PIN = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
            ]
        }
    }
}
NOON = 1_777_636_800  # 2026-05-01T12:00:00Z
BY_PLAN = {"annotations": {names.ANNOTATION_PLAN: "plan-1"}}


@pytest.mark.parametrize(
    ("state", "want"),
    [
        pytest.param({}, {}, id="as it was made"),
        pytest.param(
            {"spec": {"nodeName": "n1", "schedulingGates": []}},
            {"unplanned": True, "node": "n1", "gated": False},
            id="bound",
        ),
        pytest.param(
            {"spec": {"schedulingGates": None, "affinity": PIN}, "metadata": BY_PLAN},
            {"pin": "n1", "gated": False, "plan": "plan-1"},
            id="pinned by a plan",
        ),
        pytest.param(
            {
                "metadata": {
                    "annotations": {
                        names.ANNOTATION_REPLACES: "u-old",
                        names.ANNOTATION_SERVES_BY: "2026-05-01T12:00:00Z",
                        names.ANNOTATION_GIVES_WAY_BY: "2026-05-01T12:00:10Z",
                    }
                }
            },
            {"replaces": "u-old", "serves_by": NOON, "gives_way_by": NOON + 10},
            id="of which one takes the other's place",
        ),
        pytest.param(
            {"metadata": {"annotations": {names.ANNOTATION_SERVES_BY: "soon"}}},
            {},
            id="what is no instant says nothing",
        ),
        pytest.param({"spec": {"affinity": PIN}}, {}, id="a pin of the template's own is not ours"),
        pytest.param({"status": {"phase": "Failed"}}, {"ended": True}, id="failed"),
        pytest.param(
            {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            {"ready": True},
            id="ready",
        ),
        pytest.param(
            {"metadata": {"deletionTimestamp": "1970-01-01T00:02:00Z"}},
            {"terminating": True, "ends_by": 120},
            id="terminating",
        ),
        pytest.param({"metadata": {"ownerReferences": []}}, {"owner_uid": ""}, id="nobody's pod"),
        pytest.param(
            {"spec": {"readinessGates": None}}, {"switched": False}, id="made without a switch"
        ),
        pytest.param(
            {"status": {"conditions": [{"type": names.CONDITION_IN_SERVICE, "status": "True"}]}},
            {"in_service": True},
            id="put into service",
        ),
        pytest.param(
            {
                "status": {
                    "conditions": [
                        {
                            "type": names.CONDITION_IN_SERVICE,
                            "status": "False",
                            "lastTransitionTime": "1970-01-01T00:01:00Z",
                        }
                    ]
                }
            },
            {"drains_since": 60},
            id="taken out of service",
        ),
        pytest.param(
            {"status": {"conditions": [service.drains(datetime.fromtimestamp(60, UTC))]}},
            {"drains_since": 60},
            id="taken out of service to go with its unit",
        ),
        pytest.param(
            {"status": {"conditions": [service.yields("why", datetime.fromtimestamp(60, UTC))]}},
            {"drains_since": 60, "yields": True},
            id="taken out of service for a plan",
        ),
        pytest.param(
            {"status": {"conditions": [service.serves(datetime.fromtimestamp(60, UTC))]}},
            {"in_service": True},
            id="put back into service",
        ),
        pytest.param(
            {
                "metadata": {"annotations": {"prometheus.io/port": "8000"}},
                "status": {"podIP": "10.0.0.1"},
            },
            {"metrics_url": "http://10.0.0.1:8000/metrics"},
            id="with metrics",
        ),
        pytest.param(
            {
                "metadata": {
                    "annotations": {
                        "prometheus.io/port": "8000",
                        "prometheus.io/scheme": "file",
                    }
                },
                "status": {"podIP": "10.0.0.1"},
            },
            {},
            id="with metrics where nobody may look",
        ),
        pytest.param(
            {
                "status": {
                    "containerStatuses": [
                        {
                            "allocatedResourcesStatus": [
                                {"resources": [{"resourceID": "gpu-0", "health": "Unhealthy"}]}
                            ]
                        }
                    ]
                }
            },
            {"broken": True},
            id="on a device that is reported unhealthy",
        ),
        pytest.param(
            {"metadata": {"labels": {names.LABEL_UNIT: "first"}}},
            {"unit": -1, "unit_size": 0, "pool": "", "revision": "", "replica": 0}
            | {"represents": False},
            id="labels that somebody took away",
        ),
    ],
)
def test_a_pod_is_read_as_a_child(state: dict[str, Any], want: dict[str, Any]) -> None:
    """What the operator makes must be what it sees afterwards."""
    made = replace(fill(slots.slots(deployment())[0]), switched=True)

    assert child_of(made_pod(**state)) == replace(made, **want)
