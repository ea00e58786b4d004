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


def planned(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Return what the planner does once the new pods are there."""
    monkeypatch.setattr("bayplan_extender.sinks.Reflector", lambda name, _, sink: (name, sink))
    view = View(planning=True)
    of: Any = dict(reflectors(view, client.ApiClient()))  # type: ignore[arg-type]
    of["nodes"].replace(NODES)
    of["pods"].replace([*PODS, *NEW])
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
    return [(action["type"], action["pod"]["name"], action["node"]) for action in spec["actions"]]


def test_the_command_line_answers_what_the_planner_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would evict a unit that is needed, and find no room beside a pin that is hopeless."""
    does = listed(planned(monkeypatch))
    assert does[0] == ("Evict", "chat-1", "n2")
    assert {node for _, _, node in does[1:]} == {"n2", "n3"}

    monkeypatch.setattr(whatif, "_cluster", lambda: [{"kind": "List", "items": NODES + PODS}])

    assert asked(tmp_path, capsys, NEW) == does
    assert asked(tmp_path, capsys, NODES + PODS + NEW) == does
