"""The command line: build the programs ahead of time, or keep a cluster up to play with.

`make setup-cluster` and CI build; a person runs `up` and points kubectl at what it prints.
"""

import argparse
import shlex
import signal
import sys
from types import FrameType

from e2e.cluster import binaries
from e2e.cluster.choose import open_cluster
from e2e.cluster.errors import ClusterError
from e2e.cluster.nodes import add_gpu_nodes


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if arguments.command == "build":
            _build(everything=arguments.all)
        else:
            _up(gpu_nodes=arguments.gpu_nodes)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the programs of the local control plane")
    build.add_argument("--all", action="store_true", help="helm and kind as well")
    up = commands.add_parser("up", help="run a cluster until Ctrl-C")
    up.add_argument("--gpu-nodes", type=int, default=0, metavar="N", help="with N 8-GPU nodes")
    return parser


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _build(*, everything: bool) -> None:
    for name in binaries.NAMES if everything else binaries.LOCAL_NAMES:
        print(binaries.path(name), flush=True)


def _up(*, gpu_nodes: int) -> None:
    with open_cluster() as cluster:
        if gpu_nodes:
            add_gpu_nodes(cluster, names=[f"gpu-{index}" for index in range(gpu_nodes)])
        folder = shlex.quote(str(cluster.kubectl.parent))
        print(f"# a {cluster.flavor} cluster; logs are in {cluster.logs}; Ctrl-C stops it")
        print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))} PATH={folder}:$PATH")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
