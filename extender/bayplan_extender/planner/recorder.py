"""GET /snapshot: the latest pass on record, for `bayplan plan --replay` elsewhere.

A plan that surprises somebody can be made again from what it was made from, on any machine. Only
the replica that leads makes plans; the others have nothing to give.
"""

import json
from dataclasses import dataclass

from fastapi import APIRouter, Depends, HTTPException, Response

from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import Recording, recording_document
from bayplan.plan import Result, plan_digest
from bayplan.policy import Policy
from bayplan_extender.loopback import from_loopback

_NOT_FOUND = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A plan, and what it was made from."""

    snapshot: Snapshot
    policy: Policy
    result: Result


class Recorder:
    """Keeps what the latest pass was made from; its values are frozen, so that costs nothing."""

    def __init__(self) -> None:
        self._latest: Pass | None = None

    def keep(self, done: Pass) -> Pass:
        """Keep a pass, forget the one before, and return it."""
        self._latest = done
        return done

    def recording(self) -> Recording | None:
        """Return the latest pass, or None before the first."""
        latest = self._latest
        if latest is None:
            return None
        return Recording(
            snapshot=latest.snapshot,
            policy=latest.policy,
            seed=0,  # the planner gives none
            digest=latest.result.digest,
            plan_digest=plan_digest(latest.result.plan),
        )

    def router(self) -> APIRouter:
        """Return the endpoint; only the pod itself may ask."""
        routes = APIRouter(dependencies=[Depends(from_loopback)])

        @routes.get("/snapshot")
        def snapshot() -> Response:  # in a thread: a large cluster takes seconds to write down
            recording = self.recording()
            if recording is None:
                raise HTTPException(_NOT_FOUND, "no plan was made here: ask the replica that leads")
            text = json.dumps(recording_document(recording), separators=(",", ":"))
            return Response(text, media_type="application/json")

        return routes
