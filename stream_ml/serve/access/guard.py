"""Who asks: by an API key, a token of an issuer, or a client's certificate; any that is configured admits."""

import ssl
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

from stream_ml.config import Config
from stream_ml.config.serve import SCOPES, ScopeName
from stream_ml.core.api.problems import Problem
from stream_ml.serve.access.keys import Keys
from stream_ml.serve.access.limits import Failures

KEY_BEGINS = "smk_"

Scope = Literal["", "schema", ScopeName]
"""What a request needs; empty: nothing; schema: nothing where serve.public_schema is."""


class Principal(NamedTuple):
    """Who asks.

    Parameters
    ----------
    rate
        Requests a second; None: as serve.rate says.
    id
        What its requests are counted by; empty: its address.
    """

    name: str
    scopes: Collection[str]
    rate: float | None = None
    id: str = ""


ANYBODY = Principal("", frozenset(SCOPES))

Certificate = Mapping[str, Any]
"""Of a client, as `ssl.SSLSocket.getpeercert` gives it: its authority has signed it, and it is of now."""


class Guard:
    """Admits requests. Without any credential configured everybody is admitted, who can reach the port.

    Parameters
    ----------
    failed
        Told of each request without a right credential.
    """

    def __init__(self, config: Config, failed: Callable[[], None] = lambda: None) -> None:
        auth = config.serve.auth
        self._failed, self._mtls = failed, auth.mtls
        self.keys = None if auth.keys_file is None else Keys(config.path(auth.keys_file))
        self.tokens = None
        if auth.jwt is not None:
            from stream_ml.serve.access.tokens import Tokens

            self.tokens = Tokens(auth.jwt)
        self.failures = Failures()
        self._how = " or ".join(
            words
            for words, wanted in (
                ("Authorization: Bearer KEY, or X-API-Key", self.keys),
                ("Authorization: Bearer TOKEN of the issuer", self.tokens),
                ("a client certificate", self._mtls),
            )
            if wanted is not None
        )

    @property
    def is_open(self) -> bool:
        """Whether no credential is needed."""
        return self.keys is None and self.tokens is None and self._mtls is None

    @property
    def problem(self) -> str:
        """Why the keys of before are used; empty where nothing is wrong."""
        told = (self.keys, self.tokens)
        return "; ".join(one.problem for one in told if one is not None and one.problem)

    async def admit(
        self, headers: Mapping[bytes, bytes], address: str, scope: str, certificate: Certificate | None = None
    ) -> Principal:
        """Who asks.

        Raises
        ------
        Problem
            unauthenticated; or forbidden where the scope is not among the credential's.
        """
        if self.is_open:
            return ANYBODY
        given = _credential(headers)
        found = None
        if given and (self.tokens is None or given.startswith(KEY_BEGINS)):
            found = self._of_key(given)
        elif given and self.tokens is not None:
            found = await self.tokens.principal(given)
        if found is None and certificate and not given:
            found = self._of_certificate(certificate)
        if found is None:
            self._failed()
            if given:
                self.failures.note(address)
            how = ', error="invalid_token"' if given else ""
            raise Problem(
                "unauthenticated",
                "the credential is unknown, wrong or expired" if given else f"send {self._how}",
                headers={"WWW-Authenticate": f'Bearer realm="stream-ml"{how}'},
            )
        if scope not in found.scopes:
            raise Problem("forbidden", f"{found.name} may not do this: it lacks the scope {scope}", scope=scope)
        return found

    def _of_key(self, given: str) -> Principal | None:
        key = self.keys.right(given) if self.keys is not None else None
        return None if key is None else Principal(key.name, key.scopes, key.rate, key.id)

    def _of_certificate(self, certificate: Certificate) -> Principal | None:
        """Who a client's certificate names, by its common name."""
        if self._mtls is None:
            return None
        names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
        name = str(names[0]) if len(names) == 1 else ""
        until = certificate.get("notAfter")  # the connection may be older
        if until is not None and ssl.cert_time_to_seconds(until) <= time.time():
            return None
        if not name or (self._mtls.names and name not in self._mtls.names):
            return None
        return Principal(name[:64], frozenset(self._mtls.scopes), None, f"certificate:{name}")


def _credential(headers: Mapping[bytes, bytes]) -> str:
    """What a request brings; empty: nothing."""
    kind, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "bearer" and given.strip():
        return given.strip()
    return headers.get(b"x-api-key", b"").decode("latin-1").strip()
