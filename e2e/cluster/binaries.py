"""Resolve the programs a test cluster runs on, and build the ones that are missing.

A program is taken from the `KUBEBUILDER_ASSETS` folder if it is there, else from a cache that
holds what was built from the two Go modules beside this package. Building happens once per
version and only for what is asked, so that a demo never waits for kind.
"""

import fcntl
import hashlib
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import go_toolchain
from e2e.cluster.errors import BuildFailed
from e2e.cluster.progress import Progress, to_stderr

_MODULES = Path(__file__).parents[1]
_TELL_EVERY_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    module: str  # folder of the Go module that pins it
    package: str  # what to build
    pin: str  # the Go module whose version is the program's version
    stamp: tuple[str, ...] = ()  # variables the linker sets; {v} is the version
    takes: str  # measured on 2 cores, with nothing compiled before


_KUBERNETES_STAMP = (
    "k8s.io/component-base/version.gitVersion={v}",
    "k8s.io/component-base/version.gitMajor=1",
    "k8s.io/component-base/version.gitMinor=36",
)


def _kubernetes(name: str, takes: str) -> _Program:
    return _Program(
        module="control-plane",
        package=f"k8s.io/kubernetes/cmd/{name}",
        pin="k8s.io/kubernetes",
        stamp=_KUBERNETES_STAMP,
        takes=takes,
    )


_PROGRAMS = {
    "etcd": _Program(
        module="control-plane",
        package="go.etcd.io/etcd/server/v3",
        pin="go.etcd.io/etcd/server/v3",
        takes="40 s",
    ),
    "kube-apiserver": _kubernetes("kube-apiserver", "3 min"),
    "kube-controller-manager": _kubernetes("kube-controller-manager", "1 min"),
    "kube-scheduler": _kubernetes("kube-scheduler", "5 s (alone 2 min)"),
    "kubectl": _kubernetes("kubectl", "20 s"),
    "kwok": _Program(
        module="tools", package="sigs.k8s.io/kwok/cmd/kwok", pin="sigs.k8s.io/kwok", takes="80 s"
    ),
    "helm": _Program(
        module="tools",
        package="helm.sh/helm/v4/cmd/helm",
        pin="helm.sh/helm/v4",
        stamp=("helm.sh/helm/v4/internal/version.version={v}",),
        takes="50 s",
    ),
    "kind": _Program(
        module="tools", package="sigs.k8s.io/kind", pin="sigs.k8s.io/kind", takes="5 s"
    ),
}

NAMES = tuple(_PROGRAMS)
"""All programs that can be resolved, in the order in which building them is cheapest."""

LOCAL_NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl",
               "kwok")  # fmt: skip
"""What a local control plane runs on."""


def path(name: str, *, progress: Progress = to_stderr) -> Path:
    """Return the program's path, building it first if it is missing.

    Raises:
        BuildFailed: It is missing and could not be built; the message says what to do.
    """
    program = _PROGRAMS[name]
    given = Path(os.environ.get("KUBEBUILDER_ASSETS", "")) / name
    if given.is_absolute() and given.exists():
        return given
    toolchain = go_toolchain.find_toolchain(_cache())
    built = _cache() / f"{program.module}-{_digest(program, toolchain)}" / name
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        with _lock(built.parent / ".lock", progress):
            if not built.exists():  # another process may have built it while we waited
                go_toolchain.install(toolchain, progress=progress)
                _build(name, built, toolchain, progress=progress)
    return built


def version(name: str) -> str:
    """Return the version that the Go module pins, such as `v1.36.3`."""
    program = _PROGRAMS[name]
    text = (_MODULES / program.module / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(program.pin)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise BuildFailed(f"{program.module}/go.mod does not pin {program.pin}")
    return found.group(1)


def _cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "bayplan"


def _digest(program: _Program, toolchain: go_toolchain.Toolchain) -> str:
    folder = _MODULES / program.module
    digest = hashlib.sha256(f"{toolchain.version} {platform.machine()}\n".encode())
    digest.update((folder / "go.mod").read_bytes())
    digest.update((folder / "go.sum").read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _lock(file: Path, progress: Progress) -> Iterator[None]:
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process is building this already; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(
    name: str, built: Path, toolchain: go_toolchain.Toolchain, *, progress: Progress
) -> None:
    program = _PROGRAMS[name]
    unfinished = built.with_name(f".{name}.{os.getpid()}")
    log = built.with_name(f"{name}.log")
    command: list[str | Path] = [
        *(toolchain.program, "build", "-trimpath", "-buildvcs=false"),
        *("-ldflags", _linker_flags(name), "-o", unfinished, program.package),
    ]
    what = f"{name} {version(name).removeprefix('v')}"
    progress(f"building {what} … about {program.takes} on 2 cores, once")
    started_at = time.monotonic()
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=_MODULES / program.module,
            env=go_toolchain.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    code = _wait(child, what, progress=progress)
    if code != 0:
        raise BuildFailed(_failure(what, code, log))
    unfinished.replace(built)
    progress(f"built {what} in {time.monotonic() - started_at:.0f} s")


def _linker_flags(name: str) -> str:
    stamps = (f"-X {stamp.format(v=version(name))}" for stamp in _PROGRAMS[name].stamp)
    return " ".join(("-s -w", *stamps))


def _wait(child: subprocess.Popen[bytes], what: str, *, progress: Progress) -> int:
    """Wait for the build, telling how long it has taken; end it if we are interrupted."""
    started_at = time.monotonic()
    try:
        while True:
            try:
                return child.wait(_TELL_EVERY_S)
            except subprocess.TimeoutExpired:
                progress(f"  still building {what}: {time.monotonic() - started_at:.0f} s so far")
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def _failure(what: str, code: int, log: Path) -> str:
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    return (
        f"{what} could not be built (go build ended with {code}; all of it in {log}):\n{tail}\n"
        "Building needs the Go module proxy (GOPROXY), 3 GB of memory and 7 GB of disk. "
        "Ready-made programs can be given instead: set KUBEBUILDER_ASSETS to their folder."
    )
