"""What the administrator allows a plan to do: limits and budgets of one pass."""

from dataclasses import dataclass, replace
from enum import StrEnum


class Order(StrEnum):
    """Which order of objectives a plan follows; named on its certificate."""

    #: place all tiers first, highest first, then disturb as little as possible
    PLACE_FIRST = "PlaceFirst"
    #: tier by tier: place, then disturb that tier and those above as little as possible, and no
    #: more for anything below
    PROTECT_FIRST = "ProtectFirst"
    #: as PlaceFirst, but free the most slots of the largest size before disturbing little: what a
    #: window for defragmentation asks for, with the moves it allows
    DEFRAGMENT = "Defragment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits and budgets of one pass.

    Attributes:
        time_limit_s: Wall-clock seconds a pass may take.
        max_moves: Most running pods that one plan moves.
        max_evictions: Most running pods that one plan evicts without another home.
        max_parallel_moves: Most pods that are on their way out at a time.
        gate_timeout_s: Seconds without a living planner after which gates are lifted.
        order: The order of objectives.
        cooldown_s: Seconds from its start in which a moved pod is not disturbed again.
    """

    time_limit_s: float = 10.0
    max_moves: int = 100
    max_evictions: int = 100
    max_parallel_moves: int = 10
    gate_timeout_s: float = 60.0
    order: Order = Order.PLACE_FIRST
    cooldown_s: float = 600.0


def defragmenting(policy: Policy, *, max_moves: int) -> Policy:
    """Return the policy for a pass that defragments with at most `max_moves` moves.

    Nobody is evicted: all that runs goes on running.
    """
    return replace(policy, order=Order.DEFRAGMENT, max_moves=max_moves, max_evictions=0)
