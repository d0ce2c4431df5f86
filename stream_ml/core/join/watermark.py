"""The time of a partition, W, out of how far each of its inputs has come; and what it implies for the join."""

from typing import NamedTuple

from stream_ml.records import Clock

AHEAD_SLACK_MS = 600_000  # ten minutes: a record dated later moves W only so far beyond this host's clock
AHEAD_SHARE = 10  # and never by more than this part of a ttl: with 5 minutes one false time would expire all others
SETTLE_MS = 500  # of the host: so long after it was fetched an input's time moves another one that is at its end


class JoinSettings(NamedTuple):
    """Times in ms; caps per partition."""

    ttl_ms: int
    early_ttl_ms: int
    events_max: int
    early_labels_max: int
    bytes_max: int

    @property
    def ahead_ms(self) -> int:
        """How far beyond this host's clock a record may move W."""
        least = min(self.ttl_ms, self.early_ttl_ms or self.ttl_ms)
        return min(AHEAD_SLACK_MS, least // AHEAD_SHARE)


class Times(NamedTuple):
    """The partition's time, and what it implies; all in ms, all monotone."""

    watermark_ms: int
    events_expired_ms: int
    labels_expired_ms: int

    def at(self, watermark_ms: int, settings: JoinSettings) -> "Times":
        """These times moved on to a later W; an earlier one changes nothing."""
        w = max(self.watermark_ms, watermark_ms)
        return Times(
            w,
            max(self.events_expired_ms, w - settings.ttl_ms),
            max(self.labels_expired_ms, w - settings.early_ttl_ms),
        )


NEVER_MS = 2**62  # later than any time; its negative is earlier
BEGINNING = Times(-NEVER_MS, -NEVER_MS, -NEVER_MS)


class InputTimes(NamedTuple):
    """How far each input has come: the largest time consumed, and whether it is at its end.

    An input at its end takes the other's time, but only what that was SETTLE_MS ago: of a backlog that comes into both
    topics at once, one is fetched a little earlier, and would expire what the other is about to bring.
    """

    events_ms: int
    feedback_ms: int
    events_at_end: bool
    feedback_at_end: bool
    both_since_ms: int | None = None  # monotonic: since when both have been at their end, and no time has grown
    settled_ms: int = -NEVER_MS  # the larger time, as it was SETTLE_MS ago or earlier
    latest_then_ms: int = -NEVER_MS  # the larger time at `then_ms` of the monotonic clock; settles next
    then_ms: int | None = None

    def advance(
        self,
        events_ms: int,
        feedback_ms: int,
        ends: tuple[bool, bool],
        clock: Clock,
        ahead_ms: int = AHEAD_SLACK_MS,
    ) -> "InputTimes":
        """After a batch whose largest times were these (BEGINNING's value where it had none)."""
        cap = clock.now_ms + ahead_ms
        events_ms = max(self.events_ms, min(events_ms, cap))
        feedback_ms = max(self.feedback_ms, min(feedback_ms, cap))
        grown = max(events_ms, feedback_ms) > max(self.events_ms, self.feedback_ms)
        since = clock.monotonic_ms if grown or self.both_since_ms is None else self.both_since_ms
        both_since_ms = since if all(ends) else None
        moved = self._replace(
            events_ms=events_ms,
            feedback_ms=feedback_ms,
            events_at_end=ends[0],
            feedback_at_end=ends[1],
            both_since_ms=both_since_ms,
        )
        if self.then_ms is not None and clock.monotonic_ms - self.then_ms < SETTLE_MS:
            return moved
        latest_ms = max(events_ms, feedback_ms)
        return moved._replace(settled_ms=self.latest_then_ms, latest_then_ms=latest_ms, then_ms=clock.monotonic_ms)

    def watermark_ms(self, clock: Clock) -> int:
        """The smaller input's time; an input at its end takes the other's; both at their end: host time goes on."""
        if self.both_since_ms is not None:
            return max(self.events_ms, self.feedback_ms) + (clock.monotonic_ms - self.both_since_ms)
        return min(
            max(self.events_ms, self.settled_ms) if self.events_at_end else self.events_ms,
            max(self.feedback_ms, self.settled_ms) if self.feedback_at_end else self.feedback_ms,
        )
