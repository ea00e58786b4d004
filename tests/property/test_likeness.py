"""What counts as alike is alike: nodes of one look, pods of one kind, snapshots of one digest."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bayplan import filters
from bayplan.budgets import Health
from bayplan.constraints import Constraints, NodeTerm, Requirement, Taint, Toleration
from bayplan.keys import GangKey, NodeName
from bayplan.snapshot import Disruption, Guests, Node, Pod, PodKind, Snapshot
from tests.builders import budget, node, pod, snapshot

words = st.sampled_from(["a", "b", "c"])
labels = st.dictionaries(words, words, max_size=3)
taints = st.lists(st.builds(Taint, key=words, value=words), max_size=2).map(tuple)


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    """Return a node whose looks differ in everything that pods look at."""
    return node(
        draw(st.sampled_from(["n-1", "n-2", "n-3"])),
        labels=draw(labels),
        taints=draw(taints),
        schedulable=draw(st.booleans()),
        ready=draw(st.booleans()),
    )


requirements = st.builds(
    Requirement,
    key=words,
    operator=st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    values=st.lists(words, min_size=1, max_size=2).map(tuple),
)
fields = st.builds(
    Requirement,
    key=st.just("metadata.name"),
    operator=st.sampled_from(["In", "NotIn"]),
    values=st.just(("n-1",)),
)
terms = st.builds(
    NodeTerm,
    labels=st.lists(requirements, max_size=2).map(tuple),
    fields=st.lists(fields, max_size=1).map(tuple),
)
constraints = st.builds(
    Constraints,
    node_selector=labels.map(lambda chosen: tuple(sorted(chosen.items()))),
    affinity=st.lists(terms, max_size=2).map(tuple),
    tolerations=st.lists(
        st.builds(Toleration, key=words, operator=st.sampled_from(["Exists", "Equal"])), max_size=2
    ).map(tuple),
)


@given(asked=st.lists(constraints, min_size=1, max_size=3), found=st.lists(nodes(), min_size=2))
def test_nodes_that_look_the_same_take_the_same_pods(
    asked: list[Constraints], found: list[Node]
) -> None:
    """A pod would be sent to a node that refuses it, because another one looked alike."""
    looks = filters.Looks.of(asked)
    answers: dict[object, list[bool]] = {}
    for each in found:
        here = [filters.eligibility(one, each) is None for one in asked]
        assert answers.setdefault(looks.at(each), here) == here


def test_one_object_stands_for_all_pods_of_a_kind() -> None:
    """Counting a fleet would compare what each pod asks for."""
    assert pod("a", gpus=2).kind is pod("b", gpus=2, on="n-1", owner="other").kind
    assert isinstance(pod("a").kind, PodKind)


def test_what_a_plan_depends_on_makes_another_kind() -> None:
    """Pods that differ would be swapped for each other."""
    same = pod("a", gpus=2)
    others = [
        pod("a", gpus=1),
        pod("a", gpus=2, priority=1),
        pod("a", gpus=2, preempts=False),
        pod("a", gpus=2, disruption=Disruption.EVICTABLE),
        pod("a", gpus=2, constraints=Constraints(node_selector=(("a", "b"),))),
    ]
    assert len({id(each.kind) for each in [same, *others]}) == len(others) + 1


def test_the_digest_tells_changes_apart() -> None:
    """A plan would be thought to fit a cluster that has changed."""
    waiting: Pod = pod("a", gpus=2)
    changed = [
        waiting,
        pod("a", gpus=3),
        pod("a", gpus=2, on="n-1"),
        pod("a", gpus=2, terminating=True),
        pod("a", gpus=2, gang="g", min_count=2),
        replace(waiting, uid="again"),
        replace(waiting, node=NodeName("n-1"), waiting=False, bound=False),
        replace(waiting, waiting=False),
        replace(waiting, replaces="gone"),
        replace(waiting, terminating=True, leaves_at=7),
        replace(waiting, gang=GangKey(namespace="default", name="g"), gang_min_count=3),
    ]
    hosts = [node("n-1")]
    digests = {Snapshot.of(hosts, [each]).digest for each in changed}
    digests |= {Snapshot.of([node("n-1", gpus=4)], [waiting]).digest}
    digests |= {Snapshot.of([node("n-1", ready=False)], [waiting]).digest}
    assert len(digests) == len(changed) + 2


@given(data=st.data())
def test_guests_after_a_plan_are_those_of_the_cluster_that_it_leaves(data: st.DataObject) -> None:
    """Nodes in one state share what a pod changes there, so a wrong share would spread."""
    names = [NodeName(name) for name in ("n-1", "n-2", "n-3")]
    spots = st.sampled_from([*names, NodeName("gone"), None])
    pods = [
        pod(f"p{i}", on=at, priority=data.draw(st.integers(0, 1)))
        for i, at in enumerate(data.draw(st.lists(spots, max_size=8)))
    ]
    before = Snapshot.of([node(name) for name in names], pods)
    moving = data.draw(st.lists(st.sampled_from(pods), unique_by=lambda p: p.key)) if pods else []
    goes = {each.key: data.draw(spots) for each in moving}
    after = [replace(each, node=goes.get(each.key, each.node)) for each in pods]
    left = Snapshot.of(before.nodes, after)

    def counted(guests: Mapping[NodeName, Guests]) -> dict[NodeName, Counter[PodKind]]:
        return {name: Counter(kinds) for name, kinds in guests.items()}

    assert counted(before.guests_after(goes)) == counted(left.guests)
    assert counted(before.guests_after(dict(goes))) == counted(left.guests), "asked again"
    still = Snapshot.of(before.nodes, pods)
    assert counted(before.guests_after({})) == counted(still.guests), "asked for another plan"
    assert len({id(kinds) for kinds in left.guests.values()}) == len({*left.guests.values()})


def test_the_digest_is_that_of_earlier_versions() -> None:
    """Recordings of passes from before budgets told of unready pods could not be made again."""
    running = [pod(f"r{i}", on="n0", gpus=2, labels={"app": "x"}) for i in range(3)]
    waiting = [pod("w", gpus=4), pod("v", gpus=4)]
    limits = budget("x", allowed=1, app="x")
    seen = snapshot(node("n0"), node("n1", gpus=4), *running, *waiting, limits)

    assert seen.digest == "bf499a617d8c1a1570a4e84ce116900337c03ad99ae22d2b01c8b484d13303d7"


def test_the_digest_tells_whether_an_unready_pod_may_go() -> None:
    """The pass in which it could go would be left out, as if nothing had changed."""
    one = pod("a", on="n0", labels={"app": "x"}, health=Health.UNREADY)
    of = [budget("x", allowed=0, healthy=n, desired=2, app="x") for n in (1, 2)]

    assert len({snapshot(node("n0"), one, each).digest for each in of}) == len(of)
