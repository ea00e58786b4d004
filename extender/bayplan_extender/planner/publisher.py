"""Writing plans: one new plan a pass, in as many objects as it takes, and old ones cleared away.

A plan has the number after the last one that was there when the cluster was looked at. Of two that
were made from the same look the API server takes one, so a planner that has lost its lease without
knowing it, be it between its last check and its request, cannot overtake the next leader with a
plan from an older look.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.codec import PublishedPlan, plan_manifests
from bayplan.plan import Result
from bayplan.rules import recalls
from bayplan_extender.kube import FAILURES, brief, unretried

_log = structlog.get_logger()

#: How many plans are kept for those who ask what happened, and in how many objects: every program
#: that starts reads them all. The newest is kept, however many it takes.
HISTORY = 20
HISTORY_OBJECTS = 40

#: Seconds to connect, and to wait for an answer.
_TIMEOUT_S = (2.0, 5.0)

_CONFLICT = 409
_NOT_FOUND = 404


class Dropped(Exception):  # noqa: N818 - not an error: the next look makes a better plan
    """A plan that is not published, because it is not this planner's turn any more."""


class Publisher:
    """Creates and deletes PackingPlan objects."""

    def __init__(self, api: client.ApiClient, *, leads: Callable[[], bool]) -> None:
        """Take the API server, and what tells whether we lead at this moment."""
        self._custom = client.CustomObjectsApi(unretried(api))
        self._leads = leads

    def publish(self, result: Result, *, sequence: int) -> str:
        """Create the objects of the plan with the number `sequence`; return its name.

        Where one of them is refused, those before it are deleted again.

        Raises:
            Dropped: We lead no longer, or somebody has taken the number: look again.
            Exception: The API server refused it, or did not answer (`kube.FAILURES`).
        """
        made: list[str] = []
        for manifest in plan_manifests(result, sequence=sequence):
            name = str(manifest["metadata"]["name"])
            if not self._leads():
                self._withdraw(made)
                raise Dropped(f"the lease was lost before {name} was written")
            try:
                self._create(manifest)
            except FAILURES as error:
                theirs = isinstance(error, ApiException) and error.status == _CONFLICT
                # It may be there although the answer says otherwise. Only while we lead it is
                # sure to be ours: the next leader's may have its name.
                self._withdraw(made if theirs or not self._leads() else [*made, name])
                if theirs:
                    raise Dropped(f"somebody else has published {name}") from error
                raise
            made.append(name)
        return made[0]

    def _create(self, manifest: dict[str, Any]) -> None:
        self._custom.create_cluster_custom_object(
            names.GROUP,
            names.VERSION,
            "packingplans",
            manifest,
            field_manager=names.MANAGER_PLANS,
            _request_timeout=_TIMEOUT_S,
        )

    def _withdraw(self, made: Sequence[str]) -> None:
        """Delete what there is of a plan; without its other parts nobody reads it anyway."""
        try:
            for name in made:
                self._delete(name)
        except FAILURES as error:
            _log.warning("plan_not_withdrawn", objects=made, error=brief(error))

    def clear_away(self, plans: Iterable[PublishedPlan]) -> None:
        """Delete the oldest plans, all objects of each, beyond `HISTORY` and `HISTORY_OBJECTS`.

        So many newer ones have overtaken them, whether anybody is there to say so or not: without
        an operator no plan ever counts as finished. The last one that tells which gangs were called
        back stays as long as that counts. What cannot be deleted now is with the next plan: the new
        one is published all the same.
        """
        known = tuple(plans)
        teller = recalls.last_told(known)
        remembers = teller.sequence if teller and teller.recalled else None
        objects: dict[int, list[str]] = defaultdict(list)
        for plan in known:
            if plan.sequence != remembers:
                objects[plan.sequence].append(plan.name)
        kept = 0
        for age, sequence in enumerate(sorted(objects, reverse=True)):
            kept += len(objects[sequence])
            if age and (age >= HISTORY or kept > HISTORY_OBJECTS):
                try:
                    for name in objects[sequence]:
                        self._delete(name)
                except FAILURES as error:
                    _log.warning("plans_not_cleared_away", sequence=sequence, error=brief(error))
                    return

    def _delete(self, name: str) -> None:
        try:
            self._custom.delete_cluster_custom_object(
                names.GROUP, names.VERSION, "packingplans", name, _request_timeout=_TIMEOUT_S
            )
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
