"""What can go wrong with a test cluster.

Every message is a sentence for the person at the keyboard: what failed, and what to do.

    ClusterError
    ├── NoCluster       nothing on this machine can give a cluster
    ├── BuildFailed     a binary could not be built
    ├── ProcessDied     a child process ended by itself
    └── CommandFailed   kubectl, kind or docker said no
"""


class ClusterError(Exception):
    """The base of all errors of this package."""


class NoCluster(ClusterError):  # noqa: N818 - reads as the finding it is: "no cluster"
    """None of the ways to a cluster is open on this machine."""


class BuildFailed(ClusterError):  # noqa: N818 - the package's errors are findings, not "...Error"
    """A binary could not be built or its Go toolchain not be had."""


class ProcessDied(ClusterError):  # noqa: N818 - as above
    """A child process ended while it was still needed."""


class CommandFailed(ClusterError):  # noqa: N818 - as above
    """A command line tool ended with an error; the message holds what it wrote."""
