"""Several values in one text: what somebody else wrote there costs nothing and breaks nothing."""

import math

import pytest

from stream_ml.core.avro.texts import KEPT_CHARS, _words_of, joined, scores_of, scores_text, words_of


@pytest.mark.parametrize("words", [(), ("cold",), ("cold", "stale"), ("a" * 300,)])
def test_words_read_back(words: tuple[str, ...]) -> None:
    assert words_of(joined(words)) == words


def test_long_texts_are_not_remembered() -> None:
    _words_of.cache_clear()
    for number in range(1, 50):
        assert len(words_of("," * (KEPT_CHARS + number))) == KEPT_CHARS + number + 1
    assert _words_of.cache_info().currsize == 0


NO_NUMBERS = ['{"a": null}', '{"a": "1"}', '{"a": true}', '{"a": [0.5]}', '{"a": {"b": 1}}']
TOO_LARGE = ['{"a": 1' + "0" * 400 + "}", "[" * 100_000]


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", *NO_NUMBERS, *TOO_LARGE], ids=lambda text: text[:20])
def test_what_is_no_scores_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        scores_of(text)


def test_numbers_that_are_no_probabilities_are_read_and_judged_elsewhere() -> None:
    found = scores_of('{"a": NaN, "b": -Infinity, "c": 2, "c": 3}')
    assert math.isnan(found["a"]) and found["b"] == -math.inf and found["c"] == 3.0


def test_scores_keep_their_order_and_their_bits() -> None:
    scores = {"z": 0.1, "a": 5e-324, "ü": 1 / 3}
    assert list(scores_of(scores_text(scores)).items()) == list(scores.items())
