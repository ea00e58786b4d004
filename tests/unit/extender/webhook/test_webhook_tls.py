"""TLS of the webhook over real sockets: who is let in, and what happens when files change."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import create_connection

import pytest
from structlog.testing import capture_logs

from bayplan_extender.view import View
from bayplan_extender.webhook.app import create_app
from bayplan_extender.webhook.tls import Files, server_context
from e2e.cluster.certificates import Authority
from tests.webhook_server import listening

#: Opens a connection that trusts the authority in a folder and shows the certificate there;
#: returns the serial number of the server's certificate.
Connect = Callable[[Path | None], str]


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Return who vouches for server and client."""
    return Authority()


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> Path:
    """Return the folder with the server's files."""
    return authority.issue("bayplan-webhook", tmp_path / "server")


@pytest.fixture
def connect(server: Path) -> Iterator[Connect]:
    """Serve the webhook with the server's files; give a way to connect."""
    files = Files(
        certificate=server / "tls.crt", key=server / "tls.key", client_ca=server / "ca.crt"
    )
    context = server_context(files)
    settings = {"ssl_context_factory": lambda _config, _default: context}
    with listening(create_app(View()), **settings) as port:
        yield lambda folder: serial(port, folder, trusted=server / "ca.crt")


def asking(folder: Path | None, trusted: Path) -> ssl.SSLContext:
    """Return what a client connects with that trusts an authority and shows a certificate."""
    client = ssl.create_default_context(cafile=str(trusted))
    if folder is not None:
        client.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return client


def serial(port: int, folder: Path | None, *, trusted: Path) -> str:
    """Ask with the client certificate in `folder`, as schedulers and probes do.

    Return the serial number of the server's certificate.
    """
    client = asking(folder, trusted)
    with create_connection(("127.0.0.1", port), timeout=10) as plain:  # noqa: SIM117 - in order
        with client.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            secure.sendall(b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            shown, reply = secure.getpeercert(), secure.recv(4096)
            if reply:
                secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert secure.recv(100).startswith(b"HTTP/1.1 200")
    if not reply:  # with TLS 1.3 a client learns that it was refused only when it reads
        raise ConnectionError("the server has closed the connection")
    assert reply.startswith(b"HTTP/1.1 200")
    assert shown is not None
    return str(shown["serialNumber"])


def test_a_scheduler_with_a_certificate_is_answered(
    connect: Connect, authority: Authority, tmp_path: Path
) -> None:
    """Nobody would be."""
    assert connect(authority.issue("bayplan-scheduler", tmp_path / "client"))


def test_a_stranger_is_not_let_in(connect: Connect, tmp_path: Path) -> None:
    """Whoever reaches the port could ask what is reserved, or take room by asking."""
    other = Authority().issue("bayplan-scheduler", tmp_path / "client")

    for folder in (None, other):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            connect(folder)


def test_renewed_certificates_are_used_without_a_restart(
    connect: Connect, authority: Authority, server: Path, tmp_path: Path
) -> None:
    """cert-manager renews every two months: the webhook would fail all pods some night."""
    client = authority.issue("bayplan-scheduler", tmp_path / "client")
    before = connect(client)

    authority.issue("bayplan-webhook", server)

    assert connect(client) != before


def test_a_new_authority_is_believed_without_a_restart(
    connect: Connect, authority: Authority, server: Path, tmp_path: Path
) -> None:
    """The authority is renewed as well, less often."""
    old = authority.issue("bayplan-scheduler", tmp_path / "old")
    other = Authority()
    other.issue("bayplan-webhook", server)

    assert connect(other.issue("bayplan-scheduler", tmp_path / "new"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(old)


def test_files_that_cannot_be_used_leave_what_was_there(
    connect: Connect, authority: Authority, server: Path, tmp_path: Path
) -> None:
    """A Secret may be written half: the next connection would fail, and all after it."""
    client = authority.issue("bayplan-scheduler", tmp_path / "client")
    before = connect(client)

    (server / "tls.key").write_text("half a key")
    with capture_logs() as events:
        assert connect(client) == before
    assert [event["event"] for event in events] == ["certificate_unusable"]

    authority.issue("bayplan-webhook", server)
    assert connect(client) != before


def test_a_certificate_is_asked_for_on_every_connection(
    server: Path, authority: Authority, tmp_path: Path
) -> None:
    """A session of yesterday would do, whatever has become of the certificate shown then."""
    client = asking(authority.issue("bayplan-scheduler", tmp_path / "client"), server / "ca.crt")
    files = Files(
        certificate=server / "tls.crt", key=server / "tls.key", client_ca=server / "ca.crt"
    )
    context, session = server_context(files), None
    with listening(
        create_app(View()), ssl_context_factory=lambda _config, _default: context
    ) as port:
        for _ in range(2):
            with create_connection(("127.0.0.1", port), timeout=10) as plain:  # noqa: SIM117
                with client.wrap_socket(
                    plain, server_hostname="127.0.0.1", session=session
                ) as secure:
                    secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert secure.recv(100).startswith(b"HTTP/1.1 200")
                    assert not secure.session_reused
                    session = secure.session
