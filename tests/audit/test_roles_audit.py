"""The rule `role`: each prediction is by whom its epoch names, or says that it is not."""

import pytest

from stream_ml.audit.roles import RolesAudit
from stream_ml.core.log.entry import decode_entry
from stream_ml.records import Served
from tests.core.fold.test_roles import LOG_ID, declare, lineage, serve

LOG = [declare(1), declare(2), serve(1, 0), serve(2, 3)]


def audited(*said: tuple[int, int, str]) -> list[str]:
    """What is found of predictions, each by the model of a number, in an epoch, with flags."""
    of = RolesAudit(LOG_ID)
    for offset, (number, epoch, flags) in enumerate(said):
        served = Served("true", 0.9, None, None, lineage(number), 0, tuple(filter(None, flags.split(","))))
        of.prediction(("scores", 0, offset), served._replace(epoch=epoch))
    for offset, value in enumerate(LOG):
        of.command(offset, decode_entry(value))
    of.finish()
    return [finding.message for finding in of.found.kept]


def test_predictions_by_whom_their_epoch_names_are_right() -> None:
    assert audited((1, 0, ""), (2, 0, "stale"), (1, 3, ""), (1, 3, "cold"), (2, 4, ""), (1, 4, "superseded")) == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ((2, 3, ""), "are by"),
        ((1, 4, "stale,cold"), "and do not say so"),
        ((2, 4, "superseded"), "say that they are superseded"),
        ((1, 7, ""), "name epoch 7, which the log does not give"),
        ((2, 2, "superseded"), "name epoch 2"),
    ],
)
def test_a_prediction_by_another_one_or_of_an_epoch_that_is_none_is_found(
    said: tuple[int, int, str], words: str
) -> None:
    (found,) = audited((1, 3, ""), said, (2, 4, ""))
    assert words in found


def test_of_many_alike_the_first_is_named_with_how_many_there_are() -> None:
    (found,) = audited(*[(2, 3, "")] * 5)
    assert found.startswith("5 predictions, this one the first,")


def test_a_refused_serve_changes_no_epoch() -> None:
    LOG.append(serve(1, 0))
    try:
        assert audited((2, 4, ""), (1, 5, "superseded")) != [] and audited((2, 4, "")) == []
    finally:
        LOG.pop()
