"""What tests and the demo hold of a cluster: where it is and how to talk to it.

The same handle whichever cluster it is, so that nobody downstream needs to ask. Whoever does
need to ask (fake nodes are made differently) reads `flavor`.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from e2e.cluster import binaries
from e2e.cluster.errors import CommandFailed
from e2e.cluster.processes import Process
from e2e.cluster.reading import read

Flavor = Literal["existing", "kind", "local"]

_KUBECTL_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster.

    Attributes:
        flavor: How it came to be.
        kubeconfig: Logs in as an administrator.
        kubectl: The pinned kubectl.
        run_dir: Scratch folder that lives as long as the cluster; logs are in `run_dir/logs`.
        components: The programs of a local control plane, by name; empty for other clusters.
    """

    flavor: Flavor
    kubeconfig: Path
    kubectl: Path
    run_dir: Path
    components: Mapping[str, Process] = field(default_factory=dict)

    @property
    def helm(self) -> Path:
        """The pinned helm, built when it is first asked for."""
        return binaries.path("helm")

    @property
    def logs(self) -> Path:
        """The folder for logs of everything that runs on or beside the cluster."""
        return self.run_dir / "logs"

    @property
    def env(self) -> dict[str, str]:
        """The environment for programs that talk to this cluster, kubectl and helm among them."""
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            # Ports are used again by later clusters, and what kubectl remembers goes by port.
            "KUBECACHEDIR": str(self.run_dir / "kubectl-cache"),
        }

    def read(self, what: str, *, namespace: str = "", labels: str = "") -> Any:  # noqa: ANN401 - JSON
        """Return what `kubectl get -o json` would, at a tenth of its cost: `reading.read`."""
        return read(self.kubeconfig, what, namespace=namespace, labels=labels)

    def kubectl_run(self, *args: str, input: str | None = None) -> str:  # noqa: A002 - as in subprocess.run
        """Run kubectl and return its output.

        Args:
            args: What follows `kubectl` on a command line.
            input: Text for its standard input, as for `apply -f -`.

        Raises:
            CommandFailed: It ended with an error; the message holds what it wrote.
        """
        result = subprocess.run(
            [self.kubectl, *args],
            input=input if input is not None else "",
            env=self.env,
            capture_output=True,
            text=True,
            timeout=_KUBECTL_TIMEOUT_S,
            check=False,
        )
        if result.returncode != 0:
            raise CommandFailed(f"kubectl {' '.join(args)}: {result.stderr.strip()}")
        return result.stdout
