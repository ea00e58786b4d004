"""What is planned under PodDisruptionBudgets, against an API server that is asked for it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Evict, Plan
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.rules.restraints import covers, restrained
from bayplan.validate import validate
from tests.builders import budget, node, pod
from tests.scenes.validate import planned

POLICY = Policy(time_limit_s=20.0)

#: Pods of one application that budgets may look at.
_PODS = 4


@dataclass
class Server:
    """The eviction subresource, told from Kubernetes' documentation and tried on a real one.

    Attributes:
        left: What each budget still admits, by name.
    """

    budgets: tuple[Budget, ...]
    left: dict[str, int]

    @classmethod
    def of(cls, budgets: tuple[Budget, ...]) -> "Server":
        """Return one that nobody has asked yet."""
        return cls(budgets, {each.key.name: each.allowed for each in budgets})

    def evict(self, victim: Pod) -> bool:
        """Evict a pod; return whether it goes."""
        if victim.health is Health.PENDING:
            return True
        over = [each for each in self.budgets if covers(each, victim)]
        if len(over) > 1:
            return False
        for each in over:
            if victim.health is Health.UNREADY and each.always:
                return True
            if victim.health is Health.UNREADY and 0 < each.desired <= each.healthy:
                return True
            self.left[each.key.name] -= 1
            if self.left[each.key.name] < 0:
                return False
        return True


def running(random: Random) -> list[Pod]:
    """Return pods of which some are not ready, two on a node of 4 GPUs."""
    return [
        pod(
            f"r{i}",
            gpus=random.choice([1, 2]),
            on=f"n{i % 2}",
            labels={"app": random.choice(["a", "a", "b"])},
            health=random.choice([*Health, Health.UNREADY]),
        )
        for i in range(_PODS)
    ]


def counted(random: Random, name: str, pods: Iterable[Pod]) -> Budget:
    """Return a budget as its controller has counted it, once in a while some time ago."""
    empty = budget(name, allowed=0, app=name)
    healthy = sum(each.health is Health.READY and covers(empty, each) for each in pods)
    desired = random.randint(0, 3)
    allowed = max(0, healthy - desired)
    stale = random.random() < 0.2
    return replace(
        empty,
        allowed=max(0, allowed - 1) if stale else allowed,
        healthy=max(0, healthy - 1) if stale else healthy,
        desired=desired,
        always=random.random() < 0.3,
    )


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    """Return full nodes, budgets over their pods, and newcomers that are worth an eviction."""
    random = Random(draw(st.integers(0, 10_000)))  # noqa: S311 - an example, not a secret
    hosts: list[Node] = [node(f"n{i}", gpus=4) for i in range(3)]
    pods = running(random)
    of = [counted(random, app, pods) for app in ("a", "b") if random.random() < 0.8]
    waiting = [pod(f"w{i}", gpus=random.choice([3, 4]), priority=10) for i in range(2)]
    return Snapshot.of(hosts, [*pods, *waiting], of)


def prepared(seen: Snapshot) -> Snapshot:
    """Return the snapshot as the planner gets it."""
    return restrained(seen, now=0, cooldown_s=0)


@given(seen=clusters())
def test_whoever_is_planned_to_leave_is_let_go(seen: Snapshot) -> None:
    """A plan would wait for evictions that the API server refuses."""
    made = plan(prepared(seen), POLICY, clock=lambda: 0.0).plan
    server, by_key = Server.of(seen.budgets), seen.by_key

    assert all(server.evict(by_key[victim.pod]) for victim in made.victims)


@given(seen=clusters())
def test_whoever_would_be_let_go_alone_may_be_planned_to(seen: Snapshot) -> None:
    """A pod would be kept for a budget that has nothing against its going."""
    for before, after in zip(seen.pods, prepared(seen).pods, strict=True):
        if before.node is not None:
            free = Server.of(seen.budgets).evict(before)
            assert (after.disruption is not Disruption.FIXED) is free


@given(seen=clusters())
def test_whoever_drains_for_a_plan_may_be_in_the_next_one(seen: Snapshot) -> None:
    """With steady arrivals its move would be given up and begun again for ever."""
    made = plan(prepared(seen), POLICY, clock=lambda: 0.0).plan
    out = {victim.pod for victim in made.victims}
    pods = [_unready(each) if each.key in out else each for each in seen.pods]
    budgets = [_counted_again(each, seen, pods) for each in seen.budgets]

    after = prepared(Snapshot.of(seen.nodes, pods, budgets))

    for each in (after.by_key[key] for key in out):
        # Where none need be healthy, the API server keeps the last one that is not ready.
        needless = any(covers(b, each) and not (b.desired or b.always) for b in budgets)
        assert needless or each.disruption is not Disruption.FIXED


def _unready(of: Pod) -> Pod:
    return of if of.health is Health.PENDING else replace(of, health=Health.UNREADY)


def _counted_again(budget: Budget, before: Snapshot, pods: Iterable[Pod]) -> Budget:
    """Return the budget once its controller has seen who is not ready any more."""
    gone = sum(
        covers(budget, was) and was.health is not of.health
        for was, of in zip(before.pods, pods, strict=True)
    )
    healthy = budget.healthy - gone
    return replace(budget, healthy=healthy, allowed=max(0, healthy - budget.desired))


@given(seen=clusters(), chosen=st.sets(st.integers(0, _PODS - 1)))
def test_the_validator_judges_as_the_api_server(seen: Snapshot, chosen: set[int]) -> None:
    """A plan would be thrown away, or carried out half."""
    victims = [seen.pods[i] for i in sorted(chosen)]
    server = Server.of(seen.budgets)
    admitted = all(server.evict(victim) for victim in victims)

    found = validate(seen, POLICY, _evicting(victims))

    codes = {violation.code for violation in found} & {"OverBudget", "NotDisruptable"}
    assert (not codes) is admitted


def _evicting(victims: Iterable[Pod]) -> Plan:
    return planned(
        *(
            Evict(pod=each.key, uid=each.uid, node=each.node, priority=each.priority)
            for each in victims
            if each.node is not None
        )
    )
