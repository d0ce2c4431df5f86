"""``python -m stream_ml`` is ``stream-ml``."""

from stream_ml.hash_seed import recall


def main() -> None:
    """The command line; imported only once this process has its hash seed, as far as that is known by now."""
    recall()
    from stream_ml.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
