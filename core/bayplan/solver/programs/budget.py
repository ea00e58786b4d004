"""What a search may still use: time until a deadline, and deterministic effort.

Effort makes equal searches end alike on any machine; the clock only ends what takes too long
there. Whoever searches takes off what it used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bayplan.solver.programs.integral import Limits

#: Share of what is left of both that one call of CP-SAT may use.
_SHARE: Final = 0.5


@dataclass(slots=True, kw_only=True)
class Budget:
    """What a search may use, and what is left of it.

    Attributes:
        clock: Wall-clock seconds.
        deadline_at: When to end, on `clock`.
        effort: Deterministic effort left, in the units of CP-SAT.
        seed: Where randomness starts.
    """

    clock: Callable[[], float]
    deadline_at: float
    effort: float
    seed: int

    @property
    def seconds(self) -> float:
        """Wall-clock seconds left."""
        return self.deadline_at - self.clock()

    @property
    def late(self) -> bool:
        """Whether time is over."""
        return self.seconds <= 0

    @property
    def spent(self) -> bool:
        """Whether time or effort is over."""
        return self.effort <= 0 or self.late

    def limits(self) -> Limits:
        """Return the limits of one call of CP-SAT."""
        return Limits(seconds=self.seconds * _SHARE, effort=self.effort * _SHARE, seed=self.seed)
