"""The epoch on a prediction, and on the example that is made of it, is the one in which it was scored."""

from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.entry import decode_entry
from stream_ml.records import LogRecord
from tests.core.fold.test_roles import GENESIS, declare, serve
from tests.support.partition import (
    ROOMY,
    T0,
    World,
    event_record,
    fold_settings,
    label_record,
    partition_settings,
    parts,
)


def epochs(made: World) -> list[int]:
    """Of all predictions, in order."""
    codec = parts().predictions
    return [codec.decode(record.value or b"").served.epoch for record in made.topics[codec.topic]]


def test_what_was_scored_before_a_serve_is_published_under_the_epoch_before_whenever_it_is_committed() -> None:
    events = [event_record(n, f"e{n}", T0 + n) for n in range(6)]
    made = World(ROOMY, partition_settings(), events, [label_record(0, "e0", T0 + 100)])
    made.replica = Replica(fold_settings())
    log = [GENESIS, declare(1), declare(2), serve(1, 0), serve(2, 4)]
    made.replica.fold([LogRecord(offset, value) for offset, value in enumerate(log[:4])])
    outputs = made.process(3, 0)
    made.replica.fold([LogRecord(4, log[4])])
    made.commit(outputs)
    made.turn(3, 1)
    assert epochs(made) == [4, 4, 4, 5, 5, 5]
    (example,) = [decode_entry(record.value or b"") for record in made.topics[made.settings.topics.training_log]][-1:]
    assert (example.event_id, example.served.epoch) == ("e0", 4)


def test_a_serve_that_is_read_while_the_book_is_halted_holds_for_what_is_scored_then() -> None:
    made = World(ROOMY, partition_settings(), [event_record(n, f"e{n}", T0 + n) for n in range(2)], [])
    made.replica = Replica(fold_settings())
    made.replica.fold([LogRecord(n, value) for n, value in enumerate([GENESIS, declare(1), b"nothing", serve(1, 0)])])
    assert made.replica.halt is not None
    made.turn(2, 0)
    assert epochs(made) == [4, 4]
