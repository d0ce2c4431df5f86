"""Who answers now, as answers say it: the model, its version, and the door that reads instances for it."""

from stream_ml.app.parts import Parts
from stream_ml.core.api.answers import Of
from stream_ml.core.api.door import Door
from stream_ml.core.api.scoring import Moment
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.follower.follower import Follower


class Moments:
    """Looks at a follower; one thread only.

    Attributes
    ----------
    now
        Who answers until the next `renew`; None before the first.
    """

    def __init__(self, parts: Parts, follower: Follower, instances_max: int) -> None:
        self._parts, self._follower, self._max = parts, follower, instances_max
        self._doors: dict[int, Door] = {}
        self.now: Moment | None = None

    @property
    def is_behind(self) -> bool:
        """Whether who answers is still on its way to the log's end."""
        chase = self._follower.lineup.chasing.get(self._follower.serving.model.settings.lineage)
        return chase is not None and chase.model is self._follower.serving.model

    def renew(self) -> None:
        """Look at who answers."""
        serving = self._follower.serving
        model, before = serving.model, self.now
        chase = self._follower.lineup.chasing.get(model.settings.lineage)
        book = chase.replica.book if chase is not None and chase.model is model else serving.book
        flags = serving.flags(stale=False)
        if not model.is_healthy:
            flags += ("unsound",)
        learned = model.examples_learned
        of = Of(
            lineage=model.settings.lineage,
            position=model.position,
            epoch=serving.epoch,
            examples_learned=learned,
            learned_at_ms=book.written_at_ms,
            flags=flags,
            cold=learned < self._parts.config.quality.cold_below,
            frozen=model.frozen or serving.book.facts.frozen,
        )
        if before is None or before.of != of or before.model is not model:
            self.now = Moment.made(model, of, self._door_of(model))

    def _door_of(self, model: LineageModel) -> Door:
        plan = model.settings.plan
        if id(plan) not in self._doors:
            self._doors[id(plan)] = Door(self._parts.reader.under(plan), self._parts.config.events, self._max)
        return self._doors[id(plan)]
