"""For how long the plan at work has stood still: all that is remembered of it, and may be lost."""

from collections.abc import Callable

from bayplan.steps import Progress


class Stall:
    """How long a plan's actions have been in the same states, and nobody has drained."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._plan = ""
        self._states: tuple[object, ...] = ()
        self._since: float | None = None

    def knows(self, plan: str) -> bool:
        """Return whether the plan was seen before."""
        return plan == self._plan

    def of(self, plan: str) -> float:
        """Return the seconds for which it has stood still; 0 for a plan not seen before."""
        since = self._since if self.knows(plan) else None
        return 0.0 if since is None else self._clock() - since

    def note(self, plan: str, progress: Progress, *, drains: bool) -> None:
        """Take the states as they are now, whatever was waited for how long."""
        states = tuple((report.pod, report.state) for report in progress.reports)
        if drains:
            self._plan, self._states, self._since = plan, states, None
        elif (plan, states) != (self._plan, self._states) or self._since is None:
            self._plan, self._states, self._since = plan, states, self._clock()
