"""A loop that lifts gates and pins pods to node after node: what the path alone costs.

It decides nothing and checks nothing: each pod has a node by its number. The admission policy gates
the pods as ever, and no program of ours is running, so what it reaches is the most that gates and
pins allow on a machine.

    python -m benchmarks.extender.bare --kubeconfig FILE
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from kubernetes import client, config

from bayplan.api import names
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.codec.releases import release_patch
from bayplan_operator.cluster.kube import PODS, Kube, Raw, pod_path
from benchmarks.extender.run import home_of

#: Requests at a time, as the operator's.
_PARALLEL: Final = 8


def main() -> None:
    """Pin pods until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", required=True)
    options = parser.parse_args()
    access = config.new_client_from_config(options.kubeconfig).configuration
    kube = Kube(client.ApiClient(access))
    with ThreadPoolExecutor(_PARALLEL) as pool:
        for raw in _gated(kube):
            pool.submit(_release, kube, raw).add_done_callback(Future.result)  # tells of failures


def _gated(kube: Kube) -> Iterator[Raw]:
    """Yield each pod that waits behind our gate, once."""
    known = set[str]()
    while True:  # the server ends a watch now and then
        for event in kube.watch(PODS, labels=f"{names.LABEL_MANAGED}=true"):
            raw = event["object"]
            if raw["spec"].get("schedulingGates") and raw["metadata"]["uid"] not in known:
                known.add(raw["metadata"]["uid"])
                yield raw


def _release(kube: Kube, raw: Raw) -> None:
    key = PodKey(namespace=raw["metadata"]["namespace"], name=raw["metadata"]["name"])
    patch = release_patch(raw, NodeName(home_of(key.name)), {})
    kube.patch(pod_path(key), patch, manager=names.MANAGER_PODS)


if __name__ == "__main__":
    main()
