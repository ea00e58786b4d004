"""Pods that were refused where a plan had put them, and the plan that tells of it."""

from dataclasses import replace

from bayplan.api.packing_plan import Refuser
from bayplan.cluster.keys import GangKey, NodeName, Owner
from bayplan.cluster.pods import Pod
from bayplan.codec import PublishedPlan
from bayplan.codec.recalls import Recall
from bayplan.plan import Certificate, Plan, Verdict
from bayplan.policy import Order
from tests.builders import pod

AT = 1_777_636_800  # 2026-05-01T12:00:00Z
GANG = GangKey(namespace="default", name="g")
ONCE = Recall(
    group=GANG,
    pod="a",
    message="no such disk",
    nodes=((NodeName("n1"), "s"),),
    revisions=("r",),
    times=1,
    at=AT,
)
WEB = Owner(kind="ReplicaSet", namespace="default", name="web", uid="uid-web")
SINGLE = replace(ONCE, group=WEB, by=Refuser.KUBELET, message="OutOfcpu: too little")
TOLD = PublishedPlan(
    name="plan-00001",
    uid="u",
    sequence=1,
    plan=Plan(certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)),
    recalled=(ONCE,),
)


def made_by_web(name: str, *, on: str | None = None) -> Pod:
    """Return a pod of 4 GPUs of a ReplicaSet, of no gang."""
    return replace(pod(name, gpus=4, on=on), owner=WEB)
