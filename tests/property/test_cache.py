"""The cache equals a rebuild from the full list, whatever order events came in."""

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bayplan.cache import Cache
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.online.advisor import Advisor
from tests.builders import node, pod

NODES = (NodeName("n1"), NodeName("n2"))
PODS = ("a", "b", "c")

node_names = st.sampled_from(NODES)
pod_names = st.sampled_from(PODS)


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What the cache should assume."""

    pod: Pod
    on: str
    until: float


class CacheMachine(RuleBasedStateMachine):
    """Feeds events and assumptions; `pods` and `nodes` are the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache()
        self.advisor = Advisor(self.cache)
        self.nodes: dict[str, Node] = {}
        self.pods: dict[str, Pod] = {}
        self.assumed: dict[tuple[str, str], Assumed] = {}  # the newest last
        self.now = 0.0

    @rule(name=node_names, gpus=st.integers(1, 8))
    def node_changes(self, name: str, gpus: int) -> None:
        """A node appears or changes size."""
        self.nodes[name] = node(name, gpus=gpus)
        self.cache.set_node(self.nodes[name])

    @rule(name=node_names)
    def node_goes(self, name: str) -> None:
        """A node is deleted, perhaps one never seen."""
        self.nodes.pop(name, None)
        self.cache.remove_node(NodeName(name))

    @rule(name=pod_names, gpus=st.integers(1, 4), on=st.none() | node_names)
    def pod_changes(self, name: str, gpus: int, on: str | None) -> None:
        """A pod appears or changes; a bound pod's assumption is over."""
        self.pods[name] = pod(name, gpus=gpus, on=on)
        self.cache.set_pod(self.pods[name])
        if on is not None:
            self._forget(name)

    @rule(name=pod_names)
    def pod_goes(self, name: str) -> None:
        """A pod is deleted, perhaps one never seen."""
        self.pods.pop(name, None)
        self._forget(name)
        self.cache.remove_pod(pod(name).key, pod(name).uid)

    @rule(name=pod_names, on=node_names, for_s=st.integers(0, 3))
    def pod_is_assumed(self, name: str, on: str, for_s: int) -> None:
        """The webhook told a node, perhaps another one than before.

        A pod that was seen on a node cannot be assumed.
        """
        known = self.pods.get(name)
        asked = known or pod(name, gpus=2)
        self.cache.assume(asked, NodeName(on), until=self.now + for_s)
        if known is None or known.node is None:
            self.assumed.pop((name, on), None)
            self.assumed[name, on] = Assumed(pod=asked, on=on, until=self.now + for_s)

    @rule(seconds=st.integers(1, 2))
    def time_passes(self, seconds: int) -> None:
        """Assumptions run out."""
        self.now += seconds
        self.cache.expire(self.now)
        self.assumed = {key: a for key, a in self.assumed.items() if a.until > self.now}

    @rule()
    def relist(self) -> None:
        """The watch was lost; everything is listed anew."""
        self.cache.replace_nodes(self.nodes.values())
        self.cache.replace_pods(self.pods.values())

    @invariant()
    def free_equals_a_rebuild(self) -> None:
        """Room would leak or be given out twice."""
        truth = Snapshot.of(self.nodes.values(), self.pods.values()).free()
        for name, room in truth.items():
            here = [a.pod.requests for a in self.assumed.values() if a.on == name]
            promised = sum(here, Resources())
            assert self.cache.free(name) == room - promised

    @invariant()
    def snapshot_shows_assumed_pods_on_their_node(self) -> None:
        """The planner would give the same room away again."""
        placed = {p.key.name: p.node for p in self.cache.snapshot().pods}
        expected = {name: p.node for name, p in self.pods.items()}
        expected |= {name: NodeName(a.on) for (name, _), a in self.assumed.items()}
        assert placed == expected

    @invariant()
    def advice_equals_that_of_an_advisor_who_begins_now(self) -> None:
        """Nodes would be ranked by room that they had once."""
        for asked in (pod("x", gpus=2), pod("y", gpus=8)):
            fresh = Advisor(self._rebuilt())
            assert self.advisor.scores(asked, NODES) == fresh.scores(asked, NODES)
            assert list(self.advisor.ranked(asked, NODES)) == list(fresh.ranked(asked, NODES))

    def _forget(self, name: str) -> None:
        self.assumed = {key: a for key, a in self.assumed.items() if key[0] != name}

    def _rebuilt(self) -> Cache:
        """Return a cache that has seen nothing but lists, with what is assumed."""
        cache = Cache()
        cache.replace_nodes(self.nodes.values())
        cache.replace_pods(self.pods.values())
        for assumed in self.assumed.values():
            cache.assume(assumed.pod, NodeName(assumed.on), until=assumed.until)
        return cache


TestCache = CacheMachine.TestCase
