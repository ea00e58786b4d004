"""The keys and certificates of a local control plane, and those of programs that speak TLS.

One certificate authority per run signs the API server's certificate and vouches for request
headers; a second key signs service account tokens. People and components log in with tokens,
so no client certificates are needed there. Everything is thrown away with the run directory.
"""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LIFETIME = dt.timedelta(days=7)
_SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """The PEM files that the control plane's flags name."""

    ca: Path
    server: Path
    server_key: Path
    service_account_key: Path


class Authority:
    """A certificate authority that issues what a Secret of type kubernetes.io/tls holds."""

    def __init__(self) -> None:
        self._key = _new_key()
        self._certificate = _certificate_authority(self._key)

    def issue(self, name: str, directory: Path) -> Path:
        """Write a new tls.crt, tls.key and ca.crt for `name`; return the directory.

        The certificate is good for a server on loopback and for a client.
        """
        directory.mkdir(parents=True, exist_ok=True)
        key = _new_key()
        names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = _builder(key, subject=_name(name), issuer=self._certificate.subject)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(signer, critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        _write(directory / "tls.key", _pem(key))
        _write(directory / "tls.crt", made.public_bytes(serialization.Encoding.PEM))
        encoded = self._certificate.public_bytes(serialization.Encoding.PEM)
        _write(directory / "ca.crt", encoded)
        return directory


def write_certificates(directory: Path, *, service_ip: str) -> Certificates:
    """Create all keys and certificates in `directory`.

    Args:
        directory: Where the PEM files go.
        service_ip: Cluster address of the `kubernetes` Service, a name of the server as well.
    """
    directory.mkdir()
    ca_key, server_key = _new_key(), _new_key()
    ca = _certificate_authority(ca_key)
    server = _server_certificate(server_key, ca=ca, ca_key=ca_key, service_ip=service_ip)
    return Certificates(
        ca=_write(directory / "ca.crt", ca.public_bytes(serialization.Encoding.PEM)),
        server=_write(directory / "server.crt", server.public_bytes(serialization.Encoding.PEM)),
        server_key=_write(directory / "server.key", _pem(server_key)),
        service_account_key=_write(directory / "service-account.key", _pem(_new_key())),
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _certificate_authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("bayplan-test-ca")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(key, subject=name, issuer=name)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return builder.sign(key, hashes.SHA256())


def _server_certificate(
    key: ec.EllipticCurvePrivateKey,
    *,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    service_ip: str,
) -> x509.Certificate:
    addresses = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ("127.0.0.1", service_ip)]
    names = [x509.DNSName(name) for name in _SERVER_NAMES]
    issuer_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = _builder(key, subject=_name("kube-apiserver"), issuer=ca.subject)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([*names, *addresses]), critical=False
    )
    builder = builder.add_extension(issuer_key_id, critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _builder(
    key: ec.EllipticCurvePrivateKey, *, subject: x509.Name, issuer: x509.Name
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
        .add_extension(key_id, critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,  # kube-apiserver refuses PKCS 8
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path
