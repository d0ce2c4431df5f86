"""Times in cron's words, and what a schedule keeps of what it has done."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stream_ml.errors import ConfigError
from stream_ml.offline.batch.schedule import SETTLED_S, Kept, Schedule, Stamp

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "zone", "expected"),
    [
        ("0 3 * * *", "UTC", "2026-12-01T03:00:00+00:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-12-01T02:00:00+00:00"),
        ("*/15 * * * *", "UTC", "2026-11-30T12:15:00+00:00"),
        ("30 0 3 * * *", "UTC", "2026-12-01T03:00:30+00:00"),
        ("0 0 29 2 *", "UTC", "2028-02-29T00:00:00+00:00"),
    ],
)
def test_the_next_time_is_cron_s(words: str, zone: str, expected: str) -> None:
    assert Schedule(words, zone).after(NOON).isoformat() == expected


def test_the_hour_that_a_summer_repeats_comes_once() -> None:
    schedule, times = Schedule("30 2 * * *", "Europe/Berlin"), []
    moment = datetime(2026, 10, 23, tzinfo=UTC)
    for _ in range(4):
        moment = schedule.after(moment)
        times.append(moment.isoformat())
    assert len({time[:10] for time in times}) == 4, times


@pytest.mark.parametrize("seconds", [-1, 0, 0.5, 1, 59, 3600])
def test_the_last_time_is_at_most_now_and_the_next_is_after_it(seconds: float) -> None:
    schedule, now = Schedule("0 12 * * *"), NOON + timedelta(seconds=seconds)
    last = schedule.last(now)
    assert last <= now < schedule.after(now)
    assert last == (NOON if seconds >= 0 else NOON - timedelta(days=1))


@pytest.mark.parametrize("words", ["", "tomorrow", "0 25 * * *", "* * *", "0 0 30 2 *", "a b c d e", "0 3 * * * * *"])
def test_words_that_are_no_times_are_refused(words: str) -> None:
    with pytest.raises(ConfigError, match="no words of cron"):
        Schedule(words)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "/etc/localtime"])
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(ConfigError, match="no time zone"):
        Schedule("0 3 * * *", zone)


def old(path: Path, text: str = "x") -> Path:
    path.write_text(text)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def test_files_are_new_until_they_were_taken_and_again_once_they_have_changed(tmp_path: Path) -> None:
    kept, now_s = Kept(tmp_path / "s.json", NOON), 1_800_000_000.0
    one, other = old(tmp_path / "a.csv"), old(tmp_path / "b.csv")
    assert kept.new([other, one, one], now_s) == [one, other]
    kept.took(one, Stamp.of(one))
    kept.took(other, Stamp.of(other), "it breaks off")
    assert kept.new([one, other], now_s) == []
    kept.save()
    kept.close()
    again = Kept(tmp_path / "s.json", NOON + timedelta(days=1))
    assert again.last == NOON and again.new([one, other], now_s) == []
    assert again.refusals() == {str(other): "it breaks off"}
    old(other, "longer")
    assert again.new([one, other], now_s) == [other]


def test_a_file_that_is_being_written_waits_for_the_next_time(tmp_path: Path) -> None:
    kept, path = Kept(tmp_path / "s.json", NOON), old(tmp_path / "a.csv")
    written_s = path.stat().st_mtime
    assert kept.new([path], written_s + SETTLED_S / 2) == []
    assert kept.new([path], written_s + 2 * SETTLED_S) == [path]


def test_what_is_kept_is_one_process_s_and_is_refused_where_it_is_none(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "s.json", NOON)
    with pytest.raises(ConfigError, match="another process does"):
        Kept(tmp_path / "s.json", NOON)
    kept.offsets, kept.running = {0: 5}, {"key": "k", "ranges": {}, "stop": {}}
    kept.note({"rows": 1})
    kept.save()
    kept.close()
    again = Kept(tmp_path / "s.json", NOON)
    assert again.offsets == {0: 5} and again.running == {"key": "k", "ranges": {}, "stop": {}}
    again.close()
    for text in ("", "{}", "[]", '{"format": 9, "last": 1}', '{"format": 1, "last": "soon"}'):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(ConfigError, match=r"cannot be read|of format 9"):
            Kept(tmp_path / "s.json", NOON)


def test_the_next_time_is_never_before_the_moment_that_is_asked_for() -> None:
    """In the hour that a change of the clock repeats."""
    schedule, moment = Schedule("30 1 * * *", "America/New_York"), datetime(2026, 11, 1, 6, 22, tzinfo=UTC)
    assert schedule.after(moment) > moment
