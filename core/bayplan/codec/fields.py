"""Reading fields of a raw Kubernetes object, with the field's path in every complaint.

The codec's modules walk objects with a `Field`; what is missing, of the wrong type or out of range
becomes a `DecodeError` that names object, field and fix.
"""

from collections.abc import Container, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, TypeGuard, TypeVar

from bayplan.cluster import units

Choice = TypeVar("Choice", bound=StrEnum)

#: Timestamps whose meaning is remembered: the same ones are read with each change of an object.
_KNOWN: Final = 4096

#: A Kubernetes object as the API server prints it.
Raw = Mapping[str, Any]


class DecodeError(ValueError):
    """A Kubernetes object that cannot be read.

    Attributes:
        where: Kind, namespace and name of the object.
        path: The field, e.g. `spec.containers[0].resources.requests.cpu`.
        problem: What is wrong with it, as a sentence without full stop.
    """

    def __init__(self, where: str, path: str, problem: str) -> None:
        super().__init__(f"{where}: {path}: {problem}" if path else f"{where}: {problem}")
        self.where = where
        self.path = path
        self.problem = problem


_made: Final = object.__new__


class Field:
    """A value inside a Kubernetes object, which knows where it stands.

    Its path is put into words only when somebody asks: there are dozens of fields in a pod, whose
    every change is read, and hardly ever a complaint.
    """

    __slots__ = ("_above", "_steps", "value", "where")

    def __init__(
        self,
        value: object,
        *,
        where: str,
        above: "Field | None" = None,
        steps: tuple[str | int, ...] = (),
    ) -> None:
        """Take a value that is found by `steps` (keys and indices) from the field `above`."""
        self.value = value
        self.where = where
        self._above = above
        self._steps = steps

    @property
    def path(self) -> str:
        """Where the value stands in its object, e.g. `spec.containers[0].image`."""
        path = self._above.path if self._above is not None else ""
        for step in self._steps:
            if isinstance(step, int):
                path = f"{path}[{step}]"
            else:
                path = f"{path}.{step}" if path else step
        return path

    def error(self, problem: str) -> DecodeError:
        """Return the complaint about this field."""
        return DecodeError(self.where, self.path, problem)

    def get(self, *keys: str) -> "Field":
        """Return the field below, down the path `keys`; an absent one holds None."""
        value = self.value
        for key in keys:
            if value is None:
                break
            if type(value) is dict or isinstance(value, Mapping):  # the first is JSON's, and quick
                value = value.get(key)
            else:
                raise self._no_object(keys)
        # A third of what it takes to read a pod, so its constructor is passed by.
        found = _made(Field)
        found.value, found.where = value, self.where
        found._above, found._steps = self, keys  # noqa: SLF001 - it is one of ours
        return found

    def _no_object(self, keys: tuple[str, ...]) -> DecodeError:
        """Return the complaint about the first value on the way down `keys` that is no object."""
        found = self
        for key in keys:
            if found.value is not None and not _is_object(found.value):
                break
            found = found.get(key)
        return found.error(f"should be an object, is {_kind(found.value)}")

    def parts(self, *keys: str) -> tuple[Any, ...]:
        """Return the raw values below; an absent one is None."""
        if self.value is None:
            return (None,) * len(keys)
        if not _is_object(self.value):
            raise self.error(f"should be an object, is {_kind(self.value)}")
        return tuple(map(self.value.get, keys))

    def items(self) -> Iterator["Field"]:
        """Return the fields of a list; an absent list is empty."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.error(f"should be a list, is {_kind(self.value)}")
        for index, value in enumerate(self.value):
            yield Field(value, where=self.where, above=self, steps=(index,))

    def text(self, default: str | None = None) -> str:
        """Return a string; without a default the field is required."""
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, str):
            raise self.error(f"should be a string, is {_kind(self.value)}")
        return self.value

    def choice(self, among: type[Choice]) -> Choice:
        """Return the member of an enum of strings that the field names."""
        try:
            return among(self.text())
        except ValueError as error:
            raise self.error(f"should be one of {', '.join(among)}, is {self.value!r}") from error

    def integer(self, default: int | None = None) -> int:
        """Return an integer that can be meant; without a default the field is required."""
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.error(f"should be an integer, is {_kind(self.value)}")
        if abs(self.value) > units.MAX_AMOUNT:
            raise self.error(f"should be a number up to {units.MAX_AMOUNT}")
        return self.value

    def number(self, default: float) -> float:
        """Return a number."""
        if self.value is None:
            return default
        if not isinstance(self.value, int | float) or isinstance(self.value, bool):
            raise self.error(f"should be a number, is {_kind(self.value)}")
        return float(self.value)

    def flag(self) -> bool:
        """Return a boolean; absent means False."""
        if self.value is None:
            return False
        if not isinstance(self.value, bool):
            raise self.error(f"should be true or false, is {_kind(self.value)}")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """Return a list of strings."""
        return tuple(item.text() for item in self.items())

    def labels(self) -> dict[str, str]:
        """Return a mapping of strings."""
        if self.value is None:
            return {}
        if not _is_object(self.value):
            raise self.error(f"should be an object, is {_kind(self.value)}")
        if {str}.issuperset(map(type, self.value.values())):
            return dict(self.value)
        return {key: self.get(key).text() for key in self.value}

    def amounts(self, rounding: units.Rounding, *, besides: Container[str] = ()) -> dict[str, int]:
        """Return a resource list as integers in the units of `bayplan.cluster.units`.

        Resources named in `besides` are passed over unread.
        """
        if self.value is None:
            return {}
        if not _is_object(self.value):
            raise self.error(f"should be an object, is {_kind(self.value)}")
        return {
            name: self.get(name).quantity(name, rounding)
            for name in map(str, self.value)
            if name not in besides
        }

    def quantity(self, resource: str, rounding: units.Rounding) -> int:
        """Return one quantity of `resource` as an integer in its unit."""
        if not isinstance(self.value, str | int | float) or isinstance(self.value, bool):
            raise self.error(
                f"should be a quantity such as 8, 500m or 64Gi, is {_kind(self.value)}"
            )
        try:
            return units.amount(resource, self.value, rounding)
        except ValueError as error:
            raise self.error(str(error)) from error

    def instant(self) -> int:
        """Return a timestamp as seconds since the epoch; absent means 0."""
        text = self.text("")
        if not text:
            return 0
        try:
            return _seconds(text)
        except ValueError as error:
            raise self.error(f"{text!r} is not a time such as 2026-01-31T12:00:00Z") from error


def top(raw: object, kind: str) -> Field:
    """Return the root field of one object.

    Raises:
        DecodeError: It is no object, or carries no name.
    """
    if not isinstance(raw, Mapping):
        raise DecodeError(kind, "", f"should be an object, is {_kind(raw)}")
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    namespace, name = metadata.get("namespace"), metadata.get("name")
    said = f"{namespace}/{name}" if namespace and name else namespace or name or "(no name)"
    root = Field(raw, where=f"{kind} {said}")
    if type(name) is not str:
        root.get("metadata", "name").text()
    return root


def _is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether the value is a mapping; what JSON makes of objects is known at a glance."""
    return type(value) is dict or isinstance(value, Mapping)


@lru_cache(maxsize=_KNOWN)
def _seconds(text: str) -> int:
    """Return the seconds since the epoch that a timestamp says."""
    return int(datetime.fromisoformat(text).timestamp())


def _kind(value: object) -> str:
    names = {str: "a string", bool: "a boolean", int: "an integer", float: "a number"}
    names |= {list: "a list", dict: "an object", type(None): "missing"}
    return names.get(type(value), type(value).__name__)
