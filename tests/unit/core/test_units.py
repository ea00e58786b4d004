"""Quantities become integers that never over-commit a node."""

import pytest

from bayplan.cluster import units
from bayplan.cluster.units import Rounding


@pytest.mark.parametrize(
    ("resource", "quantity", "rounding", "expected"),
    [
        ("cpu", "1500m", Rounding.UP, 1500),
        ("cpu", 2, Rounding.UP, 2000),
        ("cpu", "0.0001", Rounding.UP, 1),
        ("cpu", "0.0001", Rounding.DOWN, 0),
        ("memory", "64Gi", Rounding.UP, 65_536),
        ("memory", "1", Rounding.UP, 1),
        ("memory", "1", Rounding.DOWN, 0),
        ("memory", "1e9", Rounding.DOWN, 953),
        ("memory", "128M", Rounding.UP, 123),
        ("nvidia.com/gpu", "8", Rounding.UP, 8),
        ("nvidia.com/gpu", "2k", Rounding.UP, 2000),
        ("pods", "110", Rounding.DOWN, 110),
    ],
)
def test_an_amount_is_an_integer_in_the_unit_of_its_resource(
    resource: str, quantity: str | int, rounding: Rounding, expected: int
) -> None:
    """Requests that were rounded down would over-commit nodes."""
    assert units.amount(resource, quantity, rounding) == expected


@pytest.mark.parametrize("quantity", ["", "8 GPUs", "NaN", "Infinity", "-1", "1Zi", "1e30"])
def test_what_is_no_sane_quantity_is_refused(quantity: str) -> None:
    """A typo in a manifest must not become a plan."""
    with pytest.raises(ValueError, match=r"quantity|negative|finite|large"):
        units.amount("nvidia.com/gpu", quantity, Rounding.UP)


@pytest.mark.parametrize(
    ("resource", "value", "expected"),
    [("cpu", 1500, "1.5 CPU"), ("memory", 65_536, "64 GiB"), ("memory", 512, "512 MiB")],
)
def test_an_amount_reads_as_a_person_writes_it(resource: str, value: int, expected: str) -> None:
    """Messages would otherwise speak in millicores and MiB."""
    assert units.text(resource, value) == expected


def test_amounts_that_differ_by_little_do_not_look_the_same() -> None:
    """A pod was told that it needs 1,024 GiB and that the largest node has 1,024 GiB."""
    node, asked = 2**20, 2**20 + 1

    assert units.texts("memory", node, asked) == ("1,048,576 MiB", "1,048,577 MiB")
    assert units.texts("memory", node, node, 2 * node) == ("1,024 GiB", "1,024 GiB", "2,048 GiB")
    assert units.texts("cpu", 1500, 1000) == ("1.5 CPU", "1 CPU")
    assert units.exact_words("memory", asked) == "1,048,577 MiB memory"
    assert units.exact_words("memory", 1536) == "1.5 GiB memory"
    assert units.exact_words("memory", 102_912) == "102,912 MiB memory"  # 100.5 GiB
