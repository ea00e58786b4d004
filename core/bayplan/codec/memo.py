"""A memo of what was read from equal parts of objects, so that it is read once.

Every change of a pod comes with all of the pod, and the pods of a fleet are made from few
templates: what they ask for and where they may go has nearly always been read before. A part is
known by its bytes, which take a hundredth of the time that reading it takes.
"""

import marshal
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

Value = TypeVar("Value")

#: Most values that are remembered; a part of a pod is about 1 kB.
_MOST: Final = 4096

#: A format of bytes that depends on the values alone, and not on which of them are one object.
_FORMAT: Final = 2


class Memo(Generic[Value]):
    """Values by the raw parts from which they were read; safe to be used by several threads."""

    def __init__(self) -> None:
        self._known: dict[bytes, Value] = {}

    def read(self, parts: tuple[Any, ...], read: Callable[[], Value]) -> Value:
        """Return what `read` returns, which must depend on nothing but `parts`.

        What it raises is not remembered.
        """
        try:
            key = marshal.dumps(parts, _FORMAT)
        except ValueError:  # not from JSON: a date in a YAML file, or too deep
            return read()
        found = self._known.get(key)
        if found is None:
            found = read()
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = found
        return found
