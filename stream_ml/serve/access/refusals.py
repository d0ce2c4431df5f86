"""Refusals in the log: a line for each kind in a minute, with one example and how many there were."""

import logging
import re
import time
from collections.abc import Mapping

from stream_ml.core.api.problems import Problem

EVERY_S = 60.0
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

log = logging.getLogger(__name__)


class Refusals:
    """By kind and route, when one was logged last, and how many were not since. Never a body, never a credential."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}

    def note(self, problem: Problem, route: str, request_id: str) -> None:
        """Log it, or count it."""
        now_s, key = time.monotonic(), (problem.kind, route)
        logged_s, unsaid = self._kinds.get(key, (-EVERY_S, 0))
        if now_s - logged_s < EVERY_S:
            self._kinds[key] = (logged_s, unsaid + 1)
            return
        self._kinds[key] = (now_s, 0)
        before = f"; {unsaid} more since the last one" if unsaid else ""
        level = logging.ERROR if problem.status == 500 else logging.WARNING
        code = f" ({problem.faults[0].code})" if problem.faults else ""
        code += f": {str(problem.__cause__)[:300]}" if problem.status == 500 and problem.__cause__ is not None else ""
        log.log(
            level,
            "%s: %d %s%s, as in request %s%s",
            *(route, problem.status, problem.kind, code, request_id, before),
        )


def known_id(headers: Mapping[bytes, bytes]) -> str:
    """The id that a caller gave its request; empty where it gave none that can be shown."""
    given = headers.get(b"x-request-id")
    if given is None:
        return ""
    text = given.decode("latin-1")
    return text if _ID.fullmatch(text) else ""
