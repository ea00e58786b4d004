"""Whatever happens meanwhile, a plan ends, and harms nobody in vain."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bayplan import steps
from bayplan.plan import (
    Evict,
    Plan,
)
from bayplan.steps import EvictPod, Phase, Progress, ReleasePod, State
from tests.scenes.steps import told
from tests.steps_world import World, overcommitted, rounds, scenes


@given(scene=scenes())
@settings(max_examples=max(settings().max_examples, 300))
def test_undisturbed_a_plan_is_carried_out_as_it_is(scene: tuple[World, Plan]) -> None:
    """Every home taken, every victim gone or spared, no node over-committed, nobody else moved."""
    world, made = scene
    for found in rounds(world, made, None):
        assert not overcommitted(world)
        assert all(r.state is not State.FAILED for r in found.reports), told(found)

    assert found.phase is Phase.COMPLETED
    homes = {p.uid: p.node for p in world.pods.values() if p.bound}
    assert all(homes[b.uid] == b.node for b in made.binds)
    landed = {p.replaces: p.node for p in world.pods.values() if p.replaces}
    assert landed == {m.uid: m.target for m in made.moves if m.uid in world.evicted}
    spared = {f"uid-{r.pod.name}" for r in found.reports if r.message == steps.SPARED}
    victims = {m.uid for m in made.moves} | {e.uid for e in made.evictions}
    assert sorted(world.evicted) == sorted(victims - spared)
    _do_all(world, found)
    assert not _out_of_service(world), "somebody stays out of service"


@given(scene=scenes(), trouble=st.data())
@settings(max_examples=max(settings().max_examples, 300))
def test_whatever_happens_a_plan_ends_and_harms_nobody_in_vain(
    scene: tuple[World, Plan], trouble: st.DataObject
) -> None:
    """Nodes are lost, strangers take room, pods end, owners are slow, bindings come late."""
    world, made = scene
    victims = {m.uid for m in made.moves} | {e.uid for e in made.evictions}
    failed = False
    for found in rounds(world, made, trouble):
        failed = failed or any(r.state is State.FAILED for r in found.reports)
        _check_todo(world, found)
        _check_gangs(made, found)
        if any(r.state is State.FAILED for r in found.reports):
            evicted = {s.uid for s in found.todo if isinstance(s, EvictPod)}
            assert evicted <= _of_gangs_that_have_begun(world, made), told(found)

    _do_all(world, found)
    failed_here = {f"uid-{r.pod.name}" for r in found.reports if r.state is State.FAILED}
    assert _out_of_service(world) <= failed_here, "somebody drained stays out of service"
    for gang in {e.gang for e in made.evictions if e.gang}:
        mine = [e for e in made.evictions if e.gang == gang]
        assert sum(_has_begun(world, e) for e in mine) in {0, len(mine)}, "half a gang is left"
    assert found.phase in {Phase.COMPLETED, Phase.FAILED}
    assert (found.phase is Phase.FAILED) <= failed
    assert set(world.evicted) <= victims
    assert len(world.evicted) == len(set(world.evicted))


def _do_all(world: World, found: Progress) -> None:
    """Do the last steps of a plan."""
    for step in found.todo:
        world.do(step)


def _out_of_service(world: World) -> set[str]:
    """Return the uids of pods that run, and were taken out of service."""
    return {p.uid for p in world.pods.values() if p.uid in world.draining and not p.terminating}


def _has_begun(world: World, victim: Evict) -> bool:
    """Return whether a victim has left its node, or is leaving it."""
    found = world.pods.get(victim.pod)
    return found is None or found.uid != victim.uid or found.terminating


def _of_gangs_that_have_begun(world: World, made: Plan) -> set[str]:
    """Return the uids of victims that follow others of their gang."""
    begun = {e.gang for e in made.evictions if _has_begun(world, e)} - {None}
    return {e.uid for e in made.evictions if e.gang in begun}


def _check_todo(world: World, found: Progress) -> None:
    """Assert that what is released fits in the room that is free at that moment."""
    free = world.snapshot().free()
    for step in found.todo:
        if isinstance(step, ReleasePod):
            asks = world.pods[step.pod].requests
            assert asks.fits(free[step.node]), told(found)
            free[step.node] = free[step.node] - asks


def _check_gangs(made: Plan, found: Progress) -> None:
    """Assert that whoever of a gang still waits is released together."""
    released = {step.uid for step in found.todo if isinstance(step, ReleasePod)}
    states = {r.pod: r.state for r in found.reports if r.type == "Bind"}
    for gang in {b.gang for b in made.binds if b.gang}:
        mine = [b for b in made.binds if b.gang == gang]
        if any(b.uid in released for b in mine):
            assert all(states[b.pod] in {State.STARTED, State.DONE} for b in mine), told(found)
