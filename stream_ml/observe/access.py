"""Who may ask the port: by the name that a request calls this machine, and by a token where there is one.

A page of somebody else's in a browser on this machine can send requests here under a name of its own whose address it
has changed (DNS rebinding); so a name has to be known. An address cannot be changed in this way, and is taken.
"""

import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

COOKIE = "stream_ml_token"
PROBES = ("/livez", "/readyz")  # an orchestrator has no token, and learns a word or a reason
HEADERS = [  # the OWASP Secure Headers Project's, as far as they mean something without TLS
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("X-Permitted-Cross-Domain-Policies", "none"),
    ("Cache-Control", "no-store"),
]
_KEPT = re.compile(rf'(?:^|;)[ \t]*{COOKIE}="?([A-Za-z0-9._~+/=-]+)"?[ \t]*(?:;|$)')  # of cookies of others too
Refusal = tuple[str, str]


class Access:
    """Judges requests.

    Parameters
    ----------
    hosts
        Names under which this machine may be asked, beside localhost and every address.
    token
        What a request has to bring as ``Authorization: Bearer`` or as a cookie; empty: nothing.
    """

    def __init__(self, hosts: Iterable[str] = (), token: bytes = b"") -> None:
        self._hosts = {"localhost", *(name.lower().rstrip(".") for name in hosts)}
        self._token = token

    def refusal(self, environ: Mapping[str, Any]) -> Refusal | None:
        """Status and words of a request that is not answered; None where it is."""
        named = str(environ.get("HTTP_HOST", ""))
        if named and not self._is_known(named):
            shown = re.sub(r"[^\w.:\[\]-]", "?", named)[:100]
            return "421 Misdirected Request", f"{shown} is no name of this worker: set http.hosts to allow it\n"
        if self._token and environ.get("PATH_INFO") not in PROBES and not self._has_token(environ):
            return "401 Unauthorized", "a token is needed: Authorization: Bearer, or /?token= in a browser\n"
        return None

    def cookie(self, environ: Mapping[str, Any]) -> str | None:
        """What a browser that brings the right token in the page's address is to keep; None for every other request."""
        if not self._token or environ.get("PATH_INFO") != "/":
            return None
        asked = re.fullmatch(r"token=([A-Za-z0-9._~+/=%-]{1,12288})", str(environ.get("QUERY_STRING", "")))
        given = unquote(asked[1]) if asked else ""
        if not self._is_right(given):
            return None
        return f"{COOKIE}={given}; Path=/; HttpOnly; SameSite=Strict"

    def _is_known(self, named: str) -> bool:
        host = re.sub(r":\d*$", "", named.strip().lower()).rstrip(".")
        if host in self._hosts:
            return True
        try:
            ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True

    def _has_token(self, environ: Mapping[str, Any]) -> bool:
        kind, _, given = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
        if kind.lower() == "bearer" and self._is_right(given.strip()):
            return True
        kept = _KEPT.search(str(environ.get("HTTP_COOKIE", "")))
        return kept is not None and self._is_right(kept[1])

    def _is_right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)
