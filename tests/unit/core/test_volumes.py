"""Pods go where their volumes are: what is read of them, watched, planned and answered."""

import json
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from bayplan.api import names
from bayplan.cluster.constraints import NodeTerm, Requirement, Volume
from bayplan.cluster.keys import ClaimKey
from bayplan.codec import DecodeError, pod_of, volume_of
from bayplan.plan import Plan, Reason
from bayplan.planner import plan
from bayplan_extender.cli import main, whatif
from bayplan_extender.sinks import reflectors
from bayplan_extender.view import View

Raw = dict[str, Any]

ZONE = "topology.kubernetes.io/zone"
DISK = {"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}


def raw_volume(zone: str, claim: str = "disk", *, phase: str = "Bound") -> Raw:
    """Return a volume that only the nodes of a zone reach."""
    line = {"key": ZONE, "operator": "In", "values": [zone]}
    return {
        "kind": "PersistentVolume",
        "metadata": {"name": f"pv-{claim}"},
        "spec": {
            "claimRef": {"namespace": "team", "name": claim},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [line]}]}},
        },
        "status": {"phase": phase},
    }


def raw_node(name: str, zone: str) -> Raw:
    """Return an 8-GPU node."""
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {ZONE: zone}},
        "status": {
            "allocatable": {"nvidia.com/gpu": "8", "pods": "9"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def raw_pod(name: str, *, gpus: int = 8, priority: int = 0, **spec: Any) -> Raw:  # noqa: ANN401 - JSON
    """Return a pod, behind our gate unless it has a node."""
    gate = {} if "nodeName" in spec else {"schedulingGates": [{"name": names.GATE}]}
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    owner = {"kind": "ReplicaSet", "name": "web", "uid": "uid-web", "controller": True}
    return {
        "kind": "Pod",
        "metadata": {
            "namespace": "team",
            "name": name,
            "uid": f"uid-{name}",
            "labels": {names.LABEL_MANAGED: "true"},
            "ownerReferences": [owner],
        },
        "spec": {
            "schedulerName": names.SCHEDULER,
            "priority": priority,
            "containers": [container],
            **gate,
            **spec,
        },
    }


NODES = [raw_node("n1", "a"), raw_node("n2", "b"), raw_node("n3", "c")]


def planned(
    monkeypatch: pytest.MonkeyPatch, pods: list[Raw], *volumes: Raw, changed: Raw | None = None
) -> Plan:
    """Return what the planner does; `changed` is how a volume is by then."""
    monkeypatch.setattr("bayplan_extender.sinks.Reflector", lambda name, _, sink: (name, sink))
    view = View(planning=True)
    assert "persistentvolumes" in view.missing
    of: Any = dict(reflectors(view, client.ApiClient()))  # type: ignore[arg-type]
    of["nodes"].replace(NODES)
    of["pods"].replace(pods)
    of["persistentvolumes"].replace(list(volumes))
    assert "persistentvolumes" not in view.missing
    if changed is not None:
        of["persistentvolumes"].change("MODIFIED", changed)
    return plan(view.snapshot(now=0), view.policy, clock=lambda: 0.0).plan


def test_where_a_volume_is_reached_is_read() -> None:
    """It is the claim that a pod names."""
    line = Requirement(key=ZONE, operator="In", values=("b",))
    assert volume_of(raw_volume("b")) == Volume(
        claim=ClaimKey("team", "disk"), nodes=(NodeTerm(labels=(line,)),)
    )


@pytest.mark.parametrize("phase", ["Available", "Released", "Failed"])
def test_a_volume_that_no_claim_has_keeps_nobody(phase: str) -> None:
    """A new claim may have the name of the one that is gone."""
    assert volume_of(raw_volume("b", phase=phase)) is None


@pytest.mark.parametrize("missing", ["claimRef", "nodeAffinity"])
def test_a_volume_that_every_node_reaches_keeps_nobody(missing: str) -> None:
    """Or one that no claim names."""
    raw = raw_volume("b")
    del raw["spec"][missing]
    assert volume_of(raw) is None


def test_a_volume_that_cannot_be_read_says_which_and_where() -> None:
    """Pods would be planned where it is not."""
    raw = raw_volume("b")
    raw["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] = "b"
    with pytest.raises(
        DecodeError, match=r"PersistentVolume pv-disk: spec\.nodeAffinity\.required"
    ):
        volume_of(raw)


def test_the_claims_of_a_pod_are_read() -> None:
    """Those that are made for it are named after it."""
    volumes = [
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
        {"name": "token", "projected": {}},
        DISK,
    ]
    read = pod_of(raw_pod("p", volumes=volumes))
    assert read is not None
    assert read.claims == ("p-scratch", "disk")


@pytest.mark.parametrize(("zone", "home"), [("a", "n1"), ("b", "n2"), ("c", "n3")])
def test_a_pod_goes_where_its_volume_is(
    monkeypatch: pytest.MonkeyPatch, zone: str, home: str
) -> None:
    """Seen: it was pinned elsewhere, failed after two minutes, and was pinned there again."""
    told = planned(monkeypatch, [raw_pod("p", volumes=[DISK])], raw_volume(zone))
    assert [str(bind.node) for bind in told.binds] == [home]


def test_a_pod_whose_volumes_no_node_reaches_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two volumes in two zones, and each must be reached."""
    volumes = [DISK, {"name": "more", "persistentVolumeClaim": {"claimName": "more"}}]
    pods = [raw_pod("p", volumes=volumes)]
    (hold,) = planned(monkeypatch, pods, raw_volume("a"), raw_volume("b", "more")).holds
    assert hold.rejection.reason is Reason.VOLUME_ELSEWHERE
    assert "3 do not reach its volume" in hold.rejection.message


def unreadable(claim: str = "disk", **spec: Any) -> Raw:  # noqa: ANN401 - JSON
    """Return a volume of which nobody can say where it is."""
    raw = raw_volume("b", claim)
    raw["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] = "b"
    raw["spec"] |= spec
    return raw


#: What is said of it.
WHERE = "PersistentVolume pv-disk: spec.nodeAffinity.required.nodeSelectorTerms: should be a list"


def test_a_pod_whose_volume_cannot_be_read_goes_nowhere_and_is_told_which(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It counted as reached from everywhere, so the pod was pinned where it cannot start."""
    pods = [raw_pod("p", volumes=[DISK]), raw_pod("q")]

    told = planned(monkeypatch, pods, unreadable())

    (hold,) = told.holds
    assert hold.pod.name == "p"
    assert hold.rejection.reason is Reason.VOLUME_UNREADABLE
    assert WHERE in hold.rejection.message
    assert [bind.pod.name for bind in told.binds] == ["q"]
    healed = planned(monkeypatch, pods, unreadable(), changed=raw_volume("b"))
    assert {str(bind.node) for bind in healed.binds if bind.pod.name == "p"} == {"n2"}


@pytest.mark.parametrize("spec", [{"claimRef": None}, {"claimRef": "disk"}])
def test_a_volume_that_cannot_be_read_and_that_no_claim_is_known_to_have_keeps_nobody(
    monkeypatch: pytest.MonkeyPatch, spec: Raw
) -> None:
    """One bad object would keep a pod waiting that has nothing to do with it."""
    assert planned(monkeypatch, [raw_pod("p", volumes=[DISK])], unreadable(**spec)).binds


def test_who_runs_is_not_moved_with_a_volume_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be evicted for a place where its volume may not be."""
    pods = [raw_pod(f"small-{n}", gpus=2, nodeName=n, volumes=[DISK]) for n in ("n1", "n2", "n3")]
    pods.append(raw_pod("big"))
    assert planned(monkeypatch, pods).moves

    told = planned(monkeypatch, pods, unreadable())

    assert (told.moves, told.evictions, told.binds) == ((), (), ())


def test_who_is_pinned_keeps_its_room_although_its_volume_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would count as one that can never be bound, and others be sent to its place."""
    pin = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
    terms = {"nodeSelectorTerms": [{"matchFields": [pin]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    pinned = raw_pod("pinned", volumes=[DISK], affinity=affinity, schedulingGates=[])
    others = [raw_pod(f"other-{n}") for n in range(3)]

    told = planned(monkeypatch, [pinned, *others], unreadable())

    assert sorted(str(bind.node) for bind in told.binds) == ["n2", "n3"]


def test_a_volume_that_has_lost_its_claim_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next claim of that name may be bound elsewhere."""
    pods = [raw_pod("p", volumes=[DISK])]
    assert planned(monkeypatch, pods, raw_volume("far")).holds
    released = raw_volume("far", phase="Released")
    assert planned(monkeypatch, pods, raw_volume("far"), changed=released).binds


@pytest.mark.parametrize(("zone", "target"), [("a", []), ("b", ["n2"])])
def test_a_running_pod_is_moved_only_where_its_volume_is(
    monkeypatch: pytest.MonkeyPatch, zone: str, target: list[str]
) -> None:
    """It would be evicted for a place where it cannot start."""
    pods = [raw_pod("small", gpus=2, priority=9, nodeName="n1", volumes=[DISK])]
    for node in ("n2", "n3"):
        nobodys = raw_pod(f"fixed-{node}", gpus=6, priority=9, nodeName=node)
        del nobodys["metadata"]["ownerReferences"]
        pods.append(nobodys)

    moves = planned(monkeypatch, [*pods, raw_pod("big")], raw_volume(zone)).moves

    assert [str(move.target) for move in moves] == target


def test_the_command_line_knows_volumes_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would promise another node than the planner gives."""
    world, new = [*NODES, raw_volume("c")], raw_pod("p", volumes=[DISK])
    monkeypatch.setattr(whatif, "_cluster", lambda: [{"kind": "List", "items": world}])
    for objects in ([new], [*world, new]):
        (tmp_path / "new.json").write_text(json.dumps({"kind": "List", "items": objects}))
        main(["plan", "-f", str(tmp_path), "-o", "json"])
        told = json.loads(capsys.readouterr().out)
        spec = told["plan"] if "plan" in told else told["spec"]
        assert [action["node"] for action in spec["actions"]] == ["n3"]
