"""kopf's part: which resources are watched, and which key each event makes dirty.

Only `on.event` handlers: they neither change the watched objects nor remember anything about
them, so an event that is lost or merged costs nothing (the next pass compares everything). Pods,
of which events come by the thousand, are watched beside kopf (`podwatch`).
"""

from typing import Any

import kopf
from kubernetes import client

from bayplan.api import names
from bayplan_operator.cluster.connection import kopf_login
from bayplan_operator.dispatcher import Asked, Dispatcher
from bayplan_operator.forgetful import NoDiffBase, NoProgress
from bayplan_operator.keys import DeploymentKey


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

    @kopf.on.event("", "v1", "nodes", registry=registry)
    async def node_event(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401
        if event["type"] == "DELETED":
            dispatcher.node_deleted(event["object"]["metadata"]["name"])
        else:
            dispatcher.node_changed(dict(event["object"]))

    @kopf.on.event(names.GROUP, names.VERSION, "packingplans", registry=registry)
    async def plan_event(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401
        metadata = event["object"]["metadata"]
        if event["type"] == "DELETED":
            dispatcher.plan_deleted(metadata["name"], metadata["uid"])
        else:
            dispatcher.plan_changed(dict(event["object"]))

    return registry


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings: post and remember nothing."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = NoDiffBase()
    chosen.persistence.progress_storage = NoProgress()
    return chosen
