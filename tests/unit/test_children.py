"""The pods of an InferenceDeployment, and its status."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bayplan.api import names
from bayplan.codec import DecodeError, service
from bayplan.codec.deployments import child_of, deployment_of, drain_s_of
from bayplan.inference import children, manifests, readiness, rollout
from bayplan.inference.children import Child, Deployment, Slot
from bayplan.inference.parts import Around
from bayplan.inference.rollout import Changes
from bayplan.inference.tally import News, Tally
from bayplan.keys import NodeName, PodKey
from bayplan.plan import Hold, Reason, Rejection

#: What every pod of `chat` says of its unit.
SHAPE = {names.ANNOTATION_SHAPE: "decode=2,prefill=1"}

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def chat(**spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the InferenceDeployment that everyone knows: units of one prefill and two decode."""
    limits = {"Prefill": 8, "Decode": 4}
    pools = [{"role": role, "template": template(gpus)} for role, gpus in limits.items()]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceDeployment",
        "metadata": {"name": "chat", "namespace": "team", "uid": "u-chat", "generation": 3},
        "spec": {"replicas": 2, "ratio": {"prefill": 1, "decode": 2}, "pools": pools, **spec},
    }


def template(gpus: int, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a pod template with one container."""
    container = {"name": "vllm", "image": "x", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return {"spec": {"containers": [container], **spec}}


def deployment(**spec: Any) -> Deployment:  # noqa: ANN401 - JSON
    """Return the decoded `chat`."""
    return deployment_of(chat(**spec))


@pytest.mark.parametrize(
    ("seconds", "cost"), [(1, "1"), (30, "1"), (31, "2"), (600, "20"), (86_400, "100")]
)
def test_a_pod_costs_what_its_model_takes_to_start(seconds: int, cost: int) -> None:
    """A model that loads for minutes would be moved like one that starts at once."""
    plain, slow = deployment(), deployment(disruption={"coldStartSeconds": seconds})

    annotations = manifests.manifests(slow)[0]["metadata"]["annotations"]

    assert annotations[names.ANNOTATION_MOVE_COST] == cost
    assert names.ANNOTATION_MOVE_COST not in manifests.manifests(plain)[0]["metadata"].get(
        "annotations", {}
    )
    assert [slot.revision for slot in children.slots(slow)] == [
        slot.revision for slot in children.slots(plain)
    ]


def test_what_a_template_says_of_its_cost_holds() -> None:
    """A pool that starts faster than the others could not say so."""
    annotations = {names.ANNOTATION_MOVE_COST: "3"}
    slow = replace(deployment(), cold_start_s=600)
    pool = slow.pools[0]
    template = {**pool.template, "metadata": {"annotations": annotations}}
    own = replace(slow, pools=(replace(pool, template=template),))

    assert manifests.manifests(own)[0]["metadata"]["annotations"].items() >= annotations.items()


def fill(slot: Slot, **state: Any) -> Child:  # noqa: ANN401 - fields of Child
    """Return the pod that the operator made for a slot."""
    return Child(
        **{
            "name": slot.name,
            "uid": f"u-{slot.name}",
            "owner_uid": "u-chat",
            "pool": slot.pool.name,
            "unit": slot.unit,
            "revision": slot.revision,
            "unit_size": slot.unit_size,
            "shape": slot.shape,
            "replica": slot.index,
            "represents": slot.represents,
            "gated": not state.get("node"),
            **state,
        }
    )


def running(of: Deployment) -> list[Child]:
    """Return all pods of a deployment, running and ready."""
    return [fill(slot, node=NodeName("n1"), ready=True) for slot in children.slots(of)]


def names_of(things: Iterable[Slot | Child]) -> list[str]:
    """Return the names of slots or children."""
    return [thing.name for thing in things]


def test_every_unit_has_its_pods_under_names_that_never_change() -> None:
    """A second pass would make the pods again if names were not a function of the spec."""
    assert names_of(children.slots(deployment())) == [
        "chat-0-prefill-0",
        "chat-0-decode-0",
        "chat-0-decode-1",
        "chat-1-prefill-0",
        "chat-1-decode-0",
        "chat-1-decode-1",
    ]


def test_a_pod_is_its_template_plus_owner_labels_scheduler_gate_and_priority() -> None:
    """Golden: the whole first pod."""
    of = deployment(priorityClassName="online")
    slot = children.slots(of)[0]

    assert manifests.manifest(of, slot) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "chat-0-prefill-0",
            "namespace": "team",
            "labels": {
                "app.kubernetes.io/name": "inference",
                "app.kubernetes.io/instance": "chat",
                "app.kubernetes.io/component": "prefill",
                "app.kubernetes.io/part-of": "chat",
                "app.kubernetes.io/managed-by": "bayplan",
                "bayplan.dev/managed": "true",
                "bayplan.dev/deployment": "chat",
                "bayplan.dev/pool": "prefill",
                "bayplan.dev/role": "prefill",
                "bayplan.dev/unit": "0",
                "bayplan.dev/replica": "0",
                "bayplan.dev/worker-index": "0",
                "bayplan.dev/revision": slot.revision,
                "llm-d.ai/role": "prefill",
                "bayplan.dev/gang": "chat-0",
                "bayplan.dev/gang-min-count": "3",
                "bayplan.dev/represents-unit": "true",
            },
            "annotations": {"bayplan.dev/unit-shape": "decode=2,prefill=1"},
            "ownerReferences": [
                {
                    "apiVersion": "bayplan.dev/v1alpha1",
                    "kind": "InferenceDeployment",
                    "name": "chat",
                    "uid": "u-chat",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "containers": [
                {"name": "vllm", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 8}}}
            ],
            "schedulerName": "bayplan",
            "schedulingGates": [{"name": "bayplan.dev/plan"}],
            "readinessGates": [{"conditionType": "bayplan.dev/in-service"}],
            "priorityClassName": "online",
        },
    }


def test_labels_of_the_template_stay_and_win_over_recommended_ones() -> None:
    """People sort their pods by their own words; gateways may know other names of roles."""
    labels = {"team": "a", "app.kubernetes.io/name": "vllm", names.LABEL_LLMD_ROLE: "encode"}
    mine = template(8) | {"metadata": {"labels": labels, "annotations": {"note": "kept"}}}
    of = deployment(
        ratio={"prefill": 1, "decode": 0}, pools=[{"role": "Prefill", "template": mine}]
    )

    metadata = manifests.manifests(of)[0]["metadata"]

    assert metadata["annotations"]["note"] == "kept"
    assert metadata["labels"].items() >= labels.items()


def test_a_deployment_outside_a_cluster_makes_pods_without_owner() -> None:
    """The offline command plans a manifest that was never applied."""
    assert (
        "ownerReferences" not in manifests.manifests(replace(deployment(), uid=""))[0]["metadata"]
    )


def test_making_manifests_leaves_the_template_alone() -> None:
    """The template object is shared by every pod of the pool."""
    raw = chat()
    before = repr(raw)

    manifests.manifests(deployment_of(raw))

    assert repr(raw) == before


@pytest.mark.parametrize(
    ("spec", "differs"),
    [
        pytest.param({}, False, id="the same spec has the same revision"),
        pytest.param({"replicas": 5}, False, id="scaling makes no new revision"),
        pytest.param({"priorityClassName": "online"}, True, id="a new priority does"),
        pytest.param(
            {"ratio": {"prefill": 1, "decode": 3}}, False, id="nor does a ratio: units grow"
        ),
        pytest.param(
            {"rollout": {"maxSurge": 0}}, False, id="nor does the way in which to roll out"
        ),
    ],
)
def test_revision(spec: dict[str, Any], differs: bool) -> None:  # noqa: FBT001 - a column
    """A missed change leaves old pods running; a false one calls all pods outdated."""
    one, other = deployment(), deployment(**spec)

    assert (one.revision != other.revision) is differs


def test_a_template_of_one_pool_makes_a_new_revision_of_all() -> None:
    """Pods of two versions must never be paired in one unit."""
    pools = chat()["spec"]["pools"]
    other = deployment(pools=[pools[0], pools[1] | {"template": template(2)}])

    assert len({slot.revision for slot in children.slots(other)}) == 1
    assert other.revision != deployment().revision


OLD = "0123456789"


@pytest.mark.parametrize(
    ("state", "want"),
    [
        pytest.param({"gated": True}, "keep", id="a gated pod waits"),
        pytest.param({"node": "n1"}, "keep", id="a running pod stays"),
        pytest.param(
            {"node": "n1", "terminating": True}, "wait", id="a terminating pod is awaited"
        ),
        pytest.param(
            {"node": "n1", "ended": True}, "delete", id="an ended pod makes room for anew"
        ),
        pytest.param(
            {"node": "n1", "ended": True, "terminating": True}, "wait", id="it is deleted only once"
        ),
        pytest.param(
            {"pin": "lost", "gated": False}, "delete", id="a pin to a lost node is a trap"
        ),
        pytest.param(
            {"pin": "n1", "gated": False}, "keep", id="a pin to a node that is there waits"
        ),
        pytest.param(
            {"node": "lost", "pin": "lost"}, "abandon", id="a pod whose node is gone is given up"
        ),
        pytest.param(
            {"revision": OLD, "node": "n1"}, "delete", id="no older pod beside newer ones"
        ),
        pytest.param({"revision": OLD}, "delete", id="an old pod that never ran is replaced"),
        pytest.param({"unit_size": 4}, "tell", id="a waiting pod that expects a larger unit"),
        pytest.param({"unit_size": 4, "node": "n1"}, "tell", id="a running one of a larger unit"),
        pytest.param({"floor": 7, "node": "n1"}, "tell", id="one of a time with minReplicas"),
        pytest.param({"owner_uid": "other"}, "stranger", id="a namesake's pod is not touched"),
        pytest.param({"owner_uid": ""}, "stranger", id="a pod without owner is not touched"),
    ],
)
def test_what_happens_to_a_pod(state: dict[str, Any], want: str) -> None:
    """One pod of six is in the given state; all others run."""
    of = deployment()
    first = children.slots(of)[0]
    seen = [fill(first, **state), *running(of)[1:]]

    found = rollout.changes(of, seen, around=Around(lost={NodeName("lost")}))

    assert bool(found.tell) is (want == "tell")
    assert (
        replace(found, failures={}, tell=())
        == {
            "tell": Changes(),
            "keep": Changes(),
            "abandon": Changes(abandon=(seen[0],)),
            "wait": Changes(),
            "delete": Changes(delete=(seen[0],)),
            "stranger": Changes(strangers=(first.name,)),
        }[want]
    )


def test_scaling_down_takes_the_highest_units_whole() -> None:
    """Units left over must be whole ones."""
    seen = running(deployment(replicas=3))

    found = rollout.changes(deployment(replicas=1), seen)

    assert names_of(found.delete) == [
        "chat-2-decode-0",
        "chat-2-decode-1",
        "chat-2-prefill-0",
        "chat-1-decode-0",
        "chat-1-decode-1",
        "chat-1-prefill-0",
    ]
    assert not found.create


def test_pods_of_a_removed_pool_go() -> None:
    """A pool that was renamed makes a unit of another revision, which replaces the whole unit."""
    pools = chat()["spec"]["pools"]
    renamed = [pools[0], pools[1] | {"name": "small"}]

    of = deployment(replicas=1, pools=renamed)
    found = rollout.changes(of, running(deployment(replicas=1)))

    assert names_of(found.create) == ["chat-1-prefill-0", "chat-1-small-0", "chat-1-small-1"]
    assert not found.delete
    assert names_of(
        rollout.changes(of, [*running(deployment(replicas=1)), *second(of)]).delete
    ) == [
        "chat-0-decode-0",
        "chat-0-decode-1",
        "chat-0-prefill-0",
    ]


def second(of: Deployment) -> list[Child]:
    """Return the second unit of a deployment, running and ready."""
    slots = children.unit_slots(of, 1, of.revision)
    return [fill(slot, node=NodeName("n1"), ready=True) for slot in slots]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        pytest.param(
            {"schedulerName": "default-scheduler"},
            "spec.pools[0].template.spec.schedulerName: is set by the operator: remove it, or say"
            " bayplan",
            id="another scheduler",
        ),
        pytest.param(
            {"nodeName": "n1"},
            "spec.pools[0].template.spec.nodeName: would bypass the plan: remove it, and use"
            " nodeSelector or affinity",
            id="a fixed node",
        ),
        pytest.param(
            {"schedulingGates": [{"name": "x"}]},
            "spec.pools[0].template.spec.schedulingGates: are set by the operator: remove them",
            id="gates of its own",
        ),
        pytest.param(
            {"restartPolicy": "Never"},
            "spec.pools[0].template.spec.restartPolicy: must be Always, the default: remove it",
            id="a pod that ends",
        ),
        pytest.param(
            {"priorityClassName": "p"},
            "spec.pools[0].template.spec.priorityClassName: holds for the whole unit: remove it,"
            " and set spec.priorityClassName",
            id="a priority for one pool",
        ),
        pytest.param(
            {"containers": []},
            "spec.pools[0].template.spec.containers: is empty: add the container that serves the"
            " model",
            id="no containers",
        ),
    ],
)
def test_a_template_that_cannot_be_placed_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    """The sentence is what the user reads in the condition."""
    pools = [{"role": "Aggregated", "template": template(1, **wrong)}]

    with pytest.raises(DecodeError) as caught:
        deployment(pools=pools)

    assert str(caught.value) == f"InferenceDeployment team/chat: {sentence}"


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        pytest.param(
            {"pools": [{"role": "Both", "template": template(1)}]},
            "spec.pools[0].role: should be one of Prefill, Decode, Aggregated, is 'Both'",
            id="an unknown role",
        ),
        pytest.param(
            {"ratio": {"prefill": -1}},
            "spec.ratio.prefill: should be 0 to 256, is -1",
            id="a negative ratio",
        ),
        pytest.param(
            {"ratio": {"decode": 2, "mode": "Auto"}},
            "spec.ratio.mode: Auto and spec.ratio.bounds go together: say the bounds of prefill or"
            " decode, or set it to Fixed and remove the bounds",
            id="an automatic ratio without bounds",
        ),
        pytest.param(
            {"ratio": {"decode": 2, "bounds": {"decode": {"min": 1, "max": 2}}}},
            "spec.ratio.mode: Auto and spec.ratio.bounds go together: say the bounds of prefill or"
            " decode, or set it to Fixed and remove the bounds",
            id="bounds of a fixed ratio",
        ),
        pytest.param(
            {"ratio": {"decode": 5, "mode": "Auto", "bounds": {"decode": {"min": 1, "max": 2}}}},
            "spec.ratio.bounds.decode: spec.ratio.decode is 5, not 1 to 2: change it, or the"
            " bounds",
            id="a ratio out of bounds",
        ),
        pytest.param(
            {"ratio": {"decode": 2, "mode": "Auto", "bounds": {"decode": {"min": 3, "max": 2}}}},
            "spec.ratio.bounds.decode: min 3 is above max 2: lower min or raise max",
            id="bounds that nothing is within",
        ),
        pytest.param(
            {"ratio": {"decode": 2, "mode": "Auto", "bounds": {"decode": {"max": 2}}}},
            "spec.ratio.bounds.decode.min: should be an integer, is missing",
            id="bounds without a least",
        ),
        pytest.param(
            {"rollout": {"maxUnavailable": 0, "maxSurge": 0}},
            (
                "spec.rollout: maxUnavailable and maxSurge are both 0, so that no unit could ever"
                " be replaced: set one of them to at least 1"
            ),
            id="a rollout that can never do anything",
        ),
        pytest.param(
            {"rollout": {"maxSurge": -1}},
            "spec.rollout.maxSurge: should be 0 or more units, is -1",
            id="fewer than no units",
        ),
        pytest.param(
            {"replicas": "two"},
            "spec.replicas: should be an integer, is a string",
            id="words for numbers",
        ),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused(spec: dict[str, Any], sentence: str) -> None:
    """Files have not been through the API server."""
    with pytest.raises(DecodeError) as caught:
        deployment(**spec)

    assert str(caught.value) == f"InferenceDeployment team/chat: {sentence}"


def test_a_name_that_is_too_long_for_labels_is_refused() -> None:
    """Its pods' labels would be refused, one by one, much later."""
    raw = chat()
    raw["metadata"]["name"] = "c" * 53

    with pytest.raises(DecodeError, match="at most 52 characters"):
        deployment_of(raw)


@pytest.mark.parametrize(
    ("disruption", "want"),
    [
        pytest.param({}, 120, id="two minutes where nobody says"),
        pytest.param({"drainTimeoutSeconds": 0}, 0, id="none"),
        pytest.param({"drainTimeoutSeconds": 600}, 600, id="as said"),
    ],
)
def test_how_long_a_unit_may_finish_its_requests(disruption: dict[str, Any], want: int) -> None:
    """The bound of a drain."""
    assert deployment(disruption=disruption).drain_s == want


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param({"disruption": {"drainTimeoutSeconds": 600}}, 600, id="as said"),
        pytest.param({"pools": "none"}, 120, id="although something else is wrong"),
        pytest.param({"disruption": {"drainTimeoutSeconds": "long"}}, 120, id="that is wrong"),
    ],
)
def test_how_long_a_drain_may_take_is_known_of_any_object(spec: dict[str, Any], want: int) -> None:
    """A plan that makes a pod leave must not stand still over a spec that is refused."""
    assert drain_s_of({"metadata": {"name": "chat"}, "spec": spec}) == want


def test_a_drain_of_less_than_no_time_is_refused() -> None:
    """With the field and what it should be."""
    with pytest.raises(DecodeError, match=r"disruption\.drainTimeoutSeconds: should be 0 or more"):
        deployment(disruption={"drainTimeoutSeconds": -1})


def test_a_pod_says_how_many_units_are_needed_if_its_deployment_does() -> None:
    """Plans that need room take others first."""
    plain, needy = deployment(replicas=3), deployment(replicas=3, minReplicas=2)

    assert names.LABEL_MIN_UNITS not in manifests.manifests(plain)[0]["metadata"]["labels"]
    assert manifests.manifests(needy)[0]["metadata"]["labels"][names.LABEL_MIN_UNITS] == "2"


def test_names_and_label_values_stay_within_kubernetes_limits() -> None:
    """The longest names that the CRD allows."""
    raw = chat(
        replicas=1, pools=[{"role": "Aggregated", "name": "p" * 10, "template": template(1)}]
    )
    raw["metadata"]["name"] = "c" * 52
    of = replace(deployment_of(raw), replicas=100_000)

    last = manifests.manifest(of, replace(children.slots(replace(of, replicas=1))[0], unit=99_999))

    assert len(last["metadata"]["name"]) <= 253
    assert all(len(value) <= 63 for value in last["metadata"]["labels"].values())


def made_pod(**state: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the first pod of `chat` as the API server shows it."""
    of = deployment()
    raw = manifests.manifest(of, children.slots(of)[0])
    said = state.get("metadata", {})
    annotations = raw["metadata"]["annotations"] | said.get("annotations", {})
    raw["metadata"] |= {"uid": "u-chat-0-prefill-0", **said, "annotations": annotations}
    raw["spec"] |= state.get("spec", {})
    return raw | {"status": state.get("status", {})}


PIN = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
            ]
        }
    }
}
NOON = 1_777_636_800  # 2026-05-01T12:00:00Z
BY_PLAN = {"annotations": {names.ANNOTATION_PLAN: "plan-1"}}


@pytest.mark.parametrize(
    ("state", "want"),
    [
        pytest.param({}, {}, id="as it was made"),
        pytest.param(
            {"spec": {"nodeName": "n1", "schedulingGates": []}},
            {"unplanned": True, "node": "n1", "gated": False},
            id="bound",
        ),
        pytest.param(
            {"spec": {"schedulingGates": None, "affinity": PIN}, "metadata": BY_PLAN},
            {"pin": "n1", "gated": False, "plan": "plan-1"},
            id="pinned by a plan",
        ),
        pytest.param(
            {
                "metadata": {
                    "annotations": {
                        names.ANNOTATION_REPLACES: "u-old",
                        names.ANNOTATION_SERVES_BY: "2026-05-01T12:00:00Z",
                        names.ANNOTATION_GIVES_WAY_BY: "2026-05-01T12:00:10Z",
                    }
                }
            },
            {"replaces": "u-old", "serves_by": NOON, "gives_way_by": NOON + 10},
            id="of which one takes the other's place",
        ),
        pytest.param(
            {"metadata": {"annotations": {names.ANNOTATION_SERVES_BY: "soon"}}},
            {},
            id="what is no instant says nothing",
        ),
        pytest.param({"spec": {"affinity": PIN}}, {}, id="a pin of the template's own is not ours"),
        pytest.param({"status": {"phase": "Failed"}}, {"ended": True}, id="failed"),
        pytest.param(
            {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            {"ready": True},
            id="ready",
        ),
        pytest.param(
            {"metadata": {"deletionTimestamp": "1970-01-01T00:02:00Z"}},
            {"terminating": True, "ends_by": 120},
            id="terminating",
        ),
        pytest.param({"metadata": {"ownerReferences": []}}, {"owner_uid": ""}, id="nobody's pod"),
        pytest.param(
            {"spec": {"readinessGates": None}}, {"switched": False}, id="made without a switch"
        ),
        pytest.param(
            {"status": {"conditions": [{"type": names.CONDITION_IN_SERVICE, "status": "True"}]}},
            {"in_service": True},
            id="put into service",
        ),
        pytest.param(
            {
                "status": {
                    "conditions": [
                        {
                            "type": names.CONDITION_IN_SERVICE,
                            "status": "False",
                            "lastTransitionTime": "1970-01-01T00:01:00Z",
                        }
                    ]
                }
            },
            {"drains_since": 60},
            id="taken out of service",
        ),
        pytest.param(
            {"status": {"conditions": [service.drains(datetime.fromtimestamp(60, UTC))]}},
            {"drains_since": 60},
            id="taken out of service to go with its unit",
        ),
        pytest.param(
            {"status": {"conditions": [service.yields("why", datetime.fromtimestamp(60, UTC))]}},
            {"drains_since": 60, "yields": True},
            id="taken out of service for a plan",
        ),
        pytest.param(
            {"status": {"conditions": [service.serves(datetime.fromtimestamp(60, UTC))]}},
            {"in_service": True},
            id="put back into service",
        ),
        pytest.param(
            {
                "metadata": {"annotations": {"prometheus.io/port": "8000"}},
                "status": {"podIP": "10.0.0.1"},
            },
            {"metrics_url": "http://10.0.0.1:8000/metrics"},
            id="with metrics",
        ),
        pytest.param(
            {
                "metadata": {
                    "annotations": {
                        "prometheus.io/port": "8000",
                        "prometheus.io/scheme": "file",
                    }
                },
                "status": {"podIP": "10.0.0.1"},
            },
            {},
            id="with metrics where nobody may look",
        ),
        pytest.param(
            {
                "status": {
                    "containerStatuses": [
                        {
                            "allocatedResourcesStatus": [
                                {"resources": [{"resourceID": "gpu-0", "health": "Unhealthy"}]}
                            ]
                        }
                    ]
                }
            },
            {"broken": True},
            id="on a device that is reported unhealthy",
        ),
        pytest.param(
            {"metadata": {"labels": {names.LABEL_UNIT: "first"}}},
            {"unit": -1, "unit_size": 0, "pool": "", "revision": "", "replica": 0}
            | {"represents": False},
            id="labels that somebody took away",
        ),
    ],
)
def test_a_pod_is_read_as_a_child(state: dict[str, Any], want: dict[str, Any]) -> None:
    """What the operator makes must be what it sees afterwards."""
    made = replace(fill(children.slots(deployment())[0]), switched=True)

    assert child_of(made_pod(**state)) == replace(made, **want)


# Status.


def status_of(
    of: Deployment,
    seen: Iterable[Child],
    news: News | None = None,
    *,
    before: dict[str, Any] | None = None,
    now: datetime = NOW,
) -> dict[str, Any]:
    """Return the status that the operator would write."""
    seen = list(seen)
    made = rollout.changes(of, seen)
    return readiness.status(Tally.of(of, seen), made, news or News(), before=before or {}, now=now)


def condition(status: dict[str, Any], kind: str) -> tuple[str, str, str]:
    """Return status, reason and message of one condition."""
    found = next(c for c in status["conditions"] if c["type"] == kind)
    return found["status"], found["reason"], found["message"]


def hold(pod: str, reason: Reason, message: str, remedy: str = "") -> Hold:
    """Return what a plan says about a pod that waits on."""
    rejection = Rejection(reason=reason, message=message)
    key = PodKey(namespace="team", name=pod)
    return Hold(pod=key, uid=f"u-{pod}", rejection=rejection, remedy=remedy)


def test_the_whole_status_of_a_deployment_that_serves() -> None:
    """Golden: every column and field at once."""
    since = {"observedGeneration": 3, "lastTransitionTime": "2026-05-01T12:00:00Z"}

    assert status_of(deployment(), running(deployment())) == {
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "Degraded",
                "status": "False",
                "reason": "AsExpected",
                "message": "nothing is wrong with its spec",
                **since,
            },
            {
                "type": "Progressing",
                "status": "False",
                "reason": "RolledOut",
                "message": "every unit is there and runs the newest template",
                **since,
            },
            {
                "type": "RatioWithinBand",
                "status": "True",
                "reason": "RatioKept",
                "message": "2 prefill and 4 decode replicas run; the ratio asked is 1:2",
                **since,
            },
            {
                "type": "Ready",
                "status": "True",
                "reason": "UnitsReady",
                "message": "2 of 2 units ready; needs 2",
                **since,
            },
            {
                "type": "Scheduled",
                "status": "True",
                "reason": "AllScheduled",
                "message": "6 pods on nodes",
                **since,
            },
        ],
        "units": {"desired": 2, "scheduled": 2, "ready": 2, "updated": 2},
        "pools": [
            {
                "name": "prefill",
                "role": "Prefill",
                "desired": 2,
                "scheduled": 2,
                "ready": 2,
                "updated": 2,
            },
            {
                "name": "decode",
                "role": "Decode",
                "desired": 4,
                "scheduled": 4,
                "ready": 4,
                "updated": 4,
            },
        ],
        "ready": "2/2",
        "ratio": "2:4",
        "gpus": 32,
        "reason": "UnitsReady",
        "replicas": 2,
        "selector": "bayplan.dev/deployment=chat,bayplan.dev/represents-unit=true",
        "revision": deployment().revision,
        "decisions": [
            {"time": "2026-05-01T12:00:00Z", "reason": "AllScheduled", "message": "6 pods on nodes"}
        ],
    }


def pods(of: Deployment, *, bound: int = 0, ready: int = 0, pinned: int = 0) -> list[Child]:
    """Return the pods in order: the first `bound` run, the next `pinned` are on their way."""
    made = []
    for i, slot in enumerate(children.slots(of)):
        if i < bound:
            made.append(fill(slot, node=NodeName("n1"), ready=i < ready))
        elif i < bound + pinned:
            made.append(fill(slot, pin=NodeName("n1"), gated=False))
        else:
            made.append(fill(slot))
    return made


FITS_NOT = hold(
    "chat-0-prefill-0",
    Reason.TOO_SMALL,
    "needs 8 GPUs on one node; the largest has 4",
    "add a node with 8 GPUs",
)


@pytest.mark.parametrize(
    ("seen", "news", "want"),
    [
        pytest.param([], News(), ("False", "NoPods", "its pods are being made"), id="no pods yet"),
        pytest.param(
            pods(deployment()),
            News(),
            ("False", "WaitingForPlan", "6 pods waiting for the next plan"),
            id="gated pods wait for a plan",
        ),
        pytest.param(
            pods(deployment(), bound=3),
            News(executing="plan-7: 3 of 9 steps done: a/b waits for room on n1"),
            ("False", "PlanExecuting", "plan-7: 3 of 9 steps done: a/b waits for room on n1"),
            id="the plan's progress passes through",
        ),
        pytest.param(
            pods(deployment()),
            News(holds=(FITS_NOT,)),
            (
                "False",
                "NodeTooSmall",
                (
                    "chat-0-prefill-0: needs 8 GPUs on one node; the largest has 4; add a node with"
                    " 8 GPUs"
                ),
            ),
            id="a hold says shortfall and remedy",
        ),
        pytest.param(
            pods(deployment()),
            News(
                holds=(
                    FITS_NOT,
                    hold("chat-1-decode-0", Reason.GANG_DOES_NOT_FIT, "needs 16 GPUs; 4 are free"),
                    hold("chat-0-decode-0", Reason.GANG_DOES_NOT_FIT, "needs 16 GPUs; 4 are free"),
                )
            ),
            (
                "False",
                "GangDoesNotFit",
                "chat-0-decode-0: needs 16 GPUs; 4 are free (1 more pod for the same reason)",
            ),
            id="the commonest reason speaks for all",
        ),
        pytest.param(
            pods(deployment(), pinned=6),
            News(),
            (
                "False",
                "WaitingForScheduler",
                "6 pods on the way to a node: the scheduler binds next",
            ),
            id="pinned pods are the scheduler's",
        ),
        pytest.param(
            pods(deployment(), pinned=6),
            News(away_s=60),
            (
                "False",
                "PlannerAway",
                (
                    "no planner has worked for 60 s: gates were lifted and the default algorithm"
                    " places the pods"
                ),
            ),
            id="without a planner gates were lifted",
        ),
        pytest.param(
            pods(deployment()),
            News(away_s=60, holds=(FITS_NOT,)),
            (
                "False",
                "PlannerAway",
                (
                    "no planner has worked for 60 s: gates are lifted soon; look at the log of the"
                    " planner"
                ),
            ),
            id="an old hold means nothing without a planner",
        ),
        pytest.param(
            pods(deployment(), bound=6),
            News(away_s=60),
            ("True", "AllScheduled", "6 pods on nodes"),
            id="pods that run need no planner",
        ),
        pytest.param(
            [replace(child, unplanned=True) for child in pods(deployment(), bound=6)],
            News(),
            (
                "True",
                "PlacedWithoutPlan",
                "6 pods on nodes, 6 of them placed by the default algorithm, without a plan",
            ),
            id="pods that the default algorithm placed are told apart",
        ),
    ],
)
def test_scheduled(seen: list[Child], news: News, want: tuple[str, str, str]) -> None:
    """Why is it pending, in one condition."""
    status = status_of(deployment(), seen, news)

    assert condition(status, "Scheduled") == want
    assert status["reason"] == (want[1] if want[0] == "False" else "UnitsNotReady")


@pytest.mark.parametrize(
    ("spec", "ready", "want"),
    [
        pytest.param(
            {}, 5, ("False", "UnitsNotReady", "1 of 2 units ready; needs 2"), id="needs all units"
        ),
        pytest.param(
            {"minReplicas": 1},
            5,
            ("True", "UnitsReady", "1 of 2 units ready; needs 1"),
            id="needs no more than minReplicas",
        ),
        pytest.param(
            {"minReplicas": 1},
            2,
            ("False", "UnitsNotReady", "0 of 2 units ready; needs 1"),
            id="two pods of three are no unit",
        ),
        pytest.param(
            {"replicas": 0},
            0,
            ("True", "ScaledToZero", "no units are asked for"),
            id="nothing asked for is ready",
        ),
    ],
)
def test_ready(spec: dict[str, Any], ready: int, want: tuple[str, str, str]) -> None:
    """Only whole units serve."""
    of = deployment(**spec)

    assert condition(status_of(of, pods(of, bound=6, ready=ready)), "Ready") == want


@pytest.mark.parametrize(
    ("bound", "want"),
    [
        pytest.param(0, ("Unknown", "NothingScheduled"), id="nothing runs"),
        pytest.param(1, ("False", "RatioOff"), id="prefill alone"),
        pytest.param(3, ("True", "RatioKept"), id="one whole unit"),
        pytest.param(5, ("False", "RatioOff"), id="one decode short"),
        pytest.param(6, ("True", "RatioKept"), id="all"),
    ],
)
def test_ratio_within_band(bound: int, want: tuple[str, str]) -> None:
    """The ratio of what runs, whatever is asked for."""
    status = status_of(deployment(), pods(deployment(), bound=bound))

    assert condition(status, "RatioWithinBand")[:2] == want


def test_an_aggregated_deployment_has_no_ratio() -> None:
    """The P:D column stays empty."""
    of = deployment(ratio={}, pools=[{"role": "Aggregated", "template": template(2)}])
    status = status_of(of, running(of))

    assert "ratio" not in status
    assert status["gpus"] == 4
    assert condition(status, "RatioWithinBand")[:2] == ("True", "NoRatio")


@pytest.mark.parametrize(
    ("seen", "news", "want"),
    [
        pytest.param(
            [], News(), ("True", "MakingPods", "0 of 6 pods made"), id="pods are being made"
        ),
        pytest.param(
            pods(deployment()),
            News(),
            ("True", "PlacingPods", "6 pods waiting for the next plan"),
            id="pods are being placed",
        ),
        pytest.param(
            pods(deployment()),
            News(holds=(hold("chat-0-decode-0", Reason.NO_NODES, "there are no nodes"),)),
            (
                "False",
                "NoNodes",
                "chat-0-decode-0: there are no nodes",
            ),
            id="held pods make no progress",
        ),
        pytest.param(
            pods(deployment(), bound=6, ready=1),
            News(),
            ("True", "StartingPods", "0 of 2 units ready"),
            id="pods are starting",
        ),
    ],
)
def test_progressing(seen: list[Child], news: News, want: tuple[str, str, str]) -> None:
    """Whether waiting helps."""
    assert condition(status_of(deployment(), seen, news), "Progressing") == want


@pytest.mark.parametrize(
    ("seen", "news", "want"),
    [
        pytest.param(
            [],
            News(refusal="chat-0-prefill-0: spec.containers[0].image: Required value"),
            (
                "True",
                "PodsRefused",
                "chat-0-prefill-0: spec.containers[0].image: Required value",
            ),
            id="what the API server refuses",
        ),
        pytest.param(
            [replace(child, owner_uid="other") for child in running(deployment(replicas=1))],
            News(),
            (
                "True",
                "NamesTaken",
                (
                    "chat-0-decode-0, chat-0-decode-1, chat-0-prefill-0: pods of another owner have"
                    " these names; delete them, or rename this InferenceDeployment"
                ),
            ),
            id="names that another owner's pods have",
        ),
    ],
)
def test_degraded(seen: list[Child], news: News, want: tuple[str, str, str]) -> None:
    """What the user must repair comes first in the REASON column."""
    status = status_of(deployment(), seen, news)

    assert condition(status, "Degraded") == want
    assert status["reason"] == want[1]


def test_a_status_that_nothing_changes_is_not_written_again() -> None:
    """Each write wakes every watcher."""
    before = status_of(deployment(), pods(deployment()), News(holds=(FITS_NOT,)))
    later = NOW + timedelta(minutes=5)

    after = status_of(
        deployment(), pods(deployment()), News(holds=(FITS_NOT,)), before=before, now=later
    )

    assert after == before


def test_a_transition_has_its_own_time() -> None:
    """Only conditions whose status changed move."""
    before = status_of(deployment(), pods(deployment()))
    later = NOW + timedelta(minutes=5)

    after = status_of(deployment(), running(deployment()), before=before, now=later)

    times = {c["type"]: c["lastTransitionTime"] for c in after["conditions"]}
    assert times == {
        "Degraded": "2026-05-01T12:00:00Z",
        "Progressing": "2026-05-01T12:05:00Z",
        "RatioWithinBand": "2026-05-01T12:05:00Z",
        "Ready": "2026-05-01T12:05:00Z",
        "Scheduled": "2026-05-01T12:05:00Z",
    }


def test_decisions_are_the_last_ten_newest_first() -> None:
    """The status must not grow."""
    status: dict[str, Any] = {}
    for i in range(12):
        news = News(holds=(hold("chat-0-decode-0", Reason.NO_NODES, f"try {i}"),))
        status = status_of(deployment(), pods(deployment()), news, before=status)

    messages = [decision["message"] for decision in status["decisions"]]
    assert messages == [f"chat-0-decode-0: try {i}" for i in range(11, 1, -1)]


def test_terminating_and_foreign_pods_do_not_count() -> None:
    """A pod on its way out serves nobody soon."""
    seen = running(deployment())
    seen[0] = replace(seen[0], terminating=True)
    seen[1] = replace(seen[1], owner_uid="other")

    assert status_of(deployment(), seen)["units"] == {
        "desired": 2,
        "scheduled": 1,
        "ready": 1,
        "updated": 1,
    }


def test_an_invalid_spec_keeps_what_is_known_of_the_pods() -> None:
    """The pods run on; only the judgement of the spec changes."""
    before = status_of(deployment(), running(deployment()))

    after = readiness.invalid("spec.pools: no", generation=4, before=before, now=NOW)

    assert condition(after, "Degraded") == ("True", "InvalidSpec", "spec.pools: no")
    assert condition(after, "Ready") == condition(before, "Ready")
    assert after["reason"] == "InvalidSpec"
    assert after["units"] == before["units"]
    assert readiness.invalid("spec.pools: no", generation=4, before=after, now=NOW) == after


def test_pods_say_how_near_they_are_to_be() -> None:
    """The field `placement` would do nothing."""
    topology = [
        {"key": "rack"},
        {"key": "zone", "mode": "Required"},
        {"key": "region", "mode": "Preferred"},
    ]
    placed = deployment(placement={"topology": topology})
    made = manifests.manifests(placed)

    assert all(
        pod["metadata"]["annotations"]
        == SHAPE
        | {
            names.ANNOTATION_TOPOLOGY_REQUIRED: "zone",
            names.ANNOTATION_TOPOLOGY_PREFERRED: "rack,region",
        }
        for pod in made
    )
    plain = deployment()
    assert manifests.manifests(plain)[0]["metadata"]["annotations"] == SHAPE
    assert placed.revision != plain.revision


@pytest.mark.parametrize(
    ("topology", "complaint"),
    [
        pytest.param([{"key": "a,b"}], "topology.0..key", id="two labels in one"),
        pytest.param([{"key": "a", "mode": "Soon"}], "Required, Preferred", id="a strange mode"),
        pytest.param(
            [{"key": "a", "mode": "Required"}, {"key": "b", "mode": "Required"}],
            "requires a second label beside a",
            id="two required labels",
        ),
    ],
)
def test_a_bad_placement_is_named(topology: list[dict[str, str]], complaint: str) -> None:
    """Units would be scattered without a word."""
    with pytest.raises(DecodeError, match=complaint):
        deployment(placement={"topology": topology})
