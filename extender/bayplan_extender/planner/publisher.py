"""Writing plans: one new PackingPlan a pass, and old ones cleared away."""

from collections.abc import Iterable

import structlog
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.codec import PublishedPlan, plan_manifest
from bayplan.plan import Result

_log = structlog.get_logger()

#: How many finished plans are kept for those who ask what happened.
HISTORY = 20

_CONFLICT = 409
_NOT_FOUND = 404


class Publisher:
    """Creates and deletes PackingPlan objects."""

    def __init__(self, api: client.ApiClient) -> None:
        self._custom = client.CustomObjectsApi(api)

    def publish(self, result: Result, plans: Iterable[PublishedPlan]) -> str:
        """Create the next plan object and return its name.

        Raises:
            ApiException: The API server refused it.
        """
        sequence = max((plan.sequence for plan in plans), default=0) + 1
        manifest = plan_manifest(result, sequence=sequence)
        self._custom.create_cluster_custom_object(
            names.GROUP,
            names.VERSION,
            "packingplans",
            manifest,
            field_manager=names.MANAGER_PLANS,
        )
        return str(manifest["metadata"]["name"])

    def clear_away(self, plans: Iterable[PublishedPlan]) -> None:
        """Delete the oldest finished plans beyond `HISTORY`."""
        finished = sorted((p for p in plans if p.finished), key=lambda p: p.sequence)
        for plan in finished[:-HISTORY]:
            try:
                self._custom.delete_cluster_custom_object(
                    names.GROUP, names.VERSION, "packingplans", plan.name
                )
            except ApiException as error:
                if error.status != _NOT_FOUND:
                    raise
