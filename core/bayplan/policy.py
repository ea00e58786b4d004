"""What the administrator allows a plan to do: limits and budgets of one pass."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


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


class Day(StrEnum):
    """A day of the week, in order from Monday."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time that comes again each week, in UTC.

    Attributes:
        start_minute: Minute of the day at which it opens, 0 to 1439.
        minutes: How long it stays open, 1 to 1440.
        days: The days on which it opens; none means every day.
    """

    start_minute: int
    minutes: int
    days: tuple[Day, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Defragmentation:
    """When running pods may be moved for nobody but the next large pod, and what that may cost.

    Attributes:
        windows: When it is done; never without one.
        max_moves: Most moves while a window is open, those for waiting pods included.
        moves_per_slot: Most that one won slot may cost, in moves of cost 1.
    """

    windows: tuple[Window, ...] = ()
    max_moves: int = 20
    moves_per_slot: int = 8


#: Least time (seconds) without a sign of the planner after which it may count as away. Its lease
#: lasts 15 s and is looked at every 2 s by those who may take over: they have had their turn.
LEAST_GATE_TIMEOUT_S: Final = 20.0


class NodeProvisioning(StrEnum):
    """Which waiting pods node autoscalers get to see."""

    #: none: they do not see pods behind gates
    NEVER = "Never"
    #: pods that are proved not to fit, in whole gangs
    WHEN_INFEASIBLE = "WhenInfeasible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits and budgets of one pass.

    Attributes:
        time_limit_s: Wall-clock seconds a pass may take.
        max_moves: Most running pods that one plan moves.
        max_evictions: Most running pods that one plan evicts without another home.
        max_parallel_moves: Most pods that are on their way out at a time; a larger gang goes whole.
        gate_timeout_s: Seconds without a living planner after which gates are lifted;
            `LEAST_GATE_TIMEOUT_S` or more.
        order: The order of objectives.
        cooldown_s: Seconds from its start in which a moved pod is not disturbed again.
        defragmentation: When the fleet is defragmented, and what that may cost.
        node_provisioning: Which waiting pods node autoscalers get to see.
    """

    time_limit_s: float = 10.0
    max_moves: int = 100
    max_evictions: int = 100
    max_parallel_moves: int = 10
    gate_timeout_s: float = 60.0
    order: Order = Order.PLACE_FIRST
    cooldown_s: float = 600.0
    defragmentation: Defragmentation = Defragmentation()
    node_provisioning: NodeProvisioning = NodeProvisioning.NEVER


#: Holds while the policy there is cannot be read, and none ever was: nobody is disturbed.
RESTRAINED: Final = Policy(
    max_moves=0, max_evictions=0, max_parallel_moves=1, order=Order.PROTECT_FIRST
)


def undisturbing(policy: Policy) -> Policy:
    """Return the policy for a pass that neither moves nor evicts anybody."""
    return replace(policy, max_moves=0, max_evictions=0)


def defragmenting(policy: Policy, *, max_moves: int) -> Policy:
    """Return the policy for a pass that defragments with at most `max_moves` moves.

    Nobody is evicted: all that runs goes on running.
    """
    return replace(policy, order=Order.DEFRAGMENT, max_moves=max_moves, max_evictions=0)
