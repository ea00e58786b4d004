"""What counts as "not yet" for those who wait for a cluster."""

import pytest

from e2e.cluster import eventually


@pytest.mark.parametrize("missing", [{}, {"status": {}}], ids=["no status", "no field in it"])
def test_a_field_that_no_controller_has_set_yet_is_awaited(
    missing: dict[str, dict[str, int]],
) -> None:
    """A budget that its controller had not seen yet failed a test when the machine was busy."""
    seen = iter([missing, {"status": {"observedGeneration": 1}}])

    found = eventually(lambda: next(seen)["status"]["observedGeneration"], what="it is counted")

    assert found == 1


def test_what_is_awaited_in_vain_is_told_with_what_was_seen_last() -> None:
    """A list without a first item says that at the deadline, and not before."""
    empty: list[str] = []

    with pytest.raises(AssertionError, match=r"a pod is there: .*last seen: IndexError"):
        eventually(lambda: empty[0], what="a pod is there", timeout_s=0)
