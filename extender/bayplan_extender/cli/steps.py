"""What a long command is doing, on standard error: one line that changes, or a log of lines."""

from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO


class Steps:
    """Tells the steps of one command with the seconds since it began."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._started_at = clock()
        self._rewrites = stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._rewrites:
            self._stream.write("\r\033[K")
            self._stream.flush()

    def tell(self, step: str) -> None:
        """Say what is done next."""
        line = f"{self._clock() - self._started_at:6.1f} s  {step}"
        self._stream.write(f"\r\033[K{line}" if self._rewrites else f"{line}\n")
        self._stream.flush()
