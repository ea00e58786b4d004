"""`bayplan plan -f` and `bayplan explain` about a cluster: what would happen, and why it is so."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan_extender.cli import explain, main, whatif
from tests.scenes import codec
from tests.scenes.cli import NODE, POD


@contextmanager
def api_server(lists: dict[str, Any]) -> Iterator[str]:
    """Serve lists by path and yield where; what is not there may not be read."""

    class Lists(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # as the library calls it
            plural = self.path.rpartition("/")[2]
            found = lists.get(plural)
            refused = {"kind": "Status", "message": f"{plural} is forbidden: User u cannot list"}
            body = json.dumps(refused if found is None else found).encode()
            self.send_response(403 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Lists) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "missing", ["persistentvolumes", "poddisruptionbudgets", "packingplans", "pods"]
)
def test_what_may_not_be_read_is_told_with_what_it_means(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    """Who may not list volumes of the whole cluster got no answer at all."""
    node = yaml.safe_load(NODE)
    kinds = {
        "nodes": "NodeList",
        "pods": "PodList",
        "persistentvolumes": "PersistentVolumeList",
        "poddisruptionbudgets": "PodDisruptionBudgetList",
        "priorityclasses": "PriorityClassList",
        "packingpolicies": "PackingPolicyList",
        "packingplans": "PackingPlanList",
    }
    lists = {name: {"kind": kind, "items": []} for name, kind in kinds.items() if name != missing}
    lists["nodes"]["items"] = [node]
    (tmp_path / "new.yaml").write_text(POD.replace("GPUS", "8"))
    with api_server(lists) as host:
        settings = client.Configuration(host=host)
        monkeypatch.setattr(whatif, "connect", lambda: client.ApiClient(settings))
        code = main(["plan", "-f", str(tmp_path)])

    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if "forbidden" in line]
    if missing == "pods":
        assert code == 2
        assert lines == [
            "error: the API server refused (403): pods is forbidden: User u cannot list"
        ]
        return
    assert code == 0
    assert "Fits now" in told.out
    (line,) = lines
    assert line.startswith(f"not read: {missing} is forbidden: User u cannot list; so ")


def test_no_cluster_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody without a kubeconfig would see a traceback."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))

    assert main(["explain", "pod", "a"]) == 1

    assert "Set KUBECONFIG" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "plans", "told"),
    [
        (404, {}, "pod team/a not found"),
        (200, {"status": 404}, "this cluster has no PackingPlans: is Bayplan installed?"),
        (200, {"status": 500}, "the API server refused (500): because"),
    ],
    ids=["no pod", "no kinds of ours", "an API server in trouble"],
)
def test_what_is_not_there_is_named(
    status: int,
    plans: dict[str, int],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without the CRDs a pod that is there was said not to be found."""
    pod = {"metadata": {"name": "a", "namespace": "team", "uid": "u"}, "spec": {"containers": []}}
    reply = SimpleNamespace(status=status, data=json.dumps(pod | {"message": "because"}).encode())

    def listed(*_: str) -> None:
        raise ApiException(status=plans["status"], reason="because")

    core = SimpleNamespace(read_namespaced_pod=lambda *_, **__: reply)
    custom = SimpleNamespace(list_cluster_custom_object=listed)
    monkeypatch.setattr(explain, "connect", lambda: None)
    monkeypatch.setattr(client, "CoreV1Api", lambda _: core)
    monkeypatch.setattr(client, "CustomObjectsApi", lambda _: custom)

    assert main(["explain", "pod", "a", "-n", "team"]) == 1

    assert capsys.readouterr().err == f"error: {told}\n"


UNREADABLE = {"metadata": {"name": "plan-00001"}, "spec": {"verdict": "Splendid"}}


@pytest.mark.parametrize(
    ("listed", "lines", "complaint"),
    [
        pytest.param(
            ApiException(status=403, reason="Forbidden"),
            ["It was told last: Outranked: needs 8 GPUs."],
            "PackingPlans may not be read; so only what the pod says is told",
            id="none may be",
        ),
        pytest.param(
            {"items": [UNREADABLE]},
            [
                "Waits for a plan: none that is kept tells of it.",
                "It was told last: Outranked: needs 8 GPUs.",
                "If none does within half a minute, no planner works: look at its log.",
            ],
            "PackingPlan plan-00001: spec.order: should be one of PlaceFirst, ProtectFirst,"
            " Defragment, is None; so nothing that it says is heeded",
            id="one cannot be",
        ),
    ],
)
def test_where_plans_are_not_read_it_is_told_what_the_pod_says_itself(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    listed: dict[str, Any] | Exception,
    lines: list[str],
    complaint: str,
) -> None:
    """Plans are of no namespace: who has rights in one alone was told nothing of its own pods."""
    raw = codec.raw_pod(schedulingGates=[{"name": names.GATE}])
    raw["metadata"]["labels"] = {names.LABEL_MANAGED: "true"}
    raw["metadata"]["annotations"] = {names.ANNOTATION_DECISION: "Outranked: needs 8 GPUs"}
    reply = SimpleNamespace(status=200, data=json.dumps(raw).encode())

    def listing(*_: str) -> dict[str, Any]:
        if isinstance(listed, Exception):
            raise listed
        return listed

    core = SimpleNamespace(read_namespaced_pod=lambda *_, **__: reply)
    custom = SimpleNamespace(list_cluster_custom_object=listing)
    monkeypatch.setattr(explain, "connect", lambda: None)
    monkeypatch.setattr(client, "CoreV1Api", lambda _: core)
    monkeypatch.setattr(client, "CustomObjectsApi", lambda _: custom)

    assert main(["explain", "pod", "web-1", "-n", "team"]) == 0

    told = capsys.readouterr()
    assert told.out.splitlines()[1:] == lines
    assert told.err == f"{complaint}\n"


@pytest.mark.parametrize(
    ("ours", "told"),
    [(True, "it is planned once they are lifted"), (False, "Bayplan does not hold it")],
    ids=["behind our gate as well", "behind others alone"],
)
def test_a_pod_behind_a_gate_of_others_is_told_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, ours: bool, told: str
) -> None:
    """Seen: it was said to wait for the scheduler, which does not even look at it."""
    gates = [{"name": "example.com/quota"}, *([{"name": names.GATE}] if ours else [])]
    raw = codec.raw_pod(schedulingGates=gates)
    reply = SimpleNamespace(status=200, data=json.dumps(raw).encode())
    core = SimpleNamespace(read_namespaced_pod=lambda *_, **__: reply)
    monkeypatch.setattr(explain, "connect", lambda: None)
    monkeypatch.setattr(client, "CoreV1Api", lambda _: core)
    monkeypatch.setattr(client, "CustomObjectsApi", lambda _: None)

    assert main(["explain", "pod", "web-1", "-n", "team"]) == 0

    _, said = capsys.readouterr().out.splitlines()
    assert said == f"Waits behind gates of others (example.com/quota): {told}."


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cluster be two 8-GPU nodes, on each of which a 2-GPU pod runs."""
    nodes = [yaml.safe_load(NODE.replace("n1", name)) for name in ("n1", "n2")]
    pods = [yaml.safe_load(POD.replace("GPUS", "2")) for _ in nodes]
    for number, pod in enumerate(pods):
        owner = {"kind": "ReplicaSet", "name": "web", "uid": "w", "controller": True}
        pod["metadata"] |= {
            "name": f"web-{number}",
            "uid": f"u{number}",
            "ownerReferences": [owner],
        }
        pod["spec"] |= {"nodeName": f"n{number + 1}", "schedulingGates": []}
    monkeypatch.setattr(whatif, "_cluster", lambda: [{"kind": "List", "items": nodes + pods}])


def ask(folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> tuple[int, str]:
    """Ask about a manifest; return the exit code and the answer."""
    (folder / "new.yaml").write_text(text)
    return main(["plan", "-f", str(folder)]), capsys.readouterr().out


@pytest.mark.usefixtures("live")
def test_what_fits_now_is_told_with_how_many_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six free GPUs on each of two nodes hold a 2-GPU pod six times."""
    code, text = ask(tmp_path, capsys, POD.replace("GPUS", "2"))

    assert code == 0
    assert "Fits now, without disturbing anybody." in text
    assert "The same fits 5 times more" in text


@pytest.mark.usefixtures("live")
def test_what_fits_only_after_moves_names_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole node is free once one small pod has joined the other."""
    code, text = ask(tmp_path, capsys, POD.replace("GPUS", "8"))

    assert code == 0
    assert "Fits after 1 move and 0 evictions" in text
    assert "team/web-" in text
    assert " moves from n" in text


@pytest.mark.usefixtures("live")
def test_what_does_not_fit_says_why_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script would deploy it all the same."""
    gang = """\
kind: Deployment
metadata: {name: big}
spec:
  replicas: 2
  template:
    metadata: {labels: {bayplan.dev/gang: big, bayplan.dev/gang-min-count: "2"}}
    spec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: 8}}}]}
"""
    code, text = ask(tmp_path, capsys, gang)

    assert code == 1
    assert "Does not fit: 0 of 2 would get a node" in text
    assert "waits whole" in text


GROUPS = """\
kind: LeaderWorkerSet
metadata: {name: big}
spec:
  replicas: 3
  leaderWorkerTemplate:
    size: 2
    leaderTemplate:
      metadata: &both {labels: {bayplan.dev/gang: big, bayplan.dev/gang-min-count: "2"}}
      spec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: 2}}}]}
    workerTemplate:
      metadata: *both
      spec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: 4}}}]}
"""


@pytest.mark.usefixtures("live")
def test_each_group_of_a_leader_worker_set_is_placed_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The leaders of three groups were placed with one worker, and two groups were of no use."""
    code, text = ask(tmp_path, capsys, GROUPS)

    assert code == 1
    assert "Does not fit: 4 of 6 would get a node" in text
    assert set(re.findall(r"big-\d(?:-1)?(?= -> )", text)) == {
        *("big-0", "big-0-1"),
        *("big-1", "big-1-1"),
    }


@pytest.mark.usefixtures("live")
def test_a_leader_worker_set_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its pods are found deeper in it than those of others."""
    (tmp_path / "new.yaml").write_text(GROUPS.replace("size: 2", "size: two"))

    assert main(["plan", "-f", str(tmp_path)]) == 2

    assert (
        "LeaderWorkerSet big: spec.leaderWorkerTemplate.size: should be" in capsys.readouterr().err
    )


@pytest.mark.usefixtures("live")
def test_the_answer_is_also_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipeline reads fields, not sentences."""
    (tmp_path / "new.yaml").write_text(POD.replace("GPUS", "6"))

    assert main(["plan", "-f", str(tmp_path), "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["fits"], told["disturbsNobody"], told["copies"]) == (True, True, 1)
    assert told["plan"]["counts"]["bound"] == 1


DISK = """\
kind: PersistentVolume
metadata: {name: NAME}
spec:
  claimRef: {namespace: team, name: data}
  nodeAffinity: {required: {nodeSelectorTerms: b}}
status: {phase: Bound}
"""


@pytest.mark.usefixtures("live")
def test_a_volume_of_the_cluster_that_cannot_be_read_is_told_and_kept_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: one volume of somebody else, and nobody could ask anything any more."""
    listed = [*whatif._cluster(), yaml.safe_load(DISK.replace("NAME", "there"))]  # noqa: SLF001 - the cluster
    monkeypatch.setattr(whatif, "_cluster", lambda: listed)
    free, bound = (yaml.safe_load(POD.replace("GPUS", "2")) for _ in range(2))
    bound["metadata"]["name"] = "b"
    bound["spec"]["volumes"] = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
    (tmp_path / "new.yaml").write_text(yaml.safe_dump_all([free, bound]))

    assert main(["plan", "-f", str(tmp_path)]) == 1

    told = capsys.readouterr()
    assert told.err.count("PersistentVolume there: spec.nodeAffinity") == 1
    assert "should be a list" in told.err
    assert "Does not fit: 1 of 2 would get a node" in told.out
    assert "cannot tell where its volume is" in told.out


def refusing(*nodes: str) -> dict[str, Any]:
    """Return a plan that tells that these nodes have just refused a pod of the live ReplicaSet."""
    recall = {
        "namespace": "team",
        "owner": {"kind": "ReplicaSet", "name": "web", "uid": "w"},
        "by": "kubelet",
        "pod": "web-9",
        "message": "OutOfcpu",
        "nodes": [{"name": node, "state": "s"} for node in nodes],
        "revisions": [],
        "times": 1,
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    return {
        "kind": "PackingPlan",
        "metadata": {"name": "plan-00001", "uid": "p"},
        "spec": {"sequence": 1, "actions": [], "order": "PlaceFirst", "verdict": "Optimal"},
        "status": {"phase": "Completed", "recalled": [recall]},
    }


@pytest.mark.usefixtures("live")
def test_who_was_refused_of_late_takes_no_room_from_newcomers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planner would leave that pod out and place both newcomers; one was said to wait."""
    waits = yaml.safe_load(POD.replace("GPUS", "6"))
    owner = {"kind": "ReplicaSet", "name": "web", "uid": "w", "controller": True}
    labels = {names.LABEL_MANAGED: "true"}
    waits["metadata"] |= {"name": "web-2", "uid": "u2", "ownerReferences": [owner]}
    waits["metadata"] |= {"labels": labels, "creationTimestamp": "2026-05-01T12:00:00Z"}
    listed = [*whatif._cluster(), waits]  # noqa: SLF001 - the cluster
    newcomers = [POD.replace("GPUS", "6").replace("name: a", f"name: {name}") for name in "ab"]

    monkeypatch.setattr(whatif, "_cluster", lambda: listed)
    assert "1 of 2 would get a node" in ask(tmp_path, capsys, "---\n".join(newcomers))[1]

    monkeypatch.setattr(whatif, "_cluster", lambda: [*listed, refusing("n1", "n2")])
    assert "Fits now" in ask(tmp_path, capsys, "---\n".join(newcomers))[1]


@pytest.mark.usefixtures("live")
def test_a_plan_of_the_cluster_that_cannot_be_read_is_told_and_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan of a newer build would keep everybody from asking."""
    made = refusing("n1")
    made["spec"]["verdict"] = "Splendid"
    listed = [*whatif._cluster(), made]  # noqa: SLF001 - the cluster
    monkeypatch.setattr(whatif, "_cluster", lambda: listed)
    (tmp_path / "new.yaml").write_text(POD.replace("GPUS", "4"))

    assert main(["plan", "-f", str(tmp_path)]) == 0

    told = capsys.readouterr()
    assert told.err.count("PackingPlan plan-00001: spec.verdict") == 1
    assert "Fits now" in told.out


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(
    ("node", "answer"),
    [("", "The same fits 1 time more"), ("n2", "The same fits 0 times more")],
    ids=["it waits", "it runs"],
)
def test_a_pod_of_the_cluster_that_cannot_be_read_is_told_and_passed_over(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    node: str,
    answer: str,
) -> None:
    """One pod of somebody else, and nobody could ask anything any more."""
    other = yaml.safe_load(POD.replace("GPUS", "some" if node else "1"))
    size = {"bayplan.dev/gang-min-count": "2", "bayplan.dev/managed": "true"}
    other["metadata"] |= {"name": "other", "uid": "other", "labels": size}
    other["spec"] |= {"nodeName": node, "schedulingGates": []} if node else {}
    listed = [*whatif._cluster(), other]  # noqa: SLF001 - the cluster
    monkeypatch.setattr(whatif, "_cluster", lambda: listed)
    (tmp_path / "new.yaml").write_text(POD.replace("GPUS", "4"))

    assert main(["plan", "-f", str(tmp_path)]) == 0

    told = capsys.readouterr()
    assert told.err.count("Pod team/other: ") == 1
    assert answer in told.out


@pytest.mark.usefixtures("live")
def test_a_pod_in_the_files_that_cannot_be_read_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be missing from the answer."""
    assert ask(tmp_path, capsys, POD.replace("GPUS", "some"))[0] == 2


@pytest.mark.usefixtures("live")
def test_a_volume_in_the_files_that_cannot_be_read_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who wrote it is there to mend it."""
    manifest = f"{POD.replace('GPUS', '2')}---\n{DISK.replace('NAME', 'new')}"

    assert ask(tmp_path, capsys, manifest)[0] == 2


@pytest.mark.usefixtures("live")
def test_a_question_about_nothing_new_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty answer would read as yes."""
    (tmp_path / "new.yaml").write_text(POD.replace("name: a", "name: web-0").replace("GPUS", "1"))

    assert main(["plan", "-f", str(tmp_path)]) == 2
    assert "no pod in it that is not in the cluster yet" in capsys.readouterr().err


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(
            "kind: Deployment\nmetadata: {name: w}\nspec:\n  template: x\n",
            "new.yaml:4: Deployment w: spec.template: should be an object, is a string",
            id="no template",
        ),
        pytest.param(
            "kind: Pod\nmetadata: {generateName: w-}\nspec: {containers: []}\n",
            "new.yaml:2: Pod (no name): metadata.name: should be a string, is missing",
            id="no name",
        ),
        pytest.param(
            "kind: Pod\nmetadata: {name: w}\nspec: abc\n",
            "new.yaml:3: Pod w: spec: should be an object, is a string",
            id="no spec",
        ),
    ],
)
def test_a_question_that_cannot_be_read_is_named_with_line_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    """A traceback is no answer to a typing error."""
    (tmp_path / "new.yaml").write_text(text)

    assert main(["plan", "-f", str(tmp_path)]) == 2

    assert complaint in capsys.readouterr().err


@pytest.mark.usefixtures("live")
def test_a_question_about_pods_that_are_not_understood_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cluster was said to have all of its pods."""
    (tmp_path / "new.yaml").write_text("kind: DaemonSet\nmetadata: {name: w}\n")

    assert main(["plan", "-f", str(tmp_path)]) == 2

    assert "not planned: 1 DaemonSet" in capsys.readouterr().err
