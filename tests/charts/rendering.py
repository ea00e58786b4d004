"""The chart through helm, for those who look at what comes of it."""

import subprocess

from charts.generate import CHART, KUBERNETES, NAMESPACE
from e2e.cluster import binaries

TLS = "tls.enabled=true"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm over the chart."""
    target = ("bayplan", CHART, "--namespace", NAMESPACE, "--kube-version", KUBERNETES)
    return subprocess.run(  # noqa: S603 - the helm that was built for this
        [binaries.path("helm"), "template", *target, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
