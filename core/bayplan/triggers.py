"""When a new plan is due.

The planner asks after every change in its cache. A plan that is being carried out is left alone as
long as it covers every pod that waits; a plan that only holds is not repeated until the cluster
it was made from has changed.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from bayplan.cluster.keys import GangKey
from bayplan.cluster.pods import Pod, newest_member
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan
from bayplan.codec.parts import listed
from bayplan.plan import Plan

#: Seconds from the creation of its newest pod in which a gang that lacks some is being made.
MAKING_S: Final = 2.0


def is_due(
    snapshot: Snapshot,
    newest: PublishedPlan | None,
    *,
    digest: Callable[[], str],
    last_digest: str,
) -> bool:
    """Return whether the planner should make a plan now.

    `digest` identifies the snapshot and the policy, `last_digest` those of the last pass. It is
    asked for only where it decides, for it looks at every node.
    """
    if not snapshot.waiting():
        return False
    if newest is not None and is_at_work(newest):
        return bool(uncovered(snapshot, newest))
    if newest is not None and newest.phase == "Failed":
        return True
    return digest() != last_digest


def is_defragmentation_due(
    newest: PublishedPlan | None, *, moves: int, digest: str, last_digest: str
) -> bool:
    """Return whether the planner should look for slots to win, with nothing else to do.

    `moves` is what the open window still allows; `last_digest` is of the last look.
    """
    if not moves or (newest is not None and is_at_work(newest)):
        return False
    return digest != last_digest


def are_being_made(snapshot: Snapshot, now: float) -> bool:
    """Return whether all who wait are of gangs whose owners are just making the rest.

    A plan would hold them, and be overtaken at once. `now` is in seconds since the epoch.
    """
    waiting = snapshot.waiting()
    young = (pod.gang and 0 <= now - pod.created_at < MAKING_S for pod in waiting)
    if not waiting or not all(young):
        return False
    gangs: dict[GangKey | None, list[Pod]] = {pod.gang: [] for pod in waiting}
    for pod in snapshot.in_gangs:
        if pod.gang in gangs and not pod.terminating:
            gangs[pod.gang].append(pod)
    return all(len(pods) < newest_member(pods).gang_min_count for pods in gangs.values())


def is_useless(solved: Snapshot, seen: Snapshot) -> bool:
    """Return whether a plan for `solved` would have to be made again at once, for `seen` is so.

    A pod that it decides on waits no more, a node has gone or takes no pods any more, or somebody
    waits who outranks one of those it was made for. New pods of no higher priority and freed room
    make it no worse.
    """
    waited = {pod.uid: pod for pod in solved.waiting()}
    waiting = {pod.uid: pod for pod in seen.waiting()}
    if not waited.keys() <= waiting.keys():
        return True
    lowest = min((pod.priority for pod in waited.values()), default=None)
    arrived = (pod for uid, pod in waiting.items() if uid not in waited)
    if any(lowest is None or pod.priority > lowest for pod in arrived):
        return True
    takers = {node.name for node in seen.nodes if node.ready and node.schedulable}
    return any(n.ready and n.schedulable and n.name not in takers for n in solved.nodes)


def is_at_work(published: PublishedPlan) -> bool:
    """Return whether a plan has steps that are still to be done."""
    plan = published.plan
    return not published.finished and bool(plan.binds or plan.moves or plan.evictions)


def uncovered(snapshot: Snapshot, published: PublishedPlan) -> tuple[str, ...]:
    """Return the uids of waiting pods on which a plan has not decided, sorted.

    What an owner makes in place of its moved or evicted pods is covered, one pod for each that has
    not got its place yet. A plan
    that lists only a part of what it decided has also decided on every pod older than itself.
    """
    plan = published.plan
    decided = {bind.uid for bind in plan.binds} | {hold.uid for hold in plan.holds}
    # A replacement that has its place is none of those that wait.
    moves = {move.uid: move for move in plan.moves}
    said = (pod for pod in snapshot.pods if pod.replaces in moves) if moves else ()
    placed = {pod.replaces for pod in said if moves[pod.replaces].is_replaced_by(pod)}
    owners = [move.owner for move in plan.moves if move.uid not in placed]
    owners += [evict.owner for evict in plan.evictions]
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


def in_place_of_victims(pod: Pod, published: PublishedPlan) -> str:
    """Return what a plan at work means for a pod that waits in the place of one of its victims.

    In words; "" if its owner has none there. No other plan is made for it meanwhile.
    """
    if pod.owner is None or not is_at_work(published):
        return ""
    owner, name, plan = pod.owner.uid, published.name, published.plan
    if any(move.owner and move.owner.uid == owner for move in plan.moves):
        return (
            f"{name} moves pods of {pod.owner}: it gets the place of one that has left, or is"
            f" planned when {name} has ended"
        )
    if any(evict.owner and evict.owner.uid == owner for evict in plan.evictions):
        return f"{name} evicts pods of {pod.owner}: it is planned when {name} has ended"
    return ""


def repeats(newest: PublishedPlan | None, plan: Plan) -> bool:
    """Return whether `plan` says again what the newest published one says, which still holds.

    Certificates do not count: the same decision may take longer to find.
    """
    if newest is None or newest.phase in {"Failed", "Superseded"}:
        return False
    old, new = newest.plan, listed(plan)
    same = (old.binds, old.moves, old.evictions) == (new.binds, new.moves, new.evictions)
    return same and old.holds == new.holds
