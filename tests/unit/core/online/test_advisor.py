"""The order of nodes for a pod without a plan."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bayplan.answers import Reservations, answer
from bayplan.cache import Cache
from bayplan.cluster.constraints import Constraints, NodeTerm, Requirement
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.online import advisor as advisors
from bayplan.online.advisor import MAX_SCORE, Advisor, forecast
from bayplan.online.kinds import Kind
from bayplan.online.scorer import NodeRoom, Scorer
from bayplan.online.value import Worth
from tests.builders import node, pod

N1, N2, N3 = NodeName("n1"), NodeName("n2"), NodeName("n3")
PRODUCT = "nvidia.com/gpu.product"


def cache_of(*things: Node | Pod) -> Cache:
    """Return a cache that has seen these."""
    cache = Cache()
    cache.replace_nodes(thing for thing in things if isinstance(thing, Node))
    cache.replace_pods(thing for thing in things if isinstance(thing, Pod))
    return cache


def test_whole_slots_are_kept_though_nobody_has_asked_for_one_yet() -> None:
    """Single-GPU pods would nibble at empty 8-GPU nodes, and the first large pod find none."""
    cache = cache_of(node("n1"), node("n2"), node("n3"), pod("b", gpus=5, on="n2"))

    assert list(Advisor(cache).ranked(pod("a"), [N1, N2, N3])) == [N2, N1, N3]


def test_gpus_are_not_left_without_the_cpu_that_pods_need() -> None:
    """A pod that is all CPU would take what the GPUs beside it need to be of use."""
    small = pod("x", gpus=4, cpu_milli=30_000)
    cache = cache_of(node("n1"), node("n2", gpus=0), small)
    advisor = Advisor(cache, forecast(cache.pods().values()))

    assert next(iter(advisor.ranked(pod("a", gpus=0, cpu_milli=40_000), [N1, N2]))) == N2


def test_a_model_that_others_must_have_is_kept_for_them() -> None:
    """Pods that run anywhere would fill the only nodes that the choosy ones accept."""
    choosy = pod("c", constraints=Constraints(node_selector=((PRODUCT, "H100"),)))
    nodes = [
        node("n1", labels={PRODUCT: "H100"}, gpus=4),
        node("n2", labels={PRODUCT: "L4"}, gpus=4),
    ]
    cache = cache_of(*nodes, choosy)
    advisor = Advisor(cache, forecast(cache.pods().values()))

    assert next(iter(advisor.ranked(pod("a"), [N1, N2]))) == N2


def test_models_are_read_from_required_affinity_where_every_term_names_some() -> None:
    """One term without a model accepts all of them."""
    named = NodeTerm(labels=(Requirement(key=PRODUCT, operator="In", values=("H100", "A100")),))
    unnamed = NodeTerm(labels=(Requirement(key="zone", operator="In", values=("a",)),))
    excluded = NodeTerm(labels=(Requirement(key=PRODUCT, operator="NotIn", values=("L4",)),))

    def expected(*terms: NodeTerm) -> set[tuple[str, ...]]:
        asking = pod("a", gpus=3, constraints=Constraints(affinity=terms))
        return {kind.models for kind in forecast([asking]) if kind.gpus == 3}

    assert expected(named) == {("A100", "H100")}
    assert expected(named, unnamed) == {()}
    assert expected(excluded) == {()}


def test_nodes_come_and_go() -> None:
    """The order would name nodes that are gone, or never a new one."""
    cache = cache_of(node("n1"))
    advisor = Advisor(cache)
    assert list(advisor.ranked(pod("a"), [N1, N2])) == [N1]

    cache.set_node(node("n2", gpus=1))
    cache.remove_node(N1)

    assert list(advisor.ranked(pod("a"), [N1, N2])) == [N2]
    assert list(advisor.ranked(pod("a"), [N1])) == []


def test_scores_stay_within_the_protocol() -> None:
    """kube-scheduler multiplies them without a look."""
    full = [pod(f"p{i}", gpus=i, on=f"n{i}") for i in range(1, 9)]
    names = [NodeName(f"n{i}") for i in range(1, 10)]
    cache = cache_of(*[node(f"n{i}") for i in range(1, 9)], *full)

    marks = Advisor(cache).scores(pod("a"), names)

    assert set(marks) == set(names)
    assert set(marks.values()) <= set(range(MAX_SCORE + 1))
    assert max(marks.values()) == MAX_SCORE
    assert marks[names[7]] == marks[names[8]] == 0, "full, and unknown"


def test_a_node_that_claims_countless_gpus_costs_no_memory() -> None:
    """A typing error in one node's status would stop the webhook."""
    cache = cache_of(node("n1", gpus=2**53), node("n2"))

    assert set(Advisor(cache).ranked(pod("a", gpus=2**40), [N1, N2])) == {N1, N2}


def test_a_forecast_is_bounded() -> None:
    """Pods of which each asks for something else would make every answer slower."""
    many = [replace(pod(f"p{i}", cpu_milli=i), uid=f"uid-{i}") for i in range(1000)]

    kinds = forecast(many)

    assert len(kinds) < 64
    assert Kind(gpus=8) in kinds


def test_a_node_of_another_make_joins() -> None:
    """A model, or more GPUs on one node, that nobody had when the first question came."""
    cache = cache_of(node("n1", labels={PRODUCT: "L4"}, gpus=4))
    advisor = Advisor(cache)
    assert list(advisor.ranked(pod("a"), [N1])) == [N1]

    cache.set_node(node("n2", labels={PRODUCT: "H100"}, gpus=4))
    cache.set_node(node("n3", labels={PRODUCT: "L4"}, gpus=16))

    asked = [N1, N2, N3]
    assert list(advisor.ranked(pod("a"), asked)) == list(Advisor(cache).ranked(pod("a"), asked))


def test_rooms_that_nodes_had_once_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook that runs for months would remember every room that any node ever had."""
    made = list[Scorer]()

    def remembered(nodes: Sequence[NodeRoom], worth: Worth, models: Sequence[str]) -> Scorer:
        made.append(Scorer(nodes, worth, models))
        return made[-1]

    monkeypatch.setattr(advisors, "Scorer", remembered)
    cache = cache_of(node("n1"))
    advisor = Advisor(cache)
    for cpu_milli in range(2000):
        cache.set_pod(pod("b", cpu_milli=cpu_milli, on="n1"))
        assert list(advisor.ranked(pod("a"), [N1])) == [N1]

    assert max(len(each.names) for each in made) < 300
    assert len(made) < 20


def test_the_losses_that_decided_are_told_with_the_choice() -> None:
    """Why a node was chosen would be guessed from its GPUs."""
    cache = cache_of(node("n1"), node("n2"), pod("b", gpus=5, on="n2"))
    advisor = Advisor(cache)

    choice = answer(pod("a"), [N1, N2], cache, Reservations(), advisor).choice

    assert choice is not None
    assert (choice.node, choice.runner_up) == (N2, N1)
    assert [choice.loss, choice.runner_up_loss] == list(advisor.losses(pod("a"), [N2, N1]))
    assert choice.loss < choice.runner_up_loss
