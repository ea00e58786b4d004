"""What is done again and again while a test goes on, in a thread."""

import threading
from abc import ABC, abstractmethod
from typing import Self


class Periodic(ABC):
    """Does something every so many seconds while the block lasts, which fails if that did."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @abstractmethod
    def tick(self) -> None:
        """Do it once."""

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        lasted = self._thread.is_alive()
        self._ended.set()
        self._thread.join()
        assert lasted, "it was not done any more"

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self.tick()
