"""The identity of a log, and what hangs on it."""

import json
from typing import Any

import pytest

from stream_ml.core.log.entry import KINDS, Entry, _encode, decode_entry, encode_genesis, encode_start
from stream_ml.core.log.identity import NO_LOG, LogIdentity, without_secrets
from tests.core.fold.test_foreign_entries import XS, both_ways, examples, halted
from tests.support.partition import NOW_MS

ONE, OTHER = LogIdentity("1" * 32, "a" * 32), LogIdentity("2" * 32, "b" * 32)


def genesis(identity: LogIdentity) -> bytes:
    """The first entry of this log."""
    return encode_genesis(*identity, "shop", written_at_ms=NOW_MS, writer="shop-w1")


def said(**arguments: Any) -> bytes:
    """An entry of kind genesis that says this."""
    kind = KINDS.index("genesis")
    return _encode(kind=kind, arguments=json.dumps(arguments), written_at=NOW_MS, writer="w")


def test_an_identity_reads_back() -> None:
    assert LogIdentity.of(decode_entry(genesis(ONE))) == ONE


def test_the_hash_seed_is_one_that_python_takes_and_hangs_on_the_secret_alone() -> None:
    assert 1 <= ONE.hash_seed < 2**32
    assert ONE.hash_seed == ONE._replace(log_id="9" * 32).hash_seed
    assert len({ONE.hash_seed, OTHER.hash_seed, NO_LOG.hash_seed}) == 3


def test_the_secret_is_not_shown() -> None:
    shown = without_secrets(decode_entry(genesis(ONE)).arguments)
    assert ONE.hash_key not in shown and ONE.log_id in shown


@pytest.mark.parametrize(
    "arguments", ["", "5", '"hash_key"', '["hash_key"]', "{", "[" * 100_000, '{"hash_key": 1e400}']
)
def test_a_genesis_that_is_none_shows_nothing_of_what_it_holds(arguments: str) -> None:
    assert "hash_key" not in without_secrets(arguments)


WRONG: list[dict[str, Any]] = [
    {},
    {"log_id": "1" * 32},
    {"log_id": "1" * 31, "hash_key": "a" * 32},
    {"log_id": "1" * 32, "hash_key": "A" * 32},
    {"log_id": 1, "hash_key": None},
    {"log_id": ["1" * 32], "hash_key": "a" * 32},
]


@pytest.mark.parametrize("arguments", WRONG, ids=str)
def test_what_names_no_log_halts(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="names no log"):
        LogIdentity.of(decode_entry(said(**arguments)))
    assert halted(both_ways(*examples(*XS[:5]), said(**arguments))) == (5, "not_an_entry")


def test_an_entry_of_another_kind_is_no_identity() -> None:
    entry: Entry = decode_entry(encode_start(0, 0, 0, written_at_ms=NOW_MS, writer="w"))
    with pytest.raises(ValueError, match="names no log"):
        LogIdentity.of(entry)


def test_of_several_that_started_at_once_the_first_one_holds() -> None:
    replica = both_ways(genesis(ONE), genesis(OTHER), *examples(*XS))
    assert (replica.halt, replica.book.facts.log_id, replica.book.facts.genesis_again) == (None, ONE.log_id, 0)
    assert replica.only.examples_learned == len(XS)


def test_one_that_comes_later_is_passed_over_and_counted() -> None:
    start = encode_start(0, 0, 0, written_at_ms=NOW_MS, writer="w")
    replica = both_ways(genesis(ONE), start, *examples(*XS[:70]), genesis(OTHER), *examples(*XS[70:], first=70))
    assert (replica.halt, replica.book.facts.log_id, replica.book.facts.genesis_again) == (None, ONE.log_id, 1)
