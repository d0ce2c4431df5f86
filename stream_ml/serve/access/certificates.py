"""TLS of the API: certificates are read again when their files change, and connections that are open stay."""

import logging
import ssl
import time
from pathlib import Path
from typing import Any

from stream_ml.config import Config
from stream_ml.errors import ConfigError

LOOK_S = 10.0

log = logging.getLogger(__name__)


class Certificates:
    """A context whose certificate follows its files.

    An authority of clients that is taken out of its file is believed until the next rolling restart: a context can
    only be given more of them.

    Attributes
    ----------
    problem
        Why a changed certificate is not used; empty where nothing is wrong.
    """

    def __init__(self, cert: Path, key: Path, authorities: Path | None = None) -> None:
        self._cert, self._key, self._authorities = cert, key, authorities
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        if authorities is not None:
            self.context.verify_mode = ssl.CERT_OPTIONAL  # who has none may have another credential
        self.problem = ""
        try:
            self._load()
        except (OSError, ssl.SSLError) as error:
            more = "" if authorities is None else f", or serve.auth.mtls.ca_file {authorities},"
            raise ConfigError(f"serve.tls_cert {cert} and serve.tls_key {key}{more} cannot be used: {error}") from error
        self._stamp, self._looked_s = self._stamps(), time.monotonic()

    @classmethod
    def of(cls, config: Config) -> "Certificates | None":
        """Those of the configuration; None where the API speaks plain HTTP."""
        serve = config.serve
        if serve.tls_cert is None or serve.tls_key is None:
            return None
        mtls = serve.auth.mtls
        authorities = None if mtls is None else config.path(mtls.ca_file)
        return cls(config.path(serve.tls_cert), config.path(serve.tls_key), authorities)

    def look(self) -> None:
        """Read the files again where they have changed; what cannot be used leaves the old ones in place."""
        if time.monotonic() - self._looked_s < LOOK_S:
            return
        self._looked_s, stamp = time.monotonic(), self._stamps()
        if stamp == self._stamp:
            return
        try:
            self._load()
        except (OSError, ssl.SSLError) as error:
            words = f"serve.tls_cert {self._cert} has changed and cannot be used, the old one stays: {error}"
            if words != self.problem:
                log.error("%s", words)
            self.problem = words
        else:
            self._stamp, self.problem = stamp, ""
            log.info("certificate %s is read again", self._cert)

    def _load(self) -> None:
        """OSError or SSLError where they cannot be used; a context that they are tried with loses its key."""
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trial.load_cert_chain(self._cert, self._key)
        if self._authorities is not None:
            trial.load_verify_locations(self._authorities)
        self.context.load_cert_chain(self._cert, self._key)
        if self._authorities is not None:
            self.context.load_verify_locations(self._authorities)

    def of_grpc(self) -> Any:
        """The same for gRPC, which asks for it at each handshake; with authorities every client has to have a
        certificate there, for gRPC knows no other way."""
        import grpc

        first = self._of_grpc()
        latest = [self._stamps()]

        def changed() -> Any:
            stamp = self._stamps()
            if stamp == latest[0]:
                return None
            try:
                found = self._of_grpc()
            except (OSError, ssl.SSLError):
                return None  # `look` says so
            latest[0] = stamp
            return found

        needs = self._authorities is not None
        return grpc.dynamic_ssl_server_credentials(first, changed, require_client_authentication=needs)

    def _of_grpc(self) -> Any:
        import grpc

        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._cert, self._key)  # the two belong together
        pair = (self._key.read_bytes(), self._cert.read_bytes())
        roots = None if self._authorities is None else self._authorities.read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)

    def _stamps(self) -> tuple[int, ...]:
        files = [self._cert, self._key, *([self._authorities] if self._authorities is not None else [])]
        try:
            return tuple(file.stat().st_mtime_ns for file in files)
        except OSError:
            return ()
