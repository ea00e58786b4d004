"""Who works on the pods of a deployment: one at a time, its own pass or a plan that doubles a pod.

Both count what there is before they make more of it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bayplan_operator.keys import DeploymentKey


class Claims:
    """The deployments that somebody works on. Used from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._claimed: set[DeploymentKey] = set()

    @contextmanager
    def wait(self, key: DeploymentKey) -> Iterator[None]:
        """Work on a deployment once nobody else does."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._claimed)
            self._claimed.add(key)
        try:
            yield
        finally:
            self._release(key)

    @contextmanager
    def attempt(self, key: DeploymentKey) -> Iterator[bool]:
        """Work on a deployment unless somebody else does; yield whether that is so."""
        with self._changed:
            free = key not in self._claimed
            self._claimed.add(key)
        try:
            yield free
        finally:
            if free:
                self._release(key)

    def _release(self, key: DeploymentKey) -> None:
        with self._changed:
            self._claimed.discard(key)
            self._changed.notify_all()
