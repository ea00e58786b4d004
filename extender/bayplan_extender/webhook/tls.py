"""TLS for the webhook, with certificates that may change while it runs.

Secrets that are mounted into a pod change under it when they are renewed. The files are looked at
when a scheduler connects: if they have changed, this and later connections use what they hold
now. Files that cannot be used (half written, key of another certificate) leave what was there.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

_log = structlog.get_logger()

#: What tells one version of a file from another.
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """PEM files of a server.

    Attributes:
        certificate: The server's certificate, with its chain.
        key: Its private key.
        client_ca: Who vouches for clients; without it everybody may connect.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def stamps(self) -> Sequence[_Stamp]:
        """Return what changes whenever one of the files does.

        Raises:
            OSError: A file is not there.
        """
        files = [self.certificate, self.key, *([self.client_ca] if self.client_ca else [])]
        stats = [path.stat() for path in files]
        return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]


def server_context(files: Files) -> ssl.SSLContext:
    """Return a context that serves what `files` hold whenever a connection begins.

    Raises:
        OSError: A file is not there, or cannot be used (`ssl.SSLError` is one).
    """
    current, stamps = _load(files), files.stamps()
    listening = current

    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal current, stamps
        try:
            now = files.stamps()
            if now != stamps:
                current, stamps = _load(files), now
                _log.info("certificate_renewed", file=str(files.certificate))
        except OSError as error:
            _log.warning("certificate_unusable", file=str(files.certificate), error=str(error))
        connection.context = current

    listening.sni_callback = renew
    return listening


def _load(files: Files) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Who resumes a session is not asked for a certificate again: one that has run out, or is of an
    # authority that nobody believes any more, would do for ever. 1.2 resumes without tickets, too.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
