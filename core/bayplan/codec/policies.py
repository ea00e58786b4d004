"""PackingPolicy objects to `Policy` values."""

import math
from typing import Final

from bayplan.cluster.units import whole_number
from bayplan.codec.fields import Field, Raw, top
from bayplan.policy import (
    LEAST_GATE_TIMEOUT_S,
    Day,
    Defragmentation,
    NodeProvisioning,
    Order,
    Policy,
    Window,
)

_HOUR_MINUTES: Final = 60
_DAY_MINUTES: Final = 1440


def policy_of(raw: Raw) -> Policy:
    """Return the policy; absent fields have the built-in defaults.

    Raises:
        DecodeError: A field cannot be read.
    """
    root = top(raw, "PackingPolicy")
    spec, default = root.get("spec"), Policy()
    order, provisioning = spec.get("order"), spec.get("nodeProvisioning")
    return Policy(
        time_limit_s=_limit(spec.get("timeLimitSeconds"), default.time_limit_s),
        max_moves=_count(spec.get("maxMoves"), default.max_moves),
        max_evictions=_count(spec.get("maxEvictions"), default.max_evictions),
        max_parallel_moves=spec.get("maxParallelMoves").integer(default.max_parallel_moves),
        # An object that was stored when less was allowed.
        gate_timeout_s=max(
            LEAST_GATE_TIMEOUT_S, spec.get("gateTimeoutSeconds").number(default.gate_timeout_s)
        ),
        order=order.choice(Order) if order.value is not None else default.order,
        cooldown_s=spec.get("cooldownSeconds").number(default.cooldown_s),
        defragmentation=_defragmentation(spec.get("defragmentation")),
        node_provisioning=provisioning.choice(NodeProvisioning)
        if provisioning.value is not None
        else default.node_provisioning,
    )


def _limit(field: Field, default: float) -> float:
    """Return a number of seconds in which something can be done."""
    seconds = field.number(default)
    if not 0 < seconds < math.inf:
        raise field.error(f"should be a number of seconds above 0, is {field.value}")
    return seconds


def _count(field: Field, default: int) -> int:
    """Return a number of pods."""
    count = field.integer(default)
    if count < 0:
        raise field.error(f"should be 0 or more, is {count}")
    return count


def _defragmentation(field: Field) -> Defragmentation:
    default = Defragmentation()
    return Defragmentation(
        windows=tuple(_window(each) for each in field.get("windows").items()),
        max_moves=field.get("maxMoves").integer(default.max_moves),
        moves_per_slot=field.get("movesPerSlot").integer(default.moves_per_slot),
    )


def _window(field: Field) -> Window:
    start, duration = field.get("start"), field.get("durationMinutes")
    hours, minutes = map(whole_number, start.text().partition(":")[::2])
    if hours is None or minutes is None:
        raise start.error(f'should be a time such as "02:30", is {start.value!r}')
    start_minute = hours * _HOUR_MINUTES + minutes
    if start_minute >= _DAY_MINUTES:
        raise start.error(f'should be before "24:00", is {start.value!r}')
    if not 1 <= duration.integer() <= _DAY_MINUTES:
        raise duration.error(f"should be 1 to {_DAY_MINUTES}, is {duration.value}")
    return Window(
        start_minute=start_minute,
        minutes=duration.integer(),
        days=tuple(day.choice(Day) for day in field.get("days").items()),
    )
