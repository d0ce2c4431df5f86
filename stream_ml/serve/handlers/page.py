"""The page at /docs: the API's document, readable, with a form that asks; nothing of it comes from elsewhere."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from stream_ml.serve.http.messages import Answer, Request


@cache
def _document() -> tuple[bytes, bytes]:
    """The page, and the policy that lets a browser run nothing but its own script."""
    text = files("stream_ml.serve.handlers").joinpath("docs.html").read_text("utf-8")
    hashes = {
        kind: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()}'"
            for inner in re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        )
        for kind in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy.encode()


async def page(request: Request) -> Answer:
    """The page."""
    body, policy = _document()
    return Answer(200, body, [(b"content-security-policy", policy)], b"text/html; charset=utf-8")
