"""Check that nobody goes whose room only those get who do not outrank it.

A victim is spared in thought, with its whole gang, and whoever is placed by a later stage than the
one that would have been better so is left out. Where that breaks no rule, the plan disturbs
somebody for the sake of pods that it counts for less. Rooms are looked at first: hardly any victim
has room where it was, so that it hardly ever comes to the rules.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np

from bayplan.aftermath import NOWHERE
from bayplan.cluster import units
from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.cluster.snapshot import Pod
from bayplan.policy import Order
from bayplan.validate import gangs, rooms
from bayplan.validate.evidence import Evidence, gather
from bayplan.validate.findings import Code, Violation, wrong
from bayplan.validate.gangs import placed_as
from bayplan.validate.stages import in_order

#: How many victims, or gangs of them, are looked at by all rules; each costs half a validation.
_MOST: Final = 20

#: What sparing somebody could break.
_RULES: Final = (rooms.room, rooms.devices, gangs.between_pods, gangs.whole_gangs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spared:
    """Victims that can only be spared together.

    Attributes:
        pods: The victims.
        gains: The first stage that would be better if they were spared.
    """

    pods: tuple[Pod, ...]
    gains: str


def spared(about: Evidence) -> Iterator[Violation]:
    """Check that each victim makes room for somebody who counts for more."""
    victims = tuple(_spared(about))
    if not victims:
        return
    turns = {name: turn for turn, name in enumerate(in_order(about))}
    came = _came(about, victims)
    likely = (each for each in victims if _has_room(about, each, came, turns))
    for each in islice(likely, _MOST):
        if _breaks_nothing(about, each, turns):
            pod = max(each.pods, key=lambda pod: pod.priority)
            yield wrong(
                Code.OUTRANKED_VICTIM,
                f"{pod.key} of priority {pod.priority} could stay on {pod.node}: only pods that "
                "count for less get its room",
            )


def _spared(about: Evidence) -> Iterator[_Spared]:
    """Yield the victims that newcomers have to outrank.

    A pod may be moved for any newcomer, unless the order protects it.
    """
    evicted: dict[GangKey | PodKey, list[Pod]] = defaultdict(list)
    for _, pod in about.evicted:
        evicted[pod.key if pod.gang is None or pod.gang not in about.gangs else pod.gang].append(
            pod
        )
    for pods in evicted.values():
        highest = max(pod.priority for pod in pods)
        yield _Spared(pods=tuple(pods), gains=f"keep {highest}")
    if about.policy.order is Order.PROTECT_FIRST:
        for _, pod in about.moved:
            yield _Spared(pods=(pod,), gains=f"disruption from {pod.priority}")


def _is_late(about: Evidence, newcomer: Pod, spared: _Spared, turns: Mapping[str, int]) -> bool:
    """Return whether a newcomer is placed by a later stage than the one that gains."""
    unknown = len(turns)
    return turns.get(placed_as(about, newcomer).stage, unknown) > turns.get(spared.gains, unknown)


def _came(about: Evidence, victims: Iterable[_Spared]) -> Mapping[NodeName, Sequence[Pod]]:
    """Return who is bound to the nodes that victims leave."""
    rows, bound = about.snapshot.rows, about.after.bound
    nodes = (pod.node for each in victims for pod in each.pods)
    left = {rows.get(node, NOWHERE) for node in nodes if node is not None} - {NOWHERE}
    came: dict[NodeName, list[Pod]] = defaultdict(list)
    there = np.isin(bound.rows, list(left)) & (bound.pods >= 0)
    for i, n in zip(bound.pods[there].tolist(), bound.rows[there].tolist(), strict=True):
        came[about.snapshot.nodes[n].name].append(about.snapshot.pods[i])
    return came


def _has_room(
    about: Evidence,
    spared: _Spared,
    came: Mapping[NodeName, Sequence[Pod]],
    turns: Mapping[str, int],
) -> bool:
    """Return whether the victims have room where they were, beside all that is placed earlier."""
    back: dict[NodeName, list[Pod]] = defaultdict(list)
    for pod in spared.pods:
        if pod.node is None or pod.node not in about.snapshot.rows:
            return False
        back[pod.node].append(pod)
    return all(
        _fits(
            about,
            node,
            back=pods,
            late=[each for each in came.get(node, ()) if _is_late(about, each, spared, turns)],
        )
        for node, pods in back.items()
    )


def _fits(about: Evidence, node: NodeName, *, back: Sequence[Pod], late: Sequence[Pod]) -> bool:
    """Return whether pods have room on a node without those that come late."""
    n = about.snapshot.rows[node]
    asked = {name for pod in back for name in pod.requests if not units.is_part(name)}
    # GPUs are short, if anything is.
    for resource in sorted(asked, key=lambda name: not units.is_gpu(name)):
        more = sum(pod.requests[resource] for pod in back)
        less = sum(pod.requests[resource] for pod in late)
        if more - less > _left(about, n, resource):
            return False
    return True


def _left(about: Evidence, n: int, resource: str) -> int:
    """Return what of a resource that pods ask for is left on a node after the plan."""
    r = about.amounts.names.index(resource)
    there = about.amounts.there[about.node_kind[n], r] + units.implied(resource)
    return int(there - about.amounts.used[about.state[n], r])


def _breaks_nothing(about: Evidence, spared: _Spared, turns: Mapping[str, int]) -> bool:
    """Return whether the plan may be carried out without these victims and what comes too late."""
    stay = {pod.key for pod in spared.pods}
    late = {pod.key for _, pod in about.bound if _is_late(about, pod, spared, turns)}
    rest = replace(
        about.plan,
        binds=tuple(bind for bind in about.plan.binds if bind.pod not in late),
        moves=tuple(move for move in about.plan.moves if move.pod not in stay),
        evictions=tuple(evict for evict in about.plan.evictions if evict.pod not in stay),
    )
    other = gather(about.snapshot, about.policy, rest)
    return not any(True for rule in _RULES for _ in rule(other))
