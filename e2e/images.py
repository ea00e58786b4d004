"""The chart's images, built from this checkout and given to a kind cluster.

Needed only there: on the local control plane the programs run as processes, and an existing
cluster pulls the images that its administrator has pushed.
"""

import subprocess
from pathlib import Path

import yaml

from e2e.cluster import Cluster, CommandFailed
from e2e.cluster.kind import load_image
from e2e.cluster.progress import Progress

ROOT = Path(__file__).parent.parent


def load(cluster: Cluster, *, progress: Progress) -> None:
    """Build both images and load them into the nodes.

    Raises:
        CommandFailed: docker could not build one, or kind not load it.
    """
    version = yaml.safe_load((ROOT / "charts/bayplan/Chart.yaml").read_text())["appVersion"]
    for name in ("operator", "extender"):
        image = f"ghcr.io/bayplan/{name}:{version}"
        progress(f"building {image} and loading it into the kind nodes")
        _build(image, ROOT / name / "Dockerfile")
        load_image(cluster, image)


def _build(image: str, dockerfile: Path) -> None:
    command = ["docker", "build", "--quiet", "-t", image, "-f", str(dockerfile), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise CommandFailed(f"docker build of {image}: {result.stderr.strip()}")
