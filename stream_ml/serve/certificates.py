"""TLS of the API: the certificate is read again when its file changes, and connections that are open stay."""

import logging
import ssl
import time
from pathlib import Path

from stream_ml.config import Config
from stream_ml.errors import ConfigError

LOOK_S = 10.0

log = logging.getLogger(__name__)


class Certificates:
    """A context whose certificate follows its files.

    Attributes
    ----------
    problem
        Why a changed certificate is not used; empty where nothing is wrong.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.problem = ""
        try:
            self.context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"serve.tls_cert {cert} and serve.tls_key {key} cannot be used: {error}") from error
        self._stamp, self._looked_s = self._stamps(), time.monotonic()

    @classmethod
    def of(cls, config: Config) -> "Certificates | None":
        """Those of the configuration; None where the API speaks plain HTTP."""
        serve = config.serve
        if serve.tls_cert is None or serve.tls_key is None:
            return None
        return cls(config.path(serve.tls_cert), config.path(serve.tls_key))

    def look(self) -> None:
        """Read the files again where they have changed; what cannot be used leaves the old ones in place."""
        if time.monotonic() - self._looked_s < LOOK_S:
            return
        self._looked_s, stamp = time.monotonic(), self._stamps()
        if stamp == self._stamp:
            return
        try:
            self.context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            words = f"serve.tls_cert {self._cert} has changed and cannot be used, the old one stays: {error}"
            if words != self.problem:
                log.error("%s", words)
            self.problem = words
        else:
            self._stamp, self.problem = stamp, ""
            log.info("certificate %s is read again", self._cert)

    def _stamps(self) -> tuple[int, ...]:
        try:
            return tuple(file.stat().st_mtime_ns for file in (self._cert, self._key))
        except OSError:
            return ()
