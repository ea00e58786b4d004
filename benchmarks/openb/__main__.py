"""Compare online policies on the openb lists, or plan a whole list at once.

    python -m benchmarks.openb --list default --seeds 10 --json
    python -m benchmarks.openb --list all --seeds 10 --json
    python -m benchmarks.openb --list default --moves-per-100 1 --json
    python -m benchmarks.openb --list default --batch --json

The last line is one JSON object. `ours`, `fgd`, `best_fit`, `packing` and `random` are the means
over the seeds of the unallocated GPUs in % at 130 % arrivals, `*_100` those at 100 %, `moving` ours
with moves, and `published` what FGD's authors report. With `--list all` there is one such object
for each list.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from bayplan.codec import DecodeError
from benchmarks.openb import batch, trace
from benchmarks.openb.inflation import arrivals, inflate
from benchmarks.openb.moving import moving
from benchmarks.openb.policies import POLICIES, Start
from benchmarks.openb.trace import Unallocated

#: First seed of the published runs; ours shuffle differently, so that they are not the same runs.
FIRST_SEED: Final = 42

#: Names of the policies in the published table.
PUBLISHED_AS: Final = {
    "fgd": "FGD",
    "best_fit": "BestFit",
    "packing": "GpuPacking",
    "random": "Random",
}


def compare(
    name: str, seeds: range, policies: Mapping[str, Start], *, stop_at: float
) -> dict[str, Any]:
    """Return the figures of one list; seeds that would start after `stop_at` are left out."""
    listed = trace.load(name)
    runs: list[dict[str, Unallocated]] = []
    seconds = dict.fromkeys(policies, 0.0)
    for seed in seeds:
        if runs and time.monotonic() > stop_at:
            break
        pods = arrivals(listed, seed)
        run = {}
        for policy, start in policies.items():
            started = time.monotonic()
            run[policy] = inflate(listed, pods, start(listed, seed))
            seconds[policy] += time.monotonic() - started
        runs.append(run)
        told = ", ".join(f"{policy} {left.at_130:.2f}" for policy, left in run.items())
        print(f"{name}, seed {seed}: {told}", file=sys.stderr, flush=True)
    return {
        "list": name,
        "seeds": [seeds[0], seeds[len(runs) - 1]],
        "arrivals": len(arrivals(listed, seeds[0])),
        **{policy: _mean(run[policy].at_130 for run in runs) for policy in policies},
        **{f"{policy}_100": _mean(run[policy].at_100 for run in runs) for policy in policies},
        "published": _published(name),
        "seconds": {policy: round(taken / len(runs), 2) for policy, taken in seconds.items()},
    }


def _mean(values: Iterable[float]) -> float:
    return round(statistics.fmean(values), 3)


def _published(name: str) -> dict[str, float]:
    """Return the published figures under our names; empty for lists that were not published."""
    found = trace.published(name)
    ours = {policy: found[theirs] for policy, theirs in PUBLISHED_AS.items() if theirs in found}
    return {policy: round(left.at_130, 3) for policy, left in ours.items()} | {
        f"{policy}_100": round(left.at_100, 3) for policy, left in ours.items()
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Online policies on the openb lists.")
    parser.add_argument("--list", default="default", help="name of the pod list, or all")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="the first of them")
    parser.add_argument(
        "--budget", type=float, help="seconds: no seed but the first of a list starts later"
    )
    parser.add_argument("--moves-per-100", type=float, help="moves that 100 arrivals earn")
    parser.add_argument("--batch", action="store_true", help="plan the whole list at once instead")
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds for that plan")
    parser.add_argument("--output", type=Path, help="write the list as Kubernetes objects and stop")
    parser.add_argument("--json", action="store_true", help="print one line of JSON last")
    return parser.parse_args()


def main() -> None:
    """Run what was asked for."""
    arguments = _arguments()
    try:
        figures = _figures(arguments)
    except DecodeError as error:
        sys.exit(str(error))
    if arguments.json and figures:
        print(json.dumps(figures))


def _figures(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.output:
        arguments.output.write_text(json.dumps(batch.documents(arguments.list)))
        return {}
    if arguments.batch:
        return batch.run(arguments.list, time_limit_s=arguments.time_limit)
    seeds = range(arguments.first_seed, arguments.first_seed + max(1, arguments.seeds))
    stop_at = time.monotonic() + arguments.budget if arguments.budget else float("inf")
    names = trace.lists() if arguments.list == "all" else (arguments.list,)
    policies = dict(POLICIES)
    if arguments.moves_per_100:
        policies["moving"] = moving(arguments.moves_per_100)
    compared = {name: compare(name, seeds, policies, stop_at=stop_at) for name in names}
    return compared if arguments.list == "all" else compared[arguments.list]


if __name__ == "__main__":
    main()
