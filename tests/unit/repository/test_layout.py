"""The layout of the repository gets in nobody's way: not the standard library's, nor a test's."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]

#: Where tests are.
_TESTS = ("tests", "e2e")


def test_operator_is_no_package() -> None:
    """As a package, our folder `operator` would shadow the standard library's module."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_the_standard_librarys_operator_wins_from_the_root() -> None:
    """Whatever is run from the repository's root must still find `operator.itemgetter`."""
    program = "import operator; operator.itemgetter(0); print(operator.__file__)"

    # In a fresh interpreter: this one has imported it long ago.
    found = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert not Path(found.strip()).is_relative_to(ROOT / "operator")


def test_tests_take_what_they_share_from_scenes() -> None:
    """Who changes the tests of one thing would break those of another."""
    files = [file for folder in _TESTS for file in sorted((ROOT / folder).rglob("*.py"))]
    assert {file.relative_to(ROOT).parts[0] for file in files} == set(_TESTS)

    found = [f"{file.name}: {name}" for file in files for name in _modules(file)]

    assert [each for each in found if ".test_" in each] == []


def _modules(file: Path) -> Iterator[str]:
    """Yield what a file imports of the tests, by its full name."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_TESTS):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(_TESTS))
