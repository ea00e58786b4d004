"""What is alike among many objects, as small numbers.

A fleet's objects are looked at once for each attribute; whoever counts them then counts numbers,
which arrays of numpy take as they are. Nothing here knows numpy, so that small programs stay small.
"""

from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import count, islice
from types import MappingProxyType
from typing import Final, Generic, NamedTuple, TypeVar, cast

#: The number of no value.
NONE: Final = -1

_Value = TypeVar("_Value", bound=Hashable)


class Column(NamedTuple, Generic[_Value]):
    """What one attribute of many objects is.

    Attributes:
        values: The different values, by number.
        numbers: The number of each object's value.
    """

    values: tuple[_Value, ...]
    numbers: "array[int]"

    @classmethod
    def of(
        cls,
        each: Iterable[_Value | None],
        values: Sequence[_Value] = (),
        known: Mapping[_Value, int] = MappingProxyType({}),
    ) -> "Column[_Value]":
        """Return the column of what comes `each` after the other; None is -1.

        What is not `known` to have a number gets the next one after those of `values`.
        """
        number: dict[_Value | None, int] = defaultdict(count(len(values)).__next__)
        number.update(cast("Mapping[_Value | None, int]", known))
        number[None] = NONE
        first_new = len(number)
        # An array is made from a list in half the time that it takes from an iterator.
        numbers = array("q", list(map(number.__getitem__, each)))
        new = cast("Iterable[_Value]", islice(number, first_new, None))
        return cls((*values, *new), numbers)


def alike(objects: Sequence[_Value], marks: Iterable[Hashable]) -> Column[_Value]:
    """Return the objects numbered by their marks; each number stands for the first that has it."""
    numbers = Column.of(marks).numbers
    first = dict(zip(reversed(numbers), reversed(objects), strict=True))
    return Column(tuple(first[number] for number in range(len(first))), numbers)
