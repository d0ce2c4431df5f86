"""The live page: one self-contained document, made of the files in this folder.

uPlot 1.6.32 (MIT, 50 kB, vendor/) draws the charts. Nothing is loaded from elsewhere, and the policy that is sent along
lets a browser run these scripts alone.
"""

import base64
import functools
import hashlib
from importlib.resources import files


@functools.cache
def document() -> tuple[bytes, str]:
    """The page, and its Content-Security-Policy."""
    folder = files(__name__)

    def text(name: str) -> str:
        return folder.joinpath(name).read_text("utf-8")

    script = text("vendor/uPlot.iife.min.js") + "\n" + text("page.js")
    style = text("vendor/uPlot.min.css") + "\n" + text("page.css")
    page = text("index.html").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.encode(), policy


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
