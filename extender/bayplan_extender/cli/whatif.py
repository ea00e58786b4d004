"""What would happen to the cluster of KUBECONFIG if the objects in some files were applied.

The cluster is read and not changed.
"""

import argparse
import json
import sys
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import DecodeError, plan_manifest, policy_of, snapshot_of, workloads
from bayplan.codec.documents import KINDS, flat
from bayplan.policy import Policy
from bayplan.preparation import attached, prepared
from bayplan.whatif import Forecast, forecast
from bayplan_extender.cli import kept
from bayplan_extender.cli.files import FileError, located, objects, tell_unread
from bayplan_extender.cli.holds import grouped, helps
from bayplan_extender.cli.steps import Steps
from bayplan_extender.kube import connect

#: What is read, and what it means for the answer where we may not; "" where there is none then.
_READ: Final = {
    "/api/v1/nodes": "",
    "/api/v1/pods": "",
    "/api/v1/persistentvolumes": "pods may be promised nodes that do not reach their volumes",
    "/apis/policy/v1/poddisruptionbudgets": "moves and evictions may be promised that are refused",
    "/apis/scheduling.k8s.io/v1/priorityclasses": "only classes are known that some pod has",
    f"/apis/{names.API_VERSION}/packingpolicies": "the defaults of a PackingPolicy are taken",
    f"/apis/{names.API_VERSION}/packingplans": (
        "pods that were refused of late are planned as if they had not been"
    ),
}

_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404

#: Most homes that are listed; beyond it they are counted.
_FEW: Final = 20


def run(options: argparse.Namespace, documents: Mapping[str, list[Any]]) -> int:
    """Print what would happen; return 0 if everything fits and 1 if not.

    Raises:
        FileError: The files or the cluster cannot be read.
    """
    snapshot, newcomers, policy = _world(options, documents)
    if not newcomers:
        raise FileError(
            f"{', '.join(options.file)}: no pod in it that is not in the cluster yet; why one that"
            " is there waits: kubectl bayplan explain pod NAME"
        )
    _announce(snapshot, newcomers)
    with Steps(sys.stderr, clock=time.monotonic) as steps:
        told = forecast(snapshot, newcomers, policy, clock=time.monotonic, progress=steps.tell)
    print(_json(told) if options.output == "json" else "\n".join(_lines(told, newcomers)))
    return 0 if told.fits else 1


def _world(
    options: argparse.Namespace, documents: Mapping[str, list[Any]]
) -> tuple[Snapshot, tuple[Pod, ...], Policy]:
    """Return the cluster, the pods that would come, and what a plan may do."""
    live, unreadable = list(flat(_cluster())), set[str]()
    try:
        there = snapshot_of(live, unreadable=partial(_tell, unreadable))
        added = workloads.with_pods(objects(documents))
        rest = (raw for raw in live if raw["kind"] != "PersistentVolume")
        both = snapshot_of([*rest, *added], unreadable=partial(_pass_over, unreadable))
        both = replace(both, volumes=(*there.volumes, *both.volumes))
        policies = [raw for raw in live if raw["kind"] == "PackingPolicy"]
        policy = policy_of(policies[0]) if policies else Policy()
    except DecodeError as error:
        raise located(error, documents) from error
    plans = [*kept.readable(raw for raw in live if raw["kind"] == "PackingPlan")]
    now = time.time()
    world = prepared(there.once_left(now), policy, plans=plans, now=now)
    tell_unread(documents, KINDS | workloads.KINDS)
    # As the API server would have it: who waits already goes first among equals.
    newcomers = tuple(
        replace(pod, created_at=int(now))
        for pod in attached(both).pods
        if pod.key not in there.by_key
    )
    if options.time_limit:
        policy = replace(policy, time_limit_s=options.time_limit)
    return world, newcomers, policy


def _tell(pods: set[str], error: DecodeError) -> None:
    """Say what of the cluster cannot be read, and add it to the `pods` if it is one.

    Nobody who asks about something else is to wait until it is mended.
    """
    if error.where.startswith("Pod "):
        pods.add(str(error))
        sys.stderr.write(f"{error}; so it waits for no plan, and its node takes nobody\n")
    else:
        sys.stderr.write(f"{error}; so pods with this volume go nowhere\n")


def _pass_over(pods: Container[str], error: DecodeError) -> None:
    """Pass over what was told of pods of the cluster already; who wrote the files can mend those.

    Raises:
        DecodeError: It is something else.
    """
    if str(error) not in pods:
        raise error


def _cluster() -> Iterable[dict[str, Any]]:
    """Return the lists that the cluster answers with; those we may do without are told.

    Raises:
        FileError: There is no cluster, or it refuses.
    """
    try:
        api = connect()
        return [found for path in _READ if (found := _list(api, path))]
    except config.ConfigException as error:
        problem = f"no Node in the files, so nothing can be planned without a cluster: {error}"
        raise FileError(problem) from error
    except urllib3.exceptions.HTTPError as error:
        why = " ".join(str(getattr(error, "reason", error)).split())
        raise FileError(f"the cluster of KUBECONFIG does not answer: {why}") from error
    except ApiException as error:
        raise FileError(f"the API server refused ({error.status}): {error.reason}") from error


def _list(api: client.ApiClient, path: str) -> dict[str, Any] | None:
    request = api.param_serialize("GET", path, auth_settings=["BearerToken"])
    response = api.call_api(*request)
    body = json.loads(response.read())
    if response.status == _NOT_FOUND and names.API_VERSION in path:
        return None  # a cluster without Bayplan
    if response.status == _FORBIDDEN and _READ[path]:
        sys.stderr.write(f"not read: {body.get('message')}; so {_READ[path]}\n")
        return None
    if response.status >= 300:  # noqa: PLR2004 - HTTP's boundary of success
        raise ApiException(status=response.status, reason=body.get("message"))
    kind = str(body["kind"]).removesuffix("List")
    items = [{"kind": kind, **item} for item in body["items"]]
    return {"kind": "List", "items": items}


def _announce(snapshot: Snapshot, newcomers: tuple[Pod, ...]) -> None:
    sys.stderr.write(
        f"{_count(len(newcomers), 'pod')} would come to {_count(len(snapshot.nodes), 'node')};"
        f" {len(snapshot.placed()):,} are there, and {len(snapshot.waiting()):,} wait\n"
    )


def _json(told: Forecast) -> str:
    manifest = plan_manifest(told.result, sequence=0)
    head = {
        "fits": told.fits,
        "disturbsNobody": told.fits and told.quiet,
        "placed": told.placed,
        "newcomers": told.newcomers,
        "copies": told.copies,
        "copiesAskedFor": told.asked,
    }
    return json.dumps(head | {"plan": manifest["spec"]}, indent=2)


def _lines(told: Forecast, newcomers: tuple[Pod, ...]) -> list[str]:
    plan, uids = told.result.plan, {pod.uid for pod in newcomers}
    lines = [_headline(told)]
    lines += [f"  {move.pod} moves from {move.source} to {move.target}" for move in plan.moves]
    lines += [f"  {e.pod} (priority {e.priority}) is evicted from {e.node}" for e in plan.evictions]
    homes = [bind for bind in plan.binds if bind.uid in uids]
    lines += [f"  {bind.pod.name} -> {bind.node}" for bind in homes[:_FEW]]
    lines += [f"  and {len(homes) - _FEW:,} more"] if len(homes) > _FEW else []
    for held in grouped(hold for hold in plan.holds if hold.uid in uids):
        who = f"{len(held):,} pods" if len(held) > 1 else held[0].pod.name
        why = f"  {who}: {held[0].rejection.message}"
        lines += [why, *(f"  {told}" for told in helps(held))]
    if told.copies is not None:
        more = " or more" if told.copies == told.asked else ""
        times = f"{told.copies:,}{more} time{'s' if more or told.copies != 1 else ''}"
        lines.append(f"The same fits {times} more without disturbing anybody.")
    return lines


def _headline(told: Forecast) -> str:
    plan, whole = told.result.plan, f": all {told.newcomers}" if told.newcomers > 1 else ""
    if told.fits and told.quiet:
        return f"Fits now{whole}, without disturbing anybody."
    verdict = plan.certificate.verdict
    if told.fits:
        cost = f"{_count(len(plan.moves), 'move')} and {_count(len(plan.evictions), 'eviction')}"
        return f"Fits after {cost} (verdict {verdict})."
    return f"Does not fit: {told.placed} of {told.newcomers} would get a node (verdict {verdict})."


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n:,} {what}s"
