"""Whoever reads a reason or a metric must find it in the documentation, and nothing else there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from bayplan.plan import Reason

_ROOT = Path(__file__).parents[3]
_GUIDE = (_ROOT / "docs" / "guides" / "why-a-pod-waits.md").read_text()
_METRICS = (_ROOT / "docs" / "reference" / "metrics.md").read_text()


def test_every_reason_of_a_pod_is_explained() -> None:
    """One that is missing there is a word that nobody can look up."""
    assert _first_cells("Reasons of a pod") == {str(reason) for reason in Reason}


def test_every_reason_of_a_condition_is_explained() -> None:
    """The operator's words are looked for in the sources: no type holds them."""
    told = {
        word for path in (_ROOT / "core/bayplan/inference").glob("*.py") for word in _given(path)
    }

    assert {"InvalidSpec", "RolledOut", "RatioKept"} <= told
    assert {word for word in told if f"`{word}`" not in _GUIDE} == set()


def test_every_metric_is_explained() -> None:
    """Nobody alerts on what is not known, nor on what is not there."""
    told = {
        name
        for program in ("operator/bayplan_operator", "extender/bayplan_extender")
        for path in (_ROOT / program).rglob("*.py")
        for name in re.findall(r'"(bayplan_[a-z_]+)",', path.read_text())
    }

    explained = set(re.findall(r"`(bayplan_[a-z_]+)", _METRICS))

    assert {name.removesuffix("_total") for name in explained} == {
        name.removesuffix("_total") for name in told
    }


def _first_cells(heading: str) -> set[str]:
    """Return the code words in the first column of the table below a heading."""
    section = _GUIDE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}


def _given(path: Path) -> Iterator[str]:
    """Yield the reasons that a module gives to findings, constants of modules among them."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="Finding"), attr="of"),
                args=[_, _, ast.Constant(value=str(reason)), *_],
            ):
                yield reason
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(reason))):
                if name in {"CHANGING", "WAITS", "GIVES"}:
                    yield reason
