"""An API server that plays watches from a script."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from bayplan.api import names
from tests.fake_kube import FakeKube, Raw

Script = Sequence[Sequence[Raw] | Exception]


class Watched(FakeKube):
    """Plays watches one after the other, and then stops.

    Attributes:
        asked: The path, the labels and the version that each watch was begun with.
        stopped: That the script is at its end.
    """

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.asked: list[tuple[str, str, str]] = []
        self.stopped = threading.Event()
        self._script = list(script)

    def watch(self, path: str, *, labels: str, version: str = "") -> Iterator[Raw]:
        """Yield the events of the next watch of the script."""
        self.asked.append((path, labels, version))
        if not self._script:
            self.stopped.set()
            return
        now = self._script.pop(0)
        if isinstance(now, Exception):
            raise now
        yield from now

    def versions(self) -> list[str]:
        """Return the versions from which watches went on."""
        return [version for _, _, version in self.asked]


def event(kind: str, version: str, *, name: str = "a", of: str = "", leaves: bool = False) -> Raw:
    """Return an event about a pod."""
    metadata: dict[str, Any] = {"namespace": "ns", "name": name, "resourceVersion": version}
    metadata |= {"labels": {names.LABEL_DEPLOYMENT: of}} if of else {}
    metadata |= {"deletionTimestamp": "2026-05-01T12:00:00Z"} if leaves else {}
    return {"type": kind, "object": {"metadata": metadata}}


def too_old() -> list[Raw]:
    """Return a watch that cannot go on from where the last one ended."""
    return [{"type": "ERROR", "object": {"code": 410, "message": "too old"}}]
