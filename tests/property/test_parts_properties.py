"""A divided plan is the same plan, and each part of it stands on those before."""

import json
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from bayplan.bounding import Limits, divided
from bayplan.cluster.keys import GangKey, NodeName, Owner, PodKey
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import decisions, joined, plan_manifests, published_plan_of
from bayplan.codec.parts import MAX_BYTES, MAX_PARTS
from bayplan.plan import (
    Action,
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
from bayplan.policy import Order, Policy
from bayplan.validate import Code, validate
from tests.property.plans import applied, made, policies, snapshots

CERTIFICATE = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.IMPROVED)

#: What no part may do to the cluster that those before it leave. For whom a victim leaves may be
#: in a later part, so its rank is judged by the whole plan.
HARM = {
    Code.UNKNOWN_POD,
    Code.UNKNOWN_NODE,
    Code.UID_MISMATCH,
    Code.WRONG_STATE,
    Code.NODE_REFUSES,
    Code.OVER_COMMITTED,
    Code.NOT_DISRUPTABLE,
    Code.PEERS_BROKEN,
    Code.OVER_BUDGET,
}


def actions_of(plan: Plan) -> set[Action]:
    """Return everything that a plan does."""
    return {*plan.binds, *plan.moves, *plan.evictions, *plan.holds}


def by_count(most: int) -> Limits:
    """Return limits of so many actions."""
    return Limits(actions=most, size=most, size_of=lambda _: 1)


@given(snapshot=snapshots(), policy=policies(), most=st.integers(1, 5))
def test_each_part_can_be_carried_out_on_what_those_before_it_leave(
    snapshot: Snapshot, policy: Policy, most: int
) -> None:
    """Half of a plan that somebody reads would over-commit a node, or cut a gang in two."""
    plan = made(snapshot, policy).plan

    parts = divided(plan, by_count(most))

    assert set().union(*map(actions_of, parts)) == actions_of(plan)
    assert sum(len(actions_of(part)) for part in parts) == len(actions_of(plan))
    assert all(len(actions_of(part)) <= most for part in parts)
    swaps = len(plan.moves) > most  # pods that change places cannot be divided
    now = snapshot
    for part in parts:
        harm = {each.code for each in validate(now, policy, part)} & HARM
        assert harm <= ({Code.OVER_COMMITTED} if swaps else set())
        now = applied(now, part)
    assert now == applied(snapshot, plan)


@given(snapshot=snapshots(), most=st.integers(1, 5))
def test_a_gang_is_in_one_part_unless_it_fits_into_none(snapshot: Snapshot, most: int) -> None:
    """Whoever reads one part would believe that half a gang is placed."""
    plan = made(snapshot).plan

    parts = divided(plan, by_count(most))

    for gang in {b.gang for b in plan.binds if b.gang}:
        sizes = [sum(b.gang == gang for b in part.binds) for part in parts]
        assert sum(size > 0 for size in sizes) == 1 or sum(sizes) > most
    for gang in {e.gang for e in plan.evictions if e.gang}:
        sizes = [sum(e.gang == gang for e in part.evictions) for part in parts]
        assert sum(size > 0 for size in sizes) == 1 or sum(sizes) > most
    moving = [len(part.moves) for part in parts]
    assert sum(size > 0 for size in moving) <= 1 or sum(moving) > most


@given(
    sizes=st.lists(st.integers(1, 90), max_size=12),
    gangs=st.lists(st.sampled_from(["", "g", "h"]), min_size=12, max_size=12),
    most=st.integers(10, 60),
)
def test_no_part_is_larger_than_allowed(sizes: list[int], gangs: list[str], most: int) -> None:
    """The API server would refuse it; one action that is too large by itself spoils no other."""
    weight = {f"b{i}": size for i, size in enumerate(sizes)}
    binds = tuple(_bind(f"b{i}", gangs[i]) for i in range(len(sizes)))
    plan = Plan(certificate=CERTIFICATE, binds=binds)
    limits = Limits(actions=5, size=most, size_of=lambda action: weight[action.pod.name])

    parts = divided(plan, limits)

    assert set().union(*map(actions_of, parts)) == set(binds)
    for part in parts:
        used = sum(weight[bind.pod.name] for bind in part.binds)
        assert len(part.binds) == 1 or (used <= most and len(part.binds) <= 5)
        assert part.binds or len(parts) == 1


def _bind(name: str, gang: str) -> Bind:
    """Return a bind."""
    key = GangKey("d", gang) if gang else None
    return Bind(pod=PodKey("d", name), uid=name, node=NodeName("n1"), gang=key)


@st.composite
def hostile(draw: st.DrawFn) -> Plan:
    """Return a plan of thousands of actions with the longest names and sentences allowed."""
    random = Random(draw(st.integers(0, 2**32)))  # noqa: S311 - an example, not a secret

    def name(i: int) -> str:
        return f"{i:05d}{'x' * random.choice([1, 200, 248])}"

    def key(i: int) -> PodKey:
        return PodKey("n" * random.choice([1, 63]), name(i))

    def owner(of: PodKey) -> Owner:
        return Owner(kind="K" * 63, namespace=of.namespace, name="o" * 253, uid="u" * 36)

    letter = draw(st.sampled_from("aé漢"))
    binds, moves, evictions, holds = [], [], [], []
    for i in range(draw(st.sampled_from([1500, 4000]))):
        pod, uid, node = key(i), f"{i:036d}", NodeName("m" * 253)
        gang = GangKey(pod.namespace, f"{i // 8:05d}{'g' * 240}") if random.random() < 0.5 else None
        binds.append(Bind(pod=pod, uid=uid, node=node, gang=gang, priority=random.randint(0, 9)))
    for i in range(draw(st.sampled_from([0, 500]))):
        pod, uid, node = key(10_000 + i), f"{i + 10_000:036d}", NodeName("m" * 253)
        moves.append(
            Move(pod=pod, uid=uid, source=node, target=node, owner=owner(pod), priority=-(10**9))
        )
        other = replace(moves[-1], pod=key(20_000 + i), uid=f"{i + 20_000:036d}")
        evictions.append(
            Evict(pod=other.pod, uid=other.uid, node=node, priority=0, owner=other.owner)
        )
    for i in range(draw(st.sampled_from([0, 500, 3000]))):
        why = Rejection(reason=Reason.POD_ANTI_AFFINITY, message=letter * random.choice([9, 5000]))
        remedy = letter * random.choice([0, 2000])
        uid = f"{i + 30_000:036d}"
        holds.append(Hold(pod=key(30_000 + i), uid=uid, rejection=why, remedy=remedy))
    return Plan(
        certificate=CERTIFICATE,
        binds=tuple(sorted(binds, key=lambda each: each.pod)),
        moves=tuple(sorted(moves, key=lambda each: each.pod)),
        evictions=tuple(sorted(evictions, key=lambda each: each.pod)),
        holds=tuple(sorted(holds, key=lambda each: each.pod)),
    )


@settings(max_examples=6)
@given(plan=hostile(), random=st.randoms(use_true_random=False))
def test_what_is_read_is_what_was_decided_and_etcd_takes_it(plan: Plan, random: Random) -> None:
    """The plan would be refused for ever, or something else be carried out than was decided."""
    manifests = plan_manifests(Result(plan=plan, digest="d", engine="hand"), sequence=3)

    assert len(manifests) <= MAX_PARTS
    for manifest in manifests:
        steps = [a for a in manifest["spec"]["actions"] if a["type"] != "Hold"]
        names = sum(len(a["pod"]["namespace"]) + len(a["pod"]["name"]) for a in steps)
        stored = len(json.dumps(manifest, ensure_ascii=False, separators=(",", ":")).encode())
        assert stored + names + 300 * len(steps) <= MAX_BYTES + 10_000
    pages = [published_plan_of(manifest) for manifest in manifests]
    random.shuffle(pages)
    (whole,) = decisions(pages)
    told = joined(whole)
    assert (told.plan.moves, told.plan.evictions) == (plan.moves, plan.evictions)
    assert set(told.plan.binds) <= set(plan.binds)
    assert {h.uid for h in told.plan.holds} <= {h.uid for h in plan.holds}
    counts = [manifest["spec"]["counts"] for manifest in manifests]
    everybody = len(plan.binds) + len(plan.holds)
    assert sum(c["bound"] + c["held"] for c in counts) == everybody
    listed = len(told.plan.binds) + len(told.plan.holds)
    assert told.truncated == (listed < everybody)
