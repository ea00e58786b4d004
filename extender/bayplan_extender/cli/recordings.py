"""Recorded passes in files: JSON, compressed where the name ends with .gz."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from bayplan.codec import DecodeError, Recording, recording_document, recording_of
from bayplan_extender.cli.files import FileError


def save(file: str, recording: Recording) -> None:
    """Write a recording; the same recording gives the same bytes.

    Raises:
        FileError: The file cannot be written.
    """
    data = json.dumps(recording_document(recording), separators=(",", ":")).encode()
    try:
        Path(file).write_bytes(gzip.compress(data, mtime=0) if _is_compressed(file) else data)
    except OSError as error:
        raise FileError(f"{file}: {error.strerror}") from error


def load(file: str) -> Recording:
    """Return the recording in a file.

    Raises:
        FileError: It cannot be read, or holds no recording.
    """
    try:
        return recording_of(_document(file))
    except DecodeError as error:
        raise FileError(f"{file}: {error}") from error


def _document(file: str) -> Any:  # noqa: ANN401 - JSON is anything
    try:
        data = Path(file).read_bytes()
        return json.loads(gzip.decompress(data) if _is_compressed(file) else data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FileError(f"{file}: is not compressed by gzip: {error}") from error
    except OSError as error:
        raise FileError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{file}: is not text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise FileError(f"{file}:{error.lineno}: is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise FileError(f"{file}: is nested too deeply to be a recording") from error


def _is_compressed(file: str) -> bool:
    return file.endswith(".gz")
