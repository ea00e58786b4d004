"""`bayplan` on the command line, as somebody with a kubeconfig runs it."""

import subprocess
import sys
from collections.abc import Mapping

Told = subprocess.CompletedProcess[str]

_COMMAND = (sys.executable, "-c", "from bayplan_extender.cli import main; exit(main())")


def bayplan(env: Mapping[str, str], *arguments: str) -> Told:
    """Run it with these arguments; it may fail, and says why on stderr."""
    return subprocess.run(
        [*_COMMAND, *arguments], env=env, capture_output=True, text=True, check=False
    )
