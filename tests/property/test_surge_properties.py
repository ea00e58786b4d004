"""Plans of which some replacements start first: they end, fit at any moment, and cut nobody off."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from bayplan import steps
from bayplan.cluster.budgets import Health
from bayplan.cluster.keys import PodKey
from bayplan.cluster.pods import Disruption, Pod
from bayplan.inference.drains import DrainState
from bayplan.inference.replacements import Failing, Outlook
from bayplan.plan import Plan
from bayplan.policy import Policy
from bayplan.steps import DrainPod, EvictPod, Phase, Progress, StartPod, State, Step, SurgeContext
from tests.scenes.steps import told
from tests.steps_world import Patience, World, happen, overcommitted, scenes, settle

#: Rounds after which a plan has long ended.
_ROUNDS = 100

#: Rounds in which things happen.
_TROUBLED = 8


@dataclass
class Doubling(World):
    """A cluster in which some owners start a replacement first, and see to what follows.

    `able` are uids of pods that may be doubled, `failed` of those whose replacement was given up,
    and `begun` of those that ever had one.
    """

    able: frozenset[str] = frozenset()
    failed: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)

    def surge(self) -> SurgeContext:
        """Return what is known of replacements; each pod has an owner of its own."""
        pods = [pod for pod in self.pods.values() if pod.owner and pod.uid in self.able]
        return SurgeContext(
            outlooks={
                pod.owner.uid: Outlook(able=frozenset({pod.uid}), left=1)
                for pod in pods
                if pod.owner is not None and not pod.gives_way_by
            },
            failed=dict.fromkeys(self.failed, Failing.LATE),
        )

    def do(self, step: Step) -> None:
        """Do one step; nobody is made to leave who has a replacement."""
        old = self.pods.get(step.pod)
        if isinstance(step, DrainPod | EvictPod):
            assert old is None or not old.gives_way_by, "its deployment does that"
        if not isinstance(step, StartPod):
            super().do(step)
        elif old is not None and old.uid == step.uid and not old.terminating:
            assert not old.gives_way_by, "doubled twice"
            assert old.uid not in self.failed, "tried again at once"
            self.begun.add(old.uid)
            self.pods[step.pod] = replace(old, gives_way_by=9)
            key = PodKey(namespace=old.key.namespace, name=f"{old.key.name}-new")
            self.pods[key] = replace(
                old,
                key=key,
                uid=f"{old.uid}-new",
                node=step.node,
                bound=False,
                replaces=old.uid,
                serves_by=9,
                health=Health.UNREADY,
                disruption=Disruption.FIXED,
            )

    def pairs(self) -> Iterator[tuple[Pod, Pod | None]]:
        """Yield the pods that give way, with their replacements as far as these are there."""
        news = {pod.replaces: pod for pod in self.pods.values() if pod.serves_by}
        for old in [pod for pod in self.pods.values() if pod.gives_way_by]:
            new = news.get(old.uid)
            yield old, None if new is None or new.terminating else new

    def deployments(self) -> None:
        """Do what deployments do about pairs."""
        for old, new in self.pairs():
            serves = new is not None and new.bound and new.health is Health.READY
            if new is None:
                self.pods[old.key] = replace(old, gives_way_by=0)
                self.draining.pop(old.uid, None)
            elif not serves:
                self.draining.pop(old.uid, None)
            elif self.requests.get(old.uid) and old.uid not in self.draining:
                self.draining[old.uid] = self.requests[old.uid]
            elif not self.draining.get(old.uid) and not old.terminating:
                self.pods[old.key] = replace(old, terminating=True)

    def start(self) -> None:
        """Have replacements that are bound be ready."""
        for _, new in self.pairs():
            if new is not None and new.bound:
                self.pods[new.key] = replace(new, health=Health.READY)

    def give_up(self, *, bound: bool = True) -> None:
        """Have replacements that do not serve be given up, `bound` or not, or only those not."""
        for old, new in self.pairs():
            late = new is not None and (bound or not new.bound)
            if late and new is not None and new.health is not Health.READY:
                del self.pods[new.key]
                self.pods[old.key] = replace(old, gives_way_by=0)
                self.failed.add(old.uid)

    def end(self, key: PodKey) -> None:
        """Let a pod be gone; one that has a replacement is not made again."""
        found = self.pods[key]
        replaced = any(pod.replaces == found.uid for pod in self.pods.values())
        super().end(key)
        if (replaced or found.serves_by) and self.owed and self.owed[-1] is found:
            self.owed.pop()


@st.composite
def doubling(draw: st.DrawFn) -> tuple[Doubling, Plan]:
    """Return a cluster and a plan, some of whose pods may be doubled."""
    world, plan = draw(scenes())
    moved = [move.uid for move in plan.moves]
    assume(moved)
    able = draw(st.sets(st.sampled_from(moved), min_size=1))
    fields = {"nodes": world.nodes, "pods": world.pods, "requests": world.requests}
    return Doubling(**fields, able=frozenset(able)), plan  # type: ignore[arg-type]


def rounds(world: Doubling, made: Plan, trouble: st.DataObject | None) -> Iterator[Progress]:
    """Carry the plan out, letting things happen in between; settle down after some rounds."""
    patience = Patience(every_s=30)
    for turn in range(_ROUNDS):
        look = partial(
            steps.advance,
            made,
            world.snapshot(),
            Policy(max_parallel_moves=2),
            drains=_drains_of(world),
            surge=world.surge(),
        )
        found = patience.ask(look)
        yield found
        if found.phase is not Phase.EXECUTING:
            return
        if trouble is not None and turn < _TROUBLED:
            for step in found.todo[: trouble.draw(st.integers(0, len(found.todo)))]:
                world.do(step)
            for what in trouble.draw(_HAPPENINGS):
                act = {
                    "start": world.start,
                    "give up": world.give_up,
                    "deployments": world.deployments,
                }.get(what)
                act() if act else happen(world, what, trouble)
        else:
            for step in found.todo:
                world.do(step)
            world.start()
            world.deployments()
            settle(world)
            world.give_up(bound=False)
            world.deployments()


_HAPPENINGS = st.lists(
    st.sampled_from(
        [
            *("bind", "end", "repay", "lose", "leave", "finish"),
            *("start", "start", "deployments", "deployments", "give up"),
        ]
    ),
    max_size=12,
)


def _drains_of(world: Doubling) -> Mapping[str, DrainState]:
    """Return how far pods are; whom its deployment takes out does not yield to a plan."""
    gives_way = {pod.uid for pod in world.pods.values() if pod.gives_way_by}
    return {
        uid: replace(drain, yields=drain.yields and uid not in gives_way)
        for uid, drain in world.drains().items()
    }


@given(doubling())
@settings(max_examples=max(settings().max_examples, 200))
def test_undisturbed_who_may_be_doubled_serves_until_the_replacement_does(
    scene: tuple[Doubling, Plan],
) -> None:
    """Each goes where the plan says, and the plan is completed; only a circle is broken."""
    world, made = scene
    for found in rounds(world, made, None):
        assert not overcommitted(world)
        assert all(r.state is not State.FAILED for r in found.reports), told(found)

    assert found.phase is Phase.COMPLETED, told(found)
    event(f"doubled: {len(world.begun)}")
    landed = {p.replaces: p.node for p in world.pods.values() if p.replaces}
    targets = {move.uid: move.target for move in made.moves}
    assert landed == {uid: targets[uid] for uid in {*world.begun, *world.evicted} & targets.keys()}
    assert not world.begun & set(world.evicted)


@given(doubling(), st.data())
@settings(max_examples=max(settings().max_examples, 200))
def test_whatever_happens_a_plan_ends_and_nobody_who_has_a_replacement_is_made_to_leave(
    scene: tuple[Doubling, Plan], trouble: st.DataObject
) -> None:
    """Replacements fail, nodes are lost, pods go by themselves, and everybody is late."""
    world, made = scene
    for found in rounds(world, made, trouble):
        free = world.snapshot().free()
        for step in found.todo:
            if isinstance(step, StartPod | steps.ReleasePod):
                asks = world.pods[step.pod].requests
                assert asks.fits(free[step.node]), told(found)
                free[step.node] = free[step.node] - asks

    assert found.phase in {Phase.COMPLETED, Phase.FAILED}, told(found)
