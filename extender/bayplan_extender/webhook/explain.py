"""GET /explain/{namespace}/{pod}: why a pod is where it is, and how the webhook chose its node.

The command line (`kubectl bayplan explain`) answers from objects in the API server; this is the
same, with what only the webhook knows: how it chose a node for a pod without a plan.
"""

import time

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import PlainTextResponse

from bayplan.cluster.keys import PodKey
from bayplan.cluster.pods import Pod
from bayplan.codec import PublishedPlan, decisions, joined
from bayplan.why.explain import chosen, explain
from bayplan_extender.loopback import from_loopback
from bayplan_extender.view import View
from bayplan_extender.webhook.verbs import Verbs

_NOT_FOUND = 404


def router(view: View, verbs: Verbs) -> APIRouter:
    """Return the endpoint; only the pod itself may ask."""
    routes = APIRouter(dependencies=[Depends(from_loopback)])

    @routes.get("/explain/{namespace}/{name}", response_class=PlainTextResponse)
    async def explained(namespace: str, name: str) -> str:
        key = PodKey(namespace=namespace, name=name)
        with view.lock:
            pod, objects = view.cache.pod(key), tuple(view.plans.values())
        plans = [joined(pages) for pages in decisions(objects)]
        if pod is None:
            why = "is not there, has ended, or cannot be read: `kubectl bayplan explain` says which"
            raise HTTPException(_NOT_FOUND, f"pod {key} {why}")
        placed_by = next((plan.name for plan in plans if _gave_a_home(plan, pod)), None)
        choice = verbs.choice(pod) if placed_by is None else None
        # Only who was seen to choose is known to have had no plan: older ones are not kept.
        by = "" if choice else placed_by
        lines = explain(pod, placed_by=by, plans=plans, now=time.time())
        return "\n".join([*lines, *(chosen(pod, choice) if choice else ())]) + "\n"

    return routes


def _gave_a_home(published: PublishedPlan, pod: Pod) -> bool:
    plan = published.plan
    return any(bind.uid == pod.uid and bind.node == pod.node for bind in plan.binds) or any(
        move.uid == pod.replaces and move.target == pod.node for move in plan.moves
    )
