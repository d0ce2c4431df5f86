"""Bytewax, at least once: both topics merged, a batch at a time, with recovery switched on (a snapshot every 10 s).

The join and the model stand in memory beside the dataflow, as with the other peers: keyed state would cost more. The
source reads batches of 1,000 and the sink flushes after each, which are the connector's own ways.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.peers.join import Arguments, Join, arguments


def flow_of(told: Arguments, join: Join) -> Dataflow:
    """Source of both topics, what the join says to a batch, sink."""

    def predictions(records: list[KafkaSourceMessage]) -> Iterator[KafkaSinkMessage]:
        for record in records:
            if record.topic == told.events:
                yield KafkaSinkMessage(record.key, join.event(record.value))
            else:
                join.label(record.value)

    flow = Dataflow("bench")
    source = op.input("read", flow, KafkaSource([told.servers], [told.events, told.labels]))
    op.output("write", op.flat_map_batch("score", source, predictions), KafkaSink([told.servers], told.predictions))
    return flow


def main() -> None:
    told = arguments()
    join = Join(told.labels_expected)

    def end(*_: object) -> None:
        join.report()
        os._exit(0)  # the dataflow has no end of its own

    signal.signal(signal.SIGTERM, end)
    folder = Path(tempfile.mkdtemp(dir="."))
    init_db_dir(folder, 1)
    cli_main(flow_of(told, join), recovery_config=RecoveryConfig(str(folder)))


if __name__ == "__main__":
    main()
