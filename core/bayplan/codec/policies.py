"""PackingPolicy objects to `Policy` values."""

from bayplan.codec.fields import Raw, top
from bayplan.policy import Order, Policy


def policy_of(raw: Raw) -> Policy:
    """Return the policy; absent fields have the built-in defaults.

    Raises:
        DecodeError: A field cannot be read.
    """
    root = top(raw, "PackingPolicy")
    spec, default = root.get("spec"), Policy()
    order = spec.get("order")
    return Policy(
        time_limit_s=spec.get("timeLimitSeconds").number(default.time_limit_s),
        max_moves=spec.get("maxMoves").integer(default.max_moves),
        max_evictions=spec.get("maxEvictions").integer(default.max_evictions),
        max_parallel_moves=spec.get("maxParallelMoves").integer(default.max_parallel_moves),
        gate_timeout_s=spec.get("gateTimeoutSeconds").number(default.gate_timeout_s),
        order=order.choice(Order) if order.value is not None else default.order,
        cooldown_s=spec.get("cooldownSeconds").number(default.cooldown_s),
    )
