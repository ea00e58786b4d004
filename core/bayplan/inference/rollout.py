"""Which pods of an InferenceDeployment to make and to delete next, unit by unit.

    older unit, lost a pod or never ran ──▶ goes at once
    older unit, not ready               ──▶ goes first
    older unit, ready                   ──▶ goes when the floor allows it
    newest unit on a node to be left    ──▶ goes when a replacement serves
    newest unit, a pod is missing       ──▶ the pod is made; after failures with back-off
    newest unit, a pod finds no room    ──▶ the unit gives back what it has, to wait as a whole
    newest unit, not as the ratio asks  ──▶ it gets there step by step (`targets`), and runs on
    newest unit, waits in vain          ──▶ another gives what it has beyond the least (`sharing`)
    a pod whose replacement serves      ──▶ it is drained, and evicted (`successors`)
    more units than asked for           ──▶ whole units go: those that do not serve first, then
                                            those with the fewest requests

A unit is of one revision: no pod is made in it while a pod of another one is there. A unit that is
to be made takes an index that is free, so that it need not wait until an old one has ended. Up to
`max_surge` units more than asked for are made while units are to be replaced; only when the plan
holds them for want of room does a ready unit go before its successor serves, and never so many
that fewer than `replicas - max_unavailable` serve. Units that serve are drained before they are
deleted (`drains`); pods that fail are replaced inside their unit (`repair`).

Everything is compared level by level: what is decided depends on the spec, on the pods as they
are, and on how often they have failed, not on how things came to be so. Asking again after the
changes were made, with every pod ready, yields none.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Final

from bayplan.inference import drains, sharing, successors
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.parts import UNKNOWN, Around, Unit, own, units_of
from bayplan.inference.patches import MetadataPatch, metadata_patches
from bayplan.inference.repair import Repair
from bayplan.inference.replicas import Replicas
from bayplan.inference.slots import Slot, least_slots
from bayplan.inference.successors import GivenUp
from bayplan.inference.targets import Growth, Target, target_of

#: Seconds after which a unit of which a pod finds no room gives back the rest of its room. Another
#: ten may have passed until it was known that the pod before could not be bound.
HALF_S: Final = 10

#: Seconds beyond its time after which a pod on a node of which nothing is heard is given up.
OVERDUE_S: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What to do about the pods now.

    Attributes:
        create: Missing pods, by unit; none while another pod has the name.
        delete: Pods to delete, whole units first.
        abandon: Pods on nodes that are gone, where nobody would confirm that they have ended.
        drain: Pods to take out of service, because they are to go.
        serve: Pods to put into service.
        evict: Pods to evict, because replacements serve in their place; those that finish their
            requests first are to be taken out of service (`relieve`).
        relieve: Pods to take out of service, unless they could not be evicted then.
        lift: Replacements that start before others go, and have their gates still.
        failed: Pods that serve on, each with its replacement, which was given up, and why.
        patch: What to write on pods that say something of their unit that is no longer so.
        swaps: Units that give up what they need before they get other things instead. If one of
            their pods goes on saying what it says now, they take it all back in the next pass.
        gives: Units that give up what they have beyond the least, for one that waits in vain.
        strangers: Names that pods of another owner keep from us.
        failures: How many times in a row the pod of a name has failed.
        back_off: Pods that have failed and are kept until they may be made anew.
        retry_at: When something is to be done although nothing has changed, in seconds since the
            epoch.
    """

    create: tuple[Slot, ...] = ()
    delete: tuple[Child, ...] = ()
    abandon: tuple[Child, ...] = ()
    drain: tuple[Child, ...] = ()
    serve: tuple[Child, ...] = ()
    evict: tuple[Child, ...] = ()
    relieve: tuple[Child, ...] = ()
    lift: tuple[Child, ...] = ()
    failed: tuple[GivenUp, ...] = ()
    patch: tuple[MetadataPatch, ...] = ()
    swaps: frozenset[int] = frozenset()
    gives: frozenset[int] = frozenset()
    strangers: tuple[str, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)
    back_off: tuple[Child, ...] = ()
    retry_at: float | None = None


def changes(
    deployment: Deployment,
    seen: Iterable[Child],
    *,
    around: Around = UNKNOWN,
    failures: Mapping[str, int] | None = None,
    now: float = math.inf,
) -> Changes:
    """Return what to create and delete so that the seen pods become the desired ones.

    `failures` are those of the changes before. `now` is in seconds since the epoch.
    """
    pods = tuple(seen)
    strangers = {child.name for child in pods if child.owner_uid != deployment.uid}
    # 1. Whole units: which go, which stay, which are made.
    units = units_of(deployment, pods, around)
    lost_causes = [unit for unit in units if unit.live and unit.useless]
    halves = _halves(deployment, units, around, now)
    lost = [*lost_causes, *halves]
    going = [*halves, *_going(deployment, units, lost, around)]
    gone = {unit.index for unit in (*lost_causes, *going)}
    stay = [unit for unit in units if unit.live and unit.index not in gone]
    drained = drains.drained(deployment, [_served(unit) for unit in going], around.loads, now=now)
    deleted = {pod.unit for pod in drained.delete}
    there = [*stay, *(unit for unit in going if unit.index not in deleted)]
    # 2. Within units of the newest revision: which pods must go, which are missing.
    target = [unit for unit in stay if unit.newest]
    spare = _spare(deployment, stay, around)
    fresh = _fresh(deployment, units, there)
    # Also of a unit that drains, the room is for the one that comes in its place.
    missing = bool(fresh) or len(stay) < deployment.replicas
    growths = sharing.growths(deployment, units, stay, around.held, missing=missing)
    targets = _targets(deployment, stay, around, growths)
    swaps = _swaps(deployment, stay, targets, around, also_missing=len(spare))
    targets |= _targets(deployment, swaps, around, growths, swaps=True)
    slots = _slots(deployment, targets.values(), fresh)
    shrunk = drains.drained(
        deployment, [each.surplus for each in targets.values()], around.loads, now=now
    )
    surplus = {pod.uid for each in targets.values() for pod in each.surplus}
    replicas = Replicas.of(slots, (pod for unit in units for pod in unit.pods), around)
    repair = Repair(
        slots,
        failures=failures or {},
        around=around,
        replicas=replicas,
        spare=spare,
        now=now,
    )
    staying = [pod for unit in target for pod in unit.live if pod.uid not in surplus]
    replaced = [pod for pod in staying if repair.must_go(pod)]
    # 3. Of pods whose replacement starts first: whose turn it is.
    turns = successors.turns(
        units,
        {unit.index for unit in stay},
        around,
        surplus=surplus,
        within_s=successors.serves_within_s(deployment),
        now=now,
    )
    relieved, obsolete = (
        drains.drained(deployment, [[pod] for pod in olds], around.loads, now=now)
        for olds in (turns.relieved, turns.obsolete)
    )
    names = {child.name for child in pods}
    mixed = {unit.index for unit in units if not unit.pure}
    stray = [child for child in own(deployment, pods) if child.unit < 0 and not child.terminating]
    at_once = [pod for unit in lost_causes for pod in _served(unit)]
    delete = (
        *(*stray, *at_once, *drained.delete, *shrunk.delete, *replaced),
        *(*obsolete.delete, *turns.deleted),
    )
    gives_back_at = _gives_back_at(deployment, stay, around, now)
    return Changes(
        create=tuple(
            slot
            for slot in slots.values()
            if slot.name not in names
            and slot.unit not in mixed
            and slot.leader not in replicas.closed
        ),
        delete=delete,
        abandon=tuple(pod for pod in own(deployment, pods) if _is_abandoned(pod, around, now)),
        drain=(*drained.drain, *shrunk.drain, *obsolete.drain),
        serve=drains.to_serve(
            (*(pod for unit in stay for pod in unit.live), *turns.starting),
            but=surplus | {pod.uid for pod in delete},
            leaving=around.leaving,
        ),
        evict=relieved.delete,
        relieve=relieved.drain,
        lift=tuple(pod for pod in turns.starting if pod.gated),
        failed=turns.failed,
        patch=metadata_patches(
            deployment,
            pods,
            targets,
            but={pod.name for pod in delete},
            aside={pod.uid for unit in units for pod in unit.aside},
            marks=successors.marks((p for u in units for p in u.pairs), turns, now=now),
        ),
        swaps=frozenset(unit.index for unit in swaps),
        gives=frozenset(index for index, g in growths.items() if g is Growth.GIVES),
        strangers=tuple(sorted(strangers & slots.keys())),
        failures=repair.failures,
        back_off=tuple(repair.back_off),
        retry_at=_first(
            *(repair.retry_at, drained.again_at, shrunk.again_at, gives_back_at),
            *(relieved.again_at, obsolete.again_at, turns.again_at),
        ),
    )


def _served(unit: Unit) -> tuple[Child, ...]:
    """Return the pods of a unit that go with it; a replacement that never served goes before."""
    aside = (p.old if p.relieved else p.new for p in unit.pairs if p.relieved or p.new.serves)
    return (*unit.live, *aside)


def _targets(
    deployment: Deployment,
    stay: Iterable[Unit],
    around: Around,
    growths: Mapping[int, Growth],
    *,
    swaps: bool = False,
) -> dict[int, Target]:
    """Return what the units of the newest revision are to have next, by unit."""
    newest = [(unit, growths[unit.index]) for unit in stay if unit.newest]
    return {u.index: target_of(deployment, u, around, growth=g, swaps=swaps) for u, g in newest}


def _swaps(
    deployment: Deployment,
    stay: Sequence[Unit],
    targets: Mapping[int, Target],
    around: Around,
    *,
    also_missing: int,
) -> list[Unit]:
    """Return the units that give up replicas before they get others.

    As many as may be missing, `also_missing` apart; and none that could not say on each of its pods
    what makes it whole from then on.
    """
    serving = sum(unit.ready for unit in stay)
    most = serving - max(0, deployment.replicas - deployment.rollout.max_unavailable)
    found = [unit for unit in stay if unit.ready and unit.newest and targets[unit.index].may_swap]
    may = [unit for unit in found if not any(pod.uid in around.unpatchable for pod in unit.live)]
    return may[: max(0, most - also_missing)]


def _halves(
    deployment: Deployment, units: Sequence[Unit], around: Around, now: float
) -> list[Unit]:
    """Return the units that give back the half of their room that they keep in vain.

    One at a time, so that its room may help others.
    """
    until = {unit.index: _half_until(deployment, unit, around) for unit in units}
    halves = [unit for unit in units if math.inf > until[unit.index] <= now]
    draining = [unit for unit in halves if unit.draining]
    busy = any(unit.useless or not unit.live for unit in units)
    return draining or ([] if busy else halves[-1:])


def _half_until(deployment: Deployment, unit: Unit, around: Around) -> float:
    """Return until when a unit keeps its room: for ever, unless the plan has none for its rest.

    A pod without a gate is on its way: kube-scheduler binds one after the other.
    """
    if not unit.newest or not unit.started or unit.scheduled:
        return math.inf
    needed = {
        slot.name for slot in target_of(deployment, unit, around, growth=Growth.NOTHING).slots
    }
    waiting = [pod for pod in unit.members if pod.gated and pod.name in needed]
    if not any(pod.uid in around.held for pod in waiting):
        return math.inf
    return HALF_S + max(pod.created_at for pod in waiting)


def _going(
    deployment: Deployment, units: Sequence[Unit], lost: Sequence[Unit], around: Around
) -> list[Unit]:
    """Return the units that serve, or may come to serve, of which every pod is to go now."""
    there = (unit for unit in units if unit.live and unit not in lost)
    rest = sorted(there, key=lambda unit: _use(unit, around))
    # 1. More than may be.
    surplus = []
    while len(rest) > deployment.replicas + _surge(deployment, rest):
        surplus.append(rest.pop(0))
    # 2. Those whose turn it is to be replaced.
    ending = any(unit.pods and not unit.live for unit in units)
    return [*surplus, *_turn(deployment, rest, around, ending=ending)]


def _use(unit: Unit, around: Around) -> tuple[bool, bool, bool, bool, bool, float, int]:
    """Return a key by which those come first that are missed the least."""
    return (
        *(not unit.draining, unit.ready, unit.newest, not unit.displaced, unit.started),
        *(unit.load(around.loads), -unit.index),
    )


def _turn(
    deployment: Deployment, rest: Sequence[Unit], around: Around, *, ending: bool
) -> list[Unit]:
    """Return the units that make way for others now, the least missed first."""
    outdated = [unit for unit in rest if _is_outdated(deployment, unit)]
    if not outdated:
        return []
    outdated.sort(key=lambda u: (not u.draining, u.load(around.loads), -u.index))
    starting, no_room = _starting(deployment, rest, around)
    serving = sum(unit.ready for unit in rest)
    # 1. Those on nodes that are to be left go only for others that serve: room there is no use.
    displaced = [unit for unit in outdated if unit.newest]
    turn = [u for u in displaced if not u.ready and serving >= deployment.replicas]
    # 2. Older ones that do not serve go before, but not all at once: they may yet come to serve,
    # and nobody knows whether the newest revision does. One at a time where room is all that it
    # lacks. What drains goes on.
    older = [unit for unit in outdated if not unit.newest]
    turn += _unready(deployment, rest, older, no_room=no_room and not ending, n=len(starting))
    # 3. Of those that serve as many as the newer ones make up for; where these cannot come before,
    # as many older ones as may be missing.
    ahead = _surge(deployment, rest) > 0 and not no_room
    floor = deployment.replicas - (0 if ahead else deployment.rollout.max_unavailable)
    ready = [unit for unit in (outdated if ahead else older) if unit.ready]
    going = ready[: max(0, serving - max(0, floor))]
    turn += going
    if not ahead:
        # Others that serve already are enough, whether yet another finds room or not.
        leaving = [unit for unit in displaced if unit.ready]
        turn += leaving[: max(0, serving - len(going) - deployment.replicas)]
    if turn or not no_room or ending or len(rest) <= deployment.replicas:
        return turn
    # 4. Nobody finds room, and there are more units than asked for: one that runs in part gives
    # its.
    return [unit for unit in reversed(starting) if unit.started][:1]


def _unready(
    deployment: Deployment, rest: Sequence[Unit], older: Sequence[Unit], *, no_room: bool, n: int
) -> list[Unit]:
    """Return the older units that go although they do not serve; `n` newer ones are starting."""
    missing = max(0, deployment.replicas - len(rest))
    most = deployment.rollout.max_unavailable + _surge(deployment, rest) - n - missing
    if no_room:
        most = max(most, 1)
    draining = [unit for unit in older if unit.draining]
    unready = [unit for unit in older if not unit.ready and not unit.draining]
    return [*draining, *unready[: max(0, most - len(draining))]]


def _is_outdated(deployment: Deployment, unit: Unit) -> bool:
    """Return whether another unit is to take its place."""
    return unit.displaced or not (unit.newest or deployment.rollout.paused)


def _starting(
    deployment: Deployment, rest: Sequence[Unit], around: Around
) -> tuple[list[Unit], bool]:
    """Return the units that are to come to serve, and whether none of them finds room."""
    starting = sorted(
        (u for u in rest if u.newest and not u.ready and not u.displaced),
        key=lambda unit: unit.index,
    )
    due = _due(deployment, rest)
    return starting, bool(starting) and not due and all(u.lacks_room(around.held) for u in starting)


def _spare(deployment: Deployment, stay: Sequence[Unit], around: Around) -> frozenset[int]:
    """Return the units of which pods on broken hardware may go although they serve.

    A whole unit beside them is tried first; where it finds no room, as many as may be missing.
    """
    broken = [u for u in stay if u.newest and u.ready and any(map(around.breaks, u.live))]
    if not broken or (_surge(deployment, stay) > 0 and not _starting(deployment, stay, around)[1]):
        return frozenset()
    serving = sum(unit.ready for unit in stay)
    n = serving - max(0, deployment.replicas - deployment.rollout.max_unavailable)
    return frozenset(unit.index for unit in broken[: max(0, n)])


def _surge(deployment: Deployment, rest: Iterable[Unit]) -> int:
    """Return how many units there may be beyond those asked for."""
    wanted = any(_is_outdated(deployment, unit) for unit in rest)
    return deployment.rollout.max_surge if wanted and deployment.replicas > 0 else 0


def _due(deployment: Deployment, rest: Sequence[Unit]) -> int:
    """Return how many units of the newest revision are to be made beside those that stay.

    Pods that are doubled while they are moved take of what may be there beyond.
    """
    current = sum(not _is_outdated(deployment, unit) for unit in rest)
    doubled = sum(len(unit.pairs) for unit in rest)
    allowed = deployment.replicas + max(0, _surge(deployment, rest) - doubled) - len(rest)
    return max(0, min(allowed, deployment.replicas - current))


def _fresh(deployment: Deployment, units: Sequence[Unit], there: Sequence[Unit]) -> list[int]:
    """Return the indices of the units to be made.

    A unit whose pods are all being deleted, by somebody else or because they were moved, is made
    again under its names, and so is one that never ran, for its names are free at once. Any other
    index is one that nobody has.
    """
    kept = {unit.index for unit in there}
    gone = [unit for unit in units if unit.index not in kept]
    again = [u.index for u in gone if (u.newest and not u.live) or not _ever_ran(u)]
    known = {unit.index for unit in units}
    free = (index for index in count() if index not in known)
    due = _due(deployment, there)
    chosen = again[:due]
    return sorted([*chosen, *islice(free, due - len(chosen))])


def _ever_ran(unit: Unit) -> bool:
    return any(pod.node is not None for pod in unit.pods)


def _slots(
    deployment: Deployment, targets: Iterable[Target], fresh: Iterable[int]
) -> dict[str, Slot]:
    """Return the pods that are to be, of units of the newest revision, by name."""
    made_from = deployment.revision
    slots = [slot for each in targets for slot in each.slots]
    slots += [slot for index in fresh for slot in least_slots(deployment, index, made_from)]
    return {slot.name: slot for slot in sorted(slots, key=lambda slot: slot.unit)}


def _is_abandoned(pod: Child, around: Around, now: float) -> bool:
    """Return whether nobody will say that the pod has ended: its node is gone, or silent."""
    overdue = pod.terminating and now >= pod.ends_by + OVERDUE_S
    return around.buries(pod) or (overdue and pod.node in around.away)


def _gives_back_at(
    deployment: Deployment, stay: Iterable[Unit], around: Around, now: float
) -> float | None:
    """Return when the first unit that keeps half of its room is to give it back."""
    halves = (_half_until(deployment, unit, around) for unit in stay)
    return min((at for at in halves if now < at < math.inf), default=None)


def _first(*instants: float | None) -> float | None:
    return min((at for at in instants if at is not None), default=None)
