"""Certificates of a test's own: an authority, and what it signs."""

import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Pair(NamedTuple):
    """Files of a certificate and of its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates, all of them files of a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._name, self._key = folder, name, ec.generate_private_key(ec.SECP256R1())
        self._subject = _subject(name)
        usage = x509.BasicConstraints(ca=True, path_length=0)
        self._certificate = self._signed(self._subject, self._key.public_key(), usage, 30)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, usage: x509.BasicConstraints, days: float
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def signs(self, name: str, *, days: float = 10, file: str = "") -> Pair:
        """A certificate of this common name; negative days: it has expired.

        Parameters
        ----------
        file
            Name of its files; empty: `name`.
        """
        key, file = ec.generate_private_key(ec.SECP256R1()), file or name
        usage = x509.BasicConstraints(ca=False, path_length=None)
        certificate = self._signed(_subject(name), key.public_key(), usage, days)
        found = Pair(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        found.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        found.key.write_bytes(key.private_bytes(*encoding))
        return found


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
