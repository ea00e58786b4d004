"""The command line: `bayplan` and, as a kubectl plugin, `kubectl bayplan`."""

from bayplan_extender.cli.main import main

__all__ = ["main"]
