"""Reading manifests from files: JSON or YAML, single files or folders, with line numbers.

What cannot be read is reported as file, line and field, and the command stops before it plans
anything.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bayplan.codec import DecodeError

_SUFFIXES = {".yaml", ".yml", ".json"}

#: One step of a field's path: a key or an index.
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class FileError(Exception):
    """A file that cannot be used; the message says which, where, and why."""


def read(paths: Sequence[str]) -> dict[str, list[Any]]:
    """Return the documents of each file, "-" being standard input.

    Raises:
        FileError: A file is missing, empty, or neither JSON nor YAML.
    """
    files = [file for path in paths for file in _files(path)]
    return {file: _documents(file) for file in files}


def located(error: DecodeError, documents: Mapping[str, list[Any]]) -> FileError:
    """Return the complaint with the file and, where it can be found, the line of the field."""
    for file, roots in documents.items():
        for number, place in enumerate(roots):
            found = _find(place, error.where)
            if found is not None:
                line = _line(file, number, [*found, *_steps(error.path)])
                return FileError(f"{file}:{line}: {error}" if line else f"{file}: {error}")
    return FileError(str(error))


def _files(path: str) -> list[str]:
    if path == "-":
        return [path]
    if not Path(path).exists():
        raise FileError(f"{path}: there is no such file or folder")
    if Path(path).is_file():
        return [path]
    files = sorted(str(f) for f in Path(path).rglob("*") if f.suffix in _SUFFIXES)
    if not files:
        raise FileError(f"{path}: holds no .yaml, .yml or .json file")
    return files


def _documents(file: str) -> list[Any]:
    text = _text(file)
    try:
        documents = [json.loads(text)] if _is_json(text) else list(yaml.safe_load_all(text))
    except json.JSONDecodeError as error:
        raise FileError(f"{file}:{error.lineno}: is not JSON: {error.msg}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise FileError(f"{file}:{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise FileError(f"{file}: is not YAML: {error}") from error
    documents = [document for document in documents if document is not None]
    if not documents:
        raise FileError(f"{file}: is empty")
    return documents


def _text(file: str) -> str:
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{file}: is not text (byte {error.start})") from error
    except OSError as error:
        raise FileError(f"{file}: {error.strerror}") from error


def _is_json(text: str) -> bool:
    return text.lstrip()[:1] in {"{", "["}


def _find(raw: object, where: str) -> list[str | int] | None:
    """Return the path to the object called `where` ("Pod default/x") inside a document."""
    if not isinstance(raw, Mapping):
        return None
    metadata = raw.get("metadata") if isinstance(raw.get("metadata"), Mapping) else {}
    parts = [str(metadata[key]) for key in ("namespace", "name") if metadata and metadata.get(key)]
    if f"{raw.get('kind')} {'/'.join(parts) or '(no name)'}" == where:
        return []
    items = raw.get("items")
    for index, item in enumerate(items if isinstance(items, list) else ()):
        found = _find(item, where)
        if found is not None:
            return ["items", index, *found]
    return None


def _steps(path: str) -> Iterator[str | int]:
    for match in _STEP.finditer(path):
        yield int(match[1]) if match[1] else match[2]


def _line(file: str, number: int, path: Sequence[str | int]) -> int:
    """Return the line of the deepest part of `path` that the file has; 0 when unknown."""
    if file == "-":
        return 0
    node = list(yaml.compose_all(_text(file), Loader=yaml.SafeLoader))[number]
    line = int(node.start_mark.line) + 1
    for step in path:
        below = _below(node, step)
        if below is None:
            break
        key, node = below
        line = int(key.start_mark.line) + 1
    return line


def _below(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return (node.value[step], node.value[step]) if step < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == step), None)
    return None
