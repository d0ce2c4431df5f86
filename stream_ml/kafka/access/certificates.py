"""Certificates that a client of Kafka is given as files: until when they are valid, whether they were replaced.

librdkafka reads them once, when a client is made (2.16; issue 2868 of librdkafka): what is put in their place is used
by new processes alone.
"""

import datetime
import logging
import re
import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from stream_ml.config import Config
from stream_ml.errors import ConfigError

FILES = tuple(f"{name}.location" for name in ("ssl.certificate", "ssl.key", "ssl.keystore", "ssl.ca", "https.ca"))
EXPIRING = ("ssl.certificate.location", "ssl.ca.location")
BYTES_MAX = 2**20
CONNECT_S = 3.0
LOOK_S = 5.0  # between two looks at the files
STILL_S = 10.0  # so long they stay as they are before they count as replaced: one after the other is
SOON_S = 14 * 86_400.0
log = logging.getLogger(__name__)

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Found(NamedTuple):
    """A certificate file, and when the first of its certificates expires."""

    setting: str
    path: Path
    expires_s: float

    @property
    def left_s(self) -> float:
        """Seconds until then; negative: since."""
        return self.expires_s - time.time()

    @property
    def words(self) -> str:
        """Which, and until when."""
        when = datetime.datetime.fromtimestamp(self.expires_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"{self.path} {'expired' if self.left_s < 0 else 'is valid until'} {when}"


def client_certificates(config: Config) -> list[Found]:
    """Those that name when they expire; a file that cannot be read is left out, for librdkafka says so."""
    found = []
    for setting, path in files_of(config).items():
        if setting in EXPIRING:
            ends = expiries(path)
            if ends:
                found.append(Found(setting, path, min(ends) if setting == EXPIRING[0] else max(ends)))
    return found


def files_of(config: Config) -> dict[str, Path]:
    """Files that the clients are given, by setting."""
    properties: Mapping[str, object] = config.client_properties()
    return {name: Path(str(properties[name])) for name in FILES if _is_path(properties.get(name))}


def expiring(found: list[Found], within_s: float = SOON_S) -> str:
    """In words, which of them expire soon or have expired; empty where none does."""
    return "; ".join(f"{one.words}: put another in its place" for one in found if one.left_s < within_s)


def check_files(settings: Mapping[str, object]) -> None:
    """ConfigError names the first file of a client's settings that is not there: librdkafka names none."""
    for name in FILES:
        path = settings.get(name)
        if _is_path(path) and not Path(str(path)).exists():
            raise ConfigError(f"kafka.properties: {name} is {path}, and there is no such file")


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value not in ("", "probe")


def expiries(path: Path) -> list[float]:
    """When each certificate of a PEM file expires, in seconds since 1970; empty where there is none."""
    text = (_bytes_of(path) or b"").decode("ascii", "replace")
    try:
        return [not_after(ssl.PEM_cert_to_DER_cert(one)) for one in _PEM.findall(text)]
    except (ValueError, IndexError):
        return []


def not_after(der: bytes) -> float:
    """The end of a certificate's validity. Source: RFC 5280, section 4.1, and DER's tags and lengths (X.690).

    Raises
    ------
    ValueError, IndexError
        These are no certificate.
    """
    certificate, _, _ = _next(der)
    rest, _, _ = _next(certificate)  # TBSCertificate
    fields = list[bytes]()
    while rest and len(fields) < 5:
        value, tag, rest = _next(rest)
        if tag != 0xA0:  # the version, which may be left out
            fields.append(value)
    validity = fields[3]  # serial number, algorithm, issuer, validity
    _, _, after = _next(validity)
    value, tag, _ = _next(after)
    text = value.decode("ascii")
    if tag == 0x17:  # UTCTime: years 1950 to 2049
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()


def _next(der: bytes) -> tuple[bytes, int, bytes]:
    """Value and tag of what stands first, and the rest."""
    tag, size, at = der[0], der[1], 2
    if size & 0x80:
        count = size & 0x7F
        size, at = int.from_bytes(der[2 : 2 + count]), 2 + count
    if at + size > len(der):
        raise ValueError("cut off")
    return der[at : at + size], tag, der[at + size :]


def broker_refused_because(config: Config) -> str:
    """What is wrong with a broker's certificate, which librdkafka says in one sentence for everything; empty: nothing.

    Asks the first broker of kafka.bootstrap_servers for its certificate, and nothing else.
    """
    properties = config.client_properties()
    host, _, port = config.kafka.bootstrap_servers.split(",")[0].strip().rpartition(":")
    ca = properties.get("ssl.ca.location")
    try:
        context = ssl.create_default_context(cafile=str(ca) if _is_path(ca) else None)
        context.check_hostname = properties.get("ssl.endpoint.identification.algorithm") != "none"
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S) as plain:
            plain.settimeout(CONNECT_S)
            context.wrap_socket(plain, server_hostname=host.strip("[]")).close()
    except ssl.SSLCertVerificationError as error:
        return f"its certificate cannot be verified: {error.verify_message}"
    except (OSError, ValueError):
        return ""
    return ""


class FileWatch:
    """Whether the files of a process's clients are others than when it began.

    A change counts once the files have been as they are for STILL_S, and certificate and key fit.

    Attributes
    ----------
    problem
        Why what was put in their place cannot be used, else which of those in use expire soon; empty where all is well.
    """

    def __init__(self, config: Config) -> None:
        self._files, self._changed = files_of(config), ""
        self._certificates = client_certificates(config)
        self._password = str(config.client_properties().get("ssl.key.password", ""))
        self._began = self._seen = self._contents()
        self._since_s = self._looked_s = time.monotonic()
        self.problem = expiring(self._certificates)

    def replaced(self) -> str:
        """Which files were replaced by what can be used; empty while none was. Looks every LOOK_S, until they were."""
        now_s = time.monotonic()
        if self._files and not self._changed and now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._look(now_s)
        return self._changed

    def _look(self, now_s: float) -> None:
        contents, wrong = self._contents(), ""
        if contents != self._seen:
            self._seen, self._since_s = contents, now_s
        if contents != self._began:
            if now_s - self._since_s < STILL_S:
                return
            changed = ", ".join(
                sorted(str(self._files[name]) for name in contents if contents[name] != self._began[name])
            )
            wrong = self._wrong(changed)
            if wrong and wrong != self.problem:
                log.error("%s", wrong)
            self._changed = "" if wrong else changed
        self.problem = wrong or expiring(self._certificates)

    def _contents(self) -> dict[str, bytes | None]:
        return {name: _bytes_of(path) for name, path in self._files.items()}

    def _wrong(self, changed: str) -> str:
        which = f"{changed} changed, and this process still uses what was there before"
        missing = [str(path) for name, path in self._files.items() if self._seen[name] is None]
        if missing:
            return f"{which}: {missing[0]} cannot be read"
        certificate, key = (self._files.get(f"ssl.{name}.location") for name in ("certificate", "key"))
        try:
            if certificate is not None and key is not None:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, self._password)
            if (ca := self._files.get("ssl.ca.location")) is not None and ca.is_file():
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca)
        except ssl.SSLError as error:
            return f"{which}: they cannot be used: {error.reason or error}"
        except OSError as error:
            return f"{which}: they cannot be used: {error}"
        ends = [] if certificate is None else expiries(certificate)
        return f"{which}: the new one has expired" if ends and min(ends) < time.time() else ""


def _bytes_of(path: Path) -> bytes | None:
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(BYTES_MAX)
    except OSError:
        return None
