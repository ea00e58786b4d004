"""The values of this package: what may be done next of a plan, and how far it is."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.cluster.pods import OVERSTAY_S, Pod
from bayplan.inference.drains import DrainState
from bayplan.plan import Bind, Evict, Move, Plan

_MINUTE_S: Final = 60

#: What is reported of a victim that need not leave any more.
SPARED: Final = "stays: its room is no longer needed"

#: What is reported of a victim whose move had not begun when the window of its plan closed.
GIVEN_UP: Final = "stays: the window for defragmentation has closed"

#: What is told of a pod that should have ended.
HANGS: Final = "has hung"

_STAYS: Final = frozenset({SPARED, GIVEN_UP})


class State(StrEnum):
    """How far an action is."""

    WAITING = "Waiting"
    STARTING = "Starting"  #: the replacement of a moved pod starts, which serves on until then
    DRAINING = "Draining"  #: a victim finishes its requests; it may still be put back
    STARTED = "Started"
    DONE = "Done"
    FAILED = "Failed"
    REFUSED = "Refused"  #: failed as the API server refuses it for good: not planned again soon

    @property
    def is_failure(self) -> bool:
        """Whether it ends the plan."""
        return self in {State.FAILED, State.REFUSED}


class Phase(StrEnum):
    """How far a plan is."""

    EXECUTING = "Executing"
    COMPLETED = "Completed"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPod:
    """Take a running pod out of service, so that it has no requests when it is evicted.

    `because` says for whom, as in `EvictPod`.
    """

    pod: PodKey
    uid: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePod:
    """Put a pod back into service that was taken out for this plan, and may stay."""

    pod: PodKey
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPod:
    """Make the replacement of a running pod, pinned to `node`, before that pod goes.

    `device` is the number of the GPU that it shares, if it does.
    """

    pod: PodKey
    uid: str
    node: NodeName
    device: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictPod:
    """Ask for a running pod's eviction.

    `because` is for its event; `target` is where its replacement goes, if it has another home.
    """

    pod: PodKey
    uid: str
    node: NodeName
    because: str
    target: NodeName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePod:
    """Lift a waiting pod's gate and pin it to `node`, in one patch.

    `replaces` is the uid of the moved pod whose place it takes, or ""; `device` is the number of
    the GPU that it shares, if it does; `gang` starts together. `awaited` says that others of its
    gang have gone already.
    """

    pod: PodKey
    uid: str
    node: NodeName
    replaces: str = ""
    device: int | None = None
    gang: GangKey | None = None
    awaited: bool = False


Step = StartPod | DrainPod | ServePod | EvictPod | ReleasePod


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How far one action is, in words.

    `hindered` says that something else keeps it than what the plan has still to do.
    """

    pod: PodKey
    type: str
    state: State
    message: str
    hindered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What to do next, and how far the plan is.

    `todo` may be done in any order; doing a step twice does no harm. `patient` says whether it
    waits for what takes as long as its owner allows: that is no standstill.
    """

    phase: Phase
    message: str
    todo: tuple[Step, ...]
    reports: tuple[Report, ...]
    patient: bool = False

    @property
    def done(self) -> int:
        """How many actions are done."""
        return sum(report.state is State.DONE for report in self.reports)


#: A state and the same in words.
Standing = tuple[State, str]


def has_failed(states: Iterable[Standing]) -> bool:
    """Return whether one of them has failed."""
    return any(state.is_failure for state, _ in states)


def report_of(
    action: Bind | Move | Evict, state: State, message: str, *, hindered: bool = False
) -> Report:
    """Return what is said of an action."""
    kind = type(action).__name__
    return Report(pod=action.pod, type=kind, state=state, message=message, hindered=hindered)


def still_finishing(drains: Iterable[DrainState]) -> Standing:
    """Return how far victims are that finish their requests together."""
    last = max(drains, key=lambda drain: drain.ends_by)
    told = f"finishes its requests before it leaves, {at_most(last.ends_by, last.left_s)}"
    return State.DRAINING, told


def at_most(ends_by: int, left_s: float) -> str:
    """Return until when something goes on (seconds since the epoch), and for how long.

    That is another text each minute: who guards the plan's room takes it for a sign of life.
    """
    return f"until {clock(ends_by)} at most ({math.ceil(left_s / _MINUTE_S)} min more)"


def waiting_for_others(by: int, now: float) -> str:
    """Return until when those leave who do so for older plans (seconds since the epoch)."""
    return f"who leaves for older plans does so {at_most(by, max(0.0, by - now))}"


def hanging(pod: Pod, now: float) -> str:
    """Return since when a pod should have ended, and what keeps it; "" before it should have.

    Its node may need a moment to tell that it has ended; a finalizer is somebody's to lift.
    """
    if not pod.leaves_at or now <= pod.leaves_at + (0 if pod.finalizers else OVERSTAY_S):
        return ""
    return f"{HANGS} since {clock(pod.leaves_at)}: {keeping(pod)}"


def keeping(pod: Pod) -> str:
    """Return what keeps a pod that should have ended, and what helps, in words."""
    if not pod.finalizers:
        lost = f"{pod.node} does not report that it has ended"
        return f"{lost}; bring that node back, or delete the Node if it is gone for good"
    if len(pod.finalizers) == 1:
        return f"finalizer {pod.finalizers[0]} keeps it; whoever set that has to take it away"
    names = ", ".join(pod.finalizers)
    return f"finalizers {names} keep it; whoever set those has to take them away"


def clock(at: int) -> str:
    """Return an instant (seconds since the epoch) as a time of day."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")


def merged(victims: Sequence[Report], homes: Sequence[Report]) -> Iterable[Report]:
    """Return one report per action: a move's is its victim's until that has left.

    A home that failed is told at once, or nobody would learn why the victims stay, unless it did
    because its victim does not leave.
    """
    moving = [report for report in victims if report.type == "Move"]
    leaving = {r.pod: r for r in moving if r.state is not State.DONE or r.message in _STAYS}
    yield from (report for report in victims if report.type == "Evict")
    for report in homes:
        before = leaving.get(report.pod)
        told = before is not None and (before.state.is_failure or before.message == GIVEN_UP)
        failed = report.state.is_failure and not told
        yield report if failed or before is None or report.type == "Bind" else before


def is_left_to_scheduler(progress: Progress) -> bool:
    """Return whether all that is not done is that pods which have been released are bound."""
    return all(
        report.state is State.DONE or (report.type == "Bind" and report.state is State.STARTED)
        for report in progress.reports
    )


def arrived(plan: Plan, progress: Progress) -> Progress:
    """Return how far a plan is once all is done that was left to the scheduler."""
    nodes = {bind.pod: bind.node for bind in plan.binds}
    reports = tuple(
        replace(report, state=State.DONE, message=f"runs on {nodes[report.pod]}")
        if report.state is State.STARTED
        else report
        for report in progress.reports
    )
    phase, message = phase_of(plan, reports, ())
    return Progress(phase=phase, message=message, todo=(), reports=reports)


def with_refusals(plan: Plan, progress: Progress, refused: Mapping[str, str]) -> Progress:
    """Return the progress with what the API server has refused for now, by the uids of pods."""
    if not refused:
        return progress
    uids = {action.pod: action.uid for action in (*plan.binds, *plan.victims)}
    uids |= {step.pod: step.uid for step in progress.todo}
    reports = tuple(_refused(r, refused.get(uids.get(r.pod, ""), "")) for r in progress.reports)
    message = progress.message
    if progress.phase is Phase.EXECUTING:
        message = _executing(reports, progress.done)
    elif progress.phase is Phase.FAILED:
        message = _stopped(reports)
    return replace(progress, reports=reports, message=message)


def _refused(report: Report, why: str) -> Report:
    if not why or report.state in {State.DONE, State.REFUSED}:
        return report
    link = "for" if report.state.is_failure else "but"
    message = f"{report.message}, {link} that is refused: {why}"
    return replace(report, message=message, hindered=True)


def phase_of(plan: Plan, reports: Sequence[Report], todo: Sequence[Step]) -> tuple[Phase, str]:
    """Return the phase of a plan, and in words why it is in it."""
    failed = [r for r in reports if r.state.is_failure]
    under_way = [r for r in reports if r.state in {State.DRAINING, State.STARTED}]
    # A pod that is put back into service is no reason to go on: that is done once it has ended.
    left = [step for step in todo if not isinstance(step, ServePod)]
    done = sum(r.state is State.DONE for r in reports)
    if failed and not left and not under_way:
        return Phase.FAILED, _stopped(reports)
    if not reports:
        return Phase.COMPLETED, f"nothing to do; {_held(len(plan.holds))}"
    if done == len(reports):
        return Phase.COMPLETED, _completed(sum(r.message == GIVEN_UP for r in reports), done)
    return Phase.EXECUTING, _executing(reports, done)


def _executing(reports: Sequence[Report], done: int) -> str:
    """Return how far a plan is, and what it waits for: first what somebody may have to mend."""
    unfinished = [r for r in reports if r.state is not State.DONE]
    first = next((r for r in unfinished if r.hindered), unfinished[0])
    return f"{done} of {len(reports)} steps done: {first.pod} {first.message}"


def _stopped(reports: Iterable[Report]) -> str:
    """Return why a plan has failed: that a home came too late is mostly for who did not leave."""
    failed = (report for report in reports if report.state.is_failure)
    first = min(failed, key=lambda report: (not report.hindered, report.type == Bind.__name__))
    return f"stopped: {first.pod} {first.message}; a new plan follows"


def _completed(given_up: int, steps: int) -> str:
    if not given_up:
        return "every step is done"
    moves = (
        "1 move that had not begun was"
        if given_up == 1
        else f"{given_up} moves that had not begun were"
    )
    return f"the window for defragmentation has closed: {moves} given up, of {steps} steps"


def _held(n: int) -> str:
    return "1 pod is held" if n == 1 else f"{n} pods are held"
