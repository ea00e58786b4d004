"""`kubectl bayplan plan` and the planner start from the same cluster."""

import json
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from bayplan.api import names
from bayplan.plan import Plan
from bayplan.planner import plan
from bayplan_extender.cli import main, whatif
from bayplan_extender.sinks import reflectors
from bayplan_extender.view import View

Raw = dict[str, Any]


def raw_node(name: str) -> Raw:
    """Return an 8-GPU node."""
    return {
        "kind": "Node",
        "metadata": {"name": name},
        "status": {
            "allocatable": {"nvidia.com/gpu": "8", "pods": "9"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def raw_pod(name: str, *, gpus: int = 8, priority: int = 0, **spec: Any) -> Raw:  # noqa: ANN401 - JSON
    """Return a pod."""
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return {
        "kind": "Pod",
        "metadata": {
            "namespace": "team",
            "name": name,
            "uid": f"uid-{name}",
            "labels": {names.LABEL_MANAGED: "true"},
        },
        "spec": {
            "schedulerName": names.SCHEDULER,
            "priority": priority,
            "containers": [container],
            **spec,
        },
    }


def unit(number: int, node: str) -> Raw:
    """Return the only pod of a unit of a deployment that needs one."""
    raw = raw_pod(f"chat-{number}", nodeName=node)
    owner = {"kind": "InferenceDeployment", "name": "chat", "uid": "uid-chat", "controller": True}
    labels = {
        names.LABEL_GANG: f"chat-{number}",
        names.LABEL_GANG_MIN_COUNT: "1",
        names.LABEL_MIN_UNITS: "1",
    }
    raw["metadata"] |= {"labels": labels, "ownerReferences": [owner]}
    return raw


def phantom(node: str) -> Raw:
    """Return a pod that somebody pinned where it never fits."""
    here = {"key": "metadata.name", "operator": "In", "values": [node]}
    term = {"nodeSelectorTerms": [{"matchFields": [here]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}
    return raw_pod("phantom", gpus=9, affinity=affinity)


NODES = [raw_node(name) for name in ("n1", "n2", "n3")]
PODS = [unit(0, "n1"), unit(1, "n2"), phantom("n3")]
NEW = [raw_pod(name, priority=1000, schedulingGates=[{"name": names.GATE}]) for name in ("x", "y")]


def worker(
    name: str,
    phase: str,
    *,
    owner: str = "Job",
    uid: str = "uid-g",
    **spec: Any,  # noqa: ANN401 - JSON
) -> Raw:
    """Return a pod of a gang of three."""
    spec["restartPolicy"] = "Never" if owner == "Job" else "Always"
    raw = raw_pod(name, gpus=1, **spec)
    raw["metadata"]["labels"] |= {names.LABEL_GANG: "g", names.LABEL_GANG_MIN_COUNT: "3"}
    raw["metadata"]["ownerReferences"] = [
        {"kind": owner, "name": "g", "uid": uid, "controller": True}
    ]
    return raw | {"status": {"phase": phase}}


def planned(monkeypatch: pytest.MonkeyPatch, pods: list[Raw]) -> Plan:
    """Return what the planner does once these pods are there."""
    monkeypatch.setattr("bayplan_extender.sinks.Reflector", lambda name, _, sink: (name, sink))
    view = View(planning=True)
    of: Any = dict(reflectors(view, client.ApiClient()))  # type: ignore[arg-type]
    of["nodes"].replace(NODES)
    of["pods"].replace(pods)
    return plan(view.snapshot(now=0), view.policy, clock=lambda: 0.0).plan


def listed(told: Plan) -> list[tuple[str, str, str]]:
    """Return what a plan does."""
    binds = [("Bind", bind.pod.name, str(bind.node)) for bind in told.binds]
    return [*(("Evict", e.pod.name, str(e.node)) for e in told.evictions), *binds]


def asked(folder: Path, capsys: pytest.CaptureFixture[str], objects: list[Raw]) -> list[Any]:
    """Return what the command line says the planner would do."""
    (folder / "new.json").write_text(json.dumps({"kind": "List", "items": objects}))
    main(["plan", "-f", str(folder), "-o", "json"])
    told = json.loads(capsys.readouterr().out)
    spec = told["plan"] if "plan" in told else told["spec"]
    done = [action for action in spec["actions"] if action["type"] != "Hold"]
    return [(action["type"], action["pod"]["name"], action["node"]) for action in done]


def test_the_command_line_answers_what_the_planner_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would evict a unit that is needed, and find no room beside a pin that is hopeless."""
    does = listed(planned(monkeypatch, [*PODS, *NEW]))
    assert does[0] == ("Evict", "chat-1", "n2")
    assert {node for _, _, node in does[1:]} == {"n2", "n3"}

    monkeypatch.setattr(whatif, "_cluster", lambda: [{"kind": "List", "items": NODES + PODS}])

    assert asked(tmp_path, capsys, NEW) == does
    assert asked(tmp_path, capsys, NODES + PODS + NEW) == does


@pytest.mark.parametrize(
    ("others", "binds"),
    [
        pytest.param(
            [
                worker("a", "Succeeded"),
                worker("b", "Running", nodeName="n1"),
                worker("c", "Failed"),
            ],
            1,
            id="those that have ended well are not made again",
        ),
        pytest.param(
            [worker("b", "Running", nodeName="n1"), worker("c", "Failed")],
            0,
            id="one that has failed is",
        ),
        pytest.param(
            [worker(name, "Succeeded", owner="InferenceDeployment") for name in "ab"],
            0,
            id="and so is one that was to serve",
        ),
        pytest.param(
            [worker(name, "Succeeded", owner="ReplicaSet") for name in "ab"],
            0,
            id="or ended because it was evicted",
        ),
        pytest.param(
            [worker(name, "Succeeded", uid="uid-last-run") for name in "ab"],
            0,
            id="those of another run are none of this one",
        ),
    ],
)
def test_who_takes_the_place_of_a_failed_pod_does_not_wait_for_those_that_have_ended(
    others: list[Raw],
    binds: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Job would never end: its last pod waits for a gang that is never whole again."""
    pods = [*others, worker("new", "Pending", schedulingGates=[{"name": names.GATE}])]

    does = listed(planned(monkeypatch, pods))

    assert [(kind, name) for kind, name, _ in does] == [("Bind", "new")] * binds
    assert asked(tmp_path, capsys, [*NODES, *pods]) == does


def test_a_pod_that_ended_well_is_forgotten_when_it_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gang that is made anew under its name would be placed in part."""
    monkeypatch.setattr("bayplan_extender.sinks.Reflector", lambda name, _, sink: (name, sink))
    view = View(planning=True)
    of: Any = dict(reflectors(view, client.ApiClient()))  # type: ignore[arg-type]
    of["pods"].change("ADDED", worker("a", "Running", nodeName="n1"))
    of["pods"].change("MODIFIED", worker("a", "Succeeded", nodeName="n1"))
    assert len(view.ended) == 1

    of["pods"].change("DELETED", worker("a", "Succeeded", nodeName="n1"))

    assert not view.ended
