"""`bayplan plan -f` without a cluster: from files to a plan, and clear words about bad files."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from bayplan_extender.cli import main
from tests.scenes.cli import NODE, POD, manifests


def test_a_folder_of_manifests_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's whole point, without a cluster."""
    assert main(["plan", "-f", manifests(tmp_path)]) == 0

    text = capsys.readouterr().out
    assert "VERDICT" in text
    assert "Optimal" in text
    assert "team/a" in text


def test_json_output_is_the_plan_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts read the same fields as those of a PackingPlan."""
    assert main(["plan", "-f", manifests(tmp_path), "-o", "json"]) == 0

    plan = json.loads(capsys.readouterr().out)
    assert plan["kind"] == "PackingPlan"
    assert plan["spec"]["counts"] == {"bound": 1, "moved": 0, "evicted": 0, "held": 0}


def test_what_cannot_be_placed_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of numbers alone would not help anybody."""
    assert main(["plan", "-f", manifests(tmp_path, gpus="16")]) == 0

    text = capsys.readouterr().out
    assert "Infeasible" in text
    assert "needs 16 GPUs on one node; the largest has 8" in text


def test_who_was_refused_of_late_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table promised a node that the planner does not give."""
    folder, owner = Path(manifests(tmp_path)), {"kind": "ReplicaSet", "name": "web", "uid": "u"}
    owned = {**yaml.safe_load(POD.replace("GPUS", "1"))}
    owned["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    recall = {
        "namespace": "team",
        "owner": owner,
        "by": "kubelet",
        "pod": "x",
        "message": "OutOfcpu",
        "nodes": [{"name": yaml.safe_load(NODE)["metadata"]["name"], "state": "s"}],
        "revisions": [],
        "times": 1,
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    status = {"phase": "Completed", "recalled": [recall]}
    certificate = {"order": "PlaceFirst", "verdict": "Optimal", "stages": []}
    spec = {"sequence": 1, "actions": [], **certificate}
    made = {"kind": "PackingPlan", "metadata": {"name": "plan-00001"}, "spec": spec}
    (folder / "refused.json").write_text(json.dumps({**made, "status": status}))
    (folder / "pods.yaml").write_text(json.dumps(owned))

    assert main(["plan", "-f", str(folder)]) == 0

    assert "kubelet refused x on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("a: [1,\nb", "pods.yaml:2: is not YAML", id="broken YAML"),
        pytest.param('{"kind":\n "Pod",,}', "pods.yaml:2: is not JSON", id="broken JSON"),
        pytest.param("", "pods.yaml: is empty", id="empty"),
        pytest.param("- 1", "pods.yaml:1: document: should be an object, is a list", id="a list"),
        pytest.param(
            "kind: List\nitems:\n- kind: Node\n  metadata: {name: a}\n- metadata: {name: b}\n",
            "pods.yaml:5: document: items[1].kind: should be a Kubernetes kind such as Pod",
            id="no kind",
        ),
        pytest.param("kind: List\nitems: abc", "items: should be a list", id="no items"),
        pytest.param(
            '{\n\t"kind": "Pod",\n\t"metadata": {"name": 5}\n}',
            "pods.yaml:3: Pod 5: metadata.name: should be a string",
            id="JSON with tabs",
        ),
        pytest.param(
            "---\n---\n" + POD.replace("GPUS", "many"),
            "pods.yaml:10: Pod team/a: spec.containers[0]",
            id="after empty documents",
        ),
        pytest.param("a: " + "9" * 5000, "holds a number that is too long", id="digits"),
        pytest.param('{"a": ' + "9" * 5000 + "}", "holds a number that is too long", id="in JSON"),
        pytest.param("[" * 5000 + "]" * 5000, "nested too deeply", id="deep"),
        pytest.param(
            POD.replace("GPUS", "1") + "---\n" + POD.replace("GPUS", "2"),
            "Pod team/a is in",
            id="twice",
        ),
        pytest.param(
            "kind: PackingPolicy\nmetadata: {name: default}\nspec: {maxMoves: -1}",
            "pods.yaml:3: PackingPolicy default: spec.maxMoves: should be 0 or more, is -1",
            id="a limit",
        ),
        pytest.param(
            POD.replace("GPUS", "many"),
            "pods.yaml:8: Pod team/a: spec.containers[0].resources.limits.nvidia.com/gpu: 'many'",
            id="no quantity",
        ),
    ],
)
def test_a_bad_file_is_named_with_line_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    """A user would have to search ten thousand lines."""
    folder = manifests(tmp_path)
    (tmp_path / "pods.yaml").write_text(text)

    assert main(["plan", "-f", folder]) == 2

    assert complaint in capsys.readouterr().err


def test_an_object_in_two_files_is_told_with_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One node counted as two, and pods were promised room that is not there."""
    folder = manifests(tmp_path)
    (tmp_path / "again.yaml").write_text(NODE)

    assert main(["plan", "-f", folder]) == 2

    told = capsys.readouterr().err
    assert f"Node n1 is in {tmp_path}/again.yaml and in {tmp_path}/nodes.yaml: leave one" in told


def test_a_policy_in_a_list_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What kubectl prints of a cluster is a list, and its limits were passed over."""
    one = POD.replace("GPUS", "8")
    low = one.replace("{name: a, n", "{name: low, n").replace("spec:", "spec:\n  nodeName: n1")
    low = low.replace("  schedulingGates: [{name: bayplan.dev/plan}]\n", "")
    policy = {"kind": "PackingPolicy", "metadata": {"name": "default"}, "spec": {"maxEvictions": 0}}
    items = [yaml.safe_load(low), policy]
    (tmp_path / "list.json").write_text(json.dumps({"kind": "List", "items": items}))
    folder = manifests(tmp_path)
    (tmp_path / "pods.yaml").write_text(one.replace("spec:", "spec:\n  priority: 10"))

    assert main(["plan", "-f", folder, "-o", "json"]) == 0

    plan = json.loads(capsys.readouterr().out)
    assert plan["spec"]["counts"] == {"bound": 0, "moved": 0, "evicted": 0, "held": 1}


def test_what_no_plan_is_made_for_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An `Optimal` plan of nothing would read as if everything fitted."""
    folder = manifests(tmp_path)
    free = POD.replace("GPUS", "1").replace("  schedulingGates: [{name: bayplan.dev/plan}]\n", "")
    (tmp_path / "pods.yaml").write_text(f"{free}---\nkind: Deployment\nmetadata: {{name: web}}\n")

    assert main(["plan", "-f", folder]) == 0

    told = capsys.readouterr().err
    assert "not planned: 1 Deployment, 1 Pod (no node, no gate bayplan.dev/plan)" in told


def test_times_need_no_quotes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So does kubectl take them."""
    folder = manifests(tmp_path)
    since = "{name: a, namespace: team, creationTimestamp: 2026-01-31T12:00:00Z}"
    pod = POD.replace("GPUS", "1").replace("{name: a, namespace: team}", since)
    (tmp_path / "pods.yaml").write_text(pod)

    assert main(["plan", "-f", folder]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_limit_is_a_time(capsys: pytest.CaptureFixture[str], limit: str) -> None:
    """A plan within at most -1 s would be no plan."""
    with pytest.raises(SystemExit) as ended:
        main(["plan", "-f", "-", f"--time-limit={limit}"])

    assert ended.value.code == 2
    assert f"should be a number of seconds above 0, is '{limit}'" in capsys.readouterr().err


def test_what_would_help_one_of_several_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One node more was bought for twelve pods."""
    folder = manifests(tmp_path)
    pods = [POD.replace("GPUS", "8").replace("name: a,", f"name: a{i},") for i in range(3)]
    (tmp_path / "pods.yaml").write_text("---\n".join(pods))

    assert main(["plan", "-f", folder]) == 0

    text = capsys.readouterr().out
    assert "2 pods, one of them team/a" in text
    assert "would help one of them: " in text


@pytest.mark.parametrize("name", ["missing.yaml", "binary.json"])
def test_an_unreadable_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A traceback is no answer to a typing error."""
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")

    assert main(["plan", "-f", str(tmp_path / name)]) == 2

    assert name in capsys.readouterr().err


def test_no_nodes_no_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forgetting the nodes would read as "nothing fits"."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    (tmp_path / "pods.yaml").write_text(POD.replace("GPUS", "1"))

    assert main(["plan", "-f", str(tmp_path)]) == 2

    assert "no Node in the files, so nothing can be planned without" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pass.json", "pass.json.gz"])
def test_a_recorded_pass_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Nobody could look into a decision after the fact."""
    file = str(tmp_path / name)
    assert main(["plan", "-f", manifests(tmp_path), "--dump", file]) == 0
    first = capsys.readouterr().out

    assert main(["plan", "--replay", file]) == 0

    again = capsys.readouterr()
    assert again.out.splitlines()[2:] == first.splitlines()[2:]
    assert "the plan is the recorded one" in again.err


def test_a_replay_that_differs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A planner that changed its mind would go unnoticed."""
    file = tmp_path / "pass.json"
    main(["plan", "-f", manifests(tmp_path), "--dump", str(file)])
    file.write_text(json.dumps(json.loads(file.read_text()) | {"plan_digest": "0"}))

    assert main(["plan", "--replay", str(file)]) == 1

    assert "the plan is not the recorded one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        pytest.param("a.json", b"{", "a.json:1: is not JSON", id="broken"),
        pytest.param("a.json", b'{"kind": "Pod"}', "was not written by --dump", id="no recording"),
        pytest.param("a.json.gz", b"{}", "a.json.gz: is not compressed", id="not compressed"),
        pytest.param(
            "a.json", b'{"kind": "Recording", "version": 99}', "this program reads 1", id="version"
        ),
        pytest.param(
            "a.json",
            b'{"kind": "Recording", "version": 1, "snapshot": {"nodes": [], "pods": [{}]}}',
            "snapshot.pods[0].key: is missing",
            id="a field",
        ),
    ],
)
def test_a_bad_recording_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes, complaint: str
) -> None:
    """A traceback is no answer to a wrong file."""
    (tmp_path / name).write_bytes(data)

    assert main(["plan", "--replay", str(tmp_path / name)]) == 2

    assert complaint in capsys.readouterr().err


def test_the_steps_are_told_as_they_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who waits minutes for a plan would not know whether it is alive."""
    assert main(["plan", "-f", manifests(tmp_path)]) == 0

    told = capsys.readouterr().err
    assert "0.0 s  count what is alike" in told
    assert "explain and validate" in told
