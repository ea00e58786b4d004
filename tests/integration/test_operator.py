"""The operator on a real API server, under its own ServiceAccount.

No planner and no scheduler of ours runs: plans are written by hand here, and pods are bound by
hand, so that each test decides what happens when.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from bayplan.api import names
from bayplan.codec import parts, plan_manifests
from bayplan.keys import GangKey, NodeName, Owner, PodKey
from bayplan.plan import (
    Bind,
    Certificate,
    Evict,
    Hold,
    Move,
    Plan,
    Reason,
    Rejection,
    Result,
    Verdict,
)
from bayplan.policy import Order
from e2e.cluster import Cluster, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.contract import watching
from e2e.stack import Stack, install

Object = dict[str, Any]

UNIT = ("decode-0", "decode-1", "prefill-0")
UNIT_PODS = [f"chat-0-{pod}" for pod in UNIT]

#: Seconds in which gates are lifted: 10 until the operator knows the time-out, the 20 of that, 5
#: until it looks again, and as long once more for a busy machine.
LIFTED_S = 70.0

_sequence = count(1)


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Lend two empty 8-GPU nodes."""
    suffix = secrets.token_hex(3)
    made = add_gpu_nodes(cluster, names=[f"operator-{n}-{suffix}" for n in (1, 2)])
    yield made
    remove_gpu_nodes(cluster, names=made)


@pytest.fixture(scope="module")
def operator(cluster: Cluster) -> Iterator[Stack]:
    """Run the operator alone; gates are never lifted for want of a planner."""
    with install(
        cluster, programs=("operator",), values=["policy.gateTimeoutSeconds=86400"]
    ) as stack:
        yield stack


@pytest.fixture
def user(cluster: Cluster, operator: Stack, namespace: str) -> Iterator["User"]:
    """Return somebody who works in a namespace of their own; show the log if a test fails."""
    yield User(cluster, namespace)
    print(operator.log("operator"))  # noqa: T201 - pytest shows it beside a failure


class User:
    """Somebody with kubectl."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def apply(self, *objects: Object) -> None:
        """Apply objects in the namespace."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.cluster.kubectl_run("apply", "-n", self.namespace, "-f", "-", input=text)

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl_run("-n", self.namespace, *arguments)

    def get(self, kind: str, name: str) -> Object:
        """Return an object."""
        # Plans are in no namespace.
        namespace = "" if kind == "packingplan" else self.namespace
        found: Object = self.cluster.read(f"{kind}/{name}", namespace=namespace)
        return found

    def pods(self, labels: str = "") -> dict[str, Object]:
        """Return the namespace's pods by name."""
        raw = self.cluster.read("pods", namespace=self.namespace, labels=labels)
        return {pod["metadata"]["name"]: pod for pod in raw["items"]}

    def await_pods(self, wanted: list[str], *, timeout_s: float = 30.0) -> dict[str, Object]:
        """Wait until exactly these pods exist, none of them on its way out; return them."""

        def there() -> tuple[dict[str, Object]]:
            pods = self.pods()
            assert sorted(pods) == sorted(wanted)
            assert not any(p["metadata"].get("deletionTimestamp") for p in pods.values())
            return (pods,)

        return eventually(there, what=f"the pods are {wanted}", timeout_s=timeout_s)[0]

    def await_reason(self, want: str, *, timeout_s: float = 30.0) -> Object:
        """Wait for the REASON of chat; return its status."""

        def status() -> Object:
            found: Object = self.get("infd", "chat").get("status", {})
            assert found.get("reason") == want
            return found

        return eventually(status, what=f"the reason is {want}", timeout_s=timeout_s)

    def publish(self, *actions: Bind | Move | Evict | Hold, dies: bool = False) -> str:
        """Write a plan as the planner would, or all but its last object; return its name."""
        made = Plan(
            certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL),
            binds=tuple(a for a in actions if isinstance(a, Bind)),
            moves=tuple(a for a in actions if isinstance(a, Move)),
            evictions=tuple(a for a in actions if isinstance(a, Evict)),
            holds=tuple(a for a in actions if isinstance(a, Hold)),
        )
        result = Result(plan=made, digest="by hand", engine="hand")
        manifests = plan_manifests(result, sequence=next(_sequence))
        for manifest in manifests[:-1] if dies else manifests:
            self.cluster.kubectl_run("create", "-f", "-", input=json.dumps(manifest))
        return str(manifests[0]["metadata"]["name"])

    def await_phase(self, plan: str, phase: str) -> Object:
        """Wait for a plan's phase; return its status."""

        def status() -> Object:
            found: Object = self.get("packingplan", plan).get("status", {})
            assert found.get("phase") == phase, found
            return found

        return eventually(status, what=f"{plan} is {phase}")

    def await_pinned(self, *pods: str) -> dict[str, Object]:
        """Wait until pods are released; return them."""

        def pinned() -> dict[str, Object]:
            found = self.pods()
            assert all(name in found for name in pods)
            assert not any(found[name]["spec"].get("schedulingGates") for name in pods)
            return found

        return eventually(pinned, what=f"{', '.join(pods)} are released")

    def bind(self, pod: Object) -> None:
        """Bind a released pod to the node it is pinned to, as a scheduler would."""
        name = pod["metadata"]["name"]
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": self.namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": pin(pod)},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/binding"
        self.cluster.kubectl_run("create", "--raw", path, "-f", "-", input=json.dumps(body))

    def place(self, on: dict[str, str]) -> str:
        """Have a plan place pods on nodes, bind them, and wait for the plan; return its name."""
        pods = self.pods()
        plan = self.publish(*(bind(pods[name], node) for name, node in on.items()))
        for name in on:
            self.bind(self.await_pinned(*on)[name])
        self.await_phase(plan, "Completed")
        return plan

    def reasons_told(self, name: str) -> set[str]:
        """Return the reasons of the events about an object."""
        raw = self.cluster.read("events", namespace=self.namespace)
        return {e["reason"] for e in raw["items"] if e["involvedObject"]["name"] == name}


def chat(**spec: Any) -> Object:  # noqa: ANN401 - JSON
    """Return an InferenceDeployment of one unit: one 4-GPU prefill and two 2-GPU decode pods."""
    pools = [pool("Prefill", gpus=4), pool("Decode", gpus=2)]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceDeployment",
        "metadata": {"name": "chat"},
        "spec": {
            "ratio": {"prefill": 1, "decode": 2},
            "disruption": {"drainTimeoutSeconds": 1},
            "pools": pools,
            **spec,
        },
    }


def pool(role: str, *, gpus: int | str) -> Object:
    """Return a pool whose pods have one container."""
    return {"role": role, "template": {"spec": pod_spec(gpus)}}


def pod_spec(gpus: int | str) -> Object:
    """Return a pod's spec with one container."""
    limits = {"nvidia.com/gpu": gpus}
    container = {"name": "vllm", "image": "registry.example/vllm", "resources": {"limits": limits}}
    return {"containers": [container], "terminationGracePeriodSeconds": 1}


SMALL = pool("Decode", gpus=1)


def web(*, scheduler: str = names.SCHEDULER) -> Object:
    """Return somebody's Deployment of one 2-GPU pod."""
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {**pod_spec(2), "schedulerName": scheduler}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


def key(pod: Object) -> PodKey:
    """Return the key of a raw pod."""
    return PodKey(namespace=pod["metadata"]["namespace"], name=pod["metadata"]["name"])


def bind(pod: Object, node: str) -> Bind:
    """Return a bind of a raw pod, with its gang."""
    gang = pod["metadata"]["labels"].get(names.LABEL_GANG)
    return Bind(
        pod=key(pod),
        uid=pod["metadata"]["uid"],
        node=NodeName(node),
        gang=GangKey(namespace=key(pod).namespace, name=gang) if gang else None,
    )


def evict(pod: Object) -> Evict:
    """Return an eviction of a raw pod from where it is."""
    node = NodeName(pod["spec"]["nodeName"])
    return Evict(pod=key(pod), uid=pod["metadata"]["uid"], node=node, priority=0)


def move(pod: Object, target: str) -> Move:
    """Return a move of a raw pod from where it is."""
    reference = pod["metadata"]["ownerReferences"][0]
    return Move(
        pod=key(pod),
        uid=pod["metadata"]["uid"],
        source=NodeName(pod["spec"]["nodeName"]),
        target=NodeName(target),
        owner=Owner(
            kind=reference["kind"],
            namespace=key(pod).namespace,
            name=reference["name"],
            uid=reference["uid"],
        ),
        priority=0,
    )


def hold(pod: Object, *, remedy: str = "") -> Hold:
    """Return a hold of a raw pod that no node is large enough for."""
    message = "needs 16 GPUs on one node; the largest has 8"
    rejection = Rejection(reason=Reason.TOO_SMALL, message=message)
    return Hold(pod=key(pod), uid=pod["metadata"]["uid"], rejection=rejection, remedy=remedy)


def pin(pod: Object) -> str:
    """Return the node that a raw pod is pinned to."""
    affinity = pod["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchFields": [{**terms[0]["matchFields"][0], "key": "metadata.name"}]}]
    return str(terms[0]["matchFields"][0]["values"][0])


def condition(status: Object, kind: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition; `KeyError` if there is none yet."""
    found = {c["type"]: c for c in status["conditions"]}[kind]
    return found["status"], found["reason"], found["message"]


def test_an_inference_deployment_gets_its_pods_gated_labelled_and_owned(user: User) -> None:
    """The first thing a user sees."""
    user.apply(chat(replicas=2))

    pods = user.await_pods(UNIT_PODS + [name.replace("-0-", "-1-", 1) for name in UNIT_PODS])

    metadata = pods["chat-1-decode-1"]["metadata"]
    labels = metadata["labels"]
    assert {k: v for k, v in labels.items() if k != names.LABEL_REVISION} == {
        "app.kubernetes.io/component": "decode",
        "app.kubernetes.io/instance": "chat",
        "app.kubernetes.io/managed-by": "bayplan",
        "app.kubernetes.io/name": "inference",
        "app.kubernetes.io/part-of": "chat",
        "bayplan.dev/deployment": "chat",
        "bayplan.dev/gang": "chat-1",
        "bayplan.dev/gang-min-count": "3",
        "bayplan.dev/managed": "true",
        "bayplan.dev/pool": "decode",
        "bayplan.dev/replica": "1",
        "bayplan.dev/role": "decode",
        "bayplan.dev/unit": "1",
        "bayplan.dev/worker-index": "0",
        "llm-d.ai/role": "decode",
    }
    owner = metadata["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"]) == (
        "InferenceDeployment",
        "chat",
        True,
    )
    assert all(p["spec"]["schedulingGates"] == [{"name": names.GATE}] for p in pods.values())
    assert all(p["spec"]["schedulerName"] == names.SCHEDULER for p in pods.values())
    status = user.await_reason("WaitingForPlan")
    assert status["units"] == {"desired": 2, "scheduled": 0, "ready": 0, "updated": 2}
    columns = user.kubectl("get", "infd").splitlines()
    assert columns[0].split() == ["NAME", "READY", "P:D", "GPUS", "PRIORITY", "REASON", "AGE"]
    assert columns[1].split()[:4] == ["chat", "0/2", "0:0", "16"]
    eventually(
        lambda: "PodsCreated" in user.reasons_told("chat"), what="the event PodsCreated is there"
    )


def test_a_plan_in_several_objects_is_carried_out_as_one(
    user: User, nodes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would happen, or only what one object says; or what a planner left half-written."""
    monkeypatch.setattr(parts, "MAX_ACTIONS", 2)
    user.apply(chat(replicas=2))
    second = [name.replace("-0-", "-1-", 1) for name in UNIT_PODS]
    pods = user.await_pods(UNIT_PODS + second)
    unfinished = user.publish(*(bind(pods[name], nodes[1]) for name in UNIT_PODS), dies=True)

    binds = [bind(pods[name], nodes[0]) for name in UNIT_PODS]
    plan = user.publish(*binds, *(hold(pods[name]) for name in second))

    released = user.await_pinned(*UNIT_PODS)
    assert {pin(released[name]) for name in UNIT_PODS} == {nodes[0]}
    for name in UNIT_PODS:
        user.bind(released[name])
    status = user.await_phase(plan, "Completed")
    assert status["message"] == "every step is done"
    told = [user.get("packingplan", f"{plan}-part-{n}")["status"] for n in (2, 3)]
    assert [each["phase"] for each in told] == ["Completed", "Completed"]
    reported = [step["pod"] for each in (status, *told) for step in each.get("steps", ())]
    assert sorted(reported) == sorted(f"{user.namespace}/{name}" for name in UNIT_PODS)
    user.await_phase(unfinished, "Superseded")

    def all_are_told() -> bool:
        found = user.pods()
        told = [found[name]["metadata"]["annotations"] for name in second]
        return all("has 8" in each.get(names.ANNOTATION_DECISION, "") for each in told)

    eventually(all_are_told, what="held pods know why they wait")


def test_a_plan_is_carried_out_and_the_unit_serves(user: User, nodes: tuple[str, ...]) -> None:
    """Gate, plan, pin, bind: the main path."""
    user.apply(chat())
    waiting = user.await_pods(UNIT_PODS)

    plan = user.publish(*(bind(pod, nodes[0]) for pod in waiting.values()))
    released = user.await_pinned(*UNIT_PODS)

    for name in UNIT_PODS:
        metadata = released[name]["metadata"]
        assert pin(released[name]) == nodes[0]
        assert metadata["annotations"][names.ANNOTATION_PLAN] == plan
        assert metadata["uid"] == waiting[name]["metadata"]["uid"]
        # Gate and pin are one write of the spec: in between, the pod could go anywhere.
        assert metadata["generation"] == waiting[name]["metadata"]["generation"] + 1
        user.bind(released[name])
    status = user.await_phase(plan, "Completed")
    assert (status["done"], status["total"], status["message"]) == (3, 3, "every step is done")
    assert {step["state"] for step in status["steps"]} == {"Done"}
    serving = user.await_reason("UnitsReady")
    assert condition(serving, "Scheduled") == ("True", "AllScheduled", "3 pods on nodes")
    assert (serving["ready"], serving["ratio"], serving["replicas"]) == ("1/1", "1:2", 1)


def test_a_plan_that_only_holds_is_completed_and_told_everywhere(user: User) -> None:
    """Somebody asks for what no node can ever hold."""
    user.apply(chat(pools=[pool("Prefill", gpus=16), pool("Decode", gpus=2)]))
    waiting = user.await_pods(UNIT_PODS)
    remedy = "add a node with 16 GPUs"

    plan = user.publish(*(hold(pod, remedy=remedy) for pod in waiting.values()))

    assert user.await_phase(plan, "Completed")["message"] == "nothing to do; 3 pods are held"
    status = user.await_reason("NodeTooSmall")
    shortfall = "needs 16 GPUs on one node; the largest has 8; add a node with 16 GPUs"
    assert condition(status, "Scheduled") == (
        "False",
        "NodeTooSmall",
        f"chat-0-decode-0: {shortfall} (2 more pods for the same reason)",
    )
    assert status["decisions"][0]["reason"] == "NodeTooSmall"

    def decided() -> bool:
        notes = [p["metadata"].get("annotations", {}) for p in user.pods().values()]
        return all(n.get(names.ANNOTATION_DECISION) == f"NodeTooSmall: {shortfall}" for n in notes)

    eventually(decided, what="each pod says why it waits")
    eventually(lambda: "UnitHeld" in user.reasons_told("chat"), what="the event UnitHeld is there")


def test_scaling_down_removes_the_highest_unit(user: User) -> None:
    """Through the scale subresource, as an autoscaler would."""
    user.apply(chat(replicas=2))
    user.await_pods(UNIT_PODS + [name.replace("-0-", "-1-", 1) for name in UNIT_PODS])

    user.kubectl("scale", "infd/chat", "--replicas=1")

    user.await_pods(UNIT_PODS)
    selector = user.get("infd", "chat")["status"]["selector"]
    assert list(user.pods(selector)) == ["chat-0-prefill-0"]


def test_a_pod_that_is_deleted_is_made_again(user: User) -> None:
    """Somebody deletes a pod; its unit is completed."""
    user.apply(chat())
    before = user.await_pods(UNIT_PODS)

    user.kubectl("delete", "pod", UNIT_PODS[0])

    def again() -> bool:
        pods = user.pods()
        return UNIT_PODS[0] in pods and uid(pods[UNIT_PODS[0]]) != uid(before[UNIT_PODS[0]])

    eventually(again, what="the pod is there again")


def uid(pod: Object) -> str:
    """Return the uid of a raw object."""
    return str(pod["metadata"]["uid"])


def test_deleting_the_deployment_removes_its_pods(user: User) -> None:
    """The garbage collector follows the owner references."""
    user.apply(chat())
    user.await_pods(UNIT_PODS)

    user.kubectl("delete", "infd", "chat")

    # It looks for new kinds every 30 s, and knows nothing of a kind before.
    user.await_pods([], timeout_s=90)


def test_a_new_template_replaces_whole_units_one_after_the_other(
    user: User, nodes: tuple[str, ...]
) -> None:
    """Without surge: an old unit goes whole, its successor is placed, then the next one goes."""
    rollout = {"maxSurge": 0}
    user.apply(chat(replicas=2, rollout=rollout))
    old = [f"chat-{unit}-{pod}" for unit in (0, 1) for pod in UNIT]
    user.await_pods(old)
    user.place({name: nodes[int(name[5])] for name in old})
    user.await_reason("UnitsReady")

    user.apply(chat(replicas=2, rollout=rollout, pools=[pool("Prefill", gpus=4), SMALL]))

    next_unit = [f"chat-2-{pod}" for pod in UNIT]
    pods = user.await_pods(old[:3] + next_unit)
    assert len({revision(pods[name]) for name in old[:3]}) == 1
    assert {revision(pods[name]) for name in next_unit} != {revision(pods[old[0]])}

    def rolling_out() -> bool:
        status = user.get("infd", "chat")["status"]
        assert status["reason"] == "WaitingForPlan", status
        assert condition(status, "Progressing")[:2] == ("True", "RollingOut")
        return (status["ready"], status["units"]["updated"]) == ("1/2", 1)

    eventually(rolling_out, what="one of two units serves, and one is new")
    user.place(dict.fromkeys(next_unit, nodes[1]))
    last = [f"chat-1-{pod}" for pod in UNIT]
    user.await_pods(next_unit + last)
    user.place(dict.fromkeys(last, nodes[0]))
    status = user.await_reason("UnitsReady")
    assert condition(status, "Progressing")[:2] == ("False", "RolledOut")
    events = {"RollingOut", "RolledOut"}
    eventually(lambda: events <= user.reasons_told("chat"), what="events tell of the rollout")


def revision(pod: Object) -> str:
    """Return the revision of a pod's unit."""
    return str(pod["metadata"]["labels"][names.LABEL_REVISION])


def test_a_paused_rollout_leaves_what_serves(user: User, nodes: tuple[str, ...]) -> None:
    """And goes on when it is told to."""
    user.apply(chat(rollout={"paused": True}))
    user.await_pods(UNIT_PODS)
    user.place(dict.fromkeys(UNIT_PODS, nodes[0]))
    user.await_reason("UnitsReady")
    before = user.pods()

    user.apply(chat(rollout={"paused": True}, pools=[pool("Prefill", gpus=4), SMALL]))

    status = user.await_reason("RolloutPaused")
    assert condition(status, "Progressing") == (
        "False",
        "RolloutPaused",
        "0 of 1 unit serve from the newest template; set spec.rollout.paused to false to go on",
    )

    def marked() -> bool:
        found = user.pods().values()
        assert {uid(p) for p in found} == {uid(p) for p in before.values()}
        notes = [p["metadata"].get("annotations", {}) for p in found]
        return {n.get(names.ANNOTATION_OUTDATED) for n in notes} == {"true"}

    eventually(marked, what="the pods are marked")
    user.apply(chat(pools=[pool("Prefill", gpus=4), SMALL]))
    user.await_pods([*UNIT_PODS, *(f"chat-1-{pod}" for pod in UNIT)])


def test_a_new_ratio_reaches_a_unit_that_serves_all_the_while(
    user: User, nodes: tuple[str, ...]
) -> None:
    """What is new waits beside it; labels and annotations follow when it serves."""
    user.apply(chat())
    user.await_pods(UNIT_PODS)
    user.place(dict.fromkeys(UNIT_PODS, nodes[0]))
    user.await_reason("UnitsReady")
    before = {uid(pod) for pod in user.pods().values()}

    user.apply(chat(ratio={"prefill": 1, "decode": 3}, minReplicas=1))

    pods = user.await_pods([*UNIT_PODS, "chat-0-decode-2"])
    assert size(pods["chat-0-decode-2"]) == "4"
    status = user.await_reason("RatioChanging")
    assert condition(status, "Ready")[0] == "True"
    assert shapes(user) == {"decode=2,prefill=1"}
    user.place({"chat-0-decode-2": nodes[1]})
    user.await_reason("UnitsReady")
    eventually(lambda: shapes(user) == {"decode=3,prefill=1"}, what="the unit says so")
    assert before < {uid(pod) for pod in user.pods().values()}

    user.apply(chat(minReplicas=1))
    user.await_pods(UNIT_PODS)
    user.await_reason("UnitsReady")

    def told() -> bool:
        pods = user.pods().values()
        floors = {pod["metadata"]["labels"].get(names.LABEL_MIN_UNITS) for pod in pods}
        assert shapes(user) == {"decode=2,prefill=1"}
        return floors == {"1"} and {size(pod) for pod in pods} == {"3"}

    eventually(told, what="labels and annotations tell what is so now")
    assert {uid(pod) for pod in user.pods().values()} == before


def size(pod: Object) -> str:
    """Return how many pods of its unit are placed together, as a pod says."""
    return str(pod["metadata"]["labels"][names.LABEL_GANG_MIN_COUNT])


def shapes(user: User) -> set[str]:
    """Return what the pods say that makes their unit whole."""
    return {pod["metadata"]["annotations"][names.ANNOTATION_SHAPE] for pod in user.pods().values()}


def test_a_unit_that_waits_gets_a_new_template_at_once(user: User) -> None:
    """Who asked for too much corrects the template, and that must be enough."""
    user.apply(chat(pools=[pool("Prefill", gpus=16), pool("Decode", gpus=2)]))
    before = {uid(p) for p in user.await_pods(UNIT_PODS).values()}

    user.apply(chat())

    def corrected() -> bool:
        pods = user.pods()
        return sorted(pods) == UNIT_PODS and before.isdisjoint(uid(p) for p in pods.values())

    eventually(corrected, what="every pod of the unit is a new one")


@pytest.mark.parametrize(
    ("gpus", "container", "reason", "message"),
    [
        pytest.param(
            "many",
            {},
            "InvalidSpec",
            "spec.pools[0].template.spec.containers[0].resources.limits.nvidia.com/gpu: 'many' is"
            " not a quantity such as 8, 500m or 64Gi",
            id="what we cannot read",
        ),
        pytest.param(
            4,
            {"image": ""},
            "PodsRefused",
            "spec.containers[0].image: Required value; correct the template of pool prefill",
            id="what the API server refuses",
        ),
    ],
)
def test_a_template_that_makes_no_pod_is_told_in_a_condition(
    user: User, gpus: int | str, container: Object, reason: str, message: str
) -> None:
    """The CRD keeps templates as they are, so the rest is found out later."""
    made = pool("Prefill", gpus=gpus)
    made["template"]["spec"]["containers"][0] |= container
    user.apply(chat(ratio={"prefill": 1, "decode": 0}, pools=[made]))

    status = user.await_reason(reason)

    assert condition(status, "Degraded")[:2] == ("True", reason)
    assert message in condition(status, "Degraded")[2]
    assert not user.pods()


def test_a_restart_changes_nothing(user: User, operator: Stack, nodes: tuple[str, ...]) -> None:
    """Neither a stop nor a crash: everything is on the objects."""
    user.apply(chat(replicas=2))
    user.await_pods(UNIT_PODS + [name.replace("-0-", "-1-", 1) for name in UNIT_PODS])
    user.place(dict.fromkeys(UNIT_PODS, nodes[0]))
    eventually(lambda: user.get("infd", "chat")["status"]["ready"] == "1/2", what="a unit serves")
    settled = eventually(Settled(lambda: versions(user)), what="nothing changes any more")

    operator.kill("operator")
    operator.start("operator")
    user.apply({**chat(), "metadata": {"name": "sign-of-life"}})
    eventually(lambda: len(user.pods()) == 9, what="the operator works again")

    assert versions(user) == settled


class Settled:
    """Returns what it sees once it has seen the same ten times in a row."""

    def __init__(self, look: Callable[[], dict[str, str]]) -> None:
        self._look = look
        self._seen: list[dict[str, str]] = []

    def __call__(self) -> dict[str, str]:
        """Look once more."""
        self._seen = [*self._seen[-9:], self._look()]
        assert len(self._seen) == 10
        assert all(seen == self._seen[0] for seen in self._seen)
        return self._seen[0]


def versions(user: User) -> dict[str, str]:
    """Return the resourceVersions of chat and its pods."""
    found = {**user.pods(f"{names.LABEL_DEPLOYMENT}=chat"), "chat": user.get("infd", "chat")}
    return {name: raw["metadata"]["resourceVersion"] for name, raw in found.items()}


def test_a_pod_is_moved_and_its_replacement_gets_the_planned_place(
    user: User, nodes: tuple[str, ...]
) -> None:
    """A foreign Deployment's pod: evicted, made again by its ReplicaSet, gated, released."""
    user.apply(web())
    name = eventually(lambda: next(iter(user.pods()), ""), what="the pod is there")
    user.place({name: nodes[0]})
    eventually(lambda: running(user.pods()[name]), what="the pod runs")

    plan = user.publish(move(user.pods()[name], nodes[1]))

    def replacement() -> Object | None:
        return next((p for n, p in user.pods().items() if n != name and not gates(p)), None)

    new = eventually(replacement, what="the replacement is released")
    assert new is not None
    assert pin(new) == nodes[1]
    assert new["metadata"]["annotations"][names.ANNOTATION_PLAN] == plan
    user.bind(new)
    status = user.await_phase(plan, "Completed")
    assert [step["type"] for step in status["steps"]] == ["Move"]
    eventually(lambda: "Moved" in user.reasons_told(name), what="the event Moved is there")


def await_web(user: User) -> str:
    """Wait for the pod of web, which is made by controllers that nobody waits for; return it."""
    named = lambda: next((n for n in user.pods() if n.startswith("web")), "")  # noqa: E731
    return eventually(named, what="the pod of web is there")


def serving_on(user: User, node: str, **spec: Any) -> tuple[str, list[Evict]]:  # noqa: ANN401 - JSON
    """Have chat serve on all of a node, and a pod of web wait; return its name, and chat's end."""
    user.apply(chat(**spec), web())
    user.await_reason("WaitingForPlan")
    user.place(dict.fromkeys(UNIT_PODS, node))
    user.await_reason("UnitsReady")
    pods = user.pods()
    gang = GangKey(namespace=user.namespace, name="chat-0")
    victims = [replace(evict(pods[name]), gang=gang) for name in UNIT_PODS]
    return await_web(user), victims


def services(user: User) -> set[tuple[str, str]]:
    """Return since when chat's pods are in service or out of it, and why."""
    pods = user.pods(f"{names.LABEL_DEPLOYMENT}=chat").values()
    said = [c for p in pods for c in p["status"].get("conditions", [])]
    ours = [c for c in said if c["type"] == names.CONDITION_IN_SERVICE]
    assert len(ours) == len(UNIT_PODS)
    return {(c["reason"], c["lastTransitionTime"]) for c in ours}


def test_a_unit_that_a_plan_evicts_is_drained_before(user: User, nodes: tuple[str, ...]) -> None:
    """Its requests are not cut off, and the plan says what it waits for."""
    newcomer, victims = serving_on(user, nodes[0], disruption={"drainTimeoutSeconds": 10})

    with watching(user.cluster, namespace=user.namespace, name="chat") as watch:
        plan = user.publish(bind(user.pods()[newcomer], nodes[0]), *victims)

        def draining() -> bool:
            steps = user.get("packingplan", plan).get("status", {}).get("steps", [])
            return [s["state"] for s in steps if s["type"] == "Evict"] == ["Draining"] * 3

        eventually(draining, what="the unit drains")
        assert gates(user.pods()[newcomer]), "its room is given away before it is free"
        user.bind(user.await_pinned(newcomer)[newcomer])
        user.await_phase(plan, "Completed")

    watch.assert_kept()
    assert not watch.contract.cut
    eventually(
        lambda: {"Draining", "Evicted"} <= user.reasons_told(UNIT_PODS[0]), what="events tell it"
    )


def test_a_drain_outlives_the_operator_and_ends_with_its_plan(
    user: User, operator: Stack, nodes: tuple[str, ...]
) -> None:
    """Since when and for whom stands in the cluster; a newer plan lets the unit stay."""
    silent = {"metadata": {"annotations": {"prometheus.io/port": "9"}}}
    pools = [
        {**part, "template": {**part["template"], **silent}}
        for part in (pool("Prefill", gpus=4), pool("Decode", gpus=2))
    ]
    newcomer, victims = serving_on(
        user, nodes[0], pools=pools, disruption={"drainTimeoutSeconds": 600}
    )
    user.publish(bind(user.pods()[newcomer], nodes[0]), *victims)

    def drained() -> set[tuple[str, str]]:
        found = services(user)
        assert {reason for reason, _ in found} == {"Yields"}
        return found

    before = eventually(drained, what="the unit is out of service")

    operator.kill("operator")
    operator.start("operator")
    user.apply({**chat(), "metadata": {"name": "sign-of-life"}})
    eventually(lambda: len(user.pods()) == 7, what="the operator works again")
    assert services(user) == before

    user.await_phase(user.publish(), "Completed")
    back = {"Serves"}
    eventually(lambda: {reason for reason, _ in services(user)} == back, what="it is put back")
    user.await_reason("UnitsReady")
    assert gates(user.pods()[newcomer])


def running(pod: Object) -> bool:
    """Return whether a raw pod runs."""
    return bool(pod["status"].get("phase") == "Running")


def gates(pod: Object) -> list[Object]:
    """Return the scheduling gates of a raw pod."""
    return list(pod["spec"].get("schedulingGates", []))


def test_an_eviction_waits_for_the_disruption_budget(user: User, nodes: tuple[str, ...]) -> None:
    """The plan says who holds it up, and goes on by itself."""
    user.apply(web(), chat())
    user.await_reason("WaitingForPlan")
    name = await_web(user)
    user.place({name: nodes[0]})
    eventually(lambda: running(user.pods()[name]), what="the pod runs")
    user.apply(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        }
    )
    eventually(
        lambda: user.get("pdb", "web")["status"].get("expectedPods") == 1, what="the PDB counts"
    )
    user.publish(evict(user.pods()[name]), *(bind(user.pods()[n], nodes[0]) for n in UNIT_PODS))

    def blocked() -> Object:
        newest = user.cluster.read("packingplans")["items"]
        plan: Object = max(newest, key=lambda p: p["spec"]["sequence"])
        assert "status" in plan, "no pass has looked at it yet"
        assert "waits: PodDisruptionBudget" in plan["status"]["steps"][0]["message"]
        return plan

    plan = eventually(blocked, what="the plan names the budget")
    assert plan["status"]["phase"] == "Executing"
    assert name in user.pods()
    user.kubectl("delete", "pdb", "web")
    for pod in UNIT_PODS:
        user.bind(user.await_pinned(*UNIT_PODS)[pod])
    user.await_phase(plan["metadata"]["name"], "Completed")
    assert name not in user.pods()
    eventually(lambda: "Evicted" in user.reasons_told(name), what="the event Evicted is there")


def test_pods_of_one_budget_drain_only_together_and_leave_though_it_admits_nobody_then(
    user: User, nodes: tuple[str, ...]
) -> None:
    """One of two would be out of service in vain; once out, they cost it no healthy pod."""
    newcomer, victims = serving_on(user, nodes[0], disruption={"drainTimeoutSeconds": 10})
    alone = [replace(victim, gang=None) for victim in victims[:2]]
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "chat"},
        "spec": {
            "minAvailable": 2,
            "selector": {"matchLabels": {names.LABEL_DEPLOYMENT: "chat"}},
        },
    }
    user.apply(budget)

    def admits(n: int) -> bool:
        status = user.get("pdb", "chat").get("status", {})
        return bool(status.get("expectedPods") and status.get("disruptionsAllowed") == n)

    eventually(lambda: admits(1), what="the budget admits one")
    plan = user.publish(bind(user.pods()[newcomer], nodes[0]), *alone)

    def told() -> bool:
        return "admits 1 eviction now, and the plan needs 2" in str(user.get("packingplan", plan))

    eventually(told, what="the plan waits for the budget")
    assert {reason for reason, _ in services(user)} == {"Serves"}

    user.kubectl("patch", "pdb", "chat", "--type=merge", "-p", '{"spec": {"minAvailable": 1}}')
    eventually(lambda: admits(0), what="both drain, and the budget admits nobody else")
    overtaking = user.publish(bind(user.pods()[newcomer], nodes[0]), *alone)
    user.bind(user.await_pinned(newcomer)[newcomer])
    user.await_phase(overtaking, "Completed")


def test_a_newer_plan_takes_over(user: User, nodes: tuple[str, ...]) -> None:
    """Only the newest decision counts."""
    user.apply(chat())
    waiting = user.await_pods(UNIT_PODS)
    older = user.publish(*(bind(pod, nodes[0]) for pod in waiting.values()))
    user.await_pinned(*UNIT_PODS)  # and nobody binds them

    newer = user.publish()

    assert user.await_phase(older, "Superseded")["message"] == f"{newer} took over"
    user.await_phase(newer, "Completed")


def test_a_plan_whose_world_has_moved_on_stops(user: User, nodes: tuple[str, ...]) -> None:
    """Nobody is evicted for a pod that is gone."""
    user.apply(web(), chat())
    user.await_reason("WaitingForPlan")
    name = await_web(user)
    user.place({name: nodes[0]})
    pods = user.pods()
    gone = replace(bind(pods[UNIT_PODS[0]], nodes[1]), uid="gone")

    plan = user.publish(gone, evict(pods[name]))

    status = user.await_phase(plan, "Failed")
    assert status["message"].endswith("chat-0-decode-0 is gone; a new plan follows")
    assert uid(user.pods()[name]) == uid(pods[name])


def test_without_a_planner_gates_are_lifted_after_the_time_out(
    user: User, cluster: Cluster
) -> None:
    """Fail open: our own pods and those of others."""
    user.apply(chat(), web())
    user.await_reason("WaitingForPlan")
    eventually(lambda: len(user.pods()) == 4, what="all pods are there")
    assert all(gates(pod) for pod in user.pods().values())

    set_timeout(cluster, 20)
    try:
        status = user.await_reason("PlannerAway", timeout_s=LIFTED_S)
        lifted = eventually(
            lambda: None if any(gates(p) for p in user.pods().values()) else user.pods(),
            what="every gate is lifted",
            timeout_s=LIFTED_S,
        )
    finally:
        set_timeout(cluster, 86_400)

    assert lifted is not None
    assert all("affinity" not in pod["spec"] for pod in lifted.values())
    assert condition(status, "Scheduled")[2].startswith("no planner has led for 20 s: gates ")
    told = {"GatesLifted"}
    eventually(lambda: told <= user.reasons_told("chat"), what="the event GatesLifted is there")


def set_timeout(cluster: Cluster, seconds: int) -> None:
    """Change the time-out of gates."""
    patch = json.dumps({"spec": {"gateTimeoutSeconds": seconds}})
    cluster.kubectl_run("patch", "ppolicy", "default", "--type=merge", "-p", patch)


def test_a_living_planner_keeps_the_gates_shut(user: User, cluster: Cluster) -> None:
    """A lease that is renewed: nothing is lifted while the operator looks more than once."""
    user.apply(chat())
    user.await_pods(UNIT_PODS)
    lease = ("lease", names.PLANNER_LEASE, "-n", "bayplan-system")
    renewals = count()

    def renew() -> None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": names.PLANNER_LEASE, "namespace": "bayplan-system"},
            "spec": {"renewTime": f"2099-01-01T00:00:00.{next(renewals):06}Z"},
        }
        cluster.kubectl_run("apply", "-f", "-", input=json.dumps(body))

    renew()
    set_timeout(cluster, 20)
    until = time.monotonic() + 36  # it looks every 10 s, and every 5 s once it knows the time-out

    def renewed_to_the_end() -> bool:
        renew()
        if not all(gates(pod) for pod in user.pods().values()):
            pytest.fail("a gate was lifted")
        return time.monotonic() >= until

    try:
        eventually(renewed_to_the_end, what="the operator has looked", timeout_s=90, interval_s=1.0)
    finally:
        set_timeout(cluster, 86_400)
        cluster.kubectl_run("delete", *lease)


def test_the_operator_adds_nothing_to_what_it_watches(user: User) -> None:
    """No finalizers, no annotations: `kubectl delete` works without us."""
    user.apply(chat())
    user.await_pods(UNIT_PODS)

    metadata = user.get("infd", "chat")["metadata"]

    assert "finalizers" not in metadata
    assert set(metadata["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}
