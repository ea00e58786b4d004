"""`python -m bayplan_extender webhook`: the process that kube-scheduler calls.

With certificates it speaks TLS on its port, and answers probes and Prometheus, which have no
certificate to show, on a port of their own.
"""

import argparse
import contextlib
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry

from bayplan_extender import health, logs
from bayplan_extender.kube import connect
from bayplan_extender.listening import listen
from bayplan_extender.sinks import reflectors
from bayplan_extender.view import View
from bayplan_extender.webhook import explain, protocol
from bayplan_extender.webhook.app import create_app
from bayplan_extender.webhook.binding import ApiBinder
from bayplan_extender.webhook.tls import Files, server_context
from bayplan_extender.webhook.verbs import Verbs

#: Longest time (seconds) that a watch's thread keeps the interpreter from answering a call. With
#: Python's default of 0.005 a busy watch makes the slowest answers several times slower.
_SWITCH_S = 0.0005


def main(arguments: Sequence[str]) -> int:
    """Serve until stopped; 2 when the certificates cannot be used."""
    options = _options(arguments)
    logs.configure()
    sys.setswitchinterval(_SWITCH_S)
    try:
        context = _context(options)
    except OSError as error:
        sys.stderr.write(f"error: the certificates cannot be used: {error}\n")
        return 2
    api, view, registry = connect(), View(), CollectorRegistry()
    watches = reflectors(view, api)
    for watch in watches:
        watch.start()
    verbs = Verbs(view, binder=ApiBinder(api) if options.bind else None)
    if context is not None:
        routers = [health.router(view, registry, watches), explain.router(view, verbs)]
        health.serve(routers, listen(options.host, options.health_port))
    app = create_app(view, watches=watches, verbs=verbs, registry=registry)
    config = uvicorn.Config(
        app,
        http=protocol.serving(app.state.endpoints, app.state.arriving),
        timeout_keep_alive=int(protocol.IDLE_S),
        timeout_graceful_shutdown=int(protocol.LAST_CALL_S) + 1,  # those that are not served there
        log_level="warning",
        ssl_context_factory=(lambda _config, _default: context) if context else None,
    )
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is a way to end
        uvicorn.Server(config).run([listen(options.host, options.port)])
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bayplan_extender webhook", description=__doc__)
    add = parser.add_argument
    add("--host", default="", help="address to listen on (default: all, of IPv4 and IPv6)")
    add("--port", type=int, default=8080, help="port to listen on")
    add("--bind", action="store_true", help="bind pods when the scheduler asks (bindVerb)")
    add("--tls-cert", type=Path, help="PEM file of the server's certificate: speak TLS")
    add("--tls-key", type=Path, help="PEM file of its key (default: that of the certificate)")
    add("--tls-client-ca", type=Path, help="PEM file of who vouches for clients: demand one")
    add("--health-port", type=int, default=8081, help="port of probes and metrics beside TLS")
    return parser.parse_args(arguments)


def _context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context to serve TLS with, or None to serve without.

    Raises:
        OSError: A file is not there, or cannot be used.
    """
    certificate = options.tls_cert
    if certificate is None:
        return None
    key = options.tls_key or certificate
    return server_context(Files(certificate=certificate, key=key, client_ca=options.tls_client_ca))
