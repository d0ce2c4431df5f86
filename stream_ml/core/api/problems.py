"""What can be wrong with a request, and how it is said (RFC 9457): one table, which the documents are made from.

400: not readable. 422: readable, and not of the schema. 412: not here yet. 500: ours, or the model's. 503: not now.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stream_ml.core.avro.from_json import SchemaMismatch

TYPE = "urn:stream-ml:problem:"
MEDIA_TYPE = "application/problem+json"
FAULTS_MAX = 100  # that one answer lists
DETAIL_CHARS = 300  # of one fault
MEMBER_CHARS = 200  # of a name that is anybody's


class Kind(NamedTuple):
    """A kind of problem.

    Parameters
    ----------
    again
        Whether the same request may succeed later.
    """

    status: int
    title: str
    again: bool = False


KINDS: Mapping[str, Kind] = {
    "not-json": Kind(400, "The body is no JSON that can be read"),
    "not-readable": Kind(400, "The request cannot be read"),
    "unauthenticated": Kind(401, "A credential is needed"),
    "forbidden": Kind(403, "The credential does not allow this"),
    "not-found": Kind(404, "There is nothing at this path"),
    "method-not-allowed": Kind(405, "This path does not take this method"),
    "not-acceptable": Kind(406, "Only JSON is answered"),
    "too-slow": Kind(408, "The request took too long to come", again=True),
    "in-progress": Kind(409, "The first request with this Idempotency-Key is still answered", again=True),
    "behind": Kind(412, "This replica has not come so far yet", again=True),
    "older": Kind(412, "The model is older than was asked for", again=True),
    "lineage": Kind(412, "Another model answers here", again=True),
    "too-large": Kind(413, "The request is too large"),
    "unsupported-media-type": Kind(415, "The body is not of a type that is read"),
    "not-of-schema": Kind(422, "An instance cannot be used"),
    "key-reused": Kind(422, "The Idempotency-Key came with another body before"),
    "rate-limited": Kind(429, "Too many requests", again=True),
    "headers-too-large": Kind(431, "The headers are too large"),
    "model-refused": Kind(500, "The model raised for a usable event"),
    "bug": Kind(500, "Something unforeseen went wrong"),
    "not-explainable": Kind(501, "This model cannot be explained"),
    "no-answer": Kind(503, "The model has no answer yet", again=True),
    "starting": Kind(503, "The model is not ready yet", again=True),
    "overloaded": Kind(503, "Too many requests at once", again=True),
    "stale": Kind(503, "The model is older than the operator allows", again=True),
    "not-recorded": Kind(503, "Kafka did not take the record", again=True),
    "no-keys": Kind(503, "The issuer's keys cannot be had", again=True),
    "not-looked-up": Kind(503, "Kafka does not answer", again=True),
    "draining": Kind(503, "This process is about to end", again=True),
}


class Fault(NamedTuple):
    """What is wrong with one instance.

    Parameters
    ----------
    pointer
        JSON pointer into the body (RFC 6901).
    code
        A dead letter's reason.
    """

    pointer: str
    code: str
    detail: str


class Problem(Exception):
    """A request that is not answered with what it asked for. Whoever sent it, or operates this, mends it.

    Parameters
    ----------
    kind
        Of KINDS.
    detail
        What happened, and what to do.
    faults
        By instance; at most FAULTS_MAX are told.
    headers
        Of the answer.
    more
        Other members of the answer.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.faults = kind, detail, faults
        self.headers, self.more = dict(headers or {}), more

    @property
    def status(self) -> int:
        """Of HTTP."""
        return KINDS[self.kind].status

    def document(self, request_id: str, *, verbose: bool = True) -> dict[str, Any]:
        """The answer's body.

        Parameters
        ----------
        verbose
            Whether values of the request may be repeated.
        """
        found = {
            "type": TYPE + self.kind,
            "title": KINDS[self.kind].title,
            "status": self.status,
            "detail": _sendable(self.detail) if verbose or not self.faults else "see errors",
            "instance": request_id,
            **self.more,
        }
        if self.faults:
            told = self.faults[:FAULTS_MAX]
            found["errors"] = [
                {
                    "pointer": _sendable(f.pointer),
                    "code": f.code,
                    **({"detail": _sendable(f.detail[:DETAIL_CHARS])} if verbose else {}),
                }
                for f in told
            ]
        return found


def _sendable(text: str) -> str:
    """A text without halves of characters, which JSON in UTF-8 cannot say; names of fields are anybody's."""
    return text.encode("utf-8", "replace").decode()


def step_of(name: str) -> str:
    """One step of a JSON pointer (RFC 6901), to the member of this name."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def pointer_to(error: SchemaMismatch, before: str) -> str:
    """The JSON pointer to what is wrong."""
    return pointer_of(error.path, before) + (step_of(error.member[:MEMBER_CHARS]) if error.member else "")


def pointer_of(path: str, before: str = "") -> str:
    """The JSON pointer of a path as `SchemaMismatch` has it; of something in a map the map's: keys are anybody's."""
    found = before
    for part in path.split(".") if path else ():
        name, *rest = part.split("[")
        found += f"/{name}"
        for index in rest:
            if not index.endswith("]") or not index[:-1].isdecimal():
                return found
            found += f"/{index[:-1]}"
    return found
