"""The layout of the repository must not get in the way of the standard library."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


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
