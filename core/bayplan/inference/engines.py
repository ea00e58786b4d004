"""What an engine's metrics say about how much it has to do.

Inference engines tell Prometheus how many requests they work on and how many wait in them. The
names are theirs; engines that are not listed count as having told nothing.
"""

import math
from typing import Final

#: Gauges whose sum is the number of requests in an engine: vLLM, SGLang, TGI.
_GAUGES: Final = frozenset(
    {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "sglang:num_running_reqs",
        "sglang:num_queue_reqs",
        "tgi_batch_current_size",
        "tgi_queue_size",
    }
)


def requests_in(text: str) -> int | None:
    """Return how many requests an engine has, from its metrics in Prometheus' text format.

    None where none of the known gauges is there, or they are no numbers of requests (NaN, +Inf).
    Several series of a gauge (one for each model) add up.
    """
    found = [value for line in text.splitlines() if (value := _gauge(line)) is not None]
    total = sum(found)
    return round(total) if found and math.isfinite(total) else None


def _gauge(line: str) -> float | None:
    name, brace, rest = line.partition("{")
    value = rest.rpartition("}")[2] if brace else line.partition(" ")[2]
    if (name if brace else line.partition(" ")[0]) not in _GAUGES:
        return None
    try:
        return float(value.split()[0])
    except (IndexError, ValueError):
        return None
