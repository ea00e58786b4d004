"""Pools of an InferenceDeployment: several of one role, replicas of several pods, accelerators."""

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import Disruption
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import DecodeError, node_of, pod_of
from bayplan.codec.deployments import child_of, deployment_of
from bayplan.inference import accelerators, manifests, readiness
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.rollout import Changes
from bayplan.inference.tally import News, Tally
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.rules import filters
from tests.scenes.children import unit_slots

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def template(gpus: int = 8, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a pod template with one container."""
    container = {"name": "vllm", "image": "x", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return {"spec": {"containers": [container], **spec}}


def pool(role: str, name: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a pool of 8-GPU pods."""
    return {"role": role, "name": name, "template": template(), **fields}


def raw(*pools: dict[str, Any], prefill: int = 1, decode: int = 2, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return an InferenceDeployment of these pools."""
    ratio = {"prefill": prefill, "decode": decode}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceDeployment",
        "metadata": {"name": "chat", "namespace": "team", "uid": "u-chat", "generation": 1},
        "spec": {"ratio": ratio, "pools": list(pools), **spec},
    }


def chat(*pools: dict[str, Any], **fields: Any) -> Deployment:  # noqa: ANN401 - JSON
    """Return the decoded deployment."""
    return deployment_of(raw(*pools, **fields))


P = pool("Prefill", "p")
LARGE = pool("Decode", "d", podsPerReplica=3)


def pods_of(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """Return the pods of a deployment by name."""
    return {pod["metadata"]["name"]: pod for pod in manifests.manifests(deployment)}


def fill(of: Deployment, **state: Any) -> list[Child]:  # noqa: ANN401 - fields of Child
    """Return every pod of a deployment, serving unless something else is said."""
    state = {"nodeName": "n1", "ready": True} | state
    made = []
    for pod in manifests.manifests(of):
        spec = pod["spec"] | {"nodeName": state["nodeName"], "schedulingGates": []}
        conditions = [{"type": "Ready", "status": str(state["ready"])}]
        made.append(child_of({**pod, "spec": spec, "status": {"conditions": conditions}}))
    return made


def test_a_unit_has_the_replicas_that_each_pool_of_a_role_says() -> None:
    """Long and short prompts get prefill pools of their own, within one ratio."""
    of = chat(
        pool("Prefill", "short", replicas=3),
        pool("Prefill", "long", replicas=1),
        pool("Decode", "d"),
        prefill=4,
        decode=2,
    )

    assert list(pods_of(of)) == [
        *("chat-0-short-0", "chat-0-short-1", "chat-0-short-2"),
        "chat-0-long-0",
        *("chat-0-d-0", "chat-0-d-1"),
    ]
    status = status_of(of, fill(of))
    assert status["ratio"] == "4:2"
    assert condition(status, "RatioWithinBand")[:2] == ("True", "RatioKept")
    assert [(p["name"], p["desired"]) for p in status["pools"]] == [
        ("short", 3),
        ("long", 1),
        ("d", 2),
    ]


def test_aggregated_pools_say_how_many_a_unit_has() -> None:
    """They have no ratio to add up to."""
    of = chat(pool("Aggregated", "a", replicas=2), pool("Aggregated", "b"), prefill=1, decode=1)

    assert list(pods_of(of)) == ["chat-0-a-0", "chat-0-a-1", "chat-0-b-0"]
    assert status_of(of, fill(of))["units"]["ready"] == 1


def test_a_division_of_the_ratio_is_no_new_revision() -> None:
    """It is applied like a new ratio: what runs and is still wanted runs on."""
    one = chat(pool("Decode", "a", replicas=1), pool("Decode", "b", replicas=1), P)
    other = chat(pool("Decode", "a", replicas=1), pool("Decode", "b", replicas=2), P, decode=3)

    assert one.revision == other.revision


def status_of(of: Deployment, seen: list[Child]) -> dict[str, Any]:
    """Return the status of a deployment with these pods."""
    return readiness.status(Tally.of(of, seen), Changes(), News(), before={}, now=NOW)


def condition(status: dict[str, Any], kind: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition."""
    found = next(c for c in status["conditions"] if c["type"] == kind)
    return found["status"], found["reason"], found["message"]


def test_the_pods_of_a_replica_find_each_other_as_in_a_leader_worker_set() -> None:
    """Engines and scripts that are written for it run unchanged."""
    first = {"name": "wait", "image": "x"}
    own = {"name": "RANK", "value": "$(LWS_WORKER_INDEX)"}
    of = chat(P, {**LARGE, "template": template(initContainers=[first])})
    container = of.pools[1].template["spec"]["containers"][0]
    container["env"] = [own]

    pods = pods_of(of)

    assert list(pods)[1:] == [
        *("chat-0-d-0", "chat-0-d-0-1", "chat-0-d-0-2"),
        *("chat-0-d-1", "chat-0-d-1-1", "chat-0-d-1-2"),
    ]
    worker = pods["chat-0-d-1-2"]
    assert (worker["spec"]["hostname"], worker["spec"]["subdomain"]) == (
        "chat-0-d-1-2",
        "chat-peers",
    )
    said = [
        {"name": "LWS_LEADER_ADDRESS", "value": "chat-0-d-1.chat-peers.team"},
        {"name": "LWS_GROUP_SIZE", "value": "3"},
        {"name": "LWS_WORKER_INDEX", "value": "2"},
    ]
    assert worker["spec"]["containers"][0]["env"] == [*said, own]
    assert worker["spec"]["initContainers"][0]["env"] == said
    labels = worker["metadata"]["labels"]
    assert (labels[names.LABEL_REPLICA], labels[names.LABEL_WORKER]) == ("1", "2")
    assert labels[names.LABEL_REPLICA_SIZE] == "3"
    # Gateways of llm-d send requests to those that have a role.
    assert names.LABEL_LLMD_ROLE not in labels
    assert pods["chat-0-d-1"]["metadata"]["labels"][names.LABEL_LLMD_ROLE] == "decode"
    # The unit remains one gang of all its pods.
    assert {pod["metadata"]["labels"][names.LABEL_GANG_MIN_COUNT] for pod in pods.values()} == {"7"}


def test_a_replica_of_one_pod_is_its_template_untouched() -> None:
    """No host name, no environment: nothing that the user did not ask for."""
    spec = pods_of(chat(P, LARGE))["chat-0-p-0"]["spec"]

    assert spec["containers"] == template()["spec"]["containers"]
    assert not {"hostname", "subdomain"} & spec.keys()


def test_workers_may_have_a_template_of_their_own() -> None:
    """They serve nobody and are probed for something else; some leaders need no GPU."""
    of = chat(P, {**LARGE, "template": template(1), "workerTemplate": template(8)})

    pods = pods_of(of)

    asked = [
        pods[name]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
        for name in ("chat-0-d-0", "chat-0-d-0-1")
    ]
    assert asked == [1, 8]
    assert status_of(of, [])["gpus"] == 8 + 2 * (1 + 8 + 8)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"podsPerReplica": 2}, True, id="pods of a replica: each is told the number"),
        pytest.param({"workerTemplate": template(4)}, True, id="the template of the workers"),
        pytest.param({"accelerators": ["H100"]}, True, id="the GPUs to run on"),
        pytest.param({"podsPerReplica": 3, "replicas": 2}, False, id="what was the default anyway"),
    ],
)
def test_what_makes_a_new_revision(change: dict[str, Any], differs: bool) -> None:  # noqa: FBT001 - a column
    """A missed change leaves old pods running; a false one replaces what is as it should be."""
    assert (chat(P, LARGE).revision != chat(P, {**LARGE, **change}).revision) is differs


def test_the_ratio_counts_replicas_not_pods() -> None:
    """One prefill pod and two decode replicas of three pods are 1:2, once all have a node."""
    of = chat(P, LARGE)
    seen = fill(of)

    assert status_of(of, seen)["ratio"] == "1:2"
    assert status_of(of, [replace(seen[-1], node=None), *seen[:-1]])["ratio"] == "1:1"


def test_an_autoscaler_sees_one_pod_of_each_unit() -> None:
    """It divides what the selected pods use by the units."""
    of = chat(LARGE, P, replicas=2)
    selector = dict(term.split("=") for term in status_of(of, [])["selector"].split(","))

    chosen = [
        name
        for name, pod in pods_of(of).items()
        if selector.items() <= pod["metadata"]["labels"].items()
    ]

    assert chosen == ["chat-0-d-0", "chat-1-d-0"]


def test_plans_leave_a_replica_of_several_pods_where_it_is() -> None:
    """All of it would start anew, and only one of its pods would have a place to go to."""
    running = {}
    for name, made in pods_of(chat(P, LARGE)).items():
        spec = made["spec"] | {"nodeName": "n1", "schedulingGates": []}
        pod = pod_of({**made, "spec": spec})
        assert pod is not None
        running[name] = pod.disruption

    assert running.pop("chat-0-p-0") is Disruption.MOVABLE
    assert set(running.values()) == {Disruption.EVICTABLE}


def node(product: str) -> Any:  # noqa: ANN401 - a Node
    """Return a node with GPUs of a product."""
    labels = {"nvidia.com/gpu.product": product, "zone": "a"}
    allocatable = {"nvidia.com/gpu": "8", "pods": "110"}
    return node_of(
        {"metadata": {"name": product, "labels": labels}, "status": {"allocatable": allocatable}}
    )


def test_accelerators_are_wanted_in_their_order_and_no_others_taken() -> None:
    """The first one is best, the last one better than to wait, any other no use."""
    wanted = {**P, "accelerators": ["H200", "H100", "A100"]}
    made = pods_of(chat(wanted, pool("Decode", "d")))["chat-0-p-0"]

    pod = pod_of(made)

    assert pod is not None
    taken = {
        product: filters.preference(pod.constraints.prefers, node(product))
        for product in ("A100", "H100", "H200", "L40S")
        if filters.static_rejection(pod, node(product)) is None
    }
    assert sorted(taken, key=taken.__getitem__) == ["A100", "H100", "H200"]
    assert len(set(taken.values())) == 3


@pytest.mark.parametrize(
    ("products", "home"),
    [
        (("A100", "H100"), "H100"),
        (("A100", "L40S"), "A100"),
        (("L40S",), None),
    ],
    ids=["the best that is there", "the next best rather than none", "none rather than any"],
)
def test_the_planner_takes_the_best_accelerator_that_is_there(
    products: tuple[str, ...], home: str | None
) -> None:
    """The node that is named first is no better for that."""
    made = pods_of(chat({**P, "accelerators": ["H100", "A100"]}, LARGE))["chat-0-p-0"]
    del (
        made["metadata"]["labels"][names.LABEL_GANG],
        made["metadata"]["labels"][names.LABEL_GANG_MIN_COUNT],
    )
    pod = pod_of(made)
    assert pod is not None

    found = plan(Snapshot.of(map(node, products), [pod]), Policy(), clock=lambda: 0.0)

    assert [str(bind.node) for bind in found.plan.binds] == ([home] if home else [])


def test_accelerators_come_on_top_of_what_the_template_asks() -> None:
    """Each of its alternatives is narrowed; its wishes stay."""
    wish = {"weight": 7, "preference": {"matchExpressions": [{"key": "b", "operator": "Exists"}]}}
    zones = [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}
        for zone in ("a", "b")
    ]
    own = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": zones},
            "preferredDuringSchedulingIgnoredDuringExecution": [wish],
        },
        "podAffinity": {"kept": True},
    }
    wanted = {**P, "accelerators": ["H100"], "template": template(affinity=copy.deepcopy(own))}

    affinity = pods_of(chat(wanted, LARGE))["chat-0-p-0"]["spec"]["affinity"]

    required = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    product = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["H100"]}
    assert required["nodeSelectorTerms"] == [
        {"matchExpressions": [*zone["matchExpressions"], product]} for zone in zones
    ]
    preferred = affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred == [wish]
    assert affinity["podAffinity"] == {"kept": True}
    assert wanted["template"]["spec"]["affinity"] == own


@pytest.mark.parametrize("empty", [{}, {"matchExpressions": []}])
def test_a_term_that_no_node_meets_is_not_met_by_accelerators(empty: dict[str, Any]) -> None:
    """Beside another one it is of no account: the pod would leave the zone that it asks for."""
    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [zone]}, empty]}
    own = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}

    made = accelerators.preferring({"affinity": own}, "product", ["H100"])

    product = {"key": "product", "operator": "In", "values": ["H100"]}
    asked = made["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert asked["nodeSelectorTerms"] == [{"matchExpressions": [zone, product]}, empty]


CPU_ONLY = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}}


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        pytest.param(
            raw(pool("Prefill", "a", replicas=1), pool("Prefill", "b", replicas=1), LARGE),
            "spec.pools: the replicas of the Prefill pools add up to 2, spec.ratio.prefill is 1:"
            " say replicas in each of them, or correct the ratio",
            id="pools that do not add up",
        ),
        pytest.param(
            raw(P, {**LARGE, "replicas": 0}),
            "spec.pools[1].replicas: should be 1 to 256, is 0",
            id="a pool without replicas",
        ),
        pytest.param(
            raw(P, {**LARGE, "podsPerReplica": 65}),
            "spec.pools[1].podsPerReplica: should be 1 to 64, is 65",
            id="a replica too large",
        ),
        pytest.param(
            raw(P, {**LARGE, "podsPerReplica": 64}, decode=16),
            "spec.pools: a unit would have 1025 pods, 1024 at most: lower spec.ratio or"
            " podsPerReplica",
            id="a unit too large",
        ),
        pytest.param(
            raw({**P, "workerTemplate": template()}, LARGE),
            "spec.pools[0].workerTemplate: is for replicas of several pods: set podsPerReplica to 2"
            " or more, or remove it",
            id="workers of a single pod",
        ),
        pytest.param(
            raw(P, {**LARGE, "template": template(hostname="x")}),
            "spec.pools[1].template.spec.hostname: is set by the operator where podsPerReplica is"
            " above 1: remove it",
            id="a host name of its own",
        ),
        pytest.param(
            raw(P, {**LARGE, "workerTemplate": template(subdomain="x")}),
            "spec.pools[1].workerTemplate.spec.subdomain: is set by the operator where"
            " podsPerReplica is above 1: remove it",
            id="a domain of the workers' own",
        ),
        pytest.param(
            raw(
                P,
                {
                    **LARGE,
                    "template": template(
                        initContainers=[{"name": "i", "env": [{"name": "LWS_GROUP_SIZE"}]}]
                    ),
                },
            ),
            "spec.pools[1].template.spec.initContainers[0].env[0].name: LWS_GROUP_SIZE is set by"
            " the operator where podsPerReplica is above 1: remove it",
            id="a rank of its own",
        ),
        pytest.param(
            raw(
                {**P, "template": template() | {"metadata": {"labels": {"bayplan.dev/unit": "9"}}}},
                LARGE,
            ),
            "spec.pools[0].template.metadata.labels.bayplan.dev/unit: is set by the operator:"
            " remove it",
            id="a label of ours",
        ),
        pytest.param(
            raw(
                {
                    **P,
                    "template": template()
                    | {"metadata": {"annotations": {names.ANNOTATION_PLAN: "plan-1"}}},
                },
                LARGE,
            ),
            "spec.pools[0].template.metadata.annotations.bayplan.dev/placed-by: is set by the"
            " operator: remove it",
            id="an annotation of ours",
        ),
        pytest.param(
            raw({**P, "template": CPU_ONLY, "accelerators": ["H100"]}, LARGE),
            "spec.pools[0].accelerators: holds for containers that ask for nvidia.com/gpu or"
            " amd.com/gpu: use nodeSelector or affinity instead",
            id="a product of no GPU",
        ),
        pytest.param(
            raw({**P, "accelerators": ["H100", "NVIDIA H200"]}, LARGE),
            "spec.pools[0].accelerators[1]: should be the value of a node's label such as"
            " NVIDIA-H100-80GB-HBM3, is 'NVIDIA H200'",
            id="a product that no label can have",
        ),
        pytest.param(
            raw({**P, "accelerators": ["H100", "A100", "H100"]}, LARGE),
            "spec.pools[0].accelerators: names a product twice: remove one of them",
            id="a product twice",
        ),
        pytest.param(
            raw(P, {**LARGE, "name": "p"}),
            "spec.pools[0].name: 'p' is the name of two pools: rename one of them",
            id="a name twice",
        ),
        pytest.param(
            raw(P, {**LARGE, "name": "peers"}),
            "spec.pools[1].name: 'peers' names a Service of the operator: choose another name",
            id="the name of our Service",
        ),
        pytest.param(
            raw(P, pool("Decode", "d-0", replicas=1), {**LARGE, "replicas": 1}),
            "spec.pools[2].name: workers of 'd' would be named like pods of the pool 'd-0': rename"
            " one of them",
            id="pods of two pools under one name",
        ),
        pytest.param(
            raw(P, {**LARGE, "name": "d" * 44}),
            f"spec.pools[1].name: '{'d' * 44}' is too long: with the name of the deployment it may"
            " have 47 characters, they have 48",
            id="a host name too long",
        ),
        pytest.param(
            raw(pool("Prefill", "p" * 59), LARGE),
            f"spec.pools[0].name: '{'p' * 59}' is too long: with the name of the deployment it may"
            " have 62 characters, they have 63",
            id="a Service's name too long",
        ),
        pytest.param(
            raw({**P, "template": template(containers=[{"name": "c", "ports": [{}]}])}, LARGE),
            "spec.pools[0].template.spec.containers[0].ports[0].containerPort: should be an"
            " integer, is missing",
            id="a port without a number",
        ),
        pytest.param(
            raw(P, LARGE, inferencePool={"endpointPicker": "epp", "targetPort": 70000}),
            "spec.inferencePool.targetPort: should be a port, 1 to 65535, is 70000",
            id="a port that there is not",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_field_and_fix(
    made: dict[str, Any], sentence: str
) -> None:
    """Files have not been to the API server, and it does not look into containers."""
    with pytest.raises(DecodeError) as caught:
        deployment_of(made)

    assert str(caught.value) == f"InferenceDeployment team/chat: {sentence}"


@pytest.mark.parametrize("name", ["9chat", "chat.v1", "Chat"])
def test_a_name_that_no_service_can_begin_with_is_refused(name: str) -> None:
    """Its Services would be refused, one by one, much later."""
    made = raw(P, LARGE)
    made["metadata"]["name"] = name

    with pytest.raises(DecodeError, match="beginning with a letter"):
        deployment_of(made)


def test_the_longest_names_fit_hosts_and_services() -> None:
    """The highest numbers that the API allows, too."""
    made = raw(P, {**LARGE, "name": "d" * 41, "podsPerReplica": 64}, decode=3)
    made["metadata"]["name"] = "c" * 6
    of = deployment_of(made)
    last = [slot for slot in unit_slots(of, 199_999, "r") if slot.worker][-1]
    far = replace(last, name=last.name.replace("-2-63", "-255-63"))

    assert len(far.name) <= 63
    assert len(f"{of.name}-{of.pools[1].name}") <= 63


@pytest.mark.parametrize(
    ("status", "size", "ended"),
    [
        pytest.param({"restartCount": 1}, "3", True, id="its peers do not know it any more"),
        pytest.param({"restartCount": 0}, "3", False, id="it runs since it was made"),
        pytest.param({"restartCount": 5}, None, False, id="a single pod starts again by itself"),
    ],
)
def test_a_container_that_was_started_again(
    status: dict[str, int],
    size: str | None,
    ended: bool,  # noqa: FBT001 - a column
) -> None:
    """The kubelet restarts one container; a replica of several pods needs all anew."""
    made = pods_of(chat(P, LARGE))["chat-0-d-0-1"]
    if size is None:
        del made["metadata"]["labels"][names.LABEL_REPLICA_SIZE]
    made["status"] = {"phase": "Running", "containerStatuses": [{"name": "vllm", **status}]}

    child = child_of(made)

    assert child.ended is ended
    assert (child.leader, child.replica, child.worker) == ("chat-0-d-0", 0, 1)


def test_a_pod_without_our_newer_labels_is_a_replica_by_itself() -> None:
    """Pods of an earlier version go on to count."""
    of = chat(P, pool("Decode", "d"))
    made = pods_of(of)["chat-0-d-1"]
    del made["metadata"]["labels"][names.LABEL_WORKER]

    child = child_of(made)

    assert (child.leader, child.replica_size) == ("chat-0-d-1", 1)


def test_nothing_of_a_worker_is_read_from_its_name() -> None:
    """`chat-0-d-0-1` could be the second replica of a pool named `d-0`."""
    made = pods_of(chat(P, pool("Decode", "d-0")))["chat-0-d-0-1"]

    assert child_of(made).leader == "chat-0-d-0-1"
    assert child_of(made).node is None
    assert NodeName("n1") != child_of(made).pin
