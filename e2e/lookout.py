"""Who looks at a cluster all the time while a test goes on, in a thread."""

import threading
from abc import ABC, abstractmethod
from typing import Self


class Lookout(ABC):
    """Looks every so many seconds while the block lasts, which fails if looking has failed."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @abstractmethod
    def look(self) -> None:
        """Look once."""

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        lasted = self._thread.is_alive()
        self._ended.set()
        self._thread.join()
        assert lasted, "nobody looked any more"

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self.look()
