"""Who of those that a plan has released is on its way still, as the watch of pods shows it.

A plan whose pods have all been released only waits for the scheduler, and to look afresh at every
node of it for that is most of what a plan costs the API server. A pod that has a node never gets
another one, so what the watch has shown of it once needs no look. All that follows from it is that
a plan is done, or need not be looked at yet: who evicts or releases anybody looks afresh.

Used from several threads: the watch tells, and the pass over the plan asks.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from bayplan.cluster.keys import NodeName
from bayplan_operator.cluster.kube import Raw

#: Seconds after which a look is wanted though pods arrive one after the other: one of the others
#: may have lost its node.
_MOST_S: Final = 10.0


class Arrivals:
    """The pods that one plan has released, and which of them are not seen on their nodes yet."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._plan = ""
        self._homes: Mapping[str, NodeName] = {}
        self._missing: set[str] = set()
        self._has_news = False
        self._since = 0.0

    def expect(self, plan: str, homes: Mapping[str, NodeName], missing: Iterable[str]) -> None:
        """Take the homes of a plan's pods, and who is not there yet, all by uid.

        The watch may show one as soon as it is released, so this is to be said before.
        """
        with self._lock:
            self._plan, self._homes, self._missing = plan, homes, set(missing)
            self._has_news, self._since = False, self._clock()

    def forget(self) -> None:
        """Wait for nobody, events may be lost: the next pass has to look."""
        self.expect("", {}, ())

    def see(self, event: Raw) -> bool:
        """Take what has become of a pod; return whether the plan has nobody left to wait for.

        Where one goes, fails, is on another node, or on none any more (the API server's data were
        restored from a backup), nothing is known of the plan.
        """
        metadata = event["object"]["metadata"]
        uid = metadata["uid"]
        with self._lock:
            home = self._homes.get(uid)
            if home is None:
                return False
            node = event["object"]["spec"].get("nodeName")
            goes = event["type"] == "DELETED" or "deletionTimestamp" in metadata
            goes = goes or (event["object"].get("status") or {}).get("phase") == "Failed"
            lost = node is None and uid not in self._missing
            if goes or lost or node not in {None, home}:
                self._plan, self._homes, self._missing = "", {}, set()
            if node is None or uid not in self._missing:
                return False
            self._missing.remove(uid)
            self._has_news = True
            return not self._missing

    def are_all_there(self, plan: str) -> bool:
        """Return whether everybody that this plan has released was seen on its node."""
        with self._lock:
            return plan == self._plan and not self._missing

    def go_on(self, plan: str) -> bool:
        """Return whether somebody was seen since this was asked last, and a look is not overdue."""
        with self._lock:
            has_news, self._has_news = self._has_news, False
            return plan == self._plan and has_news and self._clock() < self._since + _MOST_S
