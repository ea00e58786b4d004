"""The API types on a real API server: what it accepts, completes, refuses and prints."""

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from bayplan.api import names
from bayplan.api.packing_plan import MAX_ACTIONS
from charts.generate import CHART, ROOT
from e2e.cluster import Cluster, CommandFailed

Object = dict[str, Any]

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yaml"))
CHAT: Object = list(yaml.safe_load_all((ROOT / "docs" / "examples" / "chat.yaml").read_text()))[1]
TEMPLATE: Object = {"spec": {"containers": [{"name": "vllm", "image": "vllm"}]}}

pytestmark = pytest.mark.usefixtures("served")


def create(cluster: Cluster, raw: Object, namespace: str, *arguments: str) -> Object:
    """Create an object as a user would, and return what the API server made of it."""
    made = cluster.kubectl_run(
        *("create", "-n", namespace, "-o", "json", "-f", "-", *arguments), input=json.dumps(raw)
    )
    parsed: Object = json.loads(made)
    return parsed


def deployment(**spec: Any) -> Object:  # noqa: ANN401 - any field of the spec
    """Return the deployment of the example with these fields of its spec; None removes one."""
    raw = copy.deepcopy(CHAT)
    raw["spec"] |= spec
    raw["spec"] = {key: value for key, value in raw["spec"].items() if value is not None}
    return raw


def auto(**ratio: Any) -> Object:  # noqa: ANN401 - JSON
    """Return a ratio that may change between bounds."""
    return {"mode": "Auto", **ratio}


def pool(role: str, **fields: Any) -> Object:  # noqa: ANN401 - any field of a pool
    """Return a pool of this role."""
    return {"role": role, "template": TEMPLATE, **fields}


def templated(**pod: Any) -> Object:  # noqa: ANN401 - any field of a pod
    """Return a deployment whose prefill pod has these fields in its spec."""
    spec = TEMPLATE["spec"] | pod
    return deployment(pools=[pool("Prefill", template={"spec": spec}), pool("Decode")])


def with_spec(**pod: Any) -> Object:  # noqa: ANN401 - any field of a pod
    """Return a template whose pod has these fields in its spec."""
    return {"spec": TEMPLATE["spec"] | pod}


#: A template that would detach its pods from their deployment.
LABELLED: Object = TEMPLATE | {"metadata": {"labels": {"bayplan.dev/unit": "7"}}}


def plan(name: str = "plan-1", **spec: Any) -> Object:  # noqa: ANN401 - any field of the spec
    """Return a plan that binds three pods and evicts one."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "PackingPlan",
        "metadata": {"name": name},
        "spec": {
            "sequence": 1,
            "order": "PlaceFirst",
            "inputDigest": "0123abcd",
            "engine": "cp-sat",
            "verdict": "Optimal",
            "counts": {"bound": 3, "evicted": 1},
            "display": {"gap": "0%", "solve": "0.42s"},
            **spec,
        },
    }


def action(number: int, **fields: Any) -> Object:  # noqa: ANN401 - any field of an action
    """Return a move of a pod with names as long as real ones."""
    return {
        "type": "Move",
        "pod": {
            "namespace": "inference-production",
            "name": f"chat-prefill-7c9d8f6b5-{number}",
            "uid": f"d2590527-154c-48f1-980d-{number:012d}",
        },
        "node": "gpu-pool-a-00017",
        "from": "gpu-pool-b-00042",
        "priority": 1000,
        "owner": {
            "kind": "ReplicaSet",
            "namespace": "inference-production",
            "name": "chat-prefill-7c9d8f6b5",
            "uid": "9c1de1a0-154c-48f1-980d-b5afa289437d",
        },
        "message": "makes room for one whole unit of chat (8 GPUs)",
        **fields,
    }


def test_the_example_is_accepted_and_completed(cluster: Cluster, namespace: str) -> None:
    """What is left out must be there afterwards, so that everybody reads the same."""
    made = create(cluster, deployment(replicas=None, ratio=None), namespace)

    pools = [pool | {"podsPerReplica": 1} for pool in CHAT["spec"]["pools"]]
    ratio = {"mode": "Fixed", "prefill": 1, "decode": 1}
    completed = {"replicas": 1, "ratio": ratio, "pools": pools}
    assert made["spec"] == CHAT["spec"] | completed


def test_another_hand_may_apply_the_same_definitions(cluster: Cluster) -> None:
    """Helm would refuse to install over what kubectl applied, and the other way round."""
    by_another = ("--server-side", "--field-manager=another", "--dry-run=server")

    cluster.kubectl_run("apply", *by_another, "-f", str(CHART / "crds"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_accepted(cluster: Cluster, namespace: str, example: Path) -> None:
    """People begin by copying one."""
    for raw in yaml.safe_load_all(example.read_text()):
        if raw["kind"] == "InferenceDeployment":
            assert create(cluster, raw, namespace)["metadata"]["generation"] == 1


def test_a_template_is_kept_as_it_is(cluster: Cluster, namespace: str) -> None:
    """A field that our schema does not know is the API server's to judge, not ours to drop."""
    pod = {"tolerations": [{"operator": "Exists"}], "futureField": {"kept": True}}

    made = create(cluster, templated(**pod), namespace)

    assert made["spec"]["pools"][0]["template"]["spec"] == TEMPLATE["spec"] | pod


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (deployment(replicas=-1), "spec.replicas"),
        (deployment(minReplicas=3), "spec.minReplicas must not be above spec.replicas"),
        (deployment(ratio={"prefill": 0, "decode": 0}), "spec.ratio must not be 0:0"),
        (deployment(ratio={"prefill": 0}), "spec.ratio.prefill above 0 and a pool of role Prefill"),
        (deployment(pools=[pool("Prefill")]), "spec.ratio.decode above 0 and a pool of role"),
        (deployment(pools=[]), "spec.pools"),
        (deployment(ratio={"mode": "Auto"}), "spec.ratio.mode Auto and spec.ratio.bounds go"),
        (
            deployment(ratio={"bounds": {"decode": {"min": 1, "max": 2}}}),
            "spec.ratio.mode Auto and spec.ratio.bounds go together",
        ),
        (
            deployment(ratio=auto(decode=1, bounds={"decode": {"min": 2, "max": 4}})),
            "spec.ratio.decode must be within spec.ratio.bounds.decode",
        ),
        (
            deployment(ratio=auto(bounds={"prefill": {"min": 2, "max": 1}})),
            "spec.ratio.bounds: min must not be above max",
        ),
        (
            deployment(ratio=auto(bounds={"prefill": {"min": 0, "max": 1}})),
            "spec.ratio.bounds.prefill.min",
        ),
        (
            deployment(
                ratio=auto(prefill=2, bounds={"prefill": {"min": 2, "max": 4}}),
                pools=[
                    pool("Prefill", replicas=1),
                    pool("Prefill", name="long", replicas=1),
                    pool("Decode"),
                ],
            ),
            "spec.ratio.bounds.prefill holds for a single pool of role Prefill",
        ),
        (
            deployment(ratio=auto(decode=0, bounds={"decode": {"min": 1, "max": 1}})),
            "spec.ratio.decode must be within spec.ratio.bounds.decode",
        ),
        (
            deployment(pools=[pool("Prefill"), pool("Prefill", name="long"), pool("Decode")]),
            "spec.pools[].replicas of the Prefill pools must add up to spec.ratio.prefill",
        ),
        (
            deployment(pools=[pool("Prefill"), pool("Decode", replicas=1)]),
            "spec.pools[].replicas of the Decode pools must add up to spec.ratio.decode",
        ),
        (
            deployment(
                ratio={"prefill": 16, "decode": 1},
                pools=[pool("Prefill", podsPerReplica=64), pool("Decode")],
            ),
            "a unit (replicas times podsPerReplica, over all pools) must have at most 1024 pods",
        ),
        (
            deployment(pools=[pool("Prefill", workerTemplate=TEMPLATE), pool("Decode")]),
            "workerTemplate is for replicas of several pods",
        ),
        (
            deployment(
                pools=[
                    pool("Prefill"),
                    pool("Decode", podsPerReplica=2, template=with_spec(hostname="a")),
                ]
            ),
            "hostname and subdomain are set by the operator where podsPerReplica is above 1",
        ),
        (
            deployment(pools=[pool("Prefill", name="peers"), pool("Decode")]),
            "'peers' names a Service of the operator",
        ),
        (
            deployment(pools=[pool("Prefill", template=LABELLED), pool("Decode")]),
            "labels such as bayplan.dev/managed are set by the operator",
        ),
        (deployment(pools=[pool("Both"), pool("Decode")]), "spec.pools[0].role"),
        (
            deployment(pools=[pool("Prefill", accelerators=["NVIDIA H100"]), pool("Decode")]),
            "spec.pools[0].accelerators[0]",
        ),
        (deployment(inferencePool={"endpointPicker": "epp"}), "spec.inferencePool.targetPort"),
        (
            deployment(pools=[pool("Prefill", name="decode"), pool("Decode")]),
            "spec.pools[].name must be unique",
        ),
        (
            deployment(pools=[pool("Prefill"), pool("Decode"), pool("Aggregated")]),
            "spec.pools must not mix Aggregated with",
        ),
        (deployment(pools=[pool("Aggregated")]), "spec.ratio holds for Prefill and Decode pools"),
        (templated(containers=[]), "spec.pools[0].template.spec.containers"),
        (templated(schedulerName="other"), "schedulerName is set by the operator"),
        (templated(nodeName="n1"), "nodeName would bypass the plan"),
        (templated(schedulingGates=[{"name": "a/b"}]), "schedulingGates are set by the operator"),
        (templated(restartPolicy="Never"), "restartPolicy must be Always"),
        (templated(priorityClassName="x"), "set spec.priorityClassName"),
        (
            deployment(rollout={"maxUnavailable": 0, "maxSurge": 0}),
            "spec.rollout.maxUnavailable and spec.rollout.maxSurge must not both be 0",
        ),
        (deployment(rollout={"maxUnavailable": -1}), "spec.rollout.maxUnavailable"),
        (
            deployment(placement={"topology": [{"key": k, "mode": "Required"} for k in "ab"]}),
            "spec.placement.topology must not require two labels",
        ),
        (deployment(replica=3), 'unknown field "spec.replica"'),
        (
            deployment() | {"metadata": {"name": "a" * 53}},
            "metadata.name must be at most 52 characters",
        ),
        (deployment() | {"metadata": {"name": "9chat"}}, "beginning with a letter"),
        (
            deployment(pools=[pool("Prefill", name="p" * 40), pool("Decode")])
            | {"metadata": {"name": "c" * 23}},
            "metadata.name and the name of a pool must together be at most 62 characters",
        ),
        (
            deployment(pools=[pool("Prefill", name="p" * 40, podsPerReplica=2), pool("Decode")])
            | {"metadata": {"name": "c" * 8}},
            "must together be at most 47 characters where podsPerReplica is above 1",
        ),
    ],
    ids=[
        "a negative number of units",
        "more units at least than at all",
        "an empty unit",
        "a pool without a part in the ratio",
        "a part of the ratio without a pool",
        "no pools",
        "an automatic ratio without bounds",
        "bounds of a fixed ratio",
        "a ratio out of bounds",
        "bounds that nothing is within",
        "a role that may have nothing",
        "bounds over two pools",
        "bounds of a role that is not there",
        "two pools of a role that do not say how many each",
        "replicas that do not add up to the ratio",
        "a unit too large",
        "workers of a single pod",
        "a host name that is ours to set",
        "a pool with the name of our Service",
        "a label that is ours to set",
        "an unknown role",
        "a product that no label can have",
        "an InferencePool without a port",
        "a name that is another pool's default",
        "aggregated beside prefill",
        "aggregated with a ratio",
        "a pod without containers",
        "another scheduler",
        "a node chosen by the template",
        "gates in the template",
        "pods that end",
        "a priority of one pool",
        "a rollout that can never do anything",
        "fewer than no units",
        "two required topologies",
        "a misspelt field",
        "a name too long for labels",
        "a name that no Service may begin with",
        "names too long for a Service",
        "names too long for a host",
    ],
)
def test_an_invalid_deployment_is_refused_with_field_and_fix(
    cluster: Cluster, raw: Object, complaint: str
) -> None:
    """What nobody could carry out must be told at once, not in a log later."""
    with pytest.raises(CommandFailed) as refusal:
        create(cluster, raw, "default", "--dry-run=server")

    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    "raw",
    [
        deployment(ratio=None, pools=[pool("Aggregated")]),
        deployment(ratio={"prefill": 1, "decode": 0}, pools=[pool("Prefill")]),
        deployment(replicas=0, minReplicas=0),
        templated(schedulerName="bayplan", restartPolicy="Always"),
        deployment(rollout={"maxUnavailable": 0}),
        deployment(rollout={"maxSurge": 0, "paused": True}),
        deployment(
            ratio={"prefill": 4, "decode": 1},
            pools=[
                pool("Prefill", name="short", replicas=3, accelerators=["H200", "H100"]),
                pool("Prefill", name="long", replicas=1),
                pool("Decode", podsPerReplica=4, workerTemplate=TEMPLATE),
            ],
        ),
        deployment(
            ratio=None,
            pools=[pool("Aggregated", name="a", replicas=2), pool("Aggregated", name="b")],
        ),
        deployment(
            pools=[
                pool("Prefill", template=with_spec(hostname="own")),
                pool(
                    "Decode", template={"metadata": {"labels": {"llm-d.ai/role": "x"}}} | TEMPLATE
                ),
            ]
        ),
        deployment(inferencePool={"endpointPicker": "epp", "targetPort": 8000}),
        deployment(ratio=auto(decode=2, bounds={"decode": {"min": 1, "max": 4}})),
    ],
    ids=[
        "aggregated alone",
        "prefill alone",
        "nothing at all",
        "our scheduler by name",
        "no unit missing in a rollout",
        "no unit beyond those asked for",
        "length classes, accelerators and large replicas",
        "two aggregated pools",
        "what a template may say",
        "an InferencePool",
        "an automatic ratio",
    ],
)
def test_an_unusual_deployment_is_accepted(cluster: Cluster, raw: Object) -> None:
    """A rule that refuses too much is as bad as one that refuses too little."""
    assert create(cluster, raw, "default", "--dry-run=server")["kind"] == "InferenceDeployment"


def test_the_role_of_a_pool_cannot_be_changed(cluster: Cluster, namespace: str) -> None:
    """Its Service would lead those who want the one to pods of the other; a new name is no harm."""
    swapped = [pool("Prefill", name="decode"), pool("Decode", name="prefill")]
    fresh = [pool("Prefill", name="b"), pool("Decode", name="a")]
    made = create(cluster, deployment(ratio=None), namespace)

    with pytest.raises(CommandFailed, match="role of a pool cannot be changed"):
        _replace(cluster, made, namespace, pools=swapped)
    again = _replace(cluster, made, namespace, pools=fresh)

    assert [each["name"] for each in again["spec"]["pools"]] == ["b", "a"]


def _replace(cluster: Cluster, raw: Object, namespace: str, **spec: Any) -> Object:  # noqa: ANN401
    """Replace an object by one with these fields in its spec; return what came of it."""
    changed = json.dumps(raw | {"spec": raw["spec"] | spec})
    made = cluster.kubectl_run("replace", "-n", namespace, "-o", "json", "-f", "-", input=changed)
    parsed: Object = json.loads(made)
    return parsed


def test_kubectl_scale_changes_the_units(cluster: Cluster, namespace: str) -> None:
    """Autoscalers and people scale by the same subresource."""
    create(cluster, CHAT, namespace)
    status = {"replicas": 2, "selector": "bayplan.dev/deployment=chat,bayplan.dev/role=Prefill"}
    _patch_status(cluster, "infd/chat", status, "-n", namespace)

    cluster.kubectl_run("scale", "infd/chat", "--replicas=3", "-n", namespace)

    path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/inferencedeployments/chat/scale"
    scale = json.loads(cluster.kubectl_run("get", "--raw", path))
    assert (scale["spec"]["replicas"], scale["status"]) == (3, status)


def test_status_and_spec_are_written_apart(cluster: Cluster, namespace: str) -> None:
    """The operator must not be able to change what the user asked for by writing its status."""
    create(cluster, CHAT, namespace)
    both = json.dumps({"spec": {"replicas": 9}, "status": {"ready": "1/2"}})
    where = ("infd/chat", "-n", namespace, "--type=merge", "-p", both, "-o", "json")

    by_status = json.loads(cluster.kubectl_run("patch", *where, "--subresource=status"))
    by_spec = json.loads(
        cluster.kubectl_run("patch", *where[:-3], '{"status": null}', "-o", "json")
    )

    assert (by_status["spec"]["replicas"], by_status["status"]) == (2, {"ready": "1/2"})
    assert by_spec["status"] == {"ready": "1/2"}


def test_the_columns_of_deployments(cluster: Cluster, namespace: str) -> None:
    """`kubectl get infd` is where users look first."""
    create(cluster, CHAT, namespace)
    status = {"ready": "1/2", "ratio": "1:2", "gpus": 32, "reason": "GangDoesNotFit"}
    _patch_status(cluster, "infd/chat", status, "-n", namespace)

    header, row = cluster.kubectl_run("get", "infd", "-n", namespace).splitlines()

    assert header.split() == ["NAME", "READY", "P:D", "GPUS", "PRIORITY", "REASON", "AGE"]
    assert row.split()[:-1] == ["chat", "1/2", "1:2", "32", "online", "GangDoesNotFit"]


def test_deployments_are_found_among_everything(cluster: Cluster, namespace: str) -> None:
    """`kubectl get all` and `kubectl get inference` must show them."""
    create(cluster, CHAT, namespace)

    for category in ("all", "inference"):
        found = cluster.kubectl_run("get", category, "-n", namespace, "-o", "name")
        assert "inferencedeployment.bayplan.dev/chat" in found


def test_conditions_of_two_writers_are_merged(cluster: Cluster, namespace: str) -> None:
    """Server-side apply by type: one writer must not wipe out the other's condition."""
    create(cluster, CHAT, namespace)

    for manager, kind in (("a", "Ready"), ("b", "MetricsFresh")):
        condition = {"type": kind, "status": "True", "reason": "Fine", "message": "fine"}
        condition["lastTransitionTime"] = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        head = {key: CHAT[key] for key in ("apiVersion", "kind", "metadata")}
        arguments = ("--server-side", "--subresource=status", f"--field-manager={manager}")
        text = json.dumps(head | {"status": {"conditions": [condition]}})
        cluster.kubectl_run("apply", *arguments, "-n", namespace, "-f", "-", input=text)

    made = json.loads(cluster.kubectl_run("get", "infd/chat", "-n", namespace, "-o", "json"))
    assert {each["type"] for each in made["status"]["conditions"]} == {"Ready", "MetricsFresh"}


@pytest.fixture
def published(cluster: Cluster) -> Iterator[Object]:
    """Publish a plan, and remove it after the test."""
    yield create(cluster, plan(actions=[action(1)]), "default")
    cluster.kubectl_run("delete", "pplan", "--all")


@pytest.mark.usefixtures("published")
def test_a_plan_never_changes(cluster: Cluster) -> None:
    """What was decided must still be there to be asked about."""
    patch = json.dumps({"spec": {"verdict": "Improved"}})

    with pytest.raises(CommandFailed, match="spec is immutable"):
        cluster.kubectl_run("patch", "pplan/plan-1", "--type=merge", "-p", patch)


@pytest.mark.usefixtures("published")
def test_the_columns_of_plans(cluster: Cluster) -> None:
    """How good, what for, how long, how far: in one line."""
    _patch_status(cluster, "pplan/plan-1", {"phase": "Executing"})

    header, row = cluster.kubectl_run("get", "pplan").splitlines()

    columns = ["NAME", "VERDICT", "BOUND", "EVICTED", "MOVED", "HELD", "GAP", "SOLVE", "PHASE"]
    assert header.split() == [*columns, "AGE"]
    cells = ["plan-1", "Optimal", "3", "1", "0", "0", "0%", "0.42s", "Executing"]
    assert row.split()[:-1] == cells


def test_the_largest_plan_can_be_stored_and_reported_on(cluster: Cluster) -> None:
    """A plan that is refused for its size, or cannot be reported on, would block the fleet."""
    actions = [action(number) for number in range(MAX_ACTIONS)]
    steps = [
        {
            "pod": f"{each['pod']['namespace']}/{each['pod']['name']}",
            "type": "Move",
            "state": "Waiting",
            "message": "waits for its turn: at most 10 pods move at a time",
        }
        for each in actions
    ]
    create(cluster, plan("largest", actions=actions), "default")

    _patch_status(cluster, "pplan/largest", {"phase": "Executing", "steps": steps})

    stored = json.loads(cluster.kubectl_run("get", "pplan/largest", "-o", "json"))
    cluster.kubectl_run("delete", "pplan/largest")
    assert (len(stored["spec"]["actions"]), stored["status"]["steps"]) == (MAX_ACTIONS, steps)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"type": "Bind", "node": None}, "node is required for Bind, Move and Evict"),
        ({"from": None}, "from is required for Move"),
        ({"type": "Hold"}, "reason is required for Hold"),
        ({"type": "Swap"}, "Unsupported value"),
    ],
    ids=["bind to nowhere", "move from nowhere", "hold without a reason", "unknown"],
)
def test_half_an_action_is_refused(cluster: Cluster, fields: Object, complaint: str) -> None:
    """The operator must never have to guess what a plan means."""
    half = {key: value for key, value in action(1, **fields).items() if value is not None}

    with pytest.raises(CommandFailed, match=complaint):
        create(cluster, plan(actions=[half]), "default", "--dry-run=server")


def policy(name: str = "default", **spec: Any) -> Object:  # noqa: ANN401 - any field of the spec
    """Return a policy."""
    head = {"apiVersion": names.API_VERSION, "kind": "PackingPolicy", "metadata": {"name": name}}
    return {**head, "spec": spec}


def test_an_empty_policy_is_completed(cluster: Cluster) -> None:
    """`kubectl get ppolicy` must show what holds, not only what was written."""
    raw = policy()
    del raw["spec"]

    assert create(cluster, raw, "default", "--dry-run=server")["spec"] == {
        "timeLimitSeconds": 10,
        "maxMoves": 100,
        "maxEvictions": 100,
        "maxParallelMoves": 10,
        "gateTimeoutSeconds": 60,
        "order": "PlaceFirst",
        "cooldownSeconds": 600,
        "defragmentation": {"windows": [], "maxMoves": 20, "movesPerSlot": 8},
        "nodeProvisioning": "Never",
    }


def test_windows_are_taken_as_written(cluster: Cluster) -> None:
    """A window that is refused, or changed on the way, would open at another time."""
    night = {"start": "02:30", "durationMinutes": 90}
    windows = [night, night | {"days": ["Sat", "Sun"]}]
    raw = policy(defragmentation={"windows": windows})

    made = create(cluster, raw, "default", "--dry-run=server")["spec"]["defragmentation"]

    assert made["windows"] == [night | {"days": []}, windows[1]]


def window(**fields: object) -> dict[str, object]:
    """Return the defragmentation with one window."""
    return {"windows": [{"start": "02:30", "durationMinutes": 90, **fields}]}


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (policy("other"), "metadata.name must be default"),
        (policy(timeLimitSeconds=0), "spec.timeLimitSeconds"),
        (policy(gateTimeoutSeconds=90_000), "spec.gateTimeoutSeconds"),
        (policy(gateTimeoutSeconds=19), "spec.gateTimeoutSeconds"),
        (policy(maxMoves=2001), "spec.maxMoves"),
        (policy(order="EvictFirst"), "spec.order"),
        (policy(nodeProvisioning="Always"), "spec.nodeProvisioning"),
        (policy(defragmentation=window(start="25:00")), r"windows\[0\].start"),
        (policy(defragmentation=window(durationMinutes=0)), r"windows\[0\].durationMinutes"),
        (policy(defragmentation=window(days=["Caturday"])), r"windows\[0\].days\[0\]"),
    ],
    ids=[
        "another name",
        "no time",
        "a gate for days",
        "a gate that does not outlast a change of planners",
        "too many moves",
        "an unknown order",
        "an unknown word for autoscalers",
        "no such hour",
        "an empty window",
        "no such day",
    ],
)
def test_an_invalid_policy_is_refused(cluster: Cluster, raw: Object, complaint: str) -> None:
    """A limit that does not hold is worse than none."""
    with pytest.raises(CommandFailed, match=complaint):
        create(cluster, raw, "default", "--dry-run=server")


def _patch_status(cluster: Cluster, name: str, status: Object, *arguments: str) -> None:
    file = cluster.run_dir / "status.json"  # too long for a command line, at times
    file.write_text(json.dumps({"status": status}))
    cluster.kubectl_run(
        *("patch", name, "--subresource=status", "--type=merge", "--patch-file", str(file)),
        *arguments,
    )
