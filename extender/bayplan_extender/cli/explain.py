"""`kubectl bayplan explain pod NAME`: why it is where it is, or why it waits."""

import argparse
import json
import sys
import time
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.codec import (
    DecodeError,
    PublishedPlan,
    decisions,
    joined,
    pod_of,
)
from bayplan.why.explain import explain
from bayplan_extender.cli import kept
from bayplan_extender.kube import connect

_FORBIDDEN = 403
_NOT_FOUND = 404


class _NotInstalledError(Exception):
    """The API server does not know our kinds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("kind", choices=("pod", "pods", "po"), help="what to explain")
    parser.add_argument("name", help="its name")
    parser.add_argument("-n", "--namespace", help="its namespace (default: the kubeconfig's)")


def run(options: argparse.Namespace) -> int:
    """Print the explanation; return the exit code."""
    try:
        api = connect()
        namespace = options.namespace or _current_namespace()
        lines = _lines(api, namespace, options.name)
    except config.ConfigException as error:
        return _complain(f"no cluster: {error}. Set KUBECONFIG, or use bayplan plan -f FILE")
    except urllib3.exceptions.HTTPError as error:
        return _complain(f"the cluster of KUBECONFIG does not answer: {_cause(error)}")
    except ApiException as error:
        return _complain(_refusal(error, options))
    except _NotInstalledError:
        return _complain("this cluster has no PackingPlans: is Bayplan installed?")
    except DecodeError as error:
        return _complain(str(error))
    print("\n".join(lines))
    return 0


def _lines(api: client.ApiClient, namespace: str, name: str) -> tuple[str, ...]:
    core, custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
    reply: Any = core.read_namespaced_pod(name, namespace, _preload_content=False)
    raw = json.loads(reply.data)
    if reply.status >= 300:  # noqa: PLR2004 - HTTP's boundary of success
        raise ApiException(status=reply.status, reason=raw.get("message"))
    pod = pod_of(raw)
    if pod is None:
        return (f"Pod {namespace}/{name} has ended ({raw['status']['phase']}).",)
    said = raw["metadata"].get("annotations", {})
    return explain(
        pod,
        placed_by=said.get(names.ANNOTATION_PLAN, ""),
        plans=() if pod.unplanned else _plans(custom),
        now=time.time(),
        decided=said.get(names.ANNOTATION_DECISION, ""),
    )


def _plans(custom: client.CustomObjectsApi) -> list[PublishedPlan] | None:
    """Return the plans that are kept; None where they may not be read, which is told.

    Raises:
        ApiException: The API server refuses.
    """
    try:
        listed: Any = custom.list_cluster_custom_object(names.GROUP, names.VERSION, "packingplans")
    except ApiException as error:
        if error.status == _NOT_FOUND:
            raise _NotInstalledError from error
        if error.status == _FORBIDDEN:
            sys.stderr.write("PackingPlans may not be read; so only what the pod says is told\n")
            return None
        raise
    named = ({"kind": "PackingPlan", **item} for item in listed["items"])
    return [joined(pages) for pages in decisions(kept.readable(named))]


def _current_namespace() -> str:
    try:
        _, current = config.list_kube_config_contexts()
    except config.ConfigException:
        return "default"
    return str(current["context"].get("namespace", "default"))


def _refusal(error: ApiException, options: argparse.Namespace) -> str:
    if error.status == _NOT_FOUND:
        if options.namespace:
            return f"pod {options.namespace}/{options.name} not found"
        return f"pod {_current_namespace()}/{options.name} not found; give its namespace with -n"
    return f"the API server refused ({error.status}): {error.reason}"


def _cause(error: urllib3.exceptions.HTTPError) -> str:
    return " ".join(str(getattr(error, "reason", error)).split())


def _complain(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 1
