"""The watcher of the end-to-end tests: what it complains of, and what it lets pass."""

from itertools import count
from typing import Any

import pytest

from bayplan.api import names
from e2e.contract import PARTIAL_S, TRANSIT_S, Contract

Raw = dict[str, Any]


_numbers = count()


def pod(unit: int, **state: Any) -> Raw:  # noqa: ANN401 - see below
    """Return one of the two pods of a unit: on a node and ready unless something else is said."""
    usual = {"revision": "a", "node": "n1", "ready": True, "ending": False, "shape": "decode=2"}
    state = {**usual, **state}
    labels = {
        names.LABEL_UNIT: str(unit),
        names.LABEL_REVISION: state["revision"],
        names.LABEL_POOL: "decode",
        names.LABEL_REPLICA: str(next(_numbers)),
    }
    annotations = {names.ANNOTATION_SHAPE: state["shape"]}
    metadata = {
        "labels": labels,
        "annotations": annotations,
        **({"deletionTimestamp": "now"} if state["ending"] else {}),
    }
    conditions = [{"type": "Ready", "status": str(state["ready"])}]
    spec = {"nodeName": state["node"]} if state["node"] else {}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("pods", "complaint"),
    [
        pytest.param([pod(0), pod(0)], "", id="a unit serves"),
        pytest.param([pod(0), pod(0), pod(1), pod(1)], "", id="as many as may"),
        pytest.param(
            [pod(0), pod(0), pod(1, revision="b"), pod(1, revision="b")],
            "",
            id="two revisions in two units",
        ),
        pytest.param(
            [pod(0), pod(0), pod(1), pod(1, revision="b", ending=True)],
            "unit 1 has pods of ['a', 'b']",
            id="two revisions in one unit, though one of them ends",
        ),
        pytest.param([pod(0)], "only units [] serve; 1 must", id="a partial unit"),
        pytest.param([pod(0, shape="decode=1")], "", id="a unit of another ratio"),
        pytest.param(
            [pod(0), pod(0), pod(0, node="", ready=False, shape="decode=3")],
            "",
            id="a unit that grows",
        ),
        pytest.param(
            [pod(0), pod(0, ready=False)], "only units [] serve; 1 must", id="a unit that starts"
        ),
        pytest.param(
            [pod(0), pod(0, ending=True)], "only units [] serve; 1 must", id="a unit that ends"
        ),
        pytest.param(
            [pod(unit) for unit in (0, 0, 1, 1, 2)],
            "units ['0', '1', '2'] exist; 2 may",
            id="too many units",
        ),
    ],
)
def test_a_sample_is_judged(pods: list[Raw], complaint: str) -> None:
    """A watcher that lets a broken promise pass proves nothing."""
    contract = Contract()
    contract.expect(serving=1, units=2)

    contract.judge(pods, at_s=7.0)

    assert contract.broken == ([f"7.00: {complaint}"] if complaint else [])


def test_a_partial_unit_is_a_matter_of_time() -> None:
    """Pods of one unit are bound one after the other."""
    contract = Contract()
    partial = [pod(0), pod(0, node="", ready=False)]

    contract.judge(partial, at_s=0.0)
    contract.judge(partial, at_s=PARTIAL_S)
    assert not contract.broken

    contract.judge(partial, at_s=PARTIAL_S + 1)
    assert contract.broken == ["31.00: unit 0 is partially placed for 31 s"]


def test_several_partial_units_at_a_time_are_too_many_if_they_last() -> None:
    """At most one unit is in transit."""
    contract = Contract()
    partial = [p for unit in (0, 1) for p in (pod(unit), pod(unit, node="", ready=False))]

    contract.judge(partial, at_s=0.0)
    contract.judge(partial, at_s=TRANSIT_S)
    assert not contract.broken

    contract.judge(partial, at_s=TRANSIT_S + 1)
    assert contract.broken == ["11.00: units ['0', '1'] are partially placed at a time"]


@pytest.mark.parametrize(
    ("ready", "cut"),
    [
        pytest.param(True, {"a"}, id="it served a moment ago"),
        pytest.param(False, set(), id="it was out of service"),
    ],
)
def test_a_pod_that_is_deleted_in_service_is_noted(ready: bool, cut: set[str]) -> None:  # noqa: FBT001 - a column
    """Its requests are cut off."""
    contract = Contract()
    before, after = pod(0, ready=ready), pod(0, ready=ready, ending=True)
    for raw in (before, after):
        raw["metadata"] |= {"uid": "u", "name": "a"}

    contract.judge([before], at_s=0.0)
    contract.judge([after], at_s=0.1)

    assert contract.cut == cut


def test_a_unit_out_of_its_band_is_a_matter_of_time() -> None:
    """A watcher that takes any ratio for the one asked for proves nothing."""
    contract = Contract()
    contract.expect(serving=1, band={"decode": (2, 3)})
    four = [pod(0) for _ in range(4)]

    contract.judge(four[:3], at_s=0.0)
    contract.judge(four, at_s=1.0)
    contract.judge(four, at_s=PARTIAL_S)
    assert not contract.broken

    contract.judge(four, at_s=PARTIAL_S + 2)
    assert contract.broken == ["32.00: unit 0 is out of its band for 31 s"]


def test_of_a_pod_that_is_moved_and_its_replacement_one_counts() -> None:
    """A unit would be out of its band for as long as a replacement starts first."""
    contract = Contract()
    contract.expect(serving=1, band={"decode": (2, 2)})
    old, other, new = pod(0), pod(0), pod(0, ready=False)
    old["metadata"]["uid"] = "u-old"
    new["metadata"]["annotations"][names.ANNOTATION_REPLACES] = "u-old"

    for at_s in (0.0, PARTIAL_S, PARTIAL_S + 2):
        contract.judge([old, other, new], at_s=at_s)
    assert not contract.broken

    for at_s in (100.0, 101.0 + PARTIAL_S):
        contract.judge([other, new, pod(0)], at_s=at_s)
    assert contract.broken
