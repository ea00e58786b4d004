"""Which running pods tie nodes down, and which float: the same fleet seen in three ways.

What a stage asks decides how much of the present placement matters. Moves are free while tiers are
kept and placed, so there only pods that could not come back to their node are anchored; for the
least disruption all are, but pods of tiers that stay whole need not be told apart, and tiers that
go whole need not be seen.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np

from bayplan.solver.problem.instance import Counts, Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A way to see the running pods.

    Attributes:
        members: Classes of pods that share an identity, by identity.
        anchored: [node, identity] running pods that stay or leave.
        requests: [identity, resource] what one uses.
        room: [node, resource] room without them.
        settled: Classes whose running pods all stay where they are.
        fewest: [class] fewest running pods that go on running.
        most: [class] most running pods that go on running.
    """

    members: tuple[tuple[int, ...], ...]
    anchored: Counts = field(repr=False)
    requests: Counts = field(repr=False)
    room: Counts = field(repr=False)
    settled: tuple[int, ...]
    fewest: Counts
    most: Counts


def floating(instance: Instance, *, gangs_stay: bool) -> View:
    """Return the view for keeping and placing: what could be back on its node floats.

    With `gangs_stay`, here and in the other views, pods of divided gangs all go on running.
    """
    tied = np.where(instance.arrivals, 0, instance.running)
    return _plain(instance, tied, gangs_stay=gangs_stay)


def stateful(instance: Instance, *, gangs_stay: bool) -> View:
    """Return the view in which every running pod is seen where it is."""
    return _plain(instance, instance.running, gangs_stay=gangs_stay)


def _plain(instance: Instance, tied: Counts, *, gangs_stay: bool) -> View:
    members = tuple(
        (i,) for i, each in enumerate(instance.classes) if each.running and not each.must_go
    )
    index = [i for (i,) in members]
    return View(
        members=members,
        anchored=tied[index].T,
        requests=instance.requests[index],
        room=instance.room,
        settled=(),
        fewest=np.where(instance.must_stay & gangs_stay, instance.run_totals, 0),
        most=np.where(instance.must_go, 0, instance.run_totals),
    )


def settled(instance: Instance, kept: dict[int, int], *, gangs_stay: bool) -> View:
    """Return the view for the least disruption, given how many pods of each tier go on running.

    Args:
        instance: The problem.
        kept: Pods that go on running, by tier.
        gangs_stay: Whether those of divided gangs all do.
    """
    totals: dict[int, int] = defaultdict(int)
    for each in instance.classes:
        totals[each.keep_tier] += len(each.running)
    whole = {tier for tier, n in kept.items() if n == totals[tier]}
    gone = {tier for tier, n in kept.items() if not n and totals[tier]}
    limited = {instance.classes[i].budget for a in instance.allowances for i in a.classes}
    members: dict[object, list[int]] = defaultdict(list)
    still: list[int] = []
    for i, each in enumerate(instance.classes):
        if not each.running or each.keep_tier in gone or each.must_go:
            continue
        if each.keep_tier in whole and not each.movable:
            still.append(i)
            continue
        alike = (
            instance.requests[i].tobytes(),
            instance.arrivals[i].tobytes(),
            each.move_cost,
            each.budget if each.budget in limited else None,
        )
        members[alike if each.keep_tier in whole else i].append(i)
    view = _merged(instance, whole=whole, gone=gone, still=still, members=list(members.values()))
    some = instance.must_stay & gangs_stay
    return replace(
        view,
        fewest=np.where(some, instance.run_totals, view.fewest),
        most=np.where(instance.must_go, 0, view.most),
    )


def _merged(
    instance: Instance,
    *,
    whole: set[int],
    gone: set[int],
    still: list[int],
    members: list[list[int]],
) -> View:
    tiers = np.array([each.keep_tier for each in instance.classes], dtype=np.int64)
    totals = instance.run_totals
    anchored = [instance.running[index].sum(axis=0) for index in members]
    return View(
        members=tuple(tuple(index) for index in members),
        anchored=np.array(anchored, dtype=np.int64).reshape(len(members), len(instance.nodes)).T,
        requests=instance.requests[[index[0] for index in members]],
        room=instance.room - instance.running[still].T @ instance.requests[still],
        settled=tuple(still),
        fewest=np.where(np.isin(tiers, list(whole)), totals, 0),
        most=np.where(np.isin(tiers, list(gone)), 0, totals),
    )
