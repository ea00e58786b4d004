"""Why a pod is where it is, or why it waits, in sentences.

Everything comes from objects that anyone can read with kubectl: the pod and the PackingPlans. The
command line prints it; nothing is solved.
"""

import re
from collections.abc import Sequence
from typing import Final

from bayplan.cluster import units
from bayplan.cluster.budgets import Health
from bayplan.cluster.pods import UNKNOWN_COUNT, Pod
from bayplan.codec import PublishedPlan
from bayplan.plan import Bind, Choice, Evict, Hold, Move
from bayplan.slots import SIZES
from bayplan.steps import clock, hanging, source_of
from bayplan.triggers import in_place_of_victims

#: Most names of pods in one sentence.
_MOST_NAMES: Final = 3


def explain(
    pod: Pod,
    *,
    placed_by: str | None,
    plans: Sequence[PublishedPlan] | None,
    now: float,
    decided: str = "",
) -> tuple[str, ...]:
    """Return the answer as lines, the most important first.

    Args:
        pod: Whom it is about.
        placed_by: The name of the plan that gave it its node, or ""; None if that is not known.
        plans: Those that are kept; None if they may not be read.
        now: Seconds since the epoch.
        decided: What its annotation says, or "": told where no plan tells of it.
    """
    last = f"It was told last: {decided}." if decided else ""
    lines = _lines(pod, placed_by, plans, now, last)
    # Some of what others say, kube-scheduler and admission policies, comes with a full stop.
    return tuple(re.sub(r"(?<!\.)\.\.$", ".", line) for line in lines if line)


def _lines(
    pod: Pod,
    placed_by: str | None,
    plans: Sequence[PublishedPlan] | None,
    now: float,
    last: str,
) -> tuple[str, ...]:
    newest_first = sorted(plans or (), key=lambda plan: -plan.sequence)
    head = _head(pod)
    if pod.node is not None:
        gone = "may not be read" if plans is None else "is no longer kept"
        placed = _placed(pod, placed_by, newest_first, gone, last)
        return (head, *placed, *_leaving(pod, newest_first, now))
    if pod.terminating:
        return (head, "Is being deleted.")
    if pod.unplanned:
        return (head, f"{pod.unplanned[0].upper()}{pod.unplanned[1:]}.")
    if not pod.waiting:
        told = [f"Kube-scheduler finds no node for it: {pod.refused}."] if pod.refused else []
        return (head, "No plan is made for it: it waits for its scheduler.", *told, last)
    if plans is None:
        return (head, last or "Waits for a plan; what plans say of it may not be read.")
    return (head, *_waiting(pod, newest_first, last))


def _head(pod: Pod) -> str:
    size = "" if pod.gang_min_count == UNKNOWN_COUNT else f" of {pod.gang_min_count}"
    gang = f", gang {pod.gang.name}{size}" if pod.gang else ""
    return f"Pod {pod.key} (priority {pod.priority}{gang})"


def _placed(
    pod: Pod, placed_by: str | None, plans: Sequence[PublishedPlan], gone: str, last: str
) -> list[str]:
    where = [f"Runs on {pod.node}."] if pod.bound else _pinned(pod)
    if placed_by is None:
        who = "whether an older one did, `kubectl bayplan explain` says"
        return [*where, f"No plan that is kept placed it; {who}."]
    if not placed_by:
        free = "No plan placed it: it went where its scheduler's own scores were best."
        return [*where, free, last]
    published = next((plan for plan in plans if plan.name == placed_by), None)
    if published is None:
        took = ", in the place of a pod that it moved" if pod.replaces else ""
        lost = f"that plan {gone}, so whom it made leave is not known"
        return [*where, f"{placed_by} placed it{took}; {lost}.", last if took else ""]
    lines = [*where, f"{placed_by} placed it: {_quality(published)}."]
    replaced = next((m for m in published.plan.moves if m.uid == pod.replaces), None)
    if replaced is not None:
        away = _away(replaced, published)
        starts = pod.serves_by and pod.health is not Health.READY
        goes = (
            f"which leaves {away} once it serves"
            if starts
            else f"which {placed_by} moved off {away}"
        )
        lines.append(f"It replaces {replaced.pod.name}, {goes}.")
    return [*lines, *_room_made(pod, published)]


def _pinned(pod: Pod) -> list[str]:
    if not pod.refused:
        return [f"Is pinned to {pod.node}; binding is next."]
    refused = f"Is pinned to {pod.node}, and kube-scheduler refuses it there: {pod.refused}."
    if pod.owner is None:
        next_ = "correct what is refused, or delete the pod and make it anew: it has no owner"
    else:
        next_ = f"correct what is refused; after some minutes {pod.owner} makes it anew, gated"
    return [refused, f"Next: {next_}."]


def chosen(pod: Pod, choice: Choice) -> tuple[str, ...]:
    """Return why a pod without a plan was given its node, and what decided, as lines."""
    ask, here, there = (r.gpus for r in (pod.requests, choice.room, choice.runner_up_room))
    where = f"the scheduler asked about {choice.asked} node{'' if choice.asked == 1 else 's'}"
    first = f"Was given {choice.node} ({units.words('/gpu', here)} free): {where}."
    if choice.runner_up is None:
        return (first, "No other of them had room.")
    second = f"Runner-up: {choice.runner_up} ({units.words('/gpu', there)} free)."
    if choice.loss == choice.runner_up_loss:
        return (first, second, "What decided: both are equal, and it was asked about first.")
    for size in SIZES:
        broken, spared = _broken(here, ask, size), _broken(there, ask, size)
        if broken < spared:
            what = f"whole free slots of {size} GPUs lost: {broken}, on the runner-up {spared}"
            return (first, second, f"What decided: {what}.")
        if broken > spared:
            break
    return (first, second, "What decided: how many of the known pods still have room afterwards.")


def _broken(free: int, ask: int, size: int) -> int:
    return free // size - (free - ask) // size


def _quality(published: PublishedPlan) -> str:
    certificate = published.plan.certificate
    proof = "proved" if certificate.gap == 0 else f"gap {certificate.gap:.2%}"
    return f"verdict {certificate.verdict} for order {certificate.order} ({proof})"


def _away(victim: Move | Evict, published: PublishedPlan) -> str:
    source = source_of(victim)
    plan = published.plan
    guests = [bind.pod.name for bind in plan.binds if bind.node == source]
    guests += [move.pod.name for move in plan.moves if move.target == source]
    more = ", ..." if len(guests) > _MOST_NAMES else ""
    return f"{source} for {', '.join(guests[:_MOST_NAMES])}{more}" if guests else str(source)


def _room_made(pod: Pod, published: PublishedPlan) -> list[str]:
    moved = [m for m in published.plan.moves if m.source == pod.node]
    evicted = [e for e in published.plan.evictions if e.node == pod.node]
    if not moved and not evicted:
        return ["Nobody had to leave that node for it."]
    others = [
        bind.pod.name
        for bind in published.plan.binds
        if bind.node == pod.node and bind.uid != pod.uid
    ]
    guests = ", ".join(others[:_MOST_NAMES]) + (", ..." if len(others) > _MOST_NAMES else "")
    # Whose room it is now, nobody can tell: they all came at once.
    made = f"Room was made there for it or for {guests}" if guests else "Room was made there"
    return [
        *(f"{made}: {m.pod} (priority {m.priority}) moved to {m.target}." for m in moved),
        *(f"{made}: {e.pod} (priority {e.priority}) was evicted." for e in evicted),
    ]


def _leaving(pod: Pod, plans: Sequence[PublishedPlan], now: float) -> list[str]:
    asked = ((p, v) for p in plans for v in p.plan.victims if v.uid == pod.uid)
    goes = _goes(pod, now)
    for published, victim in asked:
        away = _away(victim, published)
        if not published.finished:
            step = _step(pod, published, victim)
            if step.startswith("stays"):
                return [f"{published.name} was to make it leave {away}; it {step}."]
            return [f"{published.name} asks it to leave {away}: {step}."]
        if goes:
            ended = f"that plan has ended ({published.message or published.phase})"
            return [f"{goes}.", f"{published.name} made it leave {away}; {ended}."]
    return [f"{goes}."] if goes else []


def _goes(pod: Pod, now: float) -> str:
    """Return that a pod leaves its node, and until when, whatever becomes of a plan; or ""."""
    if pod.terminating:
        hangs = hanging(pod, now)
        by = f"and {hangs}" if hangs else f"by {clock(pod.leaves_at)} at most"
        return f"Is being deleted, {by}"
    if pod.gives_way_by:
        return f"Leaves once its replacement serves, which has until {clock(pod.gives_way_by)}"
    return ""


def _waiting(pod: Pod, plans: Sequence[PublishedPlan], last: str) -> list[str]:
    for published in plans:
        actions: list[Bind | Hold] = [*published.plan.binds, *published.plan.holds]
        for action in actions:
            if action.uid == pod.uid:
                return _decided(pod, published, action)
        if published is plans[0] and (told := _beside(pod, published, last)):
            return told
    none = "Waits for a plan: none that is kept tells of it."
    return [none, last, "If none does within half a minute, no planner works: look at its log."]


def _beside(pod: Pod, newest: PublishedPlan, last: str) -> list[str]:
    """Return what the newest plan means for a pod that is not on its lists; empty if nothing."""
    if said := in_place_of_victims(pod, newest):
        return [f"{said}.", *([f"Progress: {newest.message}."] if newest.message else [])]
    if newest.truncated and pod.created_at < newest.created_at:
        told = f"{newest.name} has decided on it, and is too large to list all that it did."
        return [told, last, "Next: it is planned again with the next plan."]
    return []


def _decided(pod: Pod, published: PublishedPlan, action: Bind | Hold) -> list[str]:
    if isinstance(action, Bind) and published.finished:
        ended = f"{published.name} was to give it {action.node}, and ended before: "
        how = f"{published.phase}, {published.message}" if published.message else published.phase
        return [f"{ended}{how}.", "Next: another plan follows within seconds."]
    if isinstance(action, Bind):
        step = _step(pod, published, action)
        given = f"{published.name} gives it {action.node}: {step}."
        return [given, *([f"Progress: {published.message}."] if published.message else [])]
    lines = [f"{published.name} holds it ({action.rejection.reason}): {action.rejection.message}."]
    lines += [f"What would help: {action.remedy}."] if action.remedy else []
    lines += ["It is shown to node autoscalers."] if pod.offered else []
    when = "when the cluster changes, or a cooldown or a pause is over"
    return [*lines, f"Next: it is planned again {when} ({_quality(published)})."]


def _step(pod: Pod, published: PublishedPlan, action: Bind | Move | Evict) -> str:
    step = next((s for s in published.steps if s.pod == str(action.pod)), None)
    return step.message if step else f"{published.name} has not started on {pod.key.name}"
