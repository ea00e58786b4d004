"""What pods ask of nodes and of each other: one case that can be had, one that cannot."""

from dataclasses import replace
from typing import Any

import pytest

from bayplan.cluster.constraints import (
    Constraints,
    GangTopology,
    NodeTerm,
    Peers,
    PodTerm,
    Preference,
    Requirement,
    Spread,
)
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.plan import Bind, Certificate, Move, Plan, Reason, Rejection, Verdict
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.solver import keepfill
from bayplan.solver.local import greedy
from bayplan.solver.problem.counting import build
from bayplan.validate import Code, validate
from tests.builders import apart, beside, node, pod, select, snapshot, spread

POLICY = Policy()
A0 = node("a0", gpus=4, labels={"host": "a0", "zone": "a"})
A1 = node("a1", gpus=4, labels={"host": "a1", "zone": "a"})
B0 = node("b0", gpus=4, labels={"host": "b0", "zone": "b"})
TINY = node("tiny", gpus=1, labels={"zone": "b"})
BARE = node("bare", gpus=4)
ALL = (A0, A1, B0)
X: dict[str, Any] = {"app": "x"}
Y = {"app": "y"}

#: Each keeps away from its likes.
SHY: dict[str, Any] = {"labels": X, "constraints": apart("host", **X)}


def made(*things: Node | Pod) -> Plan:
    """Return the plan, which must be valid and proved."""
    of = snapshot(*things)
    found = plan(of, POLICY, clock=lambda: 0.0).plan
    assert validate(of, POLICY, found) == ()
    assert found.certificate.gap == 0
    return found


def homes(found: Plan) -> dict[str, str]:
    """Return the node of each pod that is placed."""
    return {bind.pod.name: str(bind.node) for bind in found.binds}


def refusals(found: Plan) -> dict[str, Rejection]:
    """Return why each other pod waits."""
    return {hold.pod.name: hold.rejection for hold in found.holds}


def several(count: int, **what: Any) -> list[Pod]:  # noqa: ANN401 - as the builder takes them
    """Return pods that differ in nothing but their names."""
    return [pod(f"w{i}", **what) for i in range(count)]


FIXED: dict[str, Any] = {"disruption": Disruption.FIXED}
TO_X: dict[str, Any] = {"labels": X, "constraints": beside("zone", **X)}
ONLY_B = Constraints(node_selector=(("zone", "b"),))
WHOLE: dict[str, Any] = {"gang": "g", "min_count": 3, "topology": GangTopology(required="zone")}


@pytest.mark.parametrize(
    ("things", "count"),
    [
        pytest.param((*ALL, *several(3, ports=(80,))), 3, id="one port on each node"),
        pytest.param((*ALL, *several(4, ports=(80,))), 3, id="no port twice on a node"),
        pytest.param((*ALL, *several(3, **SHY)), 3, id="apart on three hosts"),
        pytest.param((*ALL, *several(4, **SHY)), 3, id="not apart on three hosts when four"),
        pytest.param(
            (*ALL, *several(2, labels=X, constraints=apart("zone", **X))), 2, id="a zone each"
        ),
        pytest.param(
            (*ALL, *several(3, labels=X, constraints=apart("zone", **X))), 2, id="but two zones"
        ),
        pytest.param(
            (A0, A1, *several(3, constraints=apart("host", **X)), pod("x", labels=X)),
            4,
            id="who keeps away from others gets along with its likes",
        ),
        pytest.param(
            (A0, *several(1, constraints=apart("host", **X)), pod("x", labels=X, on="a0", **FIXED)),
            0,
            id="but does not come to whom it keeps away from",
        ),
        pytest.param(
            (
                A0,
                B0,
                pod("r", on="a0", constraints=apart("zone", **X), **FIXED),
                pod("w", labels=X),
            ),
            1,
            id="kept out of one zone by a pod of somebody else",
        ),
        pytest.param(
            (
                A0,
                A1,
                pod("r", on="a0", constraints=apart("zone", **X), **FIXED),
                pod("w", labels=X),
            ),
            0,
            id="kept out of all zones by it",
        ),
        pytest.param(
            (BARE, *several(2, labels=X, constraints=apart("zone", **X))),
            2,
            id="a node without the label is in no domain",
        ),
        pytest.param(
            (*ALL, *several(4, labels=X, constraints=spread("zone", **X))), 4, id="two in each zone"
        ),
        pytest.param(
            (A0, A1, TINY, *several(6, labels=X, constraints=spread("zone", **X))),
            3,
            id="no more in one than the skew allows beside the full one",
        ),
        pytest.param(
            (BARE, *several(1, labels=X, constraints=spread("zone", **X))),
            0,
            id="no spread over nodes without the label",
        ),
        pytest.param(
            (
                *ALL,
                pod("r", on="b0", labels=X, **FIXED),
                *several(3, constraints=beside("zone", **X)),
            ),
            3,
            id="beside a pod that runs",
        ),
        pytest.param(
            (
                A0,
                BARE,
                pod("r", on="bare", labels=X, **FIXED),
                pod("w", constraints=beside("zone", **X)),
            ),
            0,
            id="not beside one that is in no domain",
        ),
        pytest.param((*ALL, *several(8, **TO_X)), 8, id="the first of its kind may begin"),
        pytest.param((*ALL, *several(9, **TO_X)), 8, id="and all others must join it"),
        pytest.param(
            (*ALL, pod("c", gpus=9, labels=X), *several(2, **TO_X)),
            2,
            id="also where somebody else who is meant fits nowhere",
        ),
        pytest.param(
            (A0, B0, pod("c", labels=X, constraints=ONLY_B), pod("a", gpus=4, **TO_X)),
            1,
            id="but not where somebody else may be bound first elsewhere",
        ),
        pytest.param(
            (A0, B0, pod("r", on="b0", constraints=beside("zone", **X), **FIXED), pod("w", **TO_X)),
            1,
            id="whoever runs without company does not matter",
        ),
        pytest.param((*ALL, *several(3, gpus=2, **WHOLE)), 3, id="a gang in one zone"),
        pytest.param((A0, B0, *several(3, gpus=2, **WHOLE)), 0, id="no gang across zones"),
        pytest.param((BARE, *several(3, **WHOLE)), 0, id="no gang on nodes without the label"),
    ],
)
def test_how_many_are_placed(things: tuple[Node | Pod, ...], count: int) -> None:
    """Pods would be pinned where kube-scheduler refuses them, or wait where they need not."""
    found = made(*things)

    assert len(found.binds) == count
    assert len(found.holds) == sum(isinstance(x, Pod) and x.waiting for x in things) - count


def test_the_pods_of_a_gang_share_a_node_where_that_costs_nothing() -> None:
    """Two units on two nodes were split by class, so that one lost node took both of them."""
    gangs = [
        pod(f"{gang}{i}", gpus=gpus, gang=gang, min_count=3)
        for gang in "gh"
        for i, gpus in enumerate((4, 2, 2))
    ]
    at = homes(made(*(node(f"n{i}", gpus=8) for i in range(3)), *gangs))

    assert [len({at[f"{gang}{i}"] for i in range(3)}) for gang in "gh"] == [1, 1]


def test_nobody_loses_the_first_place_to_a_lower_priority() -> None:
    """Whoever asks for others of its kind waited while one that asks for nothing took the room."""
    urgent = pod("urgent", gpus=4, priority=9, **TO_X)

    assert homes(made(A0, urgent, pod("late", gpus=4, labels=X))) == {"urgent": "a0"}
    assert len(made(A0, A1, urgent, pod("late", gpus=4, labels=X)).binds) == 2


@pytest.mark.parametrize(
    ("things", "reason", "told"),
    [
        pytest.param(
            (A0, pod("r", on="a0", ports=(80,), **FIXED), pod("w", ports=(80,))),
            Reason.HOST_PORT_TAKEN,
            "host port 80/TCP is taken on 1",
            id="a port",
        ),
        pytest.param(
            (A0, pod("r", on="a0", labels=X, **FIXED), pod("w", **SHY)),
            Reason.POD_ANTI_AFFINITY,
            "keeps it away from default/r in host=a0",
            id="its own anti-affinity",
        ),
        pytest.param(
            (A0, pod("r", on="a0", **SHY, **FIXED), pod("w", labels=X)),
            Reason.POD_ANTI_AFFINITY,
            "the anti-affinity of default/r keeps it out of host=a0",
            id="the anti-affinity of another",
        ),
        pytest.param(
            (
                *(A0, TINY, pod("r", on="a0", labels=X, **FIXED), pod("f", on="tiny", **FIXED)),
                pod("w", labels=X, constraints=spread("zone", **X)),
            ),
            Reason.TOPOLOGY_SPREAD,
            "a would have 2, b has 0",
            id="a spread",
        ),
        pytest.param(
            (A0, pod("w", constraints=beside("zone", **X))),
            Reason.POD_AFFINITY,
            "asks for a pod with app In x in its zone",
            id="an affinity",
        ),
        pytest.param(
            (A0, B0, *several(3, gpus=2, **WHOLE)),
            Reason.GANG_TOPOLOGY,
            "within one zone: the best one, a, has room for 2 of its 3 pods",
            id="a gang's topology",
        ),
        pytest.param(
            (BARE, *several(3, **WHOLE)),
            Reason.GANG_TOPOLOGY,
            "no node has that label",
            id="a label that nobody has",
        ),
    ],
)
def test_the_reason_names_the_rule(
    things: tuple[Node | Pod, ...], reason: Reason, told: str
) -> None:
    """A pod would stay Pending and nobody would know for whom."""
    found = made(*things)
    why = refusals(found)["w" if len(found.holds) == 1 else "w0"]

    assert why.reason is reason
    assert told in why.message
    assert all(hold.remedy for hold in found.holds)


def test_the_remedy_names_the_port() -> None:
    """Somebody would free GPUs, of which there are enough."""
    (held,) = made(A0, pod("r", on="a0", ports=(80,), **FIXED), pod("w", ports=(80,))).holds

    assert held.remedy.startswith("free host port 80/TCP on a0") or "add" in held.remedy
    assert "more" not in held.remedy


def test_a_member_made_again_joins_what_runs_of_its_gang() -> None:
    """One replaced pod would tear a gang apart."""
    gang: dict[str, Any] = {"gang": "g", "min_count": 2, "topology": GangTopology(required="zone")}
    runs = pod("r", on="b0", **gang)

    assert homes(made(*ALL, runs, pod("w", **gang))) == {"w": "b0"}


def test_gangs_are_together_where_they_prefer_it_and_apart_rather_than_nowhere() -> None:
    """A unit would be scattered for no reason, or wait for what it only prefers."""
    near = GangTopology(preferred=("host", "zone"))
    gangs = [
        pod(f"{name}{i}", gpus=2, gang=name, min_count=2, topology=near)
        for name in ("g", "h", "i")
        for i in range(2)
    ]
    found = made(*ALL, pod("r", on="a0", gpus=2), pod("s", on="a1", gpus=2), *gangs[:4])
    stages = {stage.name: stage.value for stage in found.certificate.stages}

    assert len(found.binds) == 4
    assert (stages["topology 1"], stages["topology 2"]) == (1, 2)
    assert len(made(A0, B0, pod("r", on="a0"), pod("s", on="b0"), *gangs[:2]).binds) == 2


def test_preferred_nodes_come_first_but_nobody_waits_or_moves_for_them() -> None:
    """A wish would be ignored, or cost somebody a move."""
    zone = Requirement(key="zone", operator="In", values=("b",))
    wish = Constraints(prefers=(Preference(weight=10, term=NodeTerm(labels=(zone,))),))
    things = (*ALL, pod("r", on="b0", gpus=2))
    found = made(*things, *several(3, gpus=2, constraints=wish))

    assert sorted(homes(found).values()).count("b0") == 1
    assert (len(found.binds), found.moves) == (3, ())
    assert {s.name: s.value for s in found.certificate.stages}["preference"] == 10


def test_who_breaks_a_rule_already_runs_on() -> None:
    """No plan could be published once somebody changed labels."""
    running = [pod(f"r{i}", on="a0", **SHY) for i in range(2)]
    found = made(A0, B0, *running, pod("w"), pod("x", **SHY))

    assert homes(found)["x"] == "b0"
    assert (found.moves, found.evictions) == ((), ())


def test_a_pod_that_shares_a_port_does_not_close_the_node_to_others() -> None:
    """Two addresses of one port would take a node out of service."""
    running = [pod(f"r{i}", on="a0", ports=(53,), disruption=Disruption.FIXED) for i in range(2)]

    assert set(homes(made(A0, *running, pod("w", ports=(80,)), pod("x", ports=(53,))))) == {"w"}


def test_too_few_domains_count_as_an_empty_one() -> None:
    """kube-scheduler would refuse the second pod on a node: it sees only the pinned one."""
    (rule,) = spread("zone", **X).peers.spreads  # type: ignore[union-attr]  # it has one
    rare = Constraints(peers=Peers(spreads=(replace(rule, min_domains=3),)))
    found = made(*ALL, *several(4, labels=X, constraints=rare))

    assert len(found.binds) == 2
    enough = Constraints(peers=Peers(spreads=(replace(rule, min_domains=2),)))
    placed = homes(made(*ALL, *several(4, labels=X, constraints=enough)))
    assert sorted(placed.values()) in (["a0", "a1", "b0"], ["a0", "b0"], ["a1", "b0"])


def bind(of: Pod, to: Node) -> Bind:
    """Return the pod's bind."""
    return Bind(pod=of.key, uid=of.uid, node=to.name, gang=of.gang)


def codes(*things: Node | Pod, binds: dict[Pod, Node], moves: dict[Pod, Node]) -> set[Code]:
    """Return what is wrong with a plan that does this."""
    made_of = Plan(
        certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.IMPROVED),
        binds=tuple(bind(of, to) for of, to in binds.items()),
        moves=tuple(
            Move(
                pod=of.key,
                uid=of.uid,
                source=NodeName(of.node or ""),
                target=to.name,
                owner=of.owner,
                priority=0,
            )
            for of, to in moves.items()
        ),
    )
    found = validate(snapshot(*things), POLICY, made_of)
    return {violation.code for violation in found}


W0, W1 = several(2, **SHY)
PORTS = several(2, ports=(80,))
EVEN = several(2, labels=X, constraints=spread("zone", **X))
JOIN = several(2, **TO_X)
GANG = several(3, **WHOLE)
RUNS = pod("r", on="a0", labels=X)
COMPANY = pod("c", constraints=beside("zone", **X))
COMING = pod("p", labels=X)
COMES: dict[str, Any] = {
    "key": pod("new").key,
    "uid": "uid-new",
    "node": None,
    "waiting": True,
}


@pytest.mark.parametrize(
    ("good", "bad", "code"),
    [
        pytest.param(
            {PORTS[0]: A0, PORTS[1]: A1},
            {PORTS[0]: A0, PORTS[1]: A0},
            Code.OVER_COMMITTED,
            id="a port twice",
        ),
        pytest.param({W0: A0, W1: A1}, {W0: A0, W1: A0}, Code.PEERS_BROKEN, id="not apart"),
        pytest.param(
            {EVEN[0]: A0, EVEN[1]: B0}, {EVEN[0]: A0, EVEN[1]: A1}, Code.PEERS_BROKEN, id="uneven"
        ),
        pytest.param(
            {JOIN[0]: A0, JOIN[1]: A1}, {JOIN[0]: A0, JOIN[1]: B0}, Code.PEERS_BROKEN, id="lonely"
        ),
        pytest.param(
            dict(zip(GANG, [A0, A1, A1], strict=True)),
            dict(zip(GANG, [A0, A1, B0], strict=True)),
            Code.GANG_SCATTERED,
            id="scattered",
        ),
    ],
)
def test_the_validator_sees_each_rule(
    good: dict[Pod, Node], bad: dict[Pod, Node], code: Code
) -> None:
    """An engine's error would be carried out."""
    assert codes(*ALL, *good, binds=good, moves={}) == set()
    assert codes(*ALL, *bad, binds=bad, moves={}) == {code}


def test_the_validator_sees_who_left() -> None:
    """A pod would come for company that the same plan moves away."""
    assert codes(*ALL, RUNS, COMPANY, binds={COMPANY: A1}, moves={}) == set()
    assert codes(*ALL, RUNS, COMPANY, binds={COMPANY: A1}, moves={RUNS: B0}) == {Code.PEERS_BROKEN}


THREE = Constraints(peers=Peers(spreads=(Spread(key="zone", pods=select(**X), min_domains=3),)))
BOTH = [pod(name, on=on, labels=X) for name, on in (("ra", "a0"), ("rb", "b0"))]
LEAVES = replace(RUNS, terminating=True)
MEMBER = pod("m", on="a0", gang="g", min_count=2, topology=GangTopology(required="zone"))
GOING = replace(MEMBER, key=pod("going").key, uid="uid-going", node=B0.name, terminating=True)
ALONE = replace(MEMBER, gang_min_count=1)


@pytest.mark.parametrize(
    ("there", "comes", "to", "code"),
    [
        ([], EVEN[0], BARE, Code.PEERS_BROKEN),
        (BOTH, pod("p", labels=X, constraints=THREE), A1, Code.PEERS_BROKEN),
        ([RUNS], EVEN[0], A1, Code.PEERS_BROKEN),
        ([LEAVES], EVEN[0], A1, None),
        ([pod("ghost", on="gone", labels=X)], EVEN[0], A1, None),
        ([RUNS], COMPANY, BARE, Code.PEERS_BROKEN),
        ([LEAVES], COMPANY, A1, Code.PEERS_BROKEN),
        ([], COMPANY, A1, Code.PEERS_BROKEN),
        ([RUNS], JOIN[0], B0, Code.PEERS_BROKEN),
        ([pod("shy", on="a0", constraints=apart("zone", **X))], COMING, A1, Code.PEERS_BROKEN),
        ([MEMBER, pod("o", on="a0", gang="o")], replace(MEMBER, **COMES), B0, Code.GANG_SCATTERED),
        ([MEMBER, pod("o", on="a0", gang="o")], replace(MEMBER, **COMES), A1, None),
        ([MEMBER, GOING], replace(MEMBER, **COMES), B0, Code.GANG_SCATTERED),
        ([replace(MEMBER, node=BARE.name)], replace(MEMBER, **COMES), BARE, Code.GANG_SCATTERED),
        ([ALONE], replace(ALONE, **COMES), B0, None),
    ],
    ids=[
        *("spread, no such label", "spread, too few domains", "spread, uneven"),
        *("spread, one leaves", "spread, one is nowhere", "company, no such label"),
        *("company that leaves", "no company", "company elsewhere", "somebody keeps away"),
        *("away from its gang", "beside its gang", "beside who leaves", "gang, no such label"),
        "a gang of one is none",
    ],
)
def test_the_validator_judges_who_comes_by_who_is_there(
    there: list[Pod], comes: Pod, to: Node, code: Code | None
) -> None:
    """What is wrong in engine and validator alike would be carried out."""
    found = codes(*ALL, BARE, *there, comes, binds={comes: to}, moves={})

    assert found == ({code} if code else set())


def test_who_comes_to_the_first_of_its_kind_finds_company_elsewhere_only() -> None:
    """Two that ask for each other are no company where a third one runs elsewhere."""
    there = pod("r", on="b0", labels=X)

    assert codes(*ALL, there, *JOIN, binds={JOIN[0]: A0, JOIN[1]: A1}, moves={}) == {
        Code.PEERS_BROKEN
    }


def test_the_validator_lets_a_pod_of_a_scattered_gang_move_within_its_domain() -> None:
    """A plan that is right would give way to one that places fewer pods."""
    two = WHOLE | {"min_count": 2}
    here, there = pod("g0", on="a0", **two), pod("g1", on="b0", **two, **FIXED)
    c0 = node("c0", gpus=4, labels={"host": "c0", "zone": "c"})
    large = pod("large", gpus=4)
    things = (*ALL, c0, here, there, large)

    assert codes(*things, binds={large: A0}, moves={here: A1}) == set()
    assert codes(*things, binds={large: A0}, moves={here: c0}) == {Code.GANG_SCATTERED}


def test_what_is_settled_on_each_node_is_left_to_keep_and_fill_and_the_rest_is_not() -> None:
    """A fleet would lose its proof, or a rule its effect."""
    assert keepfill.supports(build(snapshot(*ALL, *several(2, **SHY))))
    assert keepfill.supports(build(snapshot(*ALL, *PORTS)))
    assert not keepfill.supports(build(snapshot(*ALL, *EVEN)))
    assert not keepfill.supports(build(snapshot(*ALL, *JOIN)))
    assert not keepfill.supports(build(snapshot(*ALL, *GANG)))
    zoned = several(2, labels=X, constraints=apart("zone", **X))
    assert not keepfill.supports(build(snapshot(*ALL, *zoned)))


def test_a_rule_that_no_plan_can_touch_costs_no_proof() -> None:
    """Other people's pods, which cannot be moved, would take the proof from a whole fleet."""
    others = [
        pod(f"r{i}", on=on, disruption=Disruption.EVICTABLE, labels=X, constraints=rule)
        for i, (on, rule) in enumerate(
            [("a0", apart("zone", **X)), ("b0", spread("zone", **X)), ("b0", beside("zone", **X))]
        )
    ]

    assert build(snapshot(*ALL, *others, pod("w"))).rules == ()


def test_pods_that_ask_nothing_of_each_other_make_no_rules() -> None:
    """Every fleet would pay for what few pods ask."""
    plain = build(snapshot(*ALL, *several(3, labels=X), pod("r", on="a0", labels=Y)))

    assert plain.rules == ()
    assert plain.wishes is None
    assert len(plain.classes) == 1
    assert not any(name.startswith("apart") for name in plain.resources)


def test_greedy_tries_the_tightest_domain_first() -> None:
    """Whole free zones would be broken for small gangs."""
    small = [
        pod(f"g{i}", gang="g", min_count=2, topology=GangTopology(required="zone")) for i in "ab"
    ]
    instance = build(snapshot(*ALL, *small))

    assert int(greedy.fill(instance, Order.PLACE_FIRST).final[:, 2].sum()) == 2


def test_terms_of_several_namespaces_and_operators() -> None:
    """Pods of other namespaces would be counted, or those meant would not."""
    elsewhere = pod("r", on="a0", labels=X, namespace="other", **FIXED)
    here = pod("w", gpus=1, constraints=apart("host", **X))
    term = PodTerm(key="host", pods=replace(select(**X), namespaces=()))
    anywhere = pod("w", constraints=Constraints(peers=Peers(repels=(term,))))
    unlike = Requirement(key="app", operator="NotIn", values=("x",))
    others = PodTerm(key="host", pods=replace(select(), namespaces=(), labels=(unlike,)))
    keeps = pod("w", constraints=Constraints(peers=Peers(repels=(others,))))

    assert len(made(A0, elsewhere, here).binds) == 1
    assert len(made(A0, elsewhere, anywhere).binds) == 0
    assert len(made(A0, elsewhere, keeps).binds) == 1
    assert not build(snapshot(A0, elsewhere, anywhere)).arrivals.any()


def test_who_waits_for_a_pod_of_the_same_plan_is_told_which_and_what_is_next() -> None:
    """It was said that no place is ruled out, and nothing of the next plan, which has one."""
    full = pod("f", gpus=4, on="b0", **FIXED)
    spreads = pod("p", labels=X, constraints=spread("zone", **X), priority=5)
    late = pod("w", labels=X)

    first = made(A0, B0, full, spreads, late)

    (hold,) = first.holds
    assert hold.rejection.reason is Reason.TOPOLOGY_SPREAD
    assert hold.rejection.message == (
        "default/p, which this plan places, is spread over zone with a skew of at most 1: beside it"
        " a would have 2, b has 0"
    )
    assert hold.remedy == "wait for the next plan, which is made when that pod runs"
    (home,) = first.binds
    runs = replace(spreads, node=home.node, waiting=False)
    assert [bind.pod for bind in made(A0, B0, full, runs, late).binds] == [late.key]


def test_a_gang_is_told_which_of_its_own_rules_are_in_its_way() -> None:
    """Each of its pods has a place, and it was said that none is ruled out: it waited for ever."""
    shy: dict[str, Any] = {"labels": X, "constraints": apart("zone", **X)}
    gang = several(2, gang="g", min_count=2, **shy)

    holds = made(A0, A1, *gang).holds

    said = (
        "waits whole (2 x 1 GPU): each of its pods has room, but no places suit all of them:"
        " anti-affinity over zone"
    )
    assert {hold.rejection.message for hold in holds} == {said}
    assert {hold.remedy for hold in holds} == {
        "make that preferred instead of required in its pods"
    }
    assert len(made(A0, A1, *several(2, gang="g", min_count=2, labels=X)).binds) == 2
