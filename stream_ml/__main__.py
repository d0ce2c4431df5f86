"""``python -m stream_ml`` is ``stream-ml``."""

import contextlib
import faulthandler
import os
import signal

from stream_ml.runtime.deferred_imports import defer_imports_of_core
from stream_ml.runtime.hash_seed import recall


def main() -> None:
    """The command line; imported only once this process has its hash seed, as far as that is known by now."""
    if os.getpid() == 1:  # in a container, where Linux drops a SIGTERM for which nobody has said what to do
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # no stderr, or none that is a file
        faulthandler.enable()  # a crash inside of a library says in which call
    recall()
    defer_imports_of_core()
    from stream_ml.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
