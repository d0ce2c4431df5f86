"""uvicorn as a child runs it: our protocol class, nothing that it would add by itself."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from stream_ml.config import Config
from stream_ml.serve.access.certificates import Certificates
from stream_ml.serve.http.app import Application
from stream_ml.serve.http.protocol import DeadlineProtocol, Limits


class Server(uvicorn.Server):
    """uvicorn's, whose signals are ours.

    Attributes
    ----------
    limits
        Of its connections.
    """

    def __init__(
        self,
        config: Config,
        application: Application,
        certificates: Certificates | None,
        refused: Callable[[int, str], None],
        *,
        end_s: float,
    ) -> None:
        settings = config.serve
        self.limits = Limits(settings.read_timeout / 1000, settings.connections_max, refused)
        protocol: Any = type("Protocol", (DeadlineProtocol,), {"limits": self.limits})
        made = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            log_level="critical",
            server_header=False,
            proxy_headers=False,  # nothing here looks at a client's address but for wrong credentials
            timeout_keep_alive=settings.idle_timeout // 1000,
            timeout_graceful_shutdown=int(end_s),
        )
        made.load()
        if certificates is not None:
            made.ssl = certificates.context
        super().__init__(made)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: the child has handlers of its own."""
        yield
