"""Python's garbage collector, kept off what stays."""

import gc

OF_A_SERVICE = 50_000  # objects between two collections of the young ones
OF_A_REPLAY = 200_000


def calm_collector(young: int = OF_A_SERVICE, *, forked: bool = False) -> None:
    """Keep the garbage collector off what stays: nothing on the path of a record makes cycles.

    With Python's thresholds a turn costs 10 % more, and a full collection walks every pending event; a replay, which
    holds some ten thousand rows as tuples, spends a third of its time there (measured).

    Parameters
    ----------
    young
        So many objects are made between two collections of the young ones.
    forked
        Whether this process is a copy of another: what that one has left is never collected here, because threads that
        native objects wait for when they go are not there (it crashed).
    """
    if not forked:
        gc.collect()
    gc.freeze()
    gc.set_threshold(young, 20, 100)
