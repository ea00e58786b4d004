"""`python -m bayplan_extender webhook`: the process that kube-scheduler calls."""

import argparse
from collections.abc import Sequence

import uvicorn

from bayplan_extender import logs
from bayplan_extender.kube import connect
from bayplan_extender.view import View
from bayplan_extender.webhook.app import create_app


def main(arguments: Sequence[str]) -> int:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="bayplan_extender webhook", description=__doc__)
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 - pods are reached through their Service
    parser.add_argument("--port", type=int, default=8080, help="port to listen on")
    options = parser.parse_args(arguments)
    logs.configure()
    view = View()
    watches = view.reflectors(connect())
    for watch in watches:
        watch.start()
    app = create_app(view, watches=watches)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
    return 0
