"""What the demo shows on a terminal: how far it is, and what the worker says of itself. Elsewhere nothing."""

import json
import threading
import urllib.request
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stream_ml.observe.problems import starting
from stream_ml.observe.status import AnyStatus
from stream_ml.observe.terminal import Shown

ASK_S = 1.0  # between two looks at the worker's status
TIMEOUT_S = 2.0


class Display:
    """A context in which the demo's progress is shown, if `console` is a terminal."""

    def __init__(self, port: int, total: int, console: Console) -> None:
        self._url = f"http://127.0.0.1:{port}/v1/status"
        self._status: AnyStatus = starting("flights", "demo", ["starting"])
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="status", daemon=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:>7,.0f} of {task.total:,.0f} records"),
            TimeElapsedColumn(),
        )
        self._bar = self._progress.add_task("scoring and learning", total=total)
        shown = Group(self._progress, Shown(lambda: self._status))
        self._live = Live(shown, console=console, refresh_per_second=4) if console.is_terminal else None

    def progress(self, done: int) -> None:
        """So many records are done."""
        self._progress.update(self._bar, completed=done)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._live is not None:
            self._live.start()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture standing."""
        self._over.set()
        if self._live is not None:
            self._live.stop()

    def _ask(self) -> None:
        while not self._over.wait(ASK_S):
            try:
                with urllib.request.urlopen(self._url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - our own worker
                    self._status = json.load(answer)
            except (OSError, ValueError):
                continue
