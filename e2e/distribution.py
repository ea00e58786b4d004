"""Which of pytest-xdist's workers runs which tests.

Tests on a cluster mostly wait, and share what is installed there for their file; tests of the core
only compute. So a worker takes files of the former as a whole and any of the latter one by one,
and one begins where the other ends:

    e2e/test_ratio.py, …, tests/integration/test_crds.py, …, a unit test, …, a property
    ^ most workers on a small machine                          one for every two cores ^

The run takes as long as who has the longest files: these come first, and the shortest tests, in
the middle, fill up what is left in the end.

Marks cannot say this: pytest-xdist 3.8 overlooks `xdist_group` under pytest 9.2 (its issue 1386).
"""

import os
from collections import OrderedDict
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from e2e.cluster import existing

#: Where all tests need a cluster.
_ON_A_CLUSTER = ("e2e/", "tests/integration/")

#: The files of them that take minutes, the longest first.
_LONGEST = (
    "e2e/test_ratio.py",
    "e2e/test_life.py",
    "tests/integration/test_operator",
    "e2e/test_burst.py",
    "tests/integration/test_pools_served.py",
    "tests/integration/test_lease.py",
)

#: Where tests only compute; those that take the longest come last.
_IN_THE_CORE = ("tests/unit/", "tests/charts/", "tests/property/")


class FilesAndTests(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist has no types
    """Hands out whole files from one end of the queue, and tests of the core from the other."""

    workqueue: OrderedDict[str, dict[str, bool]]
    _in_order = False

    def _split_scope(self, nodeid: str) -> str:
        """Return what a test cannot be parted from; an existing cluster is there only once."""
        if not nodeid.startswith(_ON_A_CLUSTER):
            return nodeid
        return nodeid.partition("::")[0] if existing.unavailable() else "the existing cluster"

    def _assign_work_unit(self, node: Any) -> None:  # noqa: ANN401 - no types
        """Give a worker the next unit at its end of the queue."""
        if not self._in_order:
            units = sorted(self.workqueue.items(), key=lambda unit: _place(unit[0]))
            self.workqueue, self._in_order = OrderedDict(units), True
        if begins_with_the_core(self.nodes.index(node)):
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesAndTests:  # noqa: ANN401 - no types
    """Distribute tests in this way whatever --dist says: in no other they are left whole."""
    return FilesAndTests(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return two workers more than there are cores: who waits for a cluster needs none."""
    return (os.cpu_count() or 1) + 2


def begins_with_the_core(worker: int) -> bool:
    """Return whether a worker does: the second, and on larger machines the fourth and so on."""
    return worker % 2 == 1 and worker < max(2, os.cpu_count() or 1)


def _place(unit: str) -> int:
    places = (*_LONGEST, *_ON_A_CLUSTER, *_IN_THE_CORE)
    return next((n for n, folder in enumerate(places) if unit.startswith(folder)), -1)
