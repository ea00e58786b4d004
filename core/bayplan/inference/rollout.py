"""Which pods of an InferenceDeployment to make and to delete next, unit by unit.

    a unit to be replaced, or too many  ──▶ it goes as a whole (`turnover`)
    newest unit, a pod is missing       ──▶ the pod is made; after failures with back-off
    newest unit, not as the ratio asks  ──▶ it gets there step by step (`targets`), and runs on
    newest unit, waits in vain          ──▶ another gives what it has beyond the least (`sharing`)
    a pod whose replacement serves      ──▶ it is drained, and evicted (`replacements`)

A unit is of one revision: no pod is made in it while a pod of another one is there. Units that
serve are drained before they are deleted (`drains`); pods that fail are replaced inside their unit
(`repair`).

Everything is compared level by level: what is decided depends on the spec, on the pods as they
are, and on how often they have failed, not on how things came to be so. Asking again after the
changes were made, with every pod ready, yields none.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bayplan.inference import drains, replacements, sharing
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.drains import Drains
from bayplan.inference.patches import MetadataPatch, metadata_patches
from bayplan.inference.repair import Repair
from bayplan.inference.replacements import GivenUp
from bayplan.inference.replicas import Replicas
from bayplan.inference.slots import Slot, least_slots
from bayplan.inference.targets import Growth, Target, target_of
from bayplan.inference.turnover import Turnover, turnover
from bayplan.inference.units import UNKNOWN, Around, Unit, own, units_of

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
    units = units_of(deployment, pods, around)
    # 1. Whole units: which go, which stay, which are made.
    whole = turnover(deployment, units, around, now)
    # 2. Within units of the newest revision: which pods must go, which are missing.
    aims = _aims(deployment, units, whole, around, now)
    replicas = Replicas.of(aims.slots, (pod for unit in units for pod in unit.pods), around)
    repair = Repair(
        aims.slots,
        failures=failures or {},
        around=around,
        replicas=replicas,
        spare=whole.spare,
        now=now,
    )
    newest = (pod for unit in whole.stay if unit.newest for pod in unit.live)
    replaced = [pod for pod in newest if pod.uid not in aims.surplus and repair.must_go(pod)]
    # 3. Of pods whose replacement starts first: whose turn it is.
    turns = replacements.turns(
        units,
        {unit.index for unit in whole.stay},
        around,
        surplus=aims.surplus,
        within_s=replacements.serves_within_s(deployment),
        now=now,
    )
    relieved, obsolete = (
        drains.drained(deployment, [[pod] for pod in olds], around.loads, now=now)
        for olds in (turns.relieved, turns.obsolete)
    )
    # 4. All of it together.
    drained, shrunk = whole.drained, aims.shrunk
    stray = [child for child in own(deployment, pods) if child.unit < 0 and not child.terminating]
    delete = (
        *(*stray, *whole.at_once, *drained.delete, *shrunk.delete, *replaced),
        *(*obsolete.delete, *turns.deleted),
    )
    strangers = {child.name for child in pods if child.owner_uid != deployment.uid}
    return Changes(
        create=_missing(aims.slots, pods, units, replicas),
        delete=delete,
        abandon=tuple(pod for pod in own(deployment, pods) if _is_abandoned(pod, around, now)),
        drain=(*drained.drain, *shrunk.drain, *obsolete.drain),
        serve=drains.to_serve(
            (*(pod for unit in whole.stay for pod in unit.live), *turns.starting),
            but=aims.surplus | {pod.uid for pod in delete},
            leaving=around.leaving,
        ),
        evict=relieved.delete,
        relieve=relieved.drain,
        lift=tuple(pod for pod in turns.starting if pod.gated),
        failed=turns.failed,
        patch=metadata_patches(
            deployment,
            pods,
            aims.targets,
            but={pod.name for pod in delete},
            aside={pod.uid for unit in units for pod in unit.aside},
            marks=replacements.marks((p for u in units for p in u.pairs), turns, now=now),
        ),
        swaps=aims.swaps,
        gives=aims.gives,
        strangers=tuple(sorted(strangers & aims.slots.keys())),
        failures=repair.failures,
        back_off=tuple(repair.back_off),
        retry_at=_first(
            *(repair.retry_at, drained.again_at, shrunk.again_at, whole.gives_back_at),
            *(relieved.again_at, obsolete.again_at, turns.again_at),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aims:
    """What units of the newest revision are to have next.

    Attributes:
        targets: That, by unit.
        slots: The pods that are to be, by name, those of fresh units, too.
        surplus: uids of pods that units have beyond it.
        shrunk: How far these are, which go when they have finished their requests.
        swaps: Units that give up what they need before they get other things instead.
        gives: Units that give up what they have beyond the least.
    """

    targets: Mapping[int, Target]
    slots: Mapping[str, Slot]
    surplus: frozenset[str]
    shrunk: Drains
    swaps: frozenset[int]
    gives: frozenset[int]


def _aims(
    deployment: Deployment, units: Sequence[Unit], whole: Turnover, around: Around, now: float
) -> _Aims:
    """Return what they are to have next, after what becomes of whole units."""
    stay = whole.stay
    growths = sharing.growths(deployment, units, stay, around.held, missing=whole.missing)
    targets = _targets(deployment, stay, around, growths)
    swaps = _swaps(deployment, stay, targets, around, also_missing=len(whole.spare))
    targets |= _targets(deployment, swaps, around, growths, swaps=True)
    surplus = [each.surplus for each in targets.values()]
    return _Aims(
        targets=targets,
        slots=_slots(deployment, targets.values(), whole.fresh),
        surplus=frozenset(pod.uid for pods in surplus for pod in pods),
        shrunk=drains.drained(deployment, surplus, around.loads, now=now),
        swaps=frozenset(unit.index for unit in swaps),
        gives=frozenset(index for index, g in growths.items() if g is Growth.GIVES),
    )


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


def _slots(
    deployment: Deployment, targets: Iterable[Target], fresh: Iterable[int]
) -> dict[str, Slot]:
    """Return the pods that are to be, of units of the newest revision, by name."""
    made_from = deployment.revision
    slots = [slot for each in targets for slot in each.slots]
    slots += [slot for index in fresh for slot in least_slots(deployment, index, made_from)]
    return {slot.name: slot for slot in sorted(slots, key=lambda slot: slot.unit)}


def _missing(
    slots: Mapping[str, Slot], pods: Iterable[Child], units: Iterable[Unit], replicas: Replicas
) -> tuple[Slot, ...]:
    """Return the pods to be made: none in units of two revisions, nor in closed replicas."""
    names = {pod.name for pod in pods}
    mixed = {unit.index for unit in units if not unit.pure}
    lacking = (slot for slot in slots.values() if slot.name not in names)
    return tuple(s for s in lacking if s.unit not in mixed and s.leader not in replicas.closed)


def _is_abandoned(pod: Child, around: Around, now: float) -> bool:
    """Return whether nobody will say that the pod has ended: its node is gone, or silent."""
    overdue = pod.terminating and now >= pod.ends_by + OVERDUE_S
    return around.loses(pod) or (overdue and pod.node in around.away)


def _first(*instants: float | None) -> float | None:
    return min((at for at in instants if at is not None), default=None)
