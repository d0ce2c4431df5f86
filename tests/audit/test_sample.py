"""A sample is spread evenly, has the wanted size, and holds its events."""

from hypothesis import given
from hypothesis import strategies as st

from stream_ml.audit.sample import Sample
from stream_ml.core.partition.predictions import Published
from stream_ml.records import NOT_SERVED, Record


@given(st.integers(1, 30), st.integers(0, 2_000))
def test_a_sample_has_the_wanted_size_and_reaches_from_the_first_to_near_the_last(size: int, offered: int) -> None:
    sample = Sample(size)
    for offset in range(offered):
        sample.offer(Published("t", 0, offset, "", 0, NOT_SERVED._replace(position=offset)))
    for offset in range(offered):
        sample.keep(Record("t", 0, offset, 0, None, b""))
    found = [said.offset for said, record in sample.pairs() if record.offset == said.offset]
    assert len(found) == min(size, offered)
    assert found == sorted(found)
    if found:
        assert found[0] == 0
        assert offered - found[-1] <= 4 * offered / size + 1
