"""Writing plans: one new plan a pass, in as many objects as it takes, and old ones cleared away."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.codec import PublishedPlan, plan_manifests
from bayplan.codec.plans import sequence_in
from bayplan.plan import Result
from bayplan_extender.kube import FAILURES, brief

_log = structlog.get_logger()

#: How many plans are kept for those who ask what happened, and in how many objects: every program
#: that starts reads them all. The newest is kept, however many it takes.
HISTORY = 20
HISTORY_OBJECTS = 40

#: Seconds to connect, and to wait for an answer: whoever leads no longer may publish for as long.
_TIMEOUT_S = (2.0, 5.0)

_CONFLICT = 409
_NOT_FOUND = 404


class Publisher:
    """Creates and deletes PackingPlan objects."""

    def __init__(self, api: client.ApiClient) -> None:
        self._custom = client.CustomObjectsApi(api)

    def publish(self, result: Result, plans: Iterable[PublishedPlan]) -> str:
        """Create the objects of the next plan and return its name.

        Where one of them is refused, those before it are deleted again. Plans that another version
        has written may not be among those that we can read. Where one has the name already, ours
        comes after all that there are.

        Raises:
            Exception: The API server refused it, or did not answer (`kube.FAILURES`).
        """
        last = max((plan.sequence for plan in plans), default=0)
        try:
            return self._create(result, last + 1)
        except ApiException as error:
            if error.status != _CONFLICT:
                raise
            return self._create(result, max(last, self._last_name()) + 1)

    def _create(self, result: Result, sequence: int) -> str:
        made: list[str] = []
        for manifest in plan_manifests(result, sequence=sequence):
            name = str(manifest["metadata"]["name"])
            try:
                self._custom.create_cluster_custom_object(
                    names.GROUP,
                    names.VERSION,
                    "packingplans",
                    manifest,
                    field_manager=names.MANAGER_PLANS,
                    _request_timeout=_TIMEOUT_S,
                )
            except FAILURES as error:
                # It may be there although the answer says otherwise, unless somebody else's is.
                theirs = isinstance(error, ApiException) and error.status == _CONFLICT
                self._withdraw(made if theirs else [*made, name])
                raise
            made.append(name)
        return made[0]

    def _withdraw(self, made: Sequence[str]) -> None:
        """Delete what there is of a plan; without its other parts nobody reads it anyway."""
        try:
            for name in made:
                self._delete(name)
        except FAILURES as error:
            _log.warning("plan_not_withdrawn", objects=made, error=brief(error))

    def _last_name(self) -> int:
        """Return the highest number in the name of a plan, readable or not; 0 without plans."""
        found: Any = self._custom.list_cluster_custom_object(
            names.GROUP, names.VERSION, "packingplans", _request_timeout=_TIMEOUT_S
        )
        return max((sequence_in(raw["metadata"]["name"]) for raw in found["items"]), default=0)

    def clear_away(self, plans: Iterable[PublishedPlan]) -> None:
        """Delete the oldest plans, all objects of each, beyond `HISTORY` and `HISTORY_OBJECTS`.

        So many newer ones have overtaken them, whether anybody is there to say so or not: without
        an operator no plan ever counts as finished.
        """
        objects: dict[int, list[str]] = defaultdict(list)
        for plan in plans:
            objects[plan.sequence].append(plan.name)
        kept = 0
        for age, sequence in enumerate(sorted(objects, reverse=True)):
            kept += len(objects[sequence])
            if age and (age >= HISTORY or kept > HISTORY_OBJECTS):
                for name in objects[sequence]:
                    self._delete(name)

    def _delete(self, name: str) -> None:
        try:
            self._custom.delete_cluster_custom_object(
                names.GROUP, names.VERSION, "packingplans", name, _request_timeout=_TIMEOUT_S
            )
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
