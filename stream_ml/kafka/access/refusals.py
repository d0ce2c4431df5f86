"""Why brokers take no connection, as the clients heard it: a request alone only says that it got no answer.

What librdkafka says of a refused login, of an issuer of tokens and of a certificate comes up in its callbacks, as
texts. The last of them is kept for a while, and told in words with whom to look at.
"""

import re
import time
from typing import Literal, NamedTuple

from confluent_kafka import KafkaError

from stream_ml.config import Config
from stream_ml.kafka.access.certificates import broker_refused_because, client_certificates

RECENT_S = 30.0  # so long a refusal explains why Kafka does not answer
Who = Literal["issuer", "issuer refuses", "login", "own certificate", "broker certificate"]

_LOGIN = {KafkaError._AUTHENTICATION, KafkaError._SSL}  # noqa: SLF001 - confluent-kafka's public constants
_ALERT = re.compile(
    r"alert (?:certificate|bad certificate|unknown ca|handshake failure|access denied)|alert number (?:4\d|116)"
)
_URL = re.compile(r"https?://\S+")
_TOKEN = re.compile(r"acquire SASL OAUTHBEARER token|OIDC")
_REFUSED_BY_ISSUER = re.compile(
    r"invalid_|unauthorized|HTTP (?:response )?(?:code )?4(?!08|29)\d\d|\b40[013]\b|is mandatory", re.I
)


class Refusal(NamedTuple):
    """Who refuses, and what was said."""

    who: Who
    said: str
    at_s: float

    @property
    def is_recent(self) -> bool:
        """Whether it still explains something."""
        return time.monotonic() - self.at_s < RECENT_S

    @property
    def passes(self) -> bool:
        """Whether it may end by itself, with nothing changed here."""
        return self.who == "issuer"


class Refusals:
    """The last one of this process."""

    def __init__(self) -> None:
        self._last: Refusal | None = None

    def note(self, error: KafkaError) -> None:
        """Take what a client's callback says."""
        text = error.str()
        who, known = _who(error.code(), text), self.recent
        if who is None or (who == "login" and known is not None and known.who.startswith("issuer")):
            return  # who has no token is refused for it, in words that name none
        self._last = Refusal(who, text, time.monotonic())

    @property
    def recent(self) -> Refusal | None:
        """The last one, if it still explains something."""
        return self._last if self._last is not None and self._last.is_recent else None


refusals = Refusals()


def issuer_of(config: Config) -> str:
    """Where tokens come from, as it may be shown; empty where none do."""
    return shown(str(config.client_properties().get("sasl.oauthbearer.token.endpoint.url", "")))


def shown(url: str) -> str:
    """A URL without what may be a credential: user, password, query."""
    scheme, slashes, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _who(code: int, text: str) -> Who | None:
    if _TOKEN.search(text):
        return "issuer refuses" if _REFUSED_BY_ISSUER.search(_URL.sub("", text)) else "issuer"
    if _ALERT.search(text):  # librdkafka calls it a lost connection
        return "own certificate"
    if code == KafkaError._SSL:  # noqa: SLF001
        return "broker certificate" if "certificate could not be verified" in text or "verify" in text else "login"
    return "login" if code in _LOGIN else None


def words_of(refusal: Refusal, config: Config, *, asks: bool = True) -> tuple[str, str]:
    """A refusal as a sentence, and where to look.

    Parameters
    ----------
    asks
        Whether a broker may be asked for its certificate, which takes up to CONNECT_S.
    """
    where, said = config.kafka.bootstrap_servers, _URL.sub(lambda found: shown(found[0]), refusal.said)
    url = issuer_of(config) or "of its token endpoint"
    if refusal.who == "issuer":
        trust = "https.ca.location names the authorities that the issuer's certificate is checked with"
        hint = f"does the issuer run, and is it reached from here? {trust}"
        return f"there is no token for Kafka at {where}: the issuer at {url} does not answer: {said}", hint
    if refusal.who == "issuer refuses":
        hint = "look at sasl.oauthbearer.client.id, client.secret and scope in kafka.properties"
        return f"there is no token for Kafka at {where}: the issuer at {url} refuses: {said}", hint
    if refusal.who == "own certificate":
        own = client_certificates(config)
        which = "; ".join(one.words for one in own) or "none is named (ssl.certificate.location)"
        hint = "a broker believes only what an authority in its truststore has signed, and what has not expired"
        return f"Kafka at {where} refuses the certificate of this client: {which} ({said})", hint
    if refusal.who == "broker certificate":
        why = broker_refused_because(config) if asks else ""
        hint = "look at ssl.ca.location and kafka.bootstrap_servers, and at the broker's certificate"
        return f"Kafka at {where} cannot be believed: {why or said}", hint
    hint = "look at security.protocol, sasl.* and ssl.* in kafka.properties: stream-ml config show --origin"
    return f"Kafka at {where} refuses the connection: {said}", hint
