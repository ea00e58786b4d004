"""Remembering the pods that were refused where a plan had put them.

`bayplan.rules.recalls` says what that means. It stands in the status of the newest plan, where it
outlives us and the planner sees it before the pods that are made anew.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Final

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.api.packing_plan import MAX_RECALLED, MAX_RECALLED_BYTES, Refuser
from bayplan.cluster.pods import Pod
from bayplan.codec import DecodeError
from bayplan.codec.pods import selector_of
from bayplan.codec.recalls import Group, Recall, recall_manifest, revisions_of, state_of
from bayplan.rules import recalls
from bayplan_operator.cluster.kube import (
    Kube,
    Raw,
    by_its_clock,
    message_of,
    node_path,
    plan_path,
    pods_path,
)
from bayplan_operator.plans.memory import Plans

_log = structlog.get_logger()

#: Most characters of what kube-scheduler says.
_MOST_SAID: Final = 300

#: What a node is that is gone or cannot be read.
_NO_STATE: Final = "unknown"


class Recalls:
    """Who was refused, as the plans tell it."""

    def __init__(self, kube: Kube, plans: Plans, *, now: Callable[[], datetime]) -> None:
        self._kube = kube
        self._plans = plans
        self._now = now

    def note_one(self, refused: Pod, raw: Raw, *, by: Refuser) -> str:
        """Remember that one pod was refused just now; return what that means, in words."""
        group = recalls.group_of(refused)
        if group is None:
            return refused.refused
        raws = [raw]
        if refused.gang is not None:  # whose pods may be of several templates
            labels = selector_of(refused.gang)
            raws += self._kube.items(pods_path(refused.gang.namespace), labels=labels)
        return self.note(group, raws, refused, by=by)

    def note(self, group: Group, raws: Sequence[Raw], refused: Pod, *, by: Refuser) -> str:
        """Remember that one of these pods was refused; return what that means, in words."""
        now = self._instant()
        known = self._plans.recalled(now=now)
        nodes = [(refused.node, self._state(refused.node))] if refused.node is not None else []
        first = Recall(
            group=group,
            by=by,
            pod=refused.key.name,
            message=refused.refused[:_MOST_SAID],
            nodes=tuple(nodes),
            revisions=revisions_of(raws),
            times=1,
            at=int(now),
        )
        made = recalls.again(known.get(group), first)
        if made != known.get(group):
            self._write({**known, group: made})
        return recalls.in_words(made)

    def review(self, unbound: Sequence[Pod], raws: Mapping[str, Raw]) -> None:
        """Forget those whose pods or refusing nodes are others than they were."""
        known = self._plans.recalled(now=self._instant())
        there: dict[Group | None, list[Raw]] = defaultdict(list)
        for pod in unbound if known else ():
            if not pod.terminating:
                there[recalls.group_of(pod)].append(raws[pod.uid])
        state = cache(self._state)  # one node may have refused many
        kept = {
            group: recall
            for group, recall in known.items()
            if recalls.knows(recall, revisions_of(there[group]))
            and all(state(name) == then for name, then in recall.nodes)
        }
        if kept != known:
            for group in known.keys() - kept.keys():
                _log.info("recall_forgotten", group=str(group), reason="its pods or nodes changed")
            self._write(kept)

    def _instant(self) -> float:
        """Return the time by the API server's clock: the planner reads what is written by it."""
        return by_its_clock(self._kube, self._now())

    def _state(self, node: str) -> str:
        raw = self._kube.get(node_path(node))
        try:
            return state_of(raw) if raw is not None else _NO_STATE
        except DecodeError:
            return _NO_STATE

    def _write(self, known: Mapping[Group, Recall]) -> None:
        """Write it into the newest plan; where that fails, they are merely tried again soon.

        So they are where there is no plan: one is there to be written into before the next try.
        """
        newest = self._plans.newest()
        if newest is None:
            return
        published = newest.parts[0].published
        told = recalls.most_pressing(known.values(), most=MAX_RECALLED, size=MAX_RECALLED_BYTES)
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "PackingPlan",
            "metadata": {"name": published.name, "uid": published.uid},
            "status": {"recalled": [recall_manifest(recall) for recall in told]},
        }
        path = f"{plan_path(published.name)}/status"
        try:
            version = self._kube.apply(path, body, manager=names.MANAGER_RECALLS)
        except ApiException as error:
            if not error.status:
                raise
            _log.warning("recall_not_written", plan=published.name, error=message_of(error))
            return
        self._plans.wrote_recalled(published, told, version)
