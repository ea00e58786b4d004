"""One test cluster for the whole run: integration and end-to-end tests share it."""

pytest_plugins = ["e2e.cluster.pytest_plugin"]
