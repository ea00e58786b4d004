"""The test cluster of a run, which worker runs what, and asserts that say what they saw."""

import pytest

# Not only in files of tests: what is awaited in the helpers of several ends with what was seen.
pytest.register_assert_rewrite("e2e", "tests")

pytest_plugins = ["e2e.cluster.pytest_plugin", "e2e.distribution"]
