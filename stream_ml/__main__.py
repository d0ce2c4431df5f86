"""``python -m stream_ml`` is ``stream-ml``."""

import contextlib
import faulthandler

from stream_ml.hash_seed import recall


def main() -> None:
    """The command line; imported only once this process has its hash seed, as far as that is known by now."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # no stderr, or none that is a file
        faulthandler.enable()  # a crash inside of a library says in which call
    recall()
    from stream_ml.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
