"""What pods ask of nodes and of each other is read, to the safe side where it is not clear."""

from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.constraints import (
    GangTopology,
    NodeTerm,
    Peers,
    PodSelector,
    PodTerm,
    Preference,
    Requirement,
    Spread,
)
from bayplan.cluster.pods import Pod
from bayplan.codec import DecodeError, pod_of

HOST = "kubernetes.io/hostname"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
APP_X = Requirement(key="app", operator="In", values=("x",))


def decoded(metadata: dict[str, Any] | None = None, **spec: Any) -> Pod:  # noqa: ANN401 - JSON
    """Return the pod with this spec, labelled app=x and rev=1."""
    raw: dict[str, Any] = {
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "team", "labels": {"app": "x", "rev": "1"}},
        "spec": {"containers": [{"name": "c"}], **spec},
    }
    raw["metadata"] |= metadata or {}
    found = pod_of(raw)
    assert found is not None
    return found


def anti(*terms: dict[str, Any]) -> Peers | None:
    """Return what required anti-affinity is read as."""
    return decoded(affinity={"podAntiAffinity": {REQUIRED: [*terms]}}).constraints.peers


def near(*terms: dict[str, Any]) -> Peers | None:
    """Return what required affinity is read as."""
    return decoded(affinity={"podAffinity": {REQUIRED: [*terms]}}).constraints.peers


def even(**constraint: Any) -> Peers | None:  # noqa: ANN401 - JSON
    """Return what a topology spread constraint is read as."""
    return decoded(topologySpreadConstraints=[constraint]).constraints.peers


def ports(*listed: dict[str, Any], **spec: Any) -> list[str]:  # noqa: ANN401 - JSON
    """Return the host ports of a container with these ports."""
    found = decoded(containers=[{"name": "c", "ports": [*listed]}], **spec)
    return [name for name in found.requests if name.startswith("host port")]


def test_a_pod_that_asks_nothing_of_others_says_so_in_one_word() -> None:
    """Every pod of a fleet would be looked at for rules."""
    assert decoded().constraints.peers is None
    assert decoded(affinity={"nodeAffinity": {}}).constraints.peers is None
    assert even(whenUnsatisfiable="ScheduleAnyway", topologyKey="zone", maxSkew=1) is None
    assert decoded(
        affinity={"podAntiAffinity": {PREFERRED: [{"weight": 1}]}}
    ).constraints.peers is (None)


def test_host_ports_are_resources_of_the_node() -> None:
    """Two pods would be sent to one port."""
    assert ports({"containerPort": 80}) == []
    assert ports({"containerPort": 80, "hostPort": 8080}) == ["host port 8080/TCP"]
    assert ports({"containerPort": 53, "protocol": "UDP"}, hostNetwork=True) == ["host port 53/UDP"]
    assert ports({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80}) == ["host port 80/TCP"]
    sidecar = {"name": "s", "restartPolicy": "Always", "ports": [{"hostPort": 90}]}
    assert ports(initContainers=[sidecar, {"name": "i", "ports": [{"hostPort": 91}]}]) == [
        "host port 90/TCP"
    ]


def test_anti_affinity_is_read_with_namespaces_and_label_keys() -> None:
    """A pod would be kept away from the wrong pods."""
    selector = {"matchLabels": {"app": "x"}}
    plain = anti({"topologyKey": HOST, "labelSelector": selector})
    listed = anti({"topologyKey": HOST, "labelSelector": selector, "namespaces": ["b", "a"]})
    keyed = anti(
        {
            "topologyKey": HOST,
            "labelSelector": {},
            "matchLabelKeys": ["rev", "gone"],
            "mismatchLabelKeys": ["app"],
        }
    )

    assert plain == Peers(repels=(PodTerm(key=HOST, pods=_selector("team", labels=(APP_X,))),))
    assert listed == Peers(repels=(PodTerm(key=HOST, pods=_selector("a", "b", labels=(APP_X,))),))
    assert keyed is not None
    assert keyed.repels[0].pods.labels == (
        Requirement(key="app", operator="NotIn", values=("x",)),
        Requirement(key="rev", operator="In", values=("1",)),
    )


def test_company_is_who_all_terms_of_an_affinity_mean() -> None:
    """A pod would be pinned beside two others of which kube-scheduler takes neither for company."""
    y = Requirement(key="tier", operator="In", values=("y",))
    at_host = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "x"}}}
    in_zone = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"tier": "y"}}}
    listed = in_zone | {"namespaces": ["a", "team"]}
    everywhere = in_zone | {"namespaceSelector": {}}
    apart = in_zone | {"namespaces": ["a"]}

    for terms in ([at_host, in_zone], [at_host, listed], [at_host, everywhere]):
        both = _selector("team", labels=(APP_X, y))
        assert near(*terms) == Peers(
            attracts=(PodTerm(key=HOST, pods=both), PodTerm(key="zone", pods=both))
        )
    nobody = near(at_host, apart)
    assert nobody is not None
    assert [term.pods.nobody for term in nobody.attracts] == [True, True]


def _selector(*namespaces: str, labels: tuple[Requirement, ...]) -> PodSelector:
    return PodSelector(namespaces=namespaces, labels=labels)


def test_what_cannot_be_judged_is_read_to_the_safe_side() -> None:
    """A pod would be put beside one that it must not be beside, or far from one that it needs."""
    strange = {"matchExpressions": [{"key": "app", "operator": "Near", "values": ["x"]}]}
    by_label = {"matchLabels": {"team": "a"}}
    term: dict[str, Any] = {"topologyKey": HOST, "labelSelector": {}}
    apart = anti(term | {"labelSelector": strange}, term | {"namespaceSelector": by_label})
    beside = near(term | {"labelSelector": strange}, term | {"namespaceSelector": by_label})
    everywhere = near(term | {"namespaceSelector": {}})
    nobody, no_company = anti({"topologyKey": HOST}), near({"topologyKey": HOST})

    assert apart is not None
    assert {each.pods for each in apart.repels} == {
        _selector("team", labels=()),
        _selector(labels=()),
    }
    assert beside is not None
    assert all(each.pods.nobody for each in beside.attracts)
    assert everywhere == Peers(attracts=(PodTerm(key=HOST, pods=PodSelector()),))
    assert nobody is not None
    assert nobody.repels[0].pods.nobody
    assert no_company is not None
    assert no_company.attracts[0].pods.nobody


def test_topology_spread_is_read_with_the_defaults_of_kubernetes() -> None:
    """A deployment would be spread over other nodes than kube-scheduler counts."""
    selector = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    pods = _selector("team", labels=(Requirement(key="app", operator="Exists"),))
    least = even(topologyKey="zone", labelSelector=selector, maxSkew=2)
    most = even(
        topologyKey="zone",
        labelSelector=selector,
        maxSkew=1,
        minDomains=3,
        whenUnsatisfiable="DoNotSchedule",
        nodeAffinityPolicy="Ignore",
        nodeTaintsPolicy="Honor",
        matchLabelKeys=["rev"],
    )

    assert least == Peers(spreads=(Spread(key="zone", pods=pods, max_skew=2),))
    assert most is not None
    assert most.spreads[0].min_domains == 3
    assert not most.spreads[0].honours_affinity
    assert most.spreads[0].honours_taints
    assert len(most.spreads[0].pods.labels) == 2


def test_an_empty_selector_of_a_spread_counts_no_pod() -> None:
    """Pods would wait, or others be moved, for a skew that kube-scheduler does not see."""
    empty = even(topologyKey="zone", labelSelector={}, maxSkew=1)
    keyed = even(topologyKey="zone", labelSelector={}, matchLabelKeys=["rev"], maxSkew=1)

    assert empty is not None
    assert keyed is not None
    assert empty.spreads[0].pods.nobody
    assert not keyed.spreads[0].pods.nobody


def test_preferred_nodes_are_read_with_their_weight() -> None:
    """A wish would be ignored."""
    term = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]}
    affinity = {"nodeAffinity": {PREFERRED: [{"weight": 5, "preference": term}]}}

    assert decoded(affinity=affinity).constraints.prefers == (
        Preference(weight=5, term=NodeTerm(labels=(APP_X,))),
    )


def test_a_gang_says_where_its_pods_are_to_be() -> None:
    """Foreign gangs would be scattered."""
    said = {
        "labels": {names.LABEL_GANG: "g", names.LABEL_GANG_MIN_COUNT: "2"},
        "annotations": {
            names.ANNOTATION_TOPOLOGY_REQUIRED: "zone",
            names.ANNOTATION_TOPOLOGY_PREFERRED: "rack, host,,rack",
        },
    }

    assert decoded(said).gang_topology == GangTopology(required="zone", preferred=("rack", "host"))
    for name, found in (
        (names.ANNOTATION_TOPOLOGY_REQUIRED, GangTopology(required="zone")),
        (names.ANNOTATION_TOPOLOGY_PREFERRED, GangTopology(preferred=("rack", "host"))),
    ):
        one = said | {"annotations": {name: said["annotations"][name]}}
        assert decoded(one).gang_topology == found
    assert decoded({"annotations": said["annotations"]}).gang_topology is None
    assert decoded({"labels": said["labels"]}).gang_topology is None


BAD = {
    "affinity.podAntiAffinity": {"podAntiAffinity": {REQUIRED: [{"topologyKey": ""}]}},
    "affinity.podAffinity": {"podAffinity": {REQUIRED: [{"labelSelector": {}}]}},
    "affinity.nodeAffinity": {"nodeAffinity": {PREFERRED: [{"weight": 101, "preference": {}}]}},
    "affinity": "near",
}


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        *(
            pytest.param({"affinity": bad}, f"Pod team/p: spec.{path}", id=path)
            for path, bad in BAD.items()
        ),
        pytest.param(
            {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 0}]},
            r"Pod team/p: spec.topologySpreadConstraints\[0\].maxSkew: should be 1 or more, is 0",
            id="a skew of zero",
        ),
        pytest.param(
            {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 10**30}]},
            r"Pod team/p: spec.topologySpreadConstraints\[0\].maxSkew: should be a number up to",
            id="an endless skew",
        ),
        pytest.param(
            {"topologySpreadConstraints": [{"maxSkew": 1}]},
            r"spec.topologySpreadConstraints\[0\].topologyKey: should be a string, is missing",
            id="a spread over nothing",
        ),
        pytest.param(
            {"containers": [{"name": "c", "ports": [{"hostPort": 65536}]}]},
            r"spec.containers\[0\].ports\[0\].hostPort: should be 1 to 65535, is 65536",
            id="a port that does not exist",
        ),
    ],
)
def test_a_bad_rule_is_named(spec: dict[str, Any], complaint: str) -> None:
    """A typing error would crash the planner, or be told without saying where."""
    with pytest.raises(DecodeError, match=complaint):
        decoded(**spec)
