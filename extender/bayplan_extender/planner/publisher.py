"""Writing plans: one new PackingPlan a pass, and old ones cleared away."""

from collections.abc import Iterable
from typing import Any

import structlog
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.codec import PublishedPlan, plan_manifest
from bayplan.plan import Result

_log = structlog.get_logger()

#: How many plans are kept for those who ask what happened.
HISTORY = 20

_CONFLICT = 409
_NOT_FOUND = 404


class Publisher:
    """Creates and deletes PackingPlan objects."""

    def __init__(self, api: client.ApiClient) -> None:
        self._custom = client.CustomObjectsApi(api)

    def publish(self, result: Result, plans: Iterable[PublishedPlan]) -> str:
        """Create the next plan object and return its name.

        Plans that another version has written may not be among those that we can read. Where one
        has the name already, ours comes after all that there are.

        Raises:
            ApiException: The API server refused it.
        """
        last = max((plan.sequence for plan in plans), default=0)
        try:
            return self._create(result, last + 1)
        except ApiException as error:
            if error.status != _CONFLICT:
                raise
            return self._create(result, max(last, self._last_name()) + 1)

    def _create(self, result: Result, sequence: int) -> str:
        manifest = plan_manifest(result, sequence=sequence)
        self._custom.create_cluster_custom_object(
            names.GROUP,
            names.VERSION,
            "packingplans",
            manifest,
            field_manager=names.MANAGER_PLANS,
        )
        return str(manifest["metadata"]["name"])

    def _last_name(self) -> int:
        """Return the highest number in the name of a plan, readable or not; 0 without plans."""
        found: Any = self._custom.list_cluster_custom_object(
            names.GROUP, names.VERSION, "packingplans"
        )
        numbers = (raw["metadata"]["name"].removeprefix("plan-") for raw in found["items"])
        return max((int(n) for n in numbers if n.isascii() and n.isdecimal()), default=0)

    def clear_away(self, plans: Iterable[PublishedPlan]) -> None:
        """Delete the oldest plans beyond `HISTORY`.

        So many newer ones have overtaken them, whether anybody is there to say so or not: without
        an operator no plan ever counts as finished.
        """
        for plan in sorted(plans, key=lambda p: p.sequence)[:-HISTORY]:
            try:
                self._custom.delete_cluster_custom_object(
                    names.GROUP, names.VERSION, "packingplans", plan.name
                )
            except ApiException as error:
                if error.status != _NOT_FOUND:
                    raise
