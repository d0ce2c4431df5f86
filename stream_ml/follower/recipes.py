"""What a model of one lineage is made from."""

from typing import Any, NamedTuple

from stream_ml.app.parts import Parts
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.log.identity import LogIdentity
from stream_ml.core.model.lineage import LINEAGE_DIGITS, digest_of
from stream_ml.kafka.topics import TopicFacts


class Recipe(NamedTuple):
    """A specification that this process can build.

    Parameters
    ----------
    spec
        Everything that the lineage covers.
    settings
        Of the fold of its model.
    checkpoint_types
        Names that its checkpoints may hold beside River's and numpy's.
    """

    lineage: str
    spec: dict[str, Any]
    settings: FoldSettings
    checkpoint_types: list[str]


def own_recipe(parts: Parts, log: LogIdentity) -> Recipe:
    """That of the configuration."""
    spec = parts.spec(log.log_id)
    lineage = digest_of(spec)[:LINEAGE_DIGITS]
    settings = parts.fold_settings(lineage, parts.watch(log.log_id))
    return Recipe(lineage, spec, settings, parts.config.model.checkpoint_types)


class Recipes:
    """The recipes that this process has: the configuration's own, and those of its model store."""

    def __init__(self, parts: Parts, facts: TopicFacts) -> None:
        self._parts = parts
        self.own = own_recipe(parts, facts.log)
        self._known: dict[str, Recipe] = {self.own.lineage: self.own}

    def of(self, lineage: str) -> Recipe | str:
        """The recipe of a lineage; in words why there is none here."""
        return self._known.get(lineage) or "it is in no model store of this process"

    def fresh(self, recipe: Recipe) -> FoldSettings:
        """Its settings with payloads of their own: a book that is elsewhere knows other schemas."""
        return recipe.settings._replace(payloads=self._parts.new_payloads())
