"""Within units that stay: which pods must go so that fresh ones can take their names.

A pod that has ended, that was made for a plan which can no longer be kept, or under which the
hardware is broken, is replaced inside its unit; the others of the unit stay, but for those of its
own replica (`replicas`). What fails again and again is made anew with back-off, so that a
node that fails every pod at once is not fed with plans and pods in a hot loop.
"""

import math
from collections.abc import Collection, Mapping
from typing import Final

from bayplan.inference.children import Child
from bayplan.inference.replicas import Replicas
from bayplan.inference.slots import Slot
from bayplan.inference.units import Around

#: Least seconds from the making of a pod to the making of the next under its name. Doubled with
#: each further failure in a row, up to the most.
LEAST_LIFE_S: Final = 20
MOST_BACK_OFF_S: Final = 640

#: Seconds for which a pod must have lived, and be ready, for its failures to be forgotten.
HEALTHY_S: Final = 600


def back_off_s(failures: int) -> float:
    """Return the least seconds between the making of two pods of a name after some failures."""
    return min(MOST_BACK_OFF_S, LEAST_LIFE_S * 2.0 ** min(failures, 10))


class Repair:
    """Looks at the pods of units that stay, and remembers how often each has failed.

    Attributes:
        failures: How many times in a row the pod of a name has failed.
        back_off: Pods that have failed and are kept until they may be made anew.
        retry_at: When the first of these may be, in seconds since the epoch.
    """

    def __init__(  # noqa: PLR0913 - what bears on it, each by name
        self,
        slots: Mapping[str, Slot],
        *,
        failures: Mapping[str, int],
        around: Around,
        replicas: Replicas,
        spare: Collection[int],
        now: float,
    ) -> None:
        self.failures = {name: n for name, n in failures.items() if name in slots}
        self._before = dict(self.failures)
        self.back_off: list[Child] = []
        self.retry_at: float | None = None
        self._slots = slots
        self._around = around
        self._replicas = replicas
        self._spare = spare
        self._now = now

    def must_go(self, pod: Child) -> bool:
        """Return whether to delete a pod now; remember how often it has failed.

        A pod that serves on broken hardware goes if its unit is one of the `spare`.
        """
        slot = self._slots.get(pod.name)
        if slot is None or pod.revision != slot.revision:
            return True
        if pod.ended or slot.leader in self._replicas.torn:
            return self._may_fail_again(pod, slot.leader)
        if pod.node is None:
            # It does not run yet, so replacing it disturbs nobody.
            return pod.pin is not None and self._is_trap(pod)
        if self._around.breaks(pod) or slot.leader in self._replicas.breaking:
            if pod.serves:
                return pod.unit in self._spare
            return self._may_fail_again(pod, slot.leader)
        if pod.ready and self._now >= pod.created_at + HEALTHY_S:
            self.failures.pop(pod.name, None)
        return False

    def _is_trap(self, pod: Child) -> bool:
        """Return whether a pod that is pinned but not bound can never serve where its pin says."""
        return pod.pin in self._around.lost or pod.pin in self._around.failing

    def _may_fail_again(self, pod: Child, replica: str) -> bool:
        """Count a failure of a replica, once for all its pods, when its time has come."""
        n = self._before.get(replica, 0)
        due_at = self._replicas.torn.get(replica, pod.created_at) + back_off_s(n)
        if self._now >= due_at:
            self.failures[replica] = n + 1
            return True
        self.back_off.append(pod)
        self.retry_at = min(due_at, self.retry_at or math.inf)
        return False
