"""The API server's resources as raw objects: paths, and the few verbs that we use.

Objects stay dicts for the codec to read. Every call waits for its answer and raises
`kubernetes.client.exceptions.ApiException` (typed by status) when that is not a success.

Requests go straight to the connections of the library's client: what it does around one, for typed
bodies of all kinds, costs as much again as the request. Changes ask for the metadata of what they
have changed alone, for nobody reads the rest.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import orjson
import urllib3
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan.inference.network import INFERENCE_API

Raw = dict[str, Any]

#: Seconds to connect and to wait for an answer: no call may hold a worker for ever.
_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=30.0)

#: A call that does not get through is made again at once; one that is refused or gets no answer is
#: for the caller to make again, who has pauses of its own.
_RETRIES: Final = urllib3.Retry(
    connect=3, read=0, status=0, redirect=0, other=0, respect_retry_after_header=False
)

#: Seconds after which the server ends a watch, and without a byte before it counts as dead.
_WATCH_S: Final = 60
_WATCH_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=_WATCH_S + 15.0)

#: Seconds by which an answer may be dated otherwise though the clocks are the same.
_SAME_CLOCK_S: Final = 2.0

#: Objects on one page of a large collection.
_PAGE: Final = 250

_JSON: Final = "application/json"
_METADATA: Final = f"{_JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"

#: HTTP's "not found".
_GONE: Final = 404

#: HTTP's errors of who asks, but for one that passes, and of who answers.
_CLIENT_ERROR: Final = 400
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500

#: HTTP answers that mean "gone, or another one or changed by now": the next pass sees what is.
OVERTAKEN: Final = frozenset({404, 409})

#: HTTP answers that mean "not like this", now or until something else changes.
REFUSALS: Final = frozenset({400, 403, 422})

NODES: Final = "/api/v1/nodes"
PODS: Final = "/api/v1/pods"
DEPLOYMENTS: Final = f"/apis/{names.API_VERSION}/inferencedeployments"
PLANS: Final = f"/apis/{names.API_VERSION}/packingplans"
POLICY: Final = f"/apis/{names.API_VERSION}/packingpolicies/default"


def node_path(name: str) -> str:
    """Return the path of a node."""
    return f"{NODES}/{name}"


def pods_path(namespace: str) -> str:
    """Return the path of a namespace's pods."""
    return f"/api/v1/namespaces/{namespace}/pods"


def pod_path(key: PodKey) -> str:
    """Return the path of a pod."""
    return f"{pods_path(key.namespace)}/{key.name}"


def services_path(namespace: str) -> str:
    """Return the path of a namespace's Services."""
    return f"/api/v1/namespaces/{namespace}/services"


def inference_pools_path(namespace: str) -> str:
    """Return the path of a namespace's InferencePools."""
    return f"/apis/{INFERENCE_API}/namespaces/{namespace}/inferencepools"


def deployment_path(namespace: str, name: str) -> str:
    """Return the path of an InferenceDeployment."""
    return f"/apis/{names.API_VERSION}/namespaces/{namespace}/inferencedeployments/{name}"


def plan_path(name: str) -> str:
    """Return the path of a PackingPlan."""
    return f"{PLANS}/{name}"


def lease_path(namespace: str) -> str:
    """Return the path of the planner's lease."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{names.PLANNER_LEASE}"


def events_path(namespace: str) -> str:
    """Return the path of a namespace's events."""
    return f"/api/v1/namespaces/{namespace}/events"


class Kube:
    """A connection to the API server; safe to use from several threads."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        host = api.configuration.host
        self._pool = api.rest_client.pool_manager.connection_from_url(host)
        self._root = urlsplit(host).path.rstrip("/")
        self._dated = ("", 0.0)

    @property
    def ahead_s(self) -> float:
        """By how many seconds our clock is ahead of the API server's, as its last answer told.

        0 where it is less than two: an answer is dated by the second, and some time on its way.
        """
        told, at = self._dated
        try:
            ahead_s = at - parsedate_to_datetime(told).timestamp()
        except ValueError:  # no answer yet, or one without a date
            return 0.0
        return ahead_s if abs(ahead_s) >= _SAME_CLOCK_S else 0.0

    def get(self, path: str) -> Raw | None:
        """Return an object, or None when there is none."""
        try:
            return self._send("GET", path)
        except ApiException as error:
            if error.status == _GONE:
                return None
            raise

    def items(self, path: str, *, labels: str = "", fields: str = "") -> list[Raw]:
        """Return the objects of a collection that match the selectors."""
        answer = self._send("GET", path, query=_given(labelSelector=labels, fieldSelector=fields))
        found: list[Raw] = answer["items"]
        return found

    def pages(self, path: str, *, labels: str = "", fields: str = "") -> Iterator[Raw]:
        """Yield the objects of a collection, which may be too large to be held at once.

        All pages are of the same instant, which the server can look back to for five minutes.
        """
        for page in self._pages(path, _given(labelSelector=labels, fieldSelector=fields)):
            yield from page["items"]

    def each(self, path: str, take: Callable[[Raw], None]) -> str:
        """Hand over each object of a collection; return the resourceVersion of them all.

        A watch that goes on from it tells what has become of them since.
        """
        version = ""
        for page in self._pages(path, {}):
            for raw in page["items"]:
                take(raw)
            version = page["metadata"]["resourceVersion"]
        return version

    def count(self, path: str) -> int:
        """Return about how many objects a collection has."""
        answer = self._send("GET", path, query={"limit": "1"})
        rest = int(answer["metadata"].get("remainingItemCount") or 0)
        return len(answer["items"]) + rest

    def watch(self, path: str, *, labels: str, version: str = "") -> Iterator[Raw]:
        """Yield what happens to the objects with these labels, until the server ends the watch.

        It goes on from a resourceVersion, or begins with an event for each object there is.
        """
        query = _given(
            watch="1",
            labelSelector=labels,
            resourceVersion=version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(_WATCH_S),
        )
        answer = self._open("GET", path, query=query, timeout=_WATCH_TIMEOUT)
        try:
            rest = b""
            for chunk in answer.stream(decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from map(orjson.loads, lines)
        finally:
            answer.close()

    def try_watch(self, path: str) -> None:
        """Ask whether a collection can be listed and watched, and read nothing of it.

        Raises:
            ApiException: It cannot.
        """
        listed = self._send("GET", path, query={"limit": "1"})
        version = listed["metadata"]["resourceVersion"]
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "1"}
        self._open("GET", path, query=query).close()

    def create(self, path: str, body: Raw, *, manager: str = names.MANAGER_PODS) -> Raw:
        """Create an object, or a subresource such as an eviction.

        A field that the API server does not know is refused: in a pod's template it is a slip of
        the pen, and without it the pod would run, on no GPU perhaps.
        """
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        return self._send("POST", path, query=query, body=body, content_type=_JSON)

    def apply(self, path: str, body: Raw, *, manager: str, force: bool = True) -> int:
        """Apply our fields of an object by server-side apply; make the object if need be.

        Return its resourceVersion since. Without `force` a field that somebody else has set
        otherwise is a conflict (409).
        """
        query = {"fieldManager": manager, "force": str(force).lower()}
        changed = self._change(path, query, body, content_type=_APPLY)
        return int(changed["metadata"]["resourceVersion"])

    def merge(self, path: str, body: Raw, *, manager: str, rehearse: bool = False) -> None:
        """Patch an object by JSON merge patch; a uid in it must be the object's.

        To `rehearse` is to ask whether that would be refused, and leave the object as it is.
        """
        query = _given(fieldManager=manager, dryRun="All" if rehearse else "")
        self._change(path, query, body, content_type=_MERGE)

    def patch(self, path: str, body: Raw, *, manager: str, rehearse: bool = False) -> None:
        """Patch an object of Kubernetes' own by strategic merge patch, or `rehearse` that."""
        query = _given(fieldManager=manager, dryRun="All" if rehearse else "")
        self._change(path, query, body, content_type=_STRATEGIC)

    def delete(self, path: str, *, uid: str, version: str = "", grace_s: int | None = None) -> bool:
        """Delete the object with this uid; return whether it is gone, or going.

        Nothing happens when it is another one, or of another resourceVersion than the one that is
        given. With a grace of 0 s nobody is waited for, not even the pod's node.
        """
        body: Raw = {"preconditions": {"uid": uid}}
        if version:
            body["preconditions"]["resourceVersion"] = version
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            self._send("DELETE", path, body=body, content_type=_JSON)
        except ApiException as error:
            if error.status not in OVERTAKEN:
                raise
            return bool(error.status == _GONE)
        return True

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[Raw]:
        """Yield a collection page by page."""
        query = {**query, "limit": str(_PAGE)}
        while True:
            answer = self._send("GET", path, query=query)
            yield answer
            rest = answer["metadata"].get("continue")
            if not rest:
                return
            query["continue"] = rest

    def _change(
        self, path: str, query: Mapping[str, str], body: object, *, content_type: str
    ) -> Raw:
        return self._send(
            "PATCH", path, query=query, body=body, content_type=content_type, accept=_METADATA
        )

    def _send(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "",
        accept: str = _JSON,
    ) -> Raw:
        """Return what is answered to a request."""
        response = self._open(
            method, path, query=query, body=body, content_type=content_type, accept=accept
        )
        answer: Raw = orjson.loads(response.data)
        return answer

    def _open(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "",
        accept: str = _JSON,
        timeout: urllib3.Timeout = _TIMEOUT,
    ) -> urllib3.BaseHTTPResponse:
        """Return the answer to a request, to be read."""
        headers = {**self._api.default_headers, "Accept": accept}
        token = self._api.configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        if content_type:
            headers["Content-Type"] = content_type
        answer = self._pool.urlopen(
            method,
            f"{self._root}{path}?{urlencode(query)}" if query else f"{self._root}{path}",
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=timeout,
            retries=_RETRIES,
            preload_content=False,
        )
        self._dated = (answer.headers.get("Date", ""), time.time())
        if not 200 <= answer.status <= 299:  # noqa: PLR2004 - HTTP's successes
            told = answer.data.decode(errors="replace")
            raise ApiException.from_response(http_resp=answer, body=told, data=None)
        return answer


def _given(**query: str) -> dict[str, str]:
    """Return the parameters of a query that say anything."""
    return {name: value for name, value in query.items() if value}


class Denial(str):
    """A refusal that has its reason in the request or the object: asking again is of no use."""

    __slots__ = ()


def by_its_clock(kube: Kube, now: datetime) -> float:
    """Return our `now` by the API server's clock, in seconds since the epoch.

    What it dates, and what others read of it, is to be compared with that.
    """
    return now.timestamp() - kube.ahead_s


def refusal_of(error: ApiException) -> str | None:
    """Return why the API server refuses to change one object; None if that was overtaken.

    It is a `Denial` where the answer is one of `REFUSALS`.

    Raises:
        ApiException: There was no answer, so that others fare no better.
    """
    if error.status in OVERTAKEN:
        return None
    if not error.status:
        raise error
    return Denial(message_of(error)) if error.status in REFUSALS else message_of(error)


def is_final(error: Exception) -> bool:
    """Return whether a read that fails so is to fail again, for it is not allowed or of nothing."""
    status = int(getattr(error, "status", 0) or 0)
    return _CLIENT_ERROR <= status < _SERVER_ERROR and status != _TOO_MANY_REQUESTS


def message_of(error: ApiException) -> str:
    """Return what the API server says about an error, in one line."""
    try:
        told = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        told = f"{error.status} {error.reason}"
    return " ".join(str(told).split())
