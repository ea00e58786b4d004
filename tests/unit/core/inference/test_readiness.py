"""The status of an InferenceDeployment."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.inference import manifests, readiness, rollout, slots
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.tally import News, Tally
from bayplan.plan import Hold, Reason, Rejection
from tests.scenes.children import NOW, SHAPE, deployment, fill, running, template


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
                "message": "2 prefill and 4 decode replicas run; the ratio asked for is 1:2",
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
    for i, slot in enumerate(slots.slots(of)):
        if i < bound:
            made.append(fill(slot, node=NodeName("n1"), ready=i < ready))
        elif i < bound + pinned:
            made.append(fill(slot, pin=NodeName("n1"), gated=False))
        else:
            made.append(fill(slot))
    return made


MISSING_CLAIM = 'persistentvolumeclaim "nope" not found'

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
                    "chat-0-prefill-0: needs 8 GPUs on one node; the largest has 4;"
                    " what would help: add a node with 8 GPUs"
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
            [replace(child, gated=False, refused="0/4 nodes") for child in pods(deployment())],
            News(holds=(FITS_NOT,)),
            (
                "False",
                "NodeTooSmall",
                (
                    "chat-0-prefill-0: needs 8 GPUs on one node; the largest has 4; what would"
                    " help: add a node with 8 GPUs"
                ),
            ),
            id="pods that are shown to node autoscalers do not fit, whatever their gates are",
        ),
        pytest.param(
            [replace(child, refused=MISSING_CLAIM) for child in pods(deployment(), pinned=6)],
            News(),
            (
                "False",
                "WaitingForScheduler",
                (
                    "6 pods on the way to a node: kube-scheduler refuses chat-0-decode-0:"
                    f" {MISSING_CLAIM}"
                ),
            ),
            id="what kube-scheduler refuses is not said to be bound next",
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
