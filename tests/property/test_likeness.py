"""What counts as alike is alike: nodes of one look, pods of one kind, snapshots of one digest."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bayplan.aftermath import Aftermath
from bayplan.cluster.budgets import Health
from bayplan.cluster.constraints import Constraints, NodeTerm, Requirement, Taint, Toleration
from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod, PodKind
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Bind, Certificate, Evict, Move, Verdict, plan_of
from bayplan.policy import Order
from bayplan.rules import filters
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


@given(
    asked=st.lists(constraints, max_size=2),
    found=st.lists(nodes(), max_size=5, unique_by=lambda each: each.name),
)
def test_nodes_are_numbered_by_look_and_size(asked: list[Constraints], found: list[Node]) -> None:
    """Nodes that differ in what some pod asks for would be taken for each other."""
    looks, world = filters.Looks.of(asked), snapshot(*found)
    column = looks.over(world)

    def look(of: Node) -> tuple[object, ...]:
        return (looks.at(of), of.allocatable)

    seen = [column.values[number] for number in column.numbers]
    assert list(map(look, seen)) == list(map(look, world.nodes))
    assert len(set(map(look, column.values))) == len(column.values)


@st.composite
def worlds(draw: st.DrawFn) -> Snapshot:
    """Return pods that wait, run, and are on a node that is not there."""
    spots = st.sampled_from([*map(NodeName, ("n-1", "n-2", "n-3", "gone")), None])
    pods = [
        pod(f"p{i}", on=at, priority=draw(st.integers(0, 1)))
        for i, at in enumerate(draw(st.lists(spots, max_size=8)))
    ]
    return snapshot(node("n-1"), node("n-2"), node("n-3"), *pods)


@given(world=worlds())
def test_columns_say_what_the_pods_say(world: Snapshot) -> None:
    """Engines count the columns, and would plan for another cluster."""
    kinds, spots = world.kind_of, world.spot_of
    for i, each in enumerate(world.pods):
        assert kinds.values[kinds.numbers[i]] is each.kind
        assert bool(world.waits[i]) == each.waiting
        at = spots.numbers[i]
        assert each.node == (None if at < 0 else spots.values[at])
        assert world.indices([each.key]) == [i]
    assert spots.values[: len(world.nodes)] == tuple(each.name for each in world.nodes)
    assert len(spots.values) - len(world.nodes) == any(each.node == "gone" for each in world.pods)
    assert world.indices([PodKey("default", "nobody"), PodKey("a", "a")]) == [-1, -1]


@given(data=st.data(), before=worlds())
def test_what_a_plan_leaves_is_what_it_says(data: st.DataObject, before: Snapshot) -> None:
    """Nodes in one state share what a pod changes there, so a wrong share would spread."""
    spots = st.sampled_from(list(map(NodeName, ("n-1", "n-2", "n-3", "other"))))
    goes: dict[PodKey, NodeName | None] = {}
    binds, moves, evictions = [], [], []
    for each in before.pods:
        target, what = data.draw(spots), data.draw(st.sampled_from(["go", "end", "stay"]))
        if what == "go":
            goes[each.key] = target
        if what == "go" and each.node is None:
            binds.append(Bind(pod=each.key, uid=each.uid, node=target))
        elif what == "go" and each.node is not None:
            moves.append(
                Move(
                    pod=each.key,
                    uid=each.uid,
                    source=each.node,
                    target=target,
                    owner=None,
                    priority=0,
                )
            )
        elif what == "end" and each.node is not None:
            goes[each.key] = None
            evictions.append(Evict(pod=each.key, uid=each.uid, node=each.node, priority=0))
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.UNCHANGED)
    after = Aftermath.of_plan(before, plan_of(certificate, [*binds, *moves, *evictions]))

    ended = [replace(pod, node=goes.get(pod.key, pod.node)) for pod in before.pods]
    left = Snapshot.of(before.nodes, ended)
    states = map(after.guests.__getitem__, after.state_of.numbers)
    there = dict(zip(left.guests, states, strict=True))
    assert {name: Counter(kinds) for name, kinds in there.items()} == {
        name: Counter(kinds) for name, kinds in left.guests.items()
    }
    different = {frozenset(Counter(kinds).items()) for kinds in after.guests}
    assert len(different) == len(after.guests)
    assert {name: after.here(name) for name in before.here} == before.here
    assert after.goes == goes
    assert {each.key for each in after.held()} == {
        each.key for each in before.pods if each.waiting and each.key not in goes
    }


def test_the_digest_is_that_of_earlier_versions() -> None:
    """Recordings from before budgets told of unready pods, or pods of volumes, were of no use."""
    running = [pod(f"r{i}", on="n0", gpus=2, labels={"app": "x"}) for i in range(3)]
    waiting = [pod("w", gpus=4), pod("v", gpus=4)]
    limits = budget("x", allowed=1, app="x")
    seen = snapshot(node("n0"), node("n1", gpus=4), *running, *waiting, limits)

    assert seen.digest == "bf499a617d8c1a1570a4e84ce116900337c03ad99ae22d2b01c8b484d13303d7"


def test_the_digest_tells_where_a_volume_can_be_reached() -> None:
    """The pass after a disk was made elsewhere would be left out, as if nothing had changed."""
    east, west = (
        NodeTerm(fields=(Requirement(key="metadata.name", operator="In", values=(n,)),))
        for n in "ab"
    )
    of = [Constraints(volumes=each) for each in ((), ((east,),), ((west,),), ((east, west),))]

    assert len({snapshot(node("n0"), pod("w", constraints=each)).digest for each in of}) == len(of)


def test_the_digest_tells_whether_an_unready_pod_may_go() -> None:
    """The pass in which it could go would be left out, as if nothing had changed."""
    one = pod("a", on="n0", labels={"app": "x"}, health=Health.UNREADY)
    of = [budget("x", allowed=0, healthy=n, desired=2, app="x") for n in (1, 2)]

    assert len({snapshot(node("n0"), one, each).digest for each in of}) == len(of)
