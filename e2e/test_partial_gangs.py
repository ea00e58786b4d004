"""A gang of which a part has its nodes, and the rest cannot follow, is whole or waits within 30 s.

On a real API server and the unmodified kube-scheduler, which is away while a test decides who is
bound and who is not. Two 8-GPU nodes, and a gang of two pods of 8 GPUs each.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest

from bayplan.api import names
from e2e import story, two_nodes_scene
from e2e.cluster import CommandFailed, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.gang_sampler import GangSampler
from e2e.stack import Stack
from e2e.story import PodView
from tests.integration.hindrances_scene import applied, shut_gate, webhook_that_is_down
from tests.integration.operator_scene import pin, pod_spec

stack, nodes = two_nodes_scene.stack, two_nodes_scene.nodes

Object = dict[str, Any]

#: Seconds for which a gang may be partial at most; and until a busy machine gets there in any case.
_MOST_S: Final = 30.0
_LATEST_S: Final = 120.0

ENDED: Final = {"Succeeded", "Failed"}

GOES, STAYS, STRANGER, UNIT = "pair-0", "pair-1", "stranger", "chat-0"


@pytest.fixture
def user(stack: Stack, nodes: Sequence[str], namespace: str) -> Iterator["User"]:
    """Return somebody with kubectl and two empty nodes; show the logs if a test fails."""
    somebody = User(stack, namespace)
    assert nodes
    yield somebody
    for program in ("planner", "operator"):
        print(program, stack.log(program)[-20_000:])
    somebody.kubectl("delete", "infd,statefulsets,deployments,jobs,pods", "--all", "--wait=false")
    eventually(lambda: not somebody.pods(), what="the pods have gone")


class User:
    """Somebody with kubectl in a namespace, who decides when kube-scheduler works."""

    def __init__(self, stack: Stack, namespace: str) -> None:
        self.cluster = stack.cluster
        self.namespace = namespace
        self._stack = stack

    def apply(self, *objects: Object) -> None:
        """Apply objects in the namespace."""
        story.apply(self.cluster, *objects, namespace=self.namespace)

    def kubectl(self, *arguments: str, text: str = "") -> None:
        """Run kubectl in the namespace."""
        self.cluster.kubectl_run("-n", self.namespace, *arguments, input=text or None)

    def pods(self) -> dict[str, PodView]:
        """Return the pods that stay, by name."""
        return {pod.name: pod for pod in story.pods(self.cluster, self.namespace)}

    def admits(self, budget: str) -> int:
        """Return how many evictions a PodDisruptionBudget admits."""
        (found,) = (
            raw
            for raw in self.cluster.read("pdb", namespace=self.namespace)["items"]
            if raw["metadata"]["name"] == budget
        )
        return int(found["status"]["disruptionsAllowed"])

    def await_released(self, size: int = 2) -> dict[str, str]:
        """Wait until all pods are released; return the nodes that they are pinned to."""

        def pinned() -> dict[str, str]:
            raws = self.cluster.read("pods", namespace=self.namespace)["items"]
            raws = [raw for raw in raws if raw["status"].get("phase") not in ENDED]
            assert len(raws) == size
            return {raw["metadata"]["name"]: pin(raw) for raw in raws}

        return eventually(pinned, what="all are released")

    def bind(self, pod: str, node: str) -> None:
        """Bind a pod, as kube-scheduler would."""
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod, "namespace": self.namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/binding"
        self.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(body))

    def set_status(self, pod: str, status: Object) -> None:
        """Write into a pod's status, as kubelet and kube-scheduler do."""
        patch = json.dumps({"status": status})
        self.kubectl("patch", "pod", pod, "--subresource=status", "-p", patch)

    @contextmanager
    def no_scheduler(self) -> Iterator[None]:
        """Have nobody bind pods for a while."""
        self._stack.stop("scheduler")
        try:
            yield
        finally:
            self._stack.start("scheduler")

    def sampler(self, gang: str = "pair") -> GangSampler:
        """Return what samples the pods of the gang."""
        return GangSampler(self.cluster, self.namespace, gang=gang, size=2)

    def all_wait(self) -> bool:
        """Return whether the gang is there, and waits as a whole."""
        found = self._own()
        return len(found) == 2 and all(pod.gated for pod in found)

    def all_run(self) -> bool:
        """Return whether the gang is there, and runs as a whole."""
        found = self._own()
        return len(found) == 2 and all(pod.phase == "Running" for pod in found)

    def _own(self) -> list[PodView]:
        live = self.pods().values()
        return [pod for pod in live if pod.name != STRANGER and pod.phase not in ENDED]


def unit() -> Object:
    """Return an InferenceDeployment of one unit of two pods, a node for each."""
    template = {"spec": pod_spec(8)}
    pools = [{"role": role, "template": template} for role in ("Prefill", "Decode")]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceDeployment",
        "metadata": {"name": "chat"},
        "spec": {
            "ratio": {"prefill": 1, "decode": 1},
            "disruption": {"drainTimeoutSeconds": 1},
            "pools": pools,
        },
    }


def gang(kind: str = "StatefulSet", *, size: int = 2, gpus: int = 8) -> Object:
    """Return a controller of so many pods that are only of use together."""
    labels = {names.LABEL_GANG: "pair", names.LABEL_GANG_MIN_COUNT: str(size)}
    template = {
        "metadata": {"labels": labels},
        "spec": {**pod_spec(gpus), "schedulerName": names.SCHEDULER},
    }
    spec: Object = {"replicas": size, "selector": {"matchLabels": labels}, "template": template}
    if kind == "StatefulSet":
        spec |= {"podManagementPolicy": "Parallel", "serviceName": "pair"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "pair"}, "spec": spec}


def job(name: str) -> Object:
    """Return a Job of such a gang, as a CronJob makes one for each run: with the same labels."""
    template = gang()["spec"]["template"]
    template["spec"]["restartPolicy"] = "Never"
    spec = {"parallelism": 2, "completions": 2, "backoffLimit": 99, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def failing_release(namespace: str, pod: str) -> tuple[Object]:
    """Return a webhook that nobody answers, asked when a pod's gate is lifted in earnest."""
    made = webhook_that_is_down(namespace, pod)
    hook = made["webhooks"][0]
    hook["rules"][0]["operations"] = ["UPDATE"]
    lifted = "!request.dryRun && size(object.spec.?schedulingGates.orValue([])) == 0"
    hook["matchConditions"].append({"name": "lifted", "expression": lifted})
    return (made,)


@pytest.mark.parametrize("hinder", [shut_gate, failing_release], ids=["denied", "fails"])
def test_a_release_that_is_refused_in_earnest(
    user: User, hinder: Callable[[str, str], tuple[Object, ...]]
) -> None:
    """Half of the gang ran alone for most of a minute."""
    with applied(user.cluster, *hinder(user.namespace, STAYS)), user.sampler() as seen:
        eventually(lambda: lifts_no_gate(user), what="the hindrance is at work")
        user.apply(gang())
        eventually(seen.is_partial, what="one of them has its node")
        eventually(user.all_wait, what="the gang waits whole", timeout_s=_LATEST_S)
    assert seen.partial_s < _MOST_S


def lifts_no_gate(user: User) -> bool:
    """Return whether the API server keeps the gate of `STAYS` shut by now, tried on another pod."""
    gate = {"schedulingGates": [{"name": "example.com/probe"}], "schedulerName": "nobody"}
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": STAYS},
        "spec": {**pod_spec(1), **gate},
    }
    user.apply(probe)
    try:
        user.kubectl("patch", "pod", STAYS, "--type=merge", "-p", '{"spec":{"schedulingGates":[]}}')
    except CommandFailed:
        return True
    finally:
        user.kubectl("delete", "pod", STAYS, "--grace-period=0", "--force")
    return False


def take_node_away(user: User, node: str) -> None:
    """Have a node go."""
    user.kubectl("delete", "node", node)


def fill_node(user: User, node: str) -> None:
    """Have somebody run a pod there who asks nobody."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": STRANGER},
        "spec": {**pod_spec(8), "nodeName": node},
    }
    user.apply(pod)


def test_a_part_of_the_next_run_of_a_job(user: User) -> None:
    """Pods of its last run, which had ended well, were counted, and a part ran on for ever."""
    user.apply(job("run-1"))
    eventually(user.all_run, what="the first run runs")
    for name in user.pods():
        user.set_status(name, {"phase": "Succeeded"})
    user.kubectl("wait", "--for=condition=complete", "job/run-1", "--timeout=60s")

    with user.sampler() as seen:
        with user.no_scheduler():
            user.apply(job("run-2"))
            goes, stays = user.await_released().items()
            user.bind(*goes)
            take_node_away(user, stays[1])
        eventually(seen.is_partial, what="one of them has its node")
        eventually(user.all_wait, what="the gang waits whole", timeout_s=_LATEST_S)
    assert seen.partial_s < _MOST_S


def test_a_budget_that_admits_one_of_two(user: User, stack: Stack) -> None:
    """One of the two went, and the other one ran on alone."""
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "one"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {names.LABEL_GANG: "pair"}}},
    }
    user.apply(budget)
    with user.no_scheduler():
        user.apply(gang(size=3, gpus=4))
        pins = user.await_released(3)
        alone = next(node for node in pins.values() if [*pins.values()].count(node) == 1)
        stay = {pod: node for pod, node in pins.items() if node != alone}
        for pod, node in stay.items():
            user.bind(pod, node)
        eventually(lambda: user.admits("one") == 1, what="the budget admits one of them")
        before = {pod: user.pods()[pod].uid for pod in stay}
        take_node_away(user, alone)
        kept = "one admits 1 eviction now, and 2 are needed"
        eventually(lambda: kept in stack.log("operator"), what="both stay", timeout_s=_LATEST_S)
        assert {pod: user.pods()[pod].uid for pod in stay} == before
        user.kubectl("delete", "pdb", "one")
        eventually(
            lambda: not {pod.uid for pod in user.pods().values()} & {*before.values()},
            what="both leave",
            timeout_s=_LATEST_S,
        )


@contextmanager
def spare_node(user: User) -> Iterator[None]:
    """Have a third node."""
    made = add_gpu_nodes(user.cluster, names=[f"{user.namespace}-3"])
    try:
        yield
    finally:
        remove_gpu_nodes(user.cluster, names=made)


@pytest.mark.parametrize("take", [take_node_away, fill_node], ids=["goes", "is filled"])
def test_a_node_that_is_lost_before_the_binding(
    user: User, take: Callable[[User, str], None]
) -> None:
    """What was pinned there was made anew, and the other one ran on without it for ever."""
    with user.sampler() as seen:
        with user.no_scheduler():
            user.apply(gang())
            pins = user.await_released()
            user.bind(GOES, pins[GOES])
            take(user, pins[STAYS])
        eventually(seen.is_partial, what="one of them has its node")
        eventually(user.all_wait, what="the gang waits whole", timeout_s=_LATEST_S)
    assert seen.partial_s < _MOST_S


def test_a_node_that_is_lost_while_there_is_another_one(user: User) -> None:
    """The one that runs would start twice, though a place is free for the rest."""
    with user.sampler() as seen, spare_node(user):
        with user.no_scheduler():
            user.apply(gang())
            pins = user.await_released()
            user.bind(GOES, pins[GOES])
            runs = user.pods()[GOES].uid
            take_node_away(user, pins[STAYS])
        eventually(seen.is_partial, what="one of them has its node")
        eventually(user.all_run, what="the gang runs whole", timeout_s=_LATEST_S)
        assert user.pods()[GOES].uid == runs
    assert seen.partial_s < _MOST_S


def test_kube_scheduler_refuses_one_where_it_is_pinned(user: User) -> None:
    """Half of the gang ran alone for minutes; then it started again and again, twice a minute."""
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    with user.sampler() as seen, user.no_scheduler():
        user.apply(gang())
        pins = user.await_released()
        before = user.pods()[GOES].uid
        user.bind(GOES, pins[GOES])
        user.set_status(STAYS, {"conditions": [{**refused, "message": "not there"}]})
        eventually(seen.is_partial, what="one of them has its node")
        eventually(
            lambda: user.pods()[GOES].uid != before,
            what="the one that runs is made anew",
            timeout_s=_LATEST_S,
        )
        eventually(
            lambda: tells_why(user, f"kube-scheduler refused {STAYS} on {pins[STAYS]}"),
            what="both are told why they wait",
            timeout_s=_LATEST_S,
        )
        held = {name: pod.uid for name, pod in user.pods().items()}
        user.kubectl("label", "node", pins[STAYS], "disks=mended")
        user.await_released()
        assert {name: pod.uid for name, pod in user.pods().items()} == held
    assert seen.partial_s < _MOST_S


def tells_why(user: User, why: str) -> bool:
    """Return whether both pods wait behind their gates and say why."""
    told = [pod.annotations.get(names.ANNOTATION_DECISION, "") for pod in user.pods().values()]
    assert user.all_wait()
    return all(why in text and " again from " in text for text in told)


def test_a_kubelet_refuses_one(user: User) -> None:
    """Its controller leaves the failed pod there, so the gang seemed to have one too many."""
    with user.sampler() as seen, user.no_scheduler():
        user.apply(gang("Deployment"))
        goes, stays = user.await_released().items()
        user.bind(*goes)
        user.bind(*stays)
        user.kubectl("cordon", stays[1])
        user.set_status(stays[0], {"phase": "Failed", "reason": "UnexpectedAdmissionError"})
        eventually(seen.is_partial, what="one of them has its node")
        eventually(user.all_wait, what="the gang waits whole", timeout_s=_LATEST_S)
    assert seen.partial_s < _MOST_S


@pytest.mark.parametrize("take", [take_node_away, fill_node], ids=["goes", "is filled"])
def test_a_unit_whose_node_is_lost_before_the_binding(
    user: User, take: Callable[[User, str], None]
) -> None:
    """Half of it held its room for a minute and more."""
    with user.sampler(UNIT) as seen:
        with user.no_scheduler():
            user.apply(unit())
            (goes, node), (_, lost) = sorted(user.await_released().items())
            user.bind(goes, node)
            take(user, lost)
        eventually(seen.is_partial, what="one of them has its node")
        eventually(user.all_wait, what="the unit waits whole", timeout_s=_LATEST_S)
    assert seen.partial_s < _MOST_S


def test_one_that_is_merely_queued_is_waited_for(user: User) -> None:
    """A slow scheduler would never get a gang whole: half of it would leave each time."""
    with user.sampler() as seen:
        with user.no_scheduler():
            user.apply(gang())
            pins = user.await_released()
            before = {name: pod.uid for name, pod in user.pods().items()}
            user.bind(GOES, pins[GOES])
            eventually(
                lambda: seen.partial_s > 1.5 * _MOST_S,
                what="a slow scheduler has taken its time",
                timeout_s=_LATEST_S,
            )
        eventually(user.all_run, what="the gang runs whole", timeout_s=_LATEST_S)
    assert {name: pod.uid for name, pod in user.pods().items()} == before
