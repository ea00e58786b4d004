"""Pods that a kubelet would not start, as the watch of pods shows them.

Their owner makes others in their place at once, and some are gone as soon as they have failed (a
StatefulSet deletes them), so that no list shows them. They are kept here until a pass has taken
them (`recalls`). Used from several threads: the watch tells, and the pass over gates asks.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final

from bayplan.cluster.pods import Pod
from bayplan.codec import DecodeError, pod_of
from bayplan.codec.pods import rejection_of
from bayplan_operator.cluster.kube import Kube, Raw, by_its_clock

#: Seconds for which one that has failed is news. A watch that begins anew tells of all there are.
_NEWS_S: Final = 60.0

#: Most that are kept for the next pass; the others are tried once more.
_MOST: Final = 200


class Rejections:
    """The pods that kubelets have refused since they were asked for last."""

    def __init__(self, kube: Kube, *, now: Callable[[], datetime]) -> None:
        self._kube = kube
        self._now = now
        self._lock = threading.Lock()
        self._found: dict[str, tuple[Pod, Raw]] = {}

    def see(self, event: Raw) -> bool:
        """Take what has become of a pod; return whether its kubelet has just refused it."""
        raw = event["object"]
        if (raw.get("status") or {}).get("phase") != "Failed":
            return False
        pod = self._refused(raw)
        if pod is None:
            return False
        with self._lock:
            if len(self._found) < _MOST:
                self._found[pod.uid] = (pod, raw)
        return True

    def take(self) -> Iterator[tuple[Pod, Raw]]:
        """Yield them with their objects, each once; `refused` of a pod says why.

        Who is not asked for, as the API server does not answer, is there in the next pass.
        """
        while True:
            with self._lock:
                uid = next(iter(self._found), None)
                if uid is None:
                    return
                found = self._found.pop(uid)
            yield found

    def _refused(self, raw: Raw) -> Pod | None:
        """Return the pod as it was before it failed, with why; None if its node did start it."""
        try:
            why = rejection_of(raw)
            pod = pod_of({**raw, "status": {**raw["status"], "phase": "Pending"}}) if why else None
        except DecodeError:
            return None
        if pod is None:
            return None
        # Its node says when it was started, and may be ahead of all others.
        age_s = by_its_clock(self._kube, self._now()) - max(pod.started_at, pod.created_at)
        return replace(pod, refused=why) if age_s < _NEWS_S else None
