"""A gang of which kube-scheduler refuses a pod waits longer each time, and goes elsewhere first."""

import json
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from bayplan.api.packing_plan import (
    MAX_RECALLED,
    MAX_RECALLED_BYTES,
    MAX_REFUSING,
    MAX_REVISIONS,
)
from bayplan.cluster.constraints import Constraints
from bayplan.cluster.keys import GangKey, NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec.parts import MAX_BYTES
from bayplan.codec.recalls import Recall, recall_manifest, recalled_in, revisions_of, state_of
from bayplan.gates import to_offer
from bayplan.plan import Plan, Reason, Rejection
from bayplan.planner import plan
from bayplan.policy import NodeProvisioning, Policy
from bayplan.rules import filters
from bayplan.rules.recalls import (
    again,
    group_of,
    in_words,
    knows,
    most_pressing,
    next_try,
    set_back,
    standing,
)
from tests.builders import node, pod, snapshot
from tests.scenes.recalls import AT, GANG, ONCE, SINGLE, TOLD, WEB, made_by_web

#: Most bytes that etcd takes in one request.
_ETCD_BYTES = 1_572_864


def pair(*nodes: str) -> Snapshot:
    """Return a cluster of 8-GPU nodes with a gang of two pods of 4 GPUs that waits."""
    members = [pod(name, gpus=4, gang="g", min_count=2) for name in ("a", "b")]
    return snapshot(*map(node, nodes), *members)


def planned(there: Snapshot, recall: Recall, *, after_s: int) -> Plan:
    """Return the plan that is made so many seconds after the gang was called back."""
    asked = set_back(there, {recall.group: recall}, now=recall.at + after_s)
    return plan(asked, Policy(), clock=lambda: 0.0).plan


def test_other_nodes_are_tried_at_once_the_first_time() -> None:
    """The gang went to the node that had refused it, and was called back again."""
    made = planned(pair("n1", "n2"), ONCE, after_s=1)

    assert {bind.node for bind in made.binds} == {"n2"}


def test_the_same_node_is_tried_when_its_pause_is_over() -> None:
    """What was wrong may have been mended by somebody whom nobody sees."""
    made = planned(pair("n1"), ONCE, after_s=60)

    assert {bind.node for bind in made.binds} == {"n1"}


@pytest.mark.parametrize("nodes", [("n1",), ("n1", "n2")], ids=["one", "two"])
def test_a_gang_that_was_refused_everywhere_is_told_plainly_why_it_waits(
    nodes: tuple[str, ...],
) -> None:
    """It started twice a minute, which a Job counts as failures, and nobody knew whom to ask."""
    refusing = tuple((NodeName(name), "s") for name in nodes)
    made = planned(pair(*nodes), replace(ONCE, nodes=refusing), after_s=1)

    assert not made.binds
    assert {hold.rejection.reason for hold in made.holds} == {Reason.REFUSED_ON_NODE}
    (told,) = {hold.rejection.message for hold in made.holds}
    assert told == (
        "waits whole: kube-scheduler refused a on n1, once so far:"
        " no such disk; it is tried on other nodes at once, and on n1 again from 12:01:00 UTC"
    )
    assert all("template or on that node" in hold.remedy for hold in made.holds)
    always = replace(Policy(), node_provisioning=NodeProvisioning.WHEN_INFEASIBLE)
    assert not to_offer(made.holds, always)


def test_where_others_lack_room_both_is_told() -> None:
    """The node that was left out looked as if it had no room."""
    full = snapshot(
        *map(node, ("n1", "n2")),
        pod("x", gpus=8, on="n2", disruption=Disruption.FIXED),
        *(pod(name, gpus=4, gang="g", min_count=2) for name in ("a", "b")),
    )

    made = planned(full, ONCE, after_s=1)

    assert not made.binds
    told = made.holds[0].rejection.message
    assert "lacks GPUs" in told
    assert "1 is left out; kube-scheduler refused a on n1" in told
    assert "again from 12:01:00 UTC" in told
    assert "template or on that node" in made.holds[0].remedy


def test_one_that_still_runs_makes_no_room_by_going_where_another_was_refused() -> None:
    """They changed places, and it was refused there in the same way."""
    there = snapshot(
        *map(node, ("n1", "n2")),
        pod("a", gpus=8, gang="g", min_count=2, on="n2"),
        pod("b", gpus=8, gang="g", min_count=2),
    )

    made = planned(there, ONCE, after_s=1)

    assert not made.moves
    assert not made.binds


@pytest.mark.parametrize(
    ("times", "others_s", "same_s"),
    [(1, 0, 60), (2, 60, 120), (3, 120, 240), (6, 960, 1920), (7, 1920, 3600), (99, 3600, 3600)],
)
def test_each_time_waits_twice_as_long_as_the_one_before(
    times: int, others_s: int, same_s: int
) -> None:
    """A pause that does not grow ends no Job later; one without an end is never over."""
    recall, there = replace(ONCE, times=times), pair("n1", "n2")

    def nodes(after_s: int) -> set[str]:
        asked = set_back(there, {GANG: recall}, now=AT + after_s)
        kept = asked.pods[0].constraints
        if not kept.refused:
            return {"n1", "n2"}
        return {"n1", "n2"} - set(kept.refused_at) if kept.refused_at else set()

    if others_s:
        assert nodes(others_s - 1) == set()
    if others_s < same_s:
        assert nodes(others_s) == {"n2"}
        assert nodes(same_s - 1) == {"n2"}
    assert nodes(same_s) == {"n1", "n2"}


def test_who_is_of_another_gang_or_has_a_place_is_left_alone() -> None:
    """A gang would keep others from their nodes."""
    there = snapshot(node("n1"), pod("a", gpus=4), pod("b", gpus=4, gang="h", min_count=1))

    assert set_back(there, {GANG: ONCE}, now=AT) is there


def test_the_newest_plan_that_tells_tells_of_all() -> None:
    """A gang that starts anew was kept waiting by what an older plan said."""
    silent = replace(TOLD, sequence=3, recalled=None)

    assert standing([silent, TOLD], now=AT) == {GANG: ONCE}
    assert not standing([silent, TOLD, replace(TOLD, sequence=2, recalled=())], now=AT)


@pytest.mark.parametrize(
    ("recall", "now", "counts"),
    [
        pytest.param(ONCE, AT + 359, True, id="until they could have been refused again"),
        pytest.param(ONCE, AT + 360, False, id="then they were not any more"),
        pytest.param(replace(ONCE, times=5), AT + 1919, True, id="for as long again as its pause"),
        pytest.param(replace(ONCE, times=5), AT + 1920, False, id="then no more"),
        pytest.param(replace(ONCE, times=30), AT + 7199, True, id="two hours at most"),
        pytest.param(replace(ONCE, times=30), AT + 7200, False, id="no longer"),
        pytest.param(replace(ONCE, at=AT + 61), AT, False, id="a clock was wrong"),
    ],
)
def test_how_long_it_counts(recall: Recall, now: int, counts: bool) -> None:  # noqa: FBT001 - a case
    """A refusal of last year would make a gang wait for an hour."""
    assert bool(standing([replace(TOLD, recalled=(recall,))], now=now)) is counts


def test_the_nodes_that_refused_it_add_up() -> None:
    """It would go to and fro between two of them."""
    second = replace(ONCE, nodes=((NodeName("n2"), "t"),), at=AT + 90)
    third = replace(ONCE, nodes=((NodeName("n1"), "u"),), at=AT + 215)

    made = again(again(again(None, ONCE), second), third)

    assert made == replace(third, times=3, nodes=(*third.nodes, *second.nodes))
    assert "on n1, 3 times so far" in in_words(made)


def test_it_is_read_as_it_was_written() -> None:
    """The planner and the next operator would know something else than was seen."""
    raw: dict[str, Any] = {"kind": "PackingPlan", "metadata": {"name": "plan-00001"}}

    assert recalled_in({**raw, "status": {"recalled": [recall_manifest(ONCE)]}}) == (ONCE,)
    assert recalled_in({**raw, "status": {}}) is None
    assert recalled_in({**raw, "status": {"recalled": [{"gang": 3}]}}) is None


def test_pods_of_one_template_are_known_again() -> None:
    """Each pod that is made anew would count as another one, and no pause would grow."""
    owner = {"ownerReferences": [{"uid": "job"}]}
    labelled = {"labels": {"pod-template-hash": "1", "controller-revision-hash": "2"}, **owner}

    assert revisions_of([{"metadata": labelled}, {"metadata": owner}]) == ("1", "job")


def test_a_node_is_another_one_when_it_offers_or_refuses_something_else() -> None:
    """A heartbeat would have a gang start anew, or nothing that an administrator does."""
    ready = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "1"}]
    status = {"allocatable": {"cpu": "8"}, "conditions": ready}
    metadata = {"name": "n1", "uid": "u"}
    raw: dict[str, Any] = {"metadata": metadata, "spec": {}, "status": status}
    beating = {**raw, "status": {**status, "conditions": [{**ready[0], "lastHeartbeatTime": "2"}]}}
    labelled = {**raw, "metadata": {**metadata, "labels": {"a": "b"}}}
    cordoned = {**raw, "spec": {"unschedulable": True}}
    other = {**raw, "metadata": {"name": "n1", "uid": "v"}}

    assert state_of(beating) == state_of(raw)
    assert len({state_of(each) for each in (raw, labelled, cordoned, other)}) == 4


def test_pods_of_no_gang_go_elsewhere_at_once_while_few_nodes_refuse_them() -> None:
    """One broken node would keep a Deployment from growing for half an hour."""
    there = snapshot(*map(node, ("n1", "n2", "n3")), made_by_web("a"))
    often = replace(SINGLE, times=5, nodes=((NodeName("n2"), "t"), *SINGLE.nodes))

    made = planned(there, often, after_s=1)

    assert {bind.node for bind in made.binds} == {"n3"}


def test_pods_that_every_node_refuses_wait_longer_each_time() -> None:
    """They would be made anew on one node of the fleet after the other."""
    there = snapshot(*map(node, ("n1", "n2", "n3", "n4")), made_by_web("a"))
    nodes = tuple((NodeName(name), "s") for name in ("n1", "n2", "n3"))
    often = replace(SINGLE, times=3, nodes=nodes)

    assert not planned(there, often, after_s=119).binds
    assert {bind.node for bind in planned(there, often, after_s=120).binds} == {"n4"}


def test_a_pod_that_a_kubelet_refused_is_told_so() -> None:
    """Its owner made it anew there, hundreds of times, and nobody said why."""
    made = planned(snapshot(node("n1"), made_by_web("b")), SINGLE, after_s=1)

    (hold,) = made.holds
    assert hold.rejection.reason is Reason.REFUSED_ON_NODE
    assert (
        "kubelet refused a on n1, once so far: OutOfcpu: too little; it is tried on other"
        " nodes at once, and on n1 again from 12:01:00 UTC" in hold.rejection.message
    )
    assert "template or on that node" in hold.remedy


def test_those_on_their_way_to_such_a_node_are_left_there() -> None:
    """Their room would look free to others while they are bound."""
    there = snapshot(node("n1"), replace(made_by_web("a", on="n1"), bound=False))

    assert set_back(there, {WEB: SINGLE}, now=AT).pods == there.pods


def test_several_that_one_node_refuses_count_once() -> None:
    """Ten pods on one node would wait for an hour at once."""
    assert again(SINGLE, replace(SINGLE, pod="b", at=AT + 59)) == SINGLE
    assert again(SINGLE, replace(SINGLE, pod="b", at=AT + 60)).times == 2


def test_what_is_said_of_an_owner_is_read_as_it_was_written() -> None:
    """The planner would know nothing of it."""
    raw = {"kind": "PackingPlan", "metadata": {"name": "plan-00001"}}

    told = {**raw, "status": {"recalled": [recall_manifest(SINGLE)]}}
    assert recalled_in(told) == (SINGLE,)


def test_a_gang_that_was_called_back_is_not_taken_for_others_like_it() -> None:
    """Both were placed as one kind, the plan was not valid, and nobody at all got a node."""
    members = (pod(f"{gang}-{i}", gpus=4, gang=gang, min_count=2) for gang in "fgh" for i in "01")
    there = snapshot(*map(node, ("n1", "n2", "n3")), *members)
    asked = set_back(there, {GANG: ONCE}, now=AT + 1)

    made = plan(asked, Policy(), clock=lambda: 0.0)

    assert not made.refused
    assert len(made.plan.binds) == 6
    assert "n1" not in {bind.node for bind in made.plan.binds if bind.gang == GANG}


def test_nodes_are_looked_at_once_for_pods_that_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner that knew of many refused gangs looked at all nodes for each pod: for seconds."""
    asked: list[NodeName] = []
    eligibility = filters.eligibility

    def counted(constraints: Constraints, node: Node) -> Rejection | None:
        asked.append(node.name)
        return eligibility(constraints, node)

    monkeypatch.setattr(filters, "eligibility", counted)
    only = Constraints(node_selector=(("disk", "fast"),))
    members = [
        pod(f"{gang}-{i}", gang=gang, min_count=8, constraints=only)
        for gang in "gh"
        for i in range(8)
    ]
    singles = [replace(pod(f"w-{i}", constraints=only), owner=WEB) for i in range(8)]
    recalls = {group: ONCE for group in map(group_of, (*members, *singles)) if group is not None}

    there = set_back(snapshot(*map(node, ("n1", "n2", "n3")), *members, *singles), recalls, now=AT)

    assert sorted(asked) == ["n1", "n2", "n3"]
    assert {kept.constraints.refused_at for kept in there.pods} == {()}


def test_of_nodes_that_are_too_small_nobody_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """In words for each of 5,000 nodes it took three seconds of each pass for 64 that wait."""
    monkeypatch.setattr(filters, "size_rejection", None)
    monkeypatch.setattr(filters, "eligibility", None)
    large = [pod(name, gpus=16, gang="g", min_count=2) for name in ("a", "b")]

    there = set_back(snapshot(node("n1"), node("n2"), *large), {GANG: ONCE}, now=AT)

    assert {kept.constraints.refused_at for kept in there.pods} == {()}


def test_a_planner_whose_clock_is_behind_knows_who_was_refused() -> None:
    """Nothing ever counted, and pods were pinned to the same node again without a pause."""
    made = replace(TOLD, created_at=AT - 30)
    old = replace(TOLD, created_at=AT - 400, recalled=None)
    newer = replace(old, name="plan-00002", sequence=2, created_at=AT + 400)

    assert standing([made], now=AT - 600) == {GANG: ONCE}
    assert standing([made, newer], now=AT - 600) == {}
    assert standing([old], now=AT - 600) == standing([], now=AT - 600) == {}
    assert standing([replace(TOLD, created_at=AT - 400)], now=AT - 600) == {}


def test_it_is_known_when_the_next_gang_is_tried_again() -> None:
    """Its pods say when; nothing in the cluster tells the planner of it."""
    twice = replace(ONCE, times=2)

    assert next_try([ONCE, twice], now=AT) == AT + 60
    assert next_try([ONCE, twice], now=AT + 60) == AT + 120
    assert next_try([ONCE, twice], now=AT + 120) == math.inf


def test_of_pods_of_no_gang_it_is_known_too() -> None:
    """They would wait for half a minute longer."""
    nodes = tuple((NodeName(name), "s") for name in ("n1", "n2", "n3"))
    everywhere = replace(SINGLE, times=2, nodes=nodes)

    assert next_try([replace(SINGLE, times=2)], now=AT) == AT + 120
    assert next_try([everywhere], now=AT) == AT + 60


def test_who_has_many_that_are_refused_does_not_have_those_of_others_forgotten() -> None:
    """A gang of another namespace would be started and called back twice a minute again."""
    many = [
        replace(ONCE, group=GangKey(namespace="many", name=f"g-{n}"), at=AT + n) for n in range(8)
    ]
    one = replace(ONCE, group=GangKey(namespace="one", name="g"), at=AT)

    kept = most_pressing([*many, one], most=3, size=MAX_RECALLED_BYTES)

    assert [recall.group.name for recall in kept] == ["g-7", "g", "g-6"]


def test_what_is_told_of_refusals_fits_beside_the_largest_plan() -> None:
    """Long names took 400 KB: etcd took neither that nor how far the plan was."""
    nodes = tuple((NodeName(f"{n:0253}"), "s" * 16) for n in range(MAX_REFUSING))
    long = replace(ONCE, pod="p" * 253, message="\u20ac" * 300, nodes=nodes)
    many = [
        replace(long, group=GangKey(namespace=f"ns-{n % 7}", name=f"{n:0253}"), at=AT + n)
        for n in range(MAX_RECALLED)
    ]

    kept = most_pressing(many, most=MAX_RECALLED, size=MAX_RECALLED_BYTES)

    told = {"recalled": [recall_manifest(recall) for recall in kept]}
    assert len(json.dumps(told, ensure_ascii=False).encode()) < 1.1 * MAX_RECALLED_BYTES
    assert MAX_BYTES + 2 * MAX_RECALLED_BYTES < _ETCD_BYTES
    per_namespace = Counter(recall.group.namespace for recall in kept)
    assert max(per_namespace.values()) - min(per_namespace.values()) <= 1
    assert len(per_namespace) == 7


def test_of_more_templates_than_fit_others_may_have_been_refused_too() -> None:
    """A gang of seventeen owners was forgotten at each look, and tried again at once."""
    few = replace(ONCE, revisions=("a", "b"))
    full = replace(ONCE, revisions=tuple(f"r{n}" for n in range(MAX_REVISIONS)))

    assert knows(few, ["a"])
    assert not knows(few, ["a", "c"])
    assert knows(full, ["c"])


def test_in_the_middle_of_a_rollout_a_pod_of_the_old_template_makes_nobody_forget() -> None:
    """A StatefulSet's new pods were refused by one kubelet as fast as they were made."""
    new = replace(SINGLE, revisions=("new",))

    assert knows(new, ["new", "old"])
    assert knows(new, [])
    assert not knows(new, ["newer"])
    assert not knows(replace(ONCE, revisions=("new",)), ["new", "old"])
