"""Child processes that never outlive us.

The local control plane runs through this module, and so do the operator, the planner, the
webhook and the second scheduler of the tests and the demo. Each child has a log file, is the
leader of its own process group (Ctrl-C reaches us alone, and we stop it in order), and is
killed by the kernel when we die, however we die.
"""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.cluster.errors import ProcessDied

# Runs between fork and the program. A `preexec_fn` could do the same, but Python code in a
# forked child of a process with threads can deadlock; a fresh interpreter cannot (20 ms).
_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs inherit that it is ignored
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone already")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Process:
    """One child process and its log file."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Describe the process; nothing runs before `start`.

        Args:
            name: What messages call it.
            argv: Program and arguments.
            log: File that output and errors are appended to.
            env: The whole environment; None inherits ours.
            cwd: Working directory; None inherits ours.
        """
        self.name = name
        self.log = log
        self._argv = [str(word) for word in argv]
        self._env = env
        self._cwd = cwd
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        return self._started().pid

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and not self._ended(within_s=0.0)

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if not self.alive:
            self.kill()
        return self._started().returncode

    def start(self) -> Self:
        """Start it; after `stop` or `kill` start it again with the same arguments."""
        if self.alive:
            raise RuntimeError(f"{self.name} is running already")
        if threading.current_thread() is not threading.main_thread():
            # The kernel counts the end of the starting *thread* as the parent's death.
            raise RuntimeError(
                f"start {self.name} from the main thread: it would die with this one"
            )
        if self._child is not None:
            self.kill()  # what ended by itself still has its id
        launcher = [sys.executable, "-ISc", _LAUNCHER, str(os.getpid()), *self._argv]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                launcher,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        return self

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ask it to end, wait, then kill it and whatever is left of its process group."""
        try:
            if self.alive:
                os.kill(self.pid, signal.SIGTERM)
                self._ended(within_s=timeout_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill it and its process group at once, as a crash would; do nothing the second time."""
        child = self._started()
        if child.returncode is None:
            # Not reaped yet, so the id is still its own and cannot be a stranger's.
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def check(self) -> None:
        """Do nothing while it runs.

        Raises:
            ProcessDied: It has ended; the message ends with the tail of its log.
        """
        if not self.alive:
            raise ProcessDied(
                f"{self.name} ended with code {self.returncode}; "
                f"the end of {self.log}:\n{self.tail()}"
            )

    def tail(self, *, lines: int = 20) -> str:
        """Return the last lines of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _ended(self, *, within_s: float) -> bool:
        """Wait for the end without reaping, so that its id stays taken until `kill`."""
        child = self._started()
        if child.returncode is not None:
            return True
        descriptor = os.pidfd_open(child.pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(within_s * 1000))
        finally:
            os.close(descriptor)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._child


class ProcessGroup:
    """Processes that belong together; leaving the `with` block stops them, last started first."""

    def __init__(self, log_dir: Path) -> None:
        """Keep each process's output in `log_dir` as `<name>.log`."""
        self.processes: list[Process] = []
        self._log_dir = log_dir
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a process of this group."""
        log = self._log_dir / f"{name}.log"
        process = Process(name, argv, log=log, env=env, cwd=cwd)
        self.processes.append(process.start())
        return process

    def check(self) -> None:
        """Do nothing while all run; raise `ProcessDied` for the first that does not."""
        for process in self.processes:
            process.check()

    def stop(self) -> None:
        """Stop all of them, last started first."""
        while self.processes:
            self.processes.pop().stop()

    def __enter__(self) -> Self:
        """Return the group."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop all processes."""
        self.stop()
