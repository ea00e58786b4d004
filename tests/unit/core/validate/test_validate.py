"""The validator: each rule, broken once on purpose."""

from dataclasses import replace

import pytest

from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.constraints import Constraints
from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import (
    Bind,
    Hold,
    Plan,
    Stage,
    Verdict,
)
from bayplan.policy import Order, Policy
from bayplan.validate import Code, reached, validate
from tests.builders import GPU, apart, budget, node, pod, snapshot
from tests.scenes.validate import N0, N1, bind, evict, hold, move, planned, reaches

POLICY = Policy()

#: A budget that needs two healthy pods.
NONE_LEFT = budget("x", allowed=0, desired=2, app="x")


NODES = (node("n0"), node("n1"))
LOW = pod("low", gpus=4, on="n0")
HIGH = pod("high", gpus=8, priority=10)
EQUAL = pod("equal", gpus=8)
GENTLE = pod("gentle", gpus=8, priority=10, preempts=False)
HALF_GENTLE = tuple(
    pod(f"half-{i}", gpus=4, priority=10, preempts=i > 0, gang="half", min_count=2)
    for i in range(2)
)
FIXED = pod("fixed", gpus=4, on="n0", disruption=Disruption.FIXED)
STUCK = pod("stuck", gpus=4, on="n0", disruption=Disruption.EVICTABLE)
LEAVING = pod("leaving", gpus=4, on="n0", terminating=True)
BESIDE = pod("beside", gpus=4, on="n1", disruption=Disruption.FIXED)
LEVEL = pod("level", gpus=4, priority=10, on="n1")
GANG = tuple(pod(f"g-{i}", gpus=2, gang="g", min_count=3) for i in range(3))
RUNS, *JOIN = (
    pod(f"j-{i}", gpus=2, on="n0" if i == 0 else None, gang="j", min_count=2) for i in range(3)
)
UNITS = tuple(
    pod(f"u-{i}", gpus=8, gang=f"u-{i}", min_count=1, owner="u", min_units=1) for i in range(2)
)
TEAM = tuple(pod(f"t-{i}", gpus=4, on=f"n{i}", gang="t", min_count=2) for i in range(2))


def test_a_sound_plan_passes() -> None:
    """Good plans would be thrown away."""
    stages = reaches(
        ("place 10", 1, 1),
        ("keep 0", 1, 1),
        ("disruption", 1, 0),
        ("free 8-GPU slots", 0, 0),
        ("free 4-GPU slots", 1, 1),
    )
    of = snapshot(*NODES, LOW, HIGH)

    assert validate(of, POLICY, planned(move(LOW, N1), bind(HIGH, N0), stages=stages)) == ()


def test_a_plan_that_places_who_is_needed_passes() -> None:
    """The validator would count others than the solver does."""
    stages = (
        Stage(name="place 0 below minReplicas", value=1, bound=1),
        Stage(name="place 0", value=0, bound=0),
    )
    sound = planned(bind(UNITS[0], N0), hold(UNITS[1]), stages=stages)

    assert validate(snapshot(*NODES, *UNITS), POLICY, sound) == ()


def test_who_may_come_is_counted_as_the_solver_does() -> None:
    """A plan would be thrown away for the stages that its certificate tells of."""
    mixed = [pod(f"m-{i}", priority=p, gang="m", min_count=2) for i, p in enumerate((30, 0))]
    half = [
        pod(f"h-{i}", priority=40, preempts=p, gang="h", min_count=2)
        for i, p in enumerate((True, False))
    ]
    # One of its three pods does not exist.
    lacks = [replace(each, priority=50) for each in GANG[:2]]
    stages = reaches(
        *(("place 10", 1, 1), ("keep 5", 0, 1), ("place 40 without preemption", 2, 2)),
        *(("place 0", 2, 2), ("disruption", 1001, 1001)),
    )
    low = replace(LOW, priority=5)
    of = snapshot(*NODES, low, HIGH, *mixed, *half, *lacks)
    binds = (bind(each, N1) for each in (*mixed, *half))
    holds = (hold(each) for each in lacks)
    sound = planned(evict(low), bind(HIGH, N0), *binds, *holds, stages=stages)

    assert validate(of, POLICY, sound) == ()


@pytest.mark.parametrize(
    ("pods", "plan", "code"),
    [
        pytest.param((), planned(bind(HIGH, N0)), Code.UNKNOWN_POD, id="a pod that is gone"),
        pytest.param(
            (HIGH,), planned(bind(HIGH, NodeName("x"))), Code.UNKNOWN_NODE, id="a node that is gone"
        ),
        pytest.param(
            (replace(HIGH, uid="new"),),
            planned(bind(HIGH, N0)),
            Code.UID_MISMATCH,
            id="a pod made again under the same name",
        ),
        pytest.param(
            (HIGH,),
            planned(replace(bind(HIGH, N0), priority=0)),
            Code.MISDESCRIBED,
            id="a bind of another priority",
        ),
        pytest.param(
            GANG,
            planned(*(replace(bind(pod, N0), gang=None) for pod in GANG)),
            Code.MISDESCRIBED,
            id="a gang that is placed pod by pod",
        ),
        pytest.param(
            (LOW, HIGH),
            planned(replace(move(LOW, N1), owner=HIGH.owner), bind(HIGH, N0)),
            Code.MISDESCRIBED,
            id="a move whose replacement somebody else makes",
        ),
        pytest.param(
            (LOW, HIGH),
            planned(replace(move(LOW, N1), priority=5), bind(HIGH, N0)),
            Code.MISDESCRIBED,
            id="a move of another priority",
        ),
        pytest.param(
            (LOW, HIGH),
            planned(replace(evict(LOW), priority=5), bind(HIGH, N0)),
            Code.MISDESCRIBED,
            id="an eviction of another priority",
        ),
        pytest.param(
            (LOW, HIGH),
            planned(replace(evict(LOW), owner=HIGH.owner), bind(HIGH, N0)),
            Code.MISDESCRIBED,
            id="an eviction of another owner's pod",
        ),
        pytest.param(
            (LOW, HIGH),
            planned(move(LOW, NodeName("x")), bind(HIGH, N0)),
            Code.UNKNOWN_NODE,
            id="a move to a node that is gone",
        ),
        pytest.param(
            (*TEAM, replace(HIGH, priority=20)),
            planned(
                replace(evict(TEAM[0]), gang=None),
                evict(TEAM[1]),
                bind(replace(HIGH, priority=20), N0),
            ),
            Code.MISDESCRIBED,
            id="an eviction without its gang",
        ),
        pytest.param(
            (pod("g-0", gang="g"),),
            planned(replace(hold(pod("g-0", gang="g")), gang=None)),
            Code.MISDESCRIBED,
            id="a hold without its gang",
        ),
        pytest.param((HIGH,), planned(), Code.NOT_ONCE, id="a waiting pod without a decision"),
        pytest.param(
            (HIGH,),
            planned(bind(HIGH, N0), hold(HIGH)),
            Code.NOT_ONCE,
            id="a pod both bound and held",
        ),
        pytest.param((LOW,), planned(bind(LOW, N1)), Code.WRONG_STATE, id="a bind of what runs"),
        pytest.param((LOW,), planned(hold(LOW)), Code.WRONG_STATE, id="a hold of what runs"),
        pytest.param((LOW,), planned(move(LOW, N0)), Code.WRONG_STATE, id="a move to where it is"),
        pytest.param(
            (replace(LOW, node=N1), HIGH),
            planned(evict(LOW), bind(HIGH, N1)),
            Code.WRONG_STATE,
            id="an eviction from where it is not",
        ),
        pytest.param(
            (FIXED,), planned(move(FIXED, N1)), Code.NOT_DISRUPTABLE, id="a fixed pod moved"
        ),
        pytest.param(
            (FIXED, HIGH),
            planned(evict(FIXED), bind(HIGH, N0)),
            Code.NOT_DISRUPTABLE,
            id="a fixed pod evicted",
        ),
        pytest.param(
            (LEAVING,), planned(move(LEAVING, N1)), Code.NOT_DISRUPTABLE, id="a leaving pod moved"
        ),
        pytest.param(
            (STUCK,), planned(move(STUCK, N1)), Code.NOT_DISRUPTABLE, id="an evictable pod moved"
        ),
        pytest.param(
            (LOW, HIGH),
            planned(bind(HIGH, N0)),
            Code.OVER_COMMITTED,
            id="more on a node than fits",
        ),
        pytest.param(
            (LEAVING, HIGH),
            planned(bind(HIGH, N0)),
            Code.OVER_COMMITTED,
            id="room of a pod that is still leaving",
        ),
        pytest.param(
            GANG,
            planned(bind(GANG[0], N0), bind(GANG[1], N0), hold(GANG[2])),
            Code.GANG_SPLIT,
            id="two of three pods of a gang",
        ),
        pytest.param(
            GANG[:2],
            planned(*(bind(pod, N0) for pod in GANG[:2])),
            Code.GANG_SPLIT,
            id="all there is of a gang of which one pod does not exist",
        ),
        pytest.param(
            (replace(RUNS, terminating=True), JOIN[0]),
            planned(bind(JOIN[0], N0)),
            Code.GANG_SPLIT,
            id="half a gang whose other half is leaving",
        ),
        pytest.param(
            (RUNS, *JOIN),
            planned(bind(JOIN[0], N0), hold(JOIN[1])),
            Code.GANG_SPLIT,
            id="two of three pods of a gang of which two would do",
        ),
        pytest.param(
            (*TEAM, HIGH),
            planned(evict(TEAM[0]), bind(HIGH, N0)),
            Code.GANG_SPLIT,
            id="half a running gang evicted",
        ),
        pytest.param(
            (LOW, EQUAL),
            planned(evict(LOW), bind(EQUAL, N0)),
            Code.OUTRANKED_VICTIM,
            id="a victim of equal priority",
        ),
        pytest.param(
            (replace(LOW, requests=EQUAL.requests), EQUAL, HIGH),
            planned(evict(LOW), bind(EQUAL, N0), bind(HIGH, N1)),
            Code.OUTRANKED_VICTIM,
            id="a victim that had all of its node, for one of equal priority",
        ),
        pytest.param(
            (LOW, EQUAL, HIGH),
            planned(evict(LOW), bind(EQUAL, N0), bind(HIGH, N1)),
            Code.OUTRANKED_VICTIM,
            id="a victim for one of equal priority, beside a newcomer that outranks it",
        ),
        pytest.param(
            (*TEAM, EQUAL, pod("top", priority=20)),
            planned(*map(evict, TEAM), bind(EQUAL, N0), bind(pod("top", priority=20), N1)),
            Code.OUTRANKED_VICTIM,
            id="a gang for one of equal priority and one that has room beside it",
        ),
        pytest.param(
            (LOW, BESIDE, LEVEL, HIGH),
            planned(move(LOW, N1), evict(LEVEL), bind(HIGH, N0)),
            Code.OUTRANKED_VICTIM,
            id="a victim of equal priority whose room goes to a pod that moves",
        ),
        pytest.param(
            (LOW, BESIDE, replace(LEVEL, priority=0), GENTLE),
            planned(move(LOW, N1), evict(replace(LEVEL, priority=0)), bind(GENTLE, N0)),
            Code.OUTRANKED_VICTIM,
            id="a victim for a pod that preempts nobody, by way of a pod that moves",
        ),
        pytest.param(
            (LOW, GENTLE),
            planned(evict(LOW), bind(GENTLE, N0)),
            Code.OUTRANKED_VICTIM,
            id="a victim for a pod that preempts nobody",
        ),
        pytest.param(
            (LOW, *HALF_GENTLE),
            planned(evict(LOW), *(bind(pod, N0) for pod in HALF_GENTLE)),
            Code.OUTRANKED_VICTIM,
            id="a victim for a gang of which one preempts nobody",
        ),
        pytest.param(
            (LOW,), planned(evict(LOW)), Code.OUTRANKED_VICTIM, id="a victim for nobody at all"
        ),
        pytest.param(
            (LOW, HIGH),
            planned(move(LOW, N1), bind(HIGH, N0), stages=reaches(("place 10", 2, 2))),
            Code.WRONG_OBJECTIVE,
            id="a certificate that claims too much",
        ),
        pytest.param(
            UNITS,
            planned(
                bind(UNITS[1], N0),
                hold(UNITS[0]),
                stages=(Stage(name="place 0 below minReplicas", value=1, bound=1),),
            ),
            Code.WRONG_OBJECTIVE,
            id="a unit that nobody needs in the place of one that is needed",
        ),
        pytest.param(
            (LOW, HIGH),
            planned(move(LOW, N1), bind(HIGH, N0), stages=reaches(("place 10", 1, 0))),
            Code.WRONG_OBJECTIVE,
            id="a bound that the plan itself beats",
        ),
        pytest.param(
            (LOW, HIGH),
            planned(
                move(LOW, N1),
                bind(HIGH, N0),
                stages=reaches(("place 10", 1, 1), ("keep 0", 1, 1), ("disruption", 1, 2)),
            ),
            Code.WRONG_OBJECTIVE,
            id="less disruption than is said to be possible",
        ),
        pytest.param(
            (HIGH,),
            planned(bind(HIGH, N0), stages=reaches(("beauty", 0, 0))),
            Code.WRONG_STAGES,
            id="a stage that nobody knows",
        ),
        pytest.param(
            (LOW, HIGH),
            planned(
                move(LOW, N1), bind(HIGH, N0), stages=reaches(("keep 0", 1, 1), ("place 10", 1, 1))
            ),
            Code.WRONG_STAGES,
            id="stages of a wrong order",
        ),
        pytest.param(
            (HIGH,),
            planned(bind(HIGH, N0), order=Order.PROTECT_FIRST),
            Code.WRONG_STAGES,
            id="another order than the policy asks for",
        ),
        pytest.param(
            (HIGH,),
            planned(bind(HIGH, N0), stages=reaches(("place 10", 1, 1)), verdict=Verdict.OPTIMAL),
            Code.WRONG_VERDICT,
            id="a plan called best of which one stage is proved",
        ),
        pytest.param(
            (HIGH,),
            planned(hold(HIGH), stages=reaches(("place 10", 0, 1)), verdict=Verdict.INFEASIBLE),
            Code.WRONG_VERDICT,
            id="a pod that might be placed called hopeless",
        ),
        pytest.param(
            (HIGH,),
            planned(hold(HIGH), verdict=Verdict.IMPROVED),
            Code.WRONG_VERDICT,
            id="a plan that does nothing called better",
        ),
    ],
)
def test_each_rule(pods: tuple[Pod, ...], plan: Plan, code: Code) -> None:
    """A plan that breaks the rule would be carried out."""
    found = validate(snapshot(*NODES, *pods), POLICY, plan)

    # Some are made short, and disturb somebody for nothing as well.
    assert {violation.code for violation in found} - {Code.NO_GAIN} == {code}


@pytest.mark.parametrize(
    ("pods", "plan"),
    [
        pytest.param((LOW,), planned(move(LOW, N1)), id="a move for nobody"),
        pytest.param(
            (replace(LOW, priority=15), replace(HIGH, gang_min_count=0)),
            planned(evict(replace(LOW, priority=15)), bind(HIGH, N0)),
            id="a victim of higher priority",
        ),
    ],
)
def test_a_plan_is_worth_more_than_doing_nothing(pods: tuple[Pod, ...], plan: Plan) -> None:
    """Somebody would be restarted, and the cluster be none the better for it."""
    found = validate(snapshot(*NODES, *pods), POLICY, plan)

    assert Code.NO_GAIN in {violation.code for violation in found}


def test_a_pod_that_is_gone_is_decided_once_like_others() -> None:
    """Half of what is wrong would be told."""

    def codes(*actions: Bind | Hold) -> set[Code]:
        return {
            violation.code for violation in validate(snapshot(*NODES), POLICY, planned(*actions))
        }

    assert codes(bind(HIGH, N0)) == codes(bind(HIGH, N0), hold(EQUAL)) == {Code.UNKNOWN_POD}
    assert codes(bind(HIGH, N0), hold(HIGH)) == {Code.UNKNOWN_POD, Code.NOT_ONCE}


def test_a_defragmentation_wins_slots_for_its_moves() -> None:
    """Moves would be made that win none."""
    policy = Policy(order=Order.DEFRAGMENT, max_evictions=0)
    beside = pod("beside", gpus=4, on="n1")
    alone = planned(move(LOW, N1), order=Order.DEFRAGMENT)

    assert validate(snapshot(*NODES, LOW, beside), policy, alone) == ()
    found = validate(snapshot(*NODES, LOW), policy, alone)
    assert [violation.code for violation in found] == [Code.NO_GAIN]


def test_a_proved_plan_has_all_its_stages() -> None:
    """`Optimal` would mean that some stages were never looked at."""
    stages = reaches(
        *(("place 10", 1, 1), ("free 8-GPU slots", 1, 1), ("free 4-GPU slots", 2, 2)),
        *(("free 2-GPU slots", 4, 4), ("free 1-GPU slots", 8, 8)),
    )
    of = snapshot(*NODES, HIGH)

    def codes(stages: tuple[Stage, ...]) -> list[Code]:
        # `disruption` is a stage even where nobody runs.
        stages = (stages[0], Stage(name="disruption", value=0, bound=0), *stages[1:])
        best = planned(bind(HIGH, N0), stages=stages, verdict=Verdict.OPTIMAL)
        return [violation.code for violation in validate(of, POLICY, best)]

    assert codes(stages) == []
    assert codes(stages[:-1]) == [Code.WRONG_VERDICT]
    assert codes((*stages[:-1], replace(stages[-1], bound=9))) == [Code.WRONG_VERDICT]


@pytest.mark.parametrize("order", [Order.PLACE_FIRST, Order.PROTECT_FIRST], ids=str)
def test_a_victim_may_be_in_the_way_of_more_than_room(order: Order) -> None:
    """It would be told to stay beside a pod of higher priority that keeps it out of its node."""
    nodes = [node(name, labels={"host": name}) for name in ("n0", "n1")]
    low = replace(LOW, labels=(("app", "x"),))
    here = Constraints(node_selector=(("host", "n0"),))
    shy = pod("shy", priority=10, constraints=replace(here, peers=apart("host", app="x").peers))

    def codes(newcomer: Pod) -> set[Code]:
        leaves = move(low, N1) if order is Order.PROTECT_FIRST else evict(low)
        plan = planned(leaves, bind(newcomer, N0), order=order)
        found = validate(snapshot(*nodes, low, newcomer), Policy(order=order), plan)
        return {violation.code for violation in found}

    assert codes(shy) == set()
    assert codes(replace(shy, constraints=here)) == {Code.OUTRANKED_VICTIM}


def test_a_gang_that_runs_grows_by_single_pods() -> None:
    """It would get none of those that it has room for until there is room for all."""
    team = [*TEAM, *(pod(f"t-{i}", gpus=4, gang="t", min_count=2) for i in (2, 3))]
    grows = planned(bind(team[2], N0), hold(team[3]))

    assert validate(snapshot(*NODES, *team), POLICY, grows) == ()


@pytest.mark.parametrize(
    ("policy", "count"),
    [
        pytest.param(Policy(max_moves=0), 1, id="one move too many"),
        pytest.param(Policy(max_moves=1), 0, id="as many as allowed"),
    ],
)
def test_budgets(policy: Policy, count: int) -> None:
    """More would be disturbed than allowed."""
    of = snapshot(*NODES, LOW, HIGH)

    assert len(validate(of, policy, planned(move(LOW, N1), bind(HIGH, N0)))) == count
    evictions = replace(policy, max_moves=0, max_evictions=policy.max_moves)
    assert len(validate(of, evictions, planned(evict(LOW), bind(HIGH, N0)))) == count


@pytest.mark.parametrize(
    ("budgets", "codes"),
    [
        ([budget("x", allowed=1, app="x")], []),
        ([budget("x", allowed=0, app="x")], [Code.OVER_BUDGET]),
        ([budget("x", allowed=2, app="x"), budget("y", allowed=2)], [Code.NOT_DISRUPTABLE]),
        ([budget("x", allowed=0, app="y")], []),
        ([budget("x", allowed=0, app="x", namespace="other")], []),
    ],
    ids=["as many as it admits", "one too many", "two budgets", "not its own", "elsewhere"],
)
def test_disruption_budgets(budgets: list[Budget], codes: list[Code]) -> None:
    """Evictions would be planned that the API server refuses."""
    low = replace(LOW, labels=(("app", "x"),))
    of = Snapshot.of(NODES, [low, HIGH], budgets)

    found = validate(of, POLICY, planned(move(low, N1), bind(HIGH, N0)))

    assert [violation.code for violation in found] == codes


@pytest.mark.parametrize(
    ("health", "of", "codes"),
    [
        (Health.UNREADY, replace(NONE_LEFT, healthy=2), []),
        (Health.UNREADY, replace(NONE_LEFT, desired=1, healthy=1), []),
        (Health.UNREADY, replace(NONE_LEFT, healthy=1), [Code.OVER_BUDGET]),
        (Health.UNREADY, replace(NONE_LEFT, healthy=1, always=True), []),
        (Health.UNREADY, replace(NONE_LEFT, desired=0), [Code.OVER_BUDGET]),
        (Health.READY, replace(NONE_LEFT, healthy=1, always=True), [Code.OVER_BUDGET]),
        (Health.PENDING, replace(NONE_LEFT, healthy=1), []),
    ],
    ids=[
        *(
            "enough are healthy",
            "one is enough",
            "too few are healthy",
            "AlwaysAllow",
            "none need be healthy",
        ),
        *("ready", "has not begun"),
    ],
)
def test_pods_that_are_not_ready_cost_what_the_api_server_takes(
    health: Health, of: Budget, codes: list[Code]
) -> None:
    """A plan would be refused that can be carried out, or one made that cannot."""
    low = replace(LOW, labels=(("app", "x"),), health=health)
    cluster = Snapshot.of(NODES, [low, HIGH], [of])

    found = validate(cluster, POLICY, planned(move(low, N1), bind(HIGH, N0)))

    assert [violation.code for violation in found] == codes


@pytest.mark.parametrize(
    ("order", "name"),
    [(Order.PLACE_FIRST, "disruption"), (Order.PROTECT_FIRST, "disruption from 0")],
    ids=str,
)
def test_what_a_move_costs_is_counted(order: Order, name: str) -> None:
    """A certificate could call cheap what is dear."""
    of = snapshot(*NODES, replace(LOW, move_cost=7), HIGH)
    stages = reaches(("place 10", 1, 1), ("keep 0", 1, 1), (name, 7, 0))
    plan = planned(move(LOW, N1), bind(HIGH, N0), stages=stages, order=order)

    assert validate(of, Policy(order=order), plan) == ()


def test_what_a_lower_tier_suffers_is_no_disruption_of_a_higher() -> None:
    """A plan that spares the higher tier would count as one that disturbs it."""
    of = snapshot(*NODES, replace(LOW, move_cost=7), LEVEL, HIGH)
    plan = planned(move(LOW, N1), bind(HIGH, N0), order=Order.PROTECT_FIRST)

    found = reached(of, Policy(order=Order.PROTECT_FIRST), plan)

    assert (found["disruption from 0"], found["disruption from 10"]) == (7, 0)


def test_an_arrival_on_a_cordoned_node_is_refused() -> None:
    """A pod would be pinned to a node that the scheduler refuses."""
    of = snapshot(node("n0", schedulable=False), HIGH)

    codes = [violation.code for violation in validate(of, POLICY, planned(bind(HIGH, N0)))]

    assert codes == [Code.NODE_REFUSES]


def test_a_node_that_is_gone_is_not_taken_for_another() -> None:
    """People would look for what is wrong with a node that has nothing to do with it."""
    of = snapshot(node("n0"), node("n1", schedulable=False), HIGH)

    found = validate(of, POLICY, planned(bind(HIGH, NodeName("x"))))

    assert [violation.code for violation in found] == [Code.UNKNOWN_NODE]


def test_each_sort_of_pod_is_judged_on_each_sort_of_node() -> None:
    """A pod would be let onto a node because another one may go there."""
    nodes = [node(f"n{zone}", labels={"zone": zone}) for zone in "ab"]
    pods = [
        pod(f"p{zone}", constraints=Constraints(node_selector=(("zone", zone),))) for zone in "ab"
    ]
    pods.append(pod("pz"))

    def refused(*pairs: tuple[int, int]) -> list[str]:
        plan = planned(*(bind(pods[i], nodes[n].name) for i, n in pairs))
        found = validate(snapshot(*nodes, *(pods[i] for i, _ in pairs)), POLICY, plan)
        return [violation.message[:18] for violation in found]

    assert refused((0, 0), (1, 1)) == []
    assert refused((0, 1), (1, 0)) == ["default/pa on nb: ", "default/pb on na: "]
    assert refused((0, 0), (1, 0)) == ["default/pb on na: "]
    assert refused((0, 1), (1, 1)) == ["default/pa on nb: "]
    assert refused((2, 0), (0, 1)) == refused((0, 1), (2, 0)) == ["default/pa on nb: "]


def test_an_over_full_node_that_gets_nothing_is_not_the_plans_fault() -> None:
    """No plan could be published while any node is over-full."""
    shrunk = replace(node("n0"), allocatable=Resources.of({GPU: 2, "pods": 10}))
    of = snapshot(shrunk, node("n1"), LOW, HIGH)

    assert validate(of, POLICY, planned(bind(HIGH, N1))) == ()
