"""Manifests that tests of the command line know."""

from pathlib import Path

NODE = """\
kind: Node
metadata: {name: n1}
status:
  allocatable: {nvidia.com/gpu: 8, cpu: 64, memory: 512Gi, pods: 110}
"""
POD = """\
kind: Pod
metadata: {name: a, namespace: team}
spec:
  schedulerName: bayplan
  schedulingGates: [{name: bayplan.dev/plan}]
  containers:
  - name: c
    resources: {limits: {nvidia.com/gpu: GPUS}}
"""


def manifests(folder: Path, *, gpus: str = "8") -> str:
    """Write a node and a pod, and return the folder."""
    (folder / "nodes.yaml").write_text(NODE)
    (folder / "pods.yaml").write_text("# pods\n" + POD.replace("GPUS", gpus))
    return str(folder)
