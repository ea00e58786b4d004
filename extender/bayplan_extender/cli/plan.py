"""`bayplan plan -f FILE`: plan from files, or ask what they would do to a cluster.

Takes what `kubectl get nodes,pods,infd,pdb,pplan -A -o json` prints, or manifests, and prints the
plan that the planner would publish; PackingPlans tell who was refused of late. Manifests without
any node are a question to the cluster of KUBECONFIG: whether they fit now, after which moves, and
how many more. With --dump the pass is recorded, and --replay makes a recorded pass again: the same
snapshot, policy and seed give the same plan.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tabulate import tabulate

from bayplan.api import names
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import (
    DecodeError,
    Recording,
    plan_manifest,
    policy_of,
    published_plan_of,
    snapshot_of,
)
from bayplan.codec.documents import KINDS
from bayplan.plan import Bind, Hold, Plan, Result, plan_digest
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.preparation import prepared
from bayplan_extender.cli import recordings, whatif
from bayplan_extender.cli.files import FileError, located, objects, read, tell_unread
from bayplan_extender.cli.holds import grouped, helps
from bayplan_extender.cli.steps import Steps

#: Most binds that a table lists; beyond it they are counted.
_FEW = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "-f",
        "--file",
        action="append",
        metavar="FILE",
        help="JSON or YAML file, folder of such files, or - for standard input; repeatable",
    )
    source.add_argument(
        "--replay", metavar="FILE", help="a recorded pass; exit code 1 if its plan comes out other"
    )
    parser.add_argument(
        "--dump", metavar="FILE", help="record the pass in FILE (compressed if it ends with .gz)"
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "wide", "json"), default="table", help="what to print"
    )
    parser.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="SECONDS",
        help="most seconds to plan (default: the PackingPolicy in the files, else 10)",
    )


def _seconds(text: str) -> float:
    """Return a time limit.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise argparse.ArgumentTypeError(f"should be a number of seconds above 0, is {text!r}")
    return limit


def run(options: argparse.Namespace) -> int:
    """Plan and print; return the exit code.

    Raises:
        FileError: The input cannot be read, or the recording cannot be written.
    """
    recorded = recordings.load(options.replay) if options.replay else None
    documents = {} if recorded else read(options.file)
    if not recorded and not _has_nodes(documents):
        return whatif.run(options, documents)
    snapshot, policy = _recorded(recorded, options) if recorded else _read(options, documents)
    if not snapshot.nodes:
        raise FileError(f"{options.replay}: no Node in it; nothing can be planned")
    seed = recorded.seed if recorded else 0
    _announce(snapshot, policy)
    with Steps(sys.stderr, clock=time.monotonic) as steps:
        result = plan(snapshot, policy, clock=time.monotonic, seed=seed, progress=steps.tell)
    print(_json(result) if options.output == "json" else _table(result, options.output == "wide"))
    made = Recording(
        snapshot=snapshot,
        policy=policy,
        seed=seed,
        digest=result.digest,
        plan_digest=plan_digest(result.plan),
    )
    if options.dump:
        recordings.save(options.dump, made)
    return _compare(recorded, made) if recorded else 0


def _has_nodes(documents: Mapping[str, list[Any]]) -> bool:
    return any(raw["kind"] == "Node" for raw in objects(documents))


def _read(
    options: argparse.Namespace, documents: Mapping[str, list[Any]]
) -> tuple[Snapshot, Policy]:
    try:
        read_in = snapshot_of(objects(documents))
        policy, now = _policy(documents, options.time_limit), time.time()
        made = [r for r in objects(documents) if r["kind"] == "PackingPlan" and r.get("status")]
        plans = [published_plan_of(raw) for raw in made]
    except DecodeError as error:
        raise located(error, documents) from error
    outside = sum(pod.node is None and not pod.waiting for pod in read_in.pods)
    further = [f"{outside:,} Pod (no node, no gate {names.GATE})"] * bool(outside)
    tell_unread(documents, KINDS | {"PackingPlan"}, further)
    return prepared(read_in.once_left(now), policy, plans=plans, now=now), policy


def _recorded(recorded: Recording, options: argparse.Namespace) -> tuple[Snapshot, Policy]:
    limit = options.time_limit or recorded.policy.time_limit_s
    return recorded.snapshot, replace(recorded.policy, time_limit_s=limit)


def _compare(recorded: Recording, made: Recording) -> int:
    """Say whether the plan is the recorded one; return the exit code."""
    for what, before, now in (
        ("snapshot", recorded.digest, made.digest),
        ("plan", recorded.plan_digest, made.plan_digest),
    ):
        if before != now:
            sys.stderr.write(f"the {what} is not the recorded one: {now} instead of {before}\n")
            return 1
    sys.stderr.write(f"the plan is the recorded one: {made.plan_digest}\n")
    return 0


def _policy(documents: Mapping[str, list[Any]], time_limit: float | None) -> Policy:
    found = [raw for raw in objects(documents) if raw["kind"] == "PackingPolicy"]
    policy = policy_of(found[0]) if found else Policy()
    return replace(policy, time_limit_s=time_limit) if time_limit else policy


def _announce(snapshot: Snapshot, policy: Policy) -> None:
    waiting, placed = len(snapshot.waiting()), len(snapshot.placed())
    sys.stderr.write(
        f"pods that wait: {waiting:,}; placed: {placed:,}; nodes: {len(snapshot.nodes):,};"
        f" at most {policy.time_limit_s:g} s\n"
    )


def _json(result: Result) -> str:
    manifest = plan_manifest(result, sequence=0)
    del manifest["metadata"]
    seconds, sizes = dict(result.seconds), dict(result.sizes)
    return json.dumps(manifest | {"seconds": seconds, "sizes": sizes}, indent=2)


def _table(result: Result, every_bind: bool) -> str:  # noqa: FBT001 - private, one caller
    plan = result.plan
    sections = [
        _summary(result),
        _stages(plan),
        _section("MOVES", ("POD", "FROM", "TO"), ((m.pod, m.source, m.target) for m in plan.moves)),
        _section("EVICTIONS", ("POD", "NODE"), ((e.pod, e.node) for e in plan.evictions)),
        _holds(plan.holds),
        _binds(plan, every_bind),
    ]
    return "\n\n".join(section for section in sections if section)


def _summary(result: Result) -> str:
    plan, certificate = result.plan, result.plan.certificate
    row = {
        "VERDICT": certificate.verdict.value,
        "ORDER": certificate.order.value,
        "BOUND": len(plan.binds),
        "EVICTED": len(plan.evictions),
        "MOVED": len(plan.moves),
        "HELD": len(plan.holds),
        "GAP": f"{certificate.gap:.2%}",
        "ENGINE": result.engine,
        "SOLVE": f"{dict(result.seconds).get('total', 0.0):.2f}s",
    }
    return _columns(tuple(row), [tuple(row.values())])


def _stages(plan: Plan) -> str:
    rows = [
        (stage.name, stage.value, stage.bound, "yes" if stage.proved else f"gap {stage.gap:.2%}")
        for stage in plan.certificate.stages
    ]
    return _columns(("STAGE", "VALUE", "BOUND", "PROVED"), rows) if rows else ""


def _holds(holds: Iterable[Hold]) -> str:
    """Return why pods wait: one block for each reason, the most frequent first."""
    blocks = [_hold_block(held) for held in grouped(holds)]
    return "\n".join(["HELD", *blocks]) if blocks else ""


def _hold_block(held: list[Hold]) -> str:
    first, count = held[0], "1 pod" if len(held) == 1 else f"{len(held):,} pods, one of them"
    told = (first.rejection.message, *helps(held))
    return "\n    ".join([f"{count} {first.pod} ({first.rejection.reason.value})", *told])


def _binds(plan: Plan, every: bool) -> str:  # noqa: FBT001 - private, one caller
    if len(plan.binds) > _FEW and not every:
        return f"{len(plan.binds):,} pods get a node; -o wide lists them, -o json holds everything"
    homes = ((bind.pod, _home(bind)) for bind in plan.binds)
    return _section("BINDS", ("POD", "NODE"), homes)


def _home(bind: Bind) -> str:
    return bind.node if bind.device is None else f"{bind.node} (GPU {bind.device})"


def _section(title: str, headers: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    listed = list(rows)
    return f"{title}\n{_columns(headers, listed)}" if listed else ""


def _columns(headers: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    texts = [[str(cell) for cell in row] for row in rows]
    return tabulate(texts, headers=headers, tablefmt="plain", disable_numparse=True)
