"""When a new plan is due.

The planner asks after every change in its cache. A plan that is being carried out is left alone as
long as it covers every pod that waits; a plan that only holds is not repeated until the cluster
it was made from has changed.
"""

from collections import Counter

from bayplan.codec import PublishedPlan
from bayplan.plan import Plan
from bayplan.snapshot import Snapshot


def is_due(
    snapshot: Snapshot, newest: PublishedPlan | None, *, digest: str, last_digest: str
) -> bool:
    """Return whether the planner should make a plan now.

    `digest` identifies the snapshot, `last_digest` the one that the last pass decided on.
    """
    if not snapshot.waiting():
        return False
    if newest is not None and is_at_work(newest):
        return bool(uncovered(snapshot, newest))
    return digest != last_digest


def is_at_work(published: PublishedPlan) -> bool:
    """Return whether a plan has steps that are still to be done."""
    plan = published.plan
    return not published.finished and bool(plan.binds or plan.moves or plan.evictions)


def uncovered(snapshot: Snapshot, published: PublishedPlan) -> tuple[str, ...]:
    """Return the uids of waiting pods on which a plan has not decided, sorted.

    What an owner makes in place of its moved or evicted pods is covered, one pod for each. A plan
    that lists only a part of what it decided has also decided on every pod older than itself.
    """
    plan = published.plan
    decided = {bind.uid for bind in plan.binds} | {hold.uid for hold in plan.holds}
    owners = [move.owner for move in plan.moves] + [evict.owner for evict in plan.evictions]
    expected = Counter(owner.uid for owner in owners if owner)
    left = []
    for pod in snapshot.waiting():
        if pod.uid in decided or (published.truncated and pod.created_at < published.created_at):
            continue
        if pod.owner and expected[pod.owner.uid] > 0:
            expected[pod.owner.uid] -= 1
            continue
        left.append(pod.uid)
    return tuple(sorted(left))


def same_decision(one: Plan, other: Plan) -> bool:
    """Return whether two plans decide the same, whatever their certificates took to find."""
    return (one.binds, one.moves, one.evictions, one.holds) == (
        other.binds,
        other.moves,
        other.evictions,
        other.holds,
    )
