"""One test cluster for the whole run, and which worker runs what."""

pytest_plugins = ["e2e.cluster.pytest_plugin", "e2e.distribution"]
