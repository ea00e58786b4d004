"""Reading manifests from files: JSON or YAML, single files or folders, with line numbers.

What cannot be read is reported as file, line and field, and the command stops before it plans
anything.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bayplan.codec import DecodeError
from bayplan.codec.documents import flat

_SUFFIXES = {".yaml", ".yml", ".json"}

#: What an object without a name is called.
_UNNAMED = "(no name)"

#: One step of a field's path: a key or an index.
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")

#: What YAML calls an empty document, and what it takes for times, which Kubernetes does not.
_NULL = "tag:yaml.org,2002:null"
_TIME = "tag:yaml.org,2002:timestamp"


class FileError(Exception):
    """A file that cannot be used; the message says which, where, and why."""


class _Loader(yaml.SafeLoader):
    """Reads times as the texts that they are to Kubernetes."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's way to say it
        first: [(tag, like) for tag, like in resolvers if tag != _TIME]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read(paths: Sequence[str]) -> dict[str, list[Any]]:
    """Return the documents of each file, "-" being standard input.

    Raises:
        FileError: A file is missing, empty, neither JSON nor YAML, or holds other things than
            Kubernetes objects; or an object is there twice.
    """
    documents = {file: _documents(file) for path in paths for file in _files(path)}
    seen: dict[str, str] = {}
    for file, roots in documents.items():
        for number, root in enumerate(roots):
            for name in map(_name, _objects(file, number, root)):
                if name in seen:
                    other = f"{seen[name]} and in {file}" if seen[name] != file else f"{file} twice"
                    raise FileError(f"{name} is in {other}: leave one of them out")
                if not name.endswith(_UNNAMED):
                    seen[name] = file
    return documents


def objects(documents: Mapping[str, list[Any]]) -> Iterator[Mapping[str, Any]]:
    """Return the objects of all files, lists opened."""
    return flat(root for roots in documents.values() for root in roots)


def tell_unread(
    documents: Mapping[str, list[Any]], known: Container[str], further: Sequence[str] = ()
) -> None:
    """Say on standard error what no plan is made for: silence would read as if it fitted."""
    kinds = Counter(raw["kind"] for raw in objects(documents) if raw["kind"] not in known)
    told = [*(f"{count:,} {kind}" for kind, count in sorted(kinds.items())), *further]
    if told:
        sys.stderr.write(f"not planned: {', '.join(told)}\n")


def _objects(file: str, number: int, root: object) -> list[Mapping[str, Any]]:
    """Return the objects of a document, lists opened."""
    try:
        return list(flat([root]))  # type: ignore[list-item]  # whether it is one is asked here
    except DecodeError as error:
        raise _at(file, number, [*_steps(error.path)], error) from error


def located(error: DecodeError, documents: Mapping[str, list[Any]]) -> FileError:
    """Return the complaint with the file and, where it can be found, the line of the field."""
    for file, roots in documents.items():
        for number, place in enumerate(roots):
            found = _find(place, error.where)
            if found is not None:
                return _at(file, number, [*found, *_steps(error.path)], error)
    return FileError(str(error))


def _at(file: str, number: int, path: Sequence[str | int], error: DecodeError) -> FileError:
    """Return the complaint with the file, and the line of `path` in a document where known."""
    line = _line(file, number, path)
    return FileError(f"{file}:{line}: {error}" if line else f"{file}: {error}")


def _files(path: str) -> list[str]:
    if path == "-":
        return [path]
    if not Path(path).exists():
        raise FileError(f"{path}: there is no such file or folder")
    if not Path(path).is_dir():  # also what a shell passes as `<(kubectl get …)`
        return [path]
    files = sorted(str(f) for f in Path(path).rglob("*") if f.suffix in _SUFFIXES)
    if not files:
        raise FileError(f"{path}: holds no .yaml, .yml or .json file")
    return files


def _documents(file: str) -> list[Any]:
    text = _text(file)
    try:
        documents = [json.loads(text)] if _is_json(text) else list(yaml.load_all(text, _Loader))
    except json.JSONDecodeError as error:
        raise FileError(f"{file}:{error.lineno}: is not JSON: {error.msg}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise FileError(f"{file}:{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise FileError(f"{file}: is not YAML: {error}") from error
    except ValueError as error:  # Python's own limit
        raise FileError(f"{file}: holds a number that is too long to be meant") from error
    except RecursionError as error:
        raise FileError(f"{file}: is nested too deeply to be meant") from error
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
    if _name(raw) == where:
        return []
    items = raw.get("items")
    for index, item in enumerate(items if isinstance(items, list) else ()):
        found = _find(item, where)
        if found is not None:
            return ["items", index, *found]
    return None


def _name(raw: Mapping[str, Any]) -> str:
    """Return what an object is called in complaints."""
    metadata = raw.get("metadata") if isinstance(raw.get("metadata"), Mapping) else {}
    parts = [str(metadata[key]) for key in ("namespace", "name") if metadata and metadata.get(key)]
    return f"{raw.get('kind')} {'/'.join(parts) or _UNNAMED}"


def _steps(path: str) -> Iterator[str | int]:
    for match in _STEP.finditer(path):
        yield int(match[1]) if match[1] else match[2]


def _line(file: str, number: int, path: Sequence[str | int]) -> int:
    """Return the line of the deepest part of `path` that the file has; 0 when unknown."""
    if file == "-":
        return 0
    text = _text(file)
    # What JSON may be indented with, and YAML not.
    text = text.replace("\t", " ") if _is_json(text) else text
    try:
        nodes = [node for node in yaml.compose_all(text, _Loader) if node.tag != _NULL]
    except (yaml.YAMLError, RecursionError):
        return 0
    if number >= len(nodes):
        return 0  # it can be read once only
    node = nodes[number]
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
