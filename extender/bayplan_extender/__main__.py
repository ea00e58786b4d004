"""`python -m bayplan_extender webhook|planner`: the two processes of the extender image.

Each is imported only when it is asked for: the webhook must never load OR-Tools.
"""

import sys

from kubernetes.config import ConfigException


def main() -> int:
    """Run the process named by the first argument; 2 when it cannot know what it needs."""
    try:
        return _run()
    except ConfigException as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _run() -> int:
    program, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if program == "webhook":
        from bayplan_extender.webhook import process as webhook  # noqa: PLC0415 - see above

        return webhook.main(arguments)
    if program == "planner":
        from bayplan_extender.planner import process as planner  # noqa: PLC0415 - see above

        return planner.main(arguments)
    sys.stderr.write("usage: python -m bayplan_extender webhook|planner [--help]\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
