"""Records as versions before the first release wrote them: formats1.json. They are refused in words, never misread."""

import json
from pathlib import Path
from typing import Any

import pytest

from stream_ml.core.drift.signals import decode_signal
from stream_ml.core.log.entry import LaterEntry, decode_entry
from stream_ml.core.log.heads import decode_pair, decode_pairs
from stream_ml.core.partition.commit_metadata import other_format, parse_feedback_mark, parse_metadata
from stream_ml.core.partition.outputs import decode_outcome
from stream_ml.core.partition.predictions import PredictionCodec, halted_at, prediction_origin, prediction_schema
from tests.core.fold.test_foreign_entries import XS, both_ways, examples, halted
from tests.core.partition.test_golden import EVENT

OLD: dict[str, str] = json.loads((Path(__file__).parent / "formats1.json").read_text("utf-8"))
ENTRIES = [name for name in OLD if name.startswith("log entry")]
PREDICTIONS = {name: name.partition(", ")[2] for name in OLD if name.startswith("prediction")}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("at", [0, 3, 100])
def test_learning_halts_at_an_entry_of_format_1_and_says_so(name: str, at: int) -> None:
    value = bytes.fromhex(OLD[name])
    with pytest.raises(ValueError, match="of format 1, and this version reads 2") as caught:
        decode_entry(value)
    assert not isinstance(caught.value, LaterEntry)
    values = examples(*XS)
    values.insert(at, value)
    replica = both_ways(*values)
    assert halted(replica) == (at, "not_an_entry")
    assert replica.halt is not None and "format 1" in replica.halt.message


def test_no_pair_is_read_from_an_entry_of_format_1() -> None:
    value = bytes.fromhex(OLD["log entry: example"])
    with pytest.raises(ValueError, match=r"format 1|not such a record"):
        decode_pair(value)
    assert decode_pairs([value] * 100) == [None] * 100


@pytest.mark.parametrize(("name", "framing"), PREDICTIONS.items())
def test_a_prediction_of_format_1_is_none_of_ours(name: str, framing: Any) -> None:
    value = bytes.fromhex(OLD[name])
    codec = PredictionCodec("shop-predictions", framing, 7, prediction_schema(EVENT, []))
    with pytest.raises(ValueError, match="a prediction of format 1, and this version reads 2"):
        codec.decode(value)
    assert codec.decode_many([value] * 100) == [None] * 100
    for read in (halted_at, prediction_origin):
        with pytest.raises(ValueError, match="format 1"):
            read(value, framing)


def test_outcomes_and_signals_of_format_1_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="an outcome of format 1, and this version reads 2"):
        decode_outcome(bytes.fromhex(OLD["outcome"]))
    with pytest.raises(ValueError, match="a signal of format 1, and this version reads 2"):
        decode_signal(bytes.fromhex(OLD["signal"]))


def test_a_state_of_version_1_is_known_as_one() -> None:
    text = OLD["commit metadata"]
    assert (parse_metadata(text), parse_feedback_mark(text), other_format(text)) == (None, None, 1)
