"""kopf's part: which resources are watched, and which key each event makes dirty.

Only `on.event` handlers: they neither change the watched objects nor remember anything about
them, so an event that is lost or merged costs nothing (the next pass compares everything). Pods
and nodes, of which events come by the thousand, are watched beside kopf (`podwatch`, `nodewatch`).
"""

from collections.abc import Iterator
from typing import Any, Final

import kopf
from kubernetes import client

from bayplan.api import names
from bayplan_operator.cluster.connection import kopf_login, pauses
from bayplan_operator.dispatcher import Asked, Dispatcher
from bayplan_operator.keys import DeploymentKey
from bayplan_operator.storages import NoDiffBase, NoProgress

#: Seconds to connect, and for a whole list to come.
_CONNECT_S: Final = 5.0
_LIST_S: Final = 30.0


def registry_for(dispatcher: Dispatcher, access: client.Configuration) -> kopf.OperatorRegistry:
    """Return the handlers that feed `dispatcher`."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:  # noqa: ANN401 - kopf's keywords
        return kopf_login(access)

    @kopf.on.event(names.GROUP, names.VERSION, "inferencedeployments", registry=registry)
    async def deployment_event(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401
        metadata: dict[str, Any] = {**event["object"]["metadata"]}
        key = DeploymentKey(namespace=metadata["namespace"], name=metadata["name"])
        if event["type"] == "DELETED":
            dispatcher.deployment_deleted(key, metadata["uid"])
        else:
            asked = Asked(
                uid=metadata["uid"],
                generation=metadata["generation"],
                deleted="deletionTimestamp" in metadata,
            )
            dispatcher.deployment_changed(key, asked)

    @kopf.on.event(names.GROUP, names.VERSION, "packingplans", registry=registry)
    async def plan_event(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401
        metadata = event["object"]["metadata"]
        if event["type"] == "DELETED":
            dispatcher.plan_deleted(metadata["name"], metadata["uid"])
        else:
            dispatcher.plan_changed(dict(event["object"]))

    return registry


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings: post and remember nothing, and never give the API server up.

    By itself kopf ends the process when it was answered badly for a minute (a load balancer with
    nobody behind it says 503), and Kubernetes starts it again minutes later.
    """
    chosen = kopf.OperatorSettings()
    chosen.networking.connect_timeout = _CONNECT_S
    chosen.networking.request_timeout = _LIST_S
    chosen.networking.error_backoffs = _Pauses()
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = NoDiffBase()
    chosen.persistence.progress_storage = NoProgress()
    return chosen


class _Pauses:
    """The pauses of one request after the other: nobody else asks for the two collections."""

    def __iter__(self) -> Iterator[float]:
        """Begin anew, as each request does."""
        return pauses()
