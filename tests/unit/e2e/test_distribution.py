"""How tests are spread over the workers of pytest-xdist."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from e2e.distribution import begins_with_the_core, pytest_xdist_auto_num_workers

ROOT = Path(__file__).parents[3]

#: Passes, and takes no time.
TESTS = "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test(n): pass\n"


def test_files_on_a_cluster_stay_whole_and_one_worker_begins_with_the_core(tmp_path: Path) -> None:
    """Seen: marks were overlooked, and each worker installed what every file of tests shares."""
    for name in ("e2e/test_a", "tests/integration/test_b", "e2e/test_c", "tests/unit/test_d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    command = [sys.executable, "-m", "pytest", "-p", "e2e.distribution", "-n", "2", "-v"]

    ran = subprocess.run(  # noqa: S603 - our own interpreter
        command, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout

    workers: dict[str, set[str]] = defaultdict(set)
    first: dict[str, str] = {}
    for worker, file in re.findall(r"\[(gw\d)\] .* PASSED (\S+)::", ran):
        workers[file].add(worker)
        first.setdefault(worker, file)
    assert len(workers) == 4
    assert {
        file: len(by) for file, by in workers.items() if "unit" not in file and len(by) > 1
    } == {}
    assert {file.partition("/")[0] for file in first.values()} == {"e2e", "tests"}
    assert "tests/unit/test_d.py" in first.values()


@pytest.mark.parametrize(("cores", "computing"), [(1, [1]), (2, [1]), (4, [1, 3])])
def test_one_worker_computes_for_every_two_cores(
    cores: int, computing: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who wait for a cluster take next to nothing; idle cores would make the run longer."""
    monkeypatch.setattr(os, "cpu_count", lambda: cores)

    workers = range(pytest_xdist_auto_num_workers())

    assert [worker for worker in workers if begins_with_the_core(worker)] == computing
