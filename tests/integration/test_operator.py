"""The operator on a real API server: pods, rollouts, gates and restarts.

As `operator_scene` says, plans are written and pods are bound by hand.
"""

import json
import time
from collections.abc import Callable
from itertools import count

import pytest

from bayplan.api import names
from e2e.cluster import Cluster, eventually
from e2e.stack import Stack
from tests.integration import operator_scene
from tests.integration.operator_scene import (
    SMALL,
    UNIT,
    UNIT_PODS,
    Object,
    User,
    chat,
    condition,
    gates,
    pool,
    shapes,
    uid,
    web,
)

nodes, operator, user = operator_scene.nodes, operator_scene.operator, operator_scene.user

#: Seconds in which gates are lifted: 10 until the operator knows the time-out, the 20 of that, 5
#: until it looks again, and as long once more for a busy machine.
LIFTED_S = 70.0


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


def test_events_have_the_time_by_which_kubectl_sorts(user: User) -> None:
    """Seen: `kubectl describe infd` showed the end of a rollout above its beginning."""
    user.apply(chat())
    eventually(lambda: "PodsCreated" in user.reasons_told("chat"), what="events tell of pods")

    told = user.cluster.read("events", namespace=user.namespace)["items"]
    created = next(event for event in told if event["reason"] == "PodsCreated")

    assert created["lastTimestamp"] == created["firstTimestamp"] is not None
    assert created["source"]["component"] == "bayplan.dev/operator"


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
        pytest.param(
            4,
            {"resource": {"limits": {"nvidia.com/gpu": 4}}},
            "PodsRefused",
            'unknown field "spec.containers[0].resource"; correct the template of pool prefill',
            id="a field that there is not",
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
    assert condition(status, "Scheduled")[2].startswith("no planner has worked for 20 s: gates ")
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
