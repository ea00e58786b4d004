"""What the planner tells those who wait."""

from collections import Counter

import pytest

from bayplan.aftermath import Aftermath
from bayplan.cluster.constraints import Constraints, NodeTerm, Requirement, Taint
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.plan import Certificate, Plan, Reason, Rejection, Verdict
from bayplan.planner import plan
from bayplan.policy import Order, Policy
from bayplan.rules import filters
from bayplan.why import holds, rooms
from tests.builders import budget, node, pod, snapshot
from tests.scenes.planner import POLICY, hold_of, made, placed, unit

HOSTNAME = "kubernetes.io/hostname"


@pytest.mark.parametrize(
    "waiting", [[pod("w-0", gpus=8, priority=10)], unit("w", 8, 8)], ids=["pod", "gang"]
)
def test_who_waits_because_others_must_stay_is_told_so(waiting: list[Pod]) -> None:
    """An operator would buy nodes instead of looking at a budget."""
    team = [
        pod(f"r{i}", gpus=4, on=f"n{i}", labels={"app": "x"}, disruption=Disruption.EVICTABLE)
        for i in range(2)
    ]
    things: list[Node | Pod] = [node("n0"), node("n1"), *team, *waiting]

    forbidden = hold_of(made(*things, budget("x", allowed=0, app="x")), "w-0")
    allowed = made(*things, budget("x", allowed=2, app="x"))

    assert forbidden.rejection.reason is Reason.DISRUPTION_FORBIDDEN
    assert "has PodDisruptionBudget default/x, which admits no" in forbidden.rejection.message
    assert "w-0" in placed(allowed)


def test_a_budget_that_the_plan_uses_up_is_named() -> None:
    """The second of two newcomers would not know that the first took what the budget admits."""
    team = [pod(f"r{i}", gpus=8, on=f"n{i}", labels={"app": "x"}) for i in range(2)]
    newcomers = [pod(f"w{i}", gpus=8, priority=10) for i in range(2)]

    plan = made(node("n0"), node("n1"), *team, *newcomers, budget("x", allowed=1, app="x"))

    (hold,) = plan.holds
    assert hold.rejection.reason is Reason.DISRUPTION_FORBIDDEN
    assert "default/x, which admits no more evictions than" in hold.rejection.message


def test_reasons_that_would_take_too_long_are_not_looked_for() -> None:
    """Hundreds of pods that wait, each for another reason, would hold up a plan for minutes."""
    large = [pod(f"large-{i}", gpus=9, priority=10) for i in range(2)]
    of = snapshot(node("n"), *large, *(pod(f"a{i}", gpus=10 + i) for i in range(2)))
    clock = _LateClock()

    holds = plan(of, POLICY, clock=clock, progress=clock.tell).plan.holds

    told = {hold.pod.name: hold.rejection.message for hold in holds}
    assert told["large-0"] == told["large-1"] == "needs 9 GPUs on one node; the largest has 8"
    late = "no place found; the time limit was over before it was known why"
    assert told["a0"] == told["a1"] == late
    assert [hold.pod.name for hold in holds] == ["a0", "a1", "large-0", "large-1"]
    assert not any(hold.remedy for hold in holds if hold.pod.name in {"a0", "a1"})


def test_a_gang_of_which_nothing_is_known_but_that_it_has_room_hears_what_to_do() -> None:
    """It was told that no place is ruled out, and no next step."""
    seen = snapshot(node("n0"), *unit("w", 4, 4))
    nothing = Plan(certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.UNCHANGED))

    told = holds.explain(
        Aftermath.of_plan(seen, nothing), Policy(), outcomes={}, in_time=lambda: True
    )

    assert {(hold.rejection.message, hold.remedy) for hold in told} == {
        (
            "no place found, and none is ruled out",
            "wait for the next plan, or raise timeLimitSeconds in the PackingPolicy",
        )
    }


def test_nodes_that_a_disk_rules_out_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds of pods with disks inside their nodes the least urgent were told nothing."""
    looks: list[str] = []

    def counted(asking: Pod, home: Node) -> Rejection | None:
        looks.append(asking.key.name)
        return filters.static_rejection(asking, home)

    monkeypatch.setattr(rooms, "static_rejection", counted)
    nodes = [node(f"n{i}", labels={HOSTNAME: f"n{i}"}) for i in range(40)]
    guests = [pod(f"r{i}", gpus=6, on=f"n{i}", priority=9) for i in range(40)]

    holds = made(*nodes, *guests, *(_with_disk(f"w{i}", f"n{i}") for i in range(40))).holds

    # Once for each question that is asked about a pod, and there are few.
    assert max(Counter(looks).values()) <= 10
    remedies = {hold.pod.name: hold.remedy for hold in holds}
    assert remedies["w7"] == (
        "free 2 more GPUs on n7 (2 of 8 are free), or scale down the owner of default/r7"
        " (priority 9; evicted, it would come back)"
    )


def test_a_node_without_its_disk_is_no_help() -> None:
    """Somebody would buy a node on which the pod cannot be."""
    nodes = [node(f"n{i}", labels={HOSTNAME: f"n{i}"}, ready=i > 0) for i in range(3)]

    full = pod("a", gpus=8, on="n0")

    (hold,) = made(*nodes, full, _with_disk("w", "n0")).holds

    assert (
        hold.rejection.message == "0 of 3 nodes will do: 2 do not reach its volume; 1 is not ready"
    )
    expected = "add a node that reaches its volume with 4 GPUs, or give the pod another volume"
    assert hold.remedy == expected


def test_a_node_that_is_too_small_by_a_little_is_told_exactly() -> None:
    """Somebody would add a node of the size that it was told, and it would not do either."""
    (hold,) = made(node("n", memory_mib=2**20), pod("w", memory_mib=2**20 + 1)).holds

    expected = "needs 1,048,577 MiB memory on one node; the largest has 1,048,576 MiB"
    assert hold.rejection.message == expected
    assert hold.remedy == "add a node with 1 GPU, 1,048,577 MiB memory"


def _with_disk(name: str, home: str) -> Pod:
    """Return a pod that waits, with a disk inside a node."""
    line = Requirement(key=HOSTNAME, operator="In", values=(home,))
    disk = (NodeTerm(labels=(line,)),)
    return pod(name, gpus=4, constraints=Constraints(volumes=(disk,)))


class _LateClock:
    """Stands still until reasons are looked for; from then on an hour passes with each look."""

    def __init__(self) -> None:
        self._now, self._step = 0.0, 0.0

    def __call__(self) -> float:
        self._now += self._step
        return self._now

    def tell(self, step: str) -> None:
        if step == "explain and validate":
            self._step = 3600.0


@pytest.mark.parametrize(
    ("things", "reason", "message", "remedy"),
    [
        pytest.param(
            (node("n0", gpus=4), pod("w", gpus=8)),
            Reason.TOO_SMALL,
            "needs 8 GPUs on one node; the largest has 4",
            "add a node with 8 GPUs",
            id="no node is large enough",
        ),
        pytest.param(
            (
                node("n0"),
                node("n1"),
                pod("a", gpus=8, on="n0", priority=7),
                pod("b", gpus=8, on="n1", priority=9),
                pod("w", gpus=8, priority=5),
            ),
            Reason.OUTRANKED,
            "needs 8 GPUs on one node; all 16 GPUs it may use are taken by pods of "
            "priority >= 5 or by pods that must stay",
            "free 8 more GPUs on n0 (0 of 8 are free), or scale down the owner of default/a "
            "(priority 7; evicted, it would come back), or add 1 node like n0 (8 GPUs)",
            id="higher tiers hold everything",
        ),
        pytest.param(
            (
                node("n0"),
                node("n1", ready=False),
                node("n2", schedulable=False),
                pod("a", gpus=8, on="n0", priority=7),
                pod("b", gpus=1, on="n2", priority=7),
                pod("w", gpus=8, priority=5),
            ),
            Reason.OUTRANKED,
            "needs 8 GPUs on one node; all 8 GPUs it may use are taken by pods of priority >= 5 or "
            "by pods that must stay; of 3 nodes 1 is cordoned, 1 is not ready",
            "bring back n1, which is not ready, or free 8 more GPUs on n0 (0 of 8 are free), or "
            "scale down the owner of default/a (priority 7; evicted, it would come back), or add 1 "
            "node like n0 (8 GPUs)",
            id="higher tiers hold everything, and a node with room is not ready",
        ),
        pytest.param(
            (
                node("n0"),
                pod("a", gpus=5, on="n0", priority=7),
                pod("w", gpus=8, priority=5),
            ),
            Reason.OUTRANKED,
            "needs 8 GPUs on one node; pods of priority >= 5 and pods that must stay leave "
            "at most 3",
            "free 5 more GPUs on n0 (3 of 8 are free), or scale down the owner of default/a "
            "(priority 7; evicted, it would come back), or add 1 node like n0 (8 GPUs)",
            id="higher tiers hold part of every node",
        ),
        pytest.param(
            (
                node("n0", labels={"zone": "b"}),
                pod("w", constraints=Constraints(node_selector=(("zone", "a"),))),
            ),
            Reason.SELECTOR_MISMATCH,
            "0 of 1 nodes will do: 1 lacks a label it selects (zone=a)",
            "take zone=a out of its nodeSelector (n0 has room), or add a node that it accepts",
            id="no node has the label",
        ),
        pytest.param(
            (
                node("n0", taints=(Taint(key="team", value="x"),)),
                node("n1", taints=(Taint(key="team", value="x"),)),
                pod("a", gpus=8, on="n0", priority=7),
                pod("w", gpus=8),
            ),
            Reason.TAINT_NOT_TOLERATED,
            "0 of 2 nodes will do: 2 have a taint it does not tolerate (team=x:NoSchedule)",
            "let the pod tolerate team=x:NoSchedule (n1 has room), or add a node that it accepts",
            id="every node has a taint",
        ),
    ],
)
def test_holds_say_why_and_what_would_help(
    things: tuple[Node | Pod, ...], reason: Reason, message: str, remedy: str
) -> None:
    """Pending would be all that people see."""
    hold = hold_of(made(*things), "w")

    assert (hold.rejection.reason, hold.rejection.message) == (reason, message)
    assert hold.remedy == remedy
