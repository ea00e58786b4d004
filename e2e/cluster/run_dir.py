"""The scratch folder of one cluster.

It holds the kubeconfig, keys, data and logs. Logs outlive the cluster for a day, because a
failed test is looked at afterwards; everything else goes when the cluster stops. What a
killed process left behind is swept by a later run: a lock that ends with its holder tells.
"""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "bayplan-cluster-"
_KEPT_S = 24 * 3600.0


@contextmanager
def new_run_dir() -> Iterator[Path]:
    """Make a run directory; on leaving keep nothing of it but `logs`."""
    _sweep(Path(tempfile.gettempdir()))
    run_dir = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (run_dir / "logs").mkdir()
    with (run_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield run_dir
        finally:
            _clear(run_dir)


def _clear(run_dir: Path) -> None:
    for entry in run_dir.iterdir():
        if entry.is_dir() and entry.name != "logs":
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.is_file():
            entry.unlink()


def _sweep(temporary: Path) -> None:
    """Clear what dead runs left, and remove it when it is a day old."""
    for run_dir in temporary.glob(f"{_PREFIX}*"):
        try:
            if _is_old(run_dir):
                shutil.rmtree(run_dir, ignore_errors=True)
            elif _is_orphan(run_dir):
                _clear(run_dir)
        except OSError:
            continue  # someone else's, or swept by a neighbour at this moment


def _is_old(run_dir: Path) -> bool:
    unused_for_s = time.time() - run_dir.stat().st_mtime
    return unused_for_s > _KEPT_S and (not (run_dir / "lock").exists() or _is_orphan(run_dir))


def _is_orphan(run_dir: Path) -> bool:
    """Whether the process that made it is gone (a directory just being made has no lock yet)."""
    lock_file = run_dir / "lock"
    if not lock_file.exists():
        return False
    with lock_file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
