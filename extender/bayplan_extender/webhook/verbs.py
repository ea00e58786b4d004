"""What the webhook does for each verb: read the arguments, ask `bayplan.answers`, word the reply.

Every function here takes a body and returns a reply, whatever the body is; nothing here knows
HTTP. A pod that is told a node is assumed there until the watch confirms it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from bayplan.answers import Answer, agreed, answer
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.pods import Pod
from bayplan.codec import DecodeError
from bayplan.online.advisor import Advisor, forecast
from bayplan.plan import Choice, Reason
from bayplan_extender.view import View
from bayplan_extender.webhook import metrics, wire
from bayplan_extender.webhook.binding import Binder
from bayplan_extender.webhook.recent import Recent

_log = structlog.get_logger()

#: Seconds for which a pod counts on the node it was told, unless the watch shows it sooner.
ASSUME_S = 30.0

#: Seconds for which the pods that there are count as what will be asked for next.
_FORECAST_S: Final = 60.0


class Verbs:
    """The verbs of the extender, answered from one view of the cluster.

    Attributes:
        refusals: Counts the calls of `filter` that left a pod without a node; in no registry yet.
    """

    def __init__(
        self,
        view: View,
        *,
        binder: Binder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view = view
        self._binder = binder
        self._clock = clock
        self._advisor = Advisor(view.cache)
        self._forecast_until = float("-inf")
        self._choices = Recent[Choice]()  # how their node was chosen
        self._told = Recent[frozenset[Reason]]()  # for what reasons they were refused
        self._agreed = Recent[int]()  # to how many victims we agreed
        self.refusals = metrics.refusals()
        self._has_warned = False

    def filter(self, body: bytes) -> wire.Reply:
        """Return the node that takes the pod, or why it must wait."""
        if not self._view.synced:
            return wire.filter_error(self._not_synced())
        arguments = wire.arguments_of(body, self._known)
        reply = self.place(arguments.pod, arguments.nodes)
        self._warn_of_objects(arguments)
        self._note_refusal(arguments.pod, reply)
        return wire.filter_result(reply, arguments)

    def place(self, pod: Pod, nodes: Sequence[NodeName]) -> Answer:
        """Return which of the nodes takes the pod, and assume it there."""
        view, now = self._view, self._clock()
        with view.lock:
            view.expire(now)
            reply = answer(pod, nodes, view.cache, view.reservations(now), self._advice(now))
            if reply.node is not None:
                view.cache.assume(pod, reply.node, until=now + ASSUME_S)
            if reply.choice is not None:
                self._choices.put(pod.uid, reply.choice)
        return reply

    def choice(self, pod: Pod) -> Choice | None:
        """Return how the pod's node was chosen here, if it was, and is remembered."""
        choice = self._choices.get(pod.uid)
        return choice if choice is not None and pod.node in {None, choice.node} else None

    def prioritize(self, body: bytes) -> wire.Reply:
        """Return how well each node takes the pod."""
        if not self._view.synced:
            return wire.no_priorities(self._not_synced())
        arguments, now = wire.arguments_of(body, self._known), self._clock()
        with self._view.lock:
            return wire.priorities(self._advice(now).scores(arguments.pod, arguments.nodes))

    def preempt(self, body: bytes) -> wire.Reply:
        """Return the proposed victims that the plan makes go as well, or none."""
        asked, now = wire.preemption_of(body), self._clock()
        with self._view.lock:
            promised, pods = self._view.reservations(now), self._view.cache.pods()
            victims = agreed(asked.uid, asked.victims, promised, pods.values())
        self._note_preemption(asked, agreed=sum(map(len, victims.values())))
        return wire.preempt_result(victims)

    def bind(self, body: bytes) -> wire.Reply:
        """Bind the pod; asking again for the same is a success."""
        if self._binder is None:
            return wire.bind_result("this extender does not bind: leave bindVerb empty")
        asked = wire.binding_of(body)
        error = self._binder.bind(asked)
        if error:
            _log.warning("pod_not_bound", pod=str(asked.pod), node=asked.node, error=error)
        return wire.bind_result(error)

    def _advice(self, now: float) -> Advisor:
        """Return who ranks nodes, with a forecast that is not too old; hold the lock."""
        if now >= self._forecast_until:
            self._advisor.expect(forecast(self._view.cache.pods().values()))
            self._forecast_until = now + _FORECAST_S
        return self._advisor

    def _note_refusal(self, pod: Pod, reply: Answer) -> None:
        """Count a refusal, and log it unless it is the same as before: schedulers ask for ever."""
        if not reply.refused:
            return
        _, why = reply.refused[0]
        self.refusals.labels(why.reason.value).inc()
        known = self._told.get(pod.uid) or frozenset()
        self._told.put(pod.uid, known | {why.reason})
        if why.reason not in known:
            _log.info(
                "pod_refused",
                pod=str(pod.key),
                nodes=len(reply.refused),
                reason=why.reason.value,
                first=why.message,
            )

    def _note_preemption(self, asked: wire.Preemption, *, agreed: int) -> None:
        """Log what was asked, unless the answer is the same as before: it is asked at each try."""
        known = self._agreed.get(asked.uid)
        self._agreed.put(asked.uid, agreed)
        if agreed != known:
            _log.info("preemption_asked", uid=asked.uid, nodes=len(asked.victims), agreed=agreed)

    def _known(self, key: PodKey, uid: str, version: int) -> Pod | None:
        with self._view.lock:
            return self._view.cache.pod_at(key, uid, version)

    def _not_synced(self) -> str:
        return f"the extender has not listed {', '.join(self._view.missing)} yet"

    def _warn_of_objects(self, arguments: wire.Arguments) -> None:
        """Say once that whole nodes come over the wire, which is a mistake nobody notices."""
        if arguments.objects is None or self._has_warned:
            return
        self._has_warned = True
        _log.warning(
            "whole_nodes_received",
            nodes=len(arguments.objects),
            fix="set nodeCacheCapable: true for this extender in the scheduler's configuration",
            why="whole nodes are slow to send and break the scheduler's own scoring",
        )


def failing(
    verb: str, act: Callable[[bytes], wire.Reply], fail: Callable[[str], wire.Reply]
) -> Callable[[bytes], wire.Reply]:
    """Return `act` with every failure turned into a reply that the scheduler understands."""

    def safe(body: bytes) -> wire.Reply:
        try:
            return act(body)
        except DecodeError as error:
            _log.warning("request_unreadable", verb=verb, error=str(error))
            return fail(str(error))
        # A status 500 would lose the message, and the caller is the scheduler's only thread.
        except Exception as error:  # noqa: BLE001 - see above
            _log.exception("request_failed", verb=verb)
            return fail(f"internal error: {type(error).__name__}; the extender's log says more")

    return safe
