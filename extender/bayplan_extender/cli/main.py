"""`bayplan plan` and `bayplan explain`; both also as `kubectl bayplan …`."""

import argparse
import sys
from collections.abc import Sequence

from bayplan_extender.cli import explain, plan
from bayplan_extender.cli.files import FileError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (2: bad input)."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except FileError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bayplan", description="Plans of GPU fleets.")
    commands = parser.add_subparsers(title="commands", required=True)
    for name, module, text in (
        ("plan", plan, "plan from files, or ask what they would do to the cluster"),
        ("explain", explain, "why a pod is where it is, or why it waits"),
    ):
        command = commands.add_parser(name, help=text, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
