"""Kubernetes quantities as integers in one fixed unit.

The codec reads every amount through here, so that past it a number has one meaning: CPU in
millicores, memory and storage in MiB, everything else (GPUs, pods, other extended resources) as
a count. What a pod asks for is rounded up and what a node offers is rounded down, so that
rounding never over-commits a node.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation, Overflow
from enum import Enum
from functools import lru_cache
from typing import Final

#: Factors of the Kubernetes quantity suffixes (binary, then decimal).
_SUFFIXES: Final = {
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}

#: How a port of the node is named among the resources; see `host_port`.
_HOST_PORT: Final = "host port "

#: The resource whose devices can be shared: the only one of which shares are asked for.
SHARED_GPU: Final = "nvidia.com/gpu"

#: What one GPU has to share, in thousandths.
WHOLE_MILLI: Final = 1000

#: How a share of a GPU is named among the resources; see `share` and `part`.
_SHARE: Final = "gpu share "
_PART: Final = "gpu number "

#: More shares than a node ever has.
_PLENTY: Final = 2**20

#: One mebibyte in bytes.
_MIB: Final = Decimal(2**20)

#: One gibibyte in mebibytes.
_GIB_MIB: Final = 1024

#: Numbers from here on are told without decimals.
_ROUND_FROM: Final = 100

#: Largest amount that is believed (2^53): beyond it a manifest is wrong and solvers lose exactness.
MAX_AMOUNT: Final = 2**53

#: Digits that it has.
_MOST_DIGITS: Final = len(str(MAX_AMOUNT))

#: Quantities whose meaning is remembered: a fleet has few, and they are read again and again.
_KNOWN: Final = 4096


class Rounding(Enum):
    """Which way an amount between two integers goes.

    `UP` is for requests, `DOWN` for allocatable room.
    """

    UP = ROUND_CEILING
    DOWN = ROUND_FLOOR


@lru_cache(maxsize=_KNOWN)
def amount(resource: str, quantity: str | float, rounding: Rounding) -> int:
    """Return `quantity` of `resource` as an integer in the resource's unit.

    CPU comes back in millicores, memory, storage and huge pages in MiB, all else as a count.

    Raises:
        ValueError: The text is no quantity, is negative, not finite, or above `MAX_AMOUNT`.
    """
    value = _scaled(resource, parse(quantity))
    if value > MAX_AMOUNT:  # before it is an integer, which may have a million digits
        raise ValueError(f"{quantity!r} is too large to be meant")
    return int(value.to_integral_value(rounding.value))


def parse(quantity: str | float) -> Decimal:
    """Return a Kubernetes quantity ("1500m", "64Gi", "2e3", 8) as an exact number.

    Raises:
        ValueError: The text is no quantity, is negative, or not finite.
    """
    text = str(quantity).strip()
    suffix = next((s for s in _SUFFIXES if text.endswith(s)), "")
    number = text.removesuffix(suffix) if suffix else text
    try:
        value = Decimal(number) * _SUFFIXES.get(suffix, Decimal(1))
    except InvalidOperation as error:
        raise ValueError(f"{quantity!r} is not a quantity such as 8, 500m or 64Gi") from error
    except Overflow as error:
        raise ValueError(f"{quantity!r} is too large to be meant") from error
    if not value.is_finite():
        raise ValueError(f"{quantity!r} is not a finite quantity")
    if value < 0:
        raise ValueError(f"{quantity!r} is negative")
    return value


def whole_number(text: str) -> int | None:
    """Return the number that plain digits write; None for anything else.

    Anybody can write anything into a label: more digits than `MAX_AMOUNT` has are no number either.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        return None
    return int(text)


def unit(resource: str) -> str:
    """Return the unit in which `resource` is counted ("milli", "MiB" or "")."""
    if resource == "cpu":
        return "milli"
    return "MiB" if _is_bytes(resource) else ""


def text(resource: str, value: int) -> str:
    """Return `value` of `resource` as a person writes it: "8", "1.5 CPU", "64 GiB"."""
    if resource == "cpu":
        return f"{value / 1000:.10g} CPU"
    if _is_bytes(resource):
        return f"{_short(value / _GIB_MIB)} GiB" if value >= _GIB_MIB else f"{value} MiB"
    return str(value)


def texts(resource: str, *values: int) -> tuple[str, ...]:
    """Return the values as `text` does; in full where different ones would look the same."""
    rounded = tuple(text(resource, value) for value in values)
    if not _is_bytes(resource) or len({*rounded}) == len({*values}):
        return rounded
    return tuple(f"{value:,} MiB" for value in values)


def is_gpu(resource: str) -> bool:
    """Return whether `resource` is a count of whole GPUs of some vendor."""
    return resource.endswith("/gpu")


def host_port(port: int, protocol: str) -> str:
    """Return the resource that stands for a port of the node: "host port 8080/TCP".

    Every node offers each port once and no node lists any, see `implied`.
    """
    return f"{_HOST_PORT}{port}/{protocol}"


def is_host_port(resource: str) -> bool:
    """Return whether `resource` is a port of the node."""
    return resource.startswith(_HOST_PORT)


def share(milli: int) -> str:
    """Return the resource that stands for so many thousandths of any one GPU: "gpu share 600".

    Amounts of it count such shares. Whether they fit is for `bayplan.cluster.shares` to say.
    """
    return f"{_SHARE}{milli}"


def part(device: int) -> str:
    """Return the resource that stands for a GPU of the node by its number: "gpu number 3".

    Amounts of it are thousandths. Numbers only tell the shared GPUs of a node apart.
    """
    return f"{_PART}{device}"


def is_share(resource: str) -> bool:
    """Return whether `resource` is a share of any one GPU."""
    return resource.startswith(_SHARE) and whole_number(resource.removeprefix(_SHARE)) is not None


def is_part(resource: str) -> bool:
    """Return whether `resource` is a part of a GPU with a number."""
    return resource.startswith(_PART) and whole_number(resource.removeprefix(_PART)) is not None


def share_milli(resource: str) -> int:
    """Return the thousandths of a GPU that a share is."""
    return int(resource.removeprefix(_SHARE))


def part_device(resource: str) -> int:
    """Return the number of the GPU that `resource` is a part of."""
    return int(resource.removeprefix(_PART))


def implied(resource: str) -> int:
    """Return what every node offers of `resource` without listing it.

    Of shares of a GPU that is as many as one likes: what they need of its GPUs is another matter.
    """
    if is_host_port(resource):
        return 1
    if is_part(resource):
        return WHOLE_MILLI
    return _PLENTY if is_share(resource) else 0


def words(resource: str, value: int) -> str:
    """Return `value` of `resource` with its name: "8 GPUs", "64 GiB memory"."""
    if is_host_port(resource):
        return resource
    if is_share(resource) or is_part(resource):
        return _share_words(resource, value)
    if is_gpu(resource):
        return f"{value} GPU" if value == 1 else f"{value} GPUs"
    if resource == "cpu":
        return text(resource, value)
    if resource == "pods":
        return f"{value} pod" if value == 1 else f"{value} pods"
    return f"{text(resource, value)} {resource}"


def exact_words(resource: str, value: int) -> str:
    """Return the same with nothing rounded: whoever made room for less would have made none."""
    decimals = 1 if value >= _ROUND_FROM * _GIB_MIB else 1000
    if _is_bytes(resource) and value > _GIB_MIB and value * decimals % _GIB_MIB:
        return f"{value:,} MiB {resource}"
    return words(resource, value)


def part_of_one(milli: int) -> str:
    """Return how much of one GPU there is at most: "at most 0.4 of one", "no part of one"."""
    return f"at most {milli / WHOLE_MILLI:g} of one" if milli > 0 else "no part of one"


def _share_words(resource: str, value: int) -> str:
    if is_part(resource):
        return f"{value / WHOLE_MILLI:g} of GPU {part_device(resource)}"
    size = f"{share_milli(resource) / WHOLE_MILLI:g} of a GPU"
    return size if value == 1 else f"{value} x {size}"


def _short(number: float) -> str:
    """Return a number as a person reads it: 0.25, 1.5, 262,471."""
    return f"{number:,.3f}".rstrip("0").rstrip(".") if number < _ROUND_FROM else f"{number:,.0f}"


def _scaled(resource: str, value: Decimal) -> Decimal:
    if resource == "cpu":
        return value * 1000
    return value / _MIB if _is_bytes(resource) else value


def _is_bytes(resource: str) -> bool:
    return resource in {"memory", "ephemeral-storage"} or resource.startswith("hugepages-")
