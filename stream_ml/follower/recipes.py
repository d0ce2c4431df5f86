"""What the models of one process are made from: the configuration, the model store, and declarations in the log."""

import base64
import hmac
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import zstandard

from stream_ml.app.overlay import environment_of, overlaid, overlay_of, sources_of, why_not_here
from stream_ml.app.parts import Parts
from stream_ml.config import Config
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.roles import Declared
from stream_ml.core.log.entry import decode_entry
from stream_ml.core.log.identity import LogIdentity
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.model.lineage import LINEAGE_DIGITS, canonical, core_of, differing, digest_of
from stream_ml.core.model.selection import Selection
from stream_ml.errors import ConfigError, StreamMLError
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import TopicFacts
from stream_ml.storage.files import read_key
from stream_ml.storage.model_store import ModelStore, ModelStoreError, StoredModel, is_source

SOURCES_BYTES_MAX = 512 * 1024  # packed, in one declaration
SOURCES_MAX = 1_000  # files in one declaration
NAME_CHARS = 50  # of a model's own name: ~2 and so on come behind it
SOURCE_BYTES_MAX = 4 * 2**20  # unpacked
_DOMAIN = b"stream_ml.declare.1\n"

log = logging.getLogger(__name__)


class Recipe(NamedTuple):
    """A specification that this process can build.

    Parameters
    ----------
    spec
        Everything that the lineage covers.
    settings
        Of the fold of its model.
    parts
        Of the app with this model.
    """

    lineage: str
    spec: dict[str, Any]
    settings: FoldSettings
    parts: Parts

    @property
    def checkpoint_types(self) -> list[str]:
        """Names that its checkpoints may hold beside River's and numpy's."""
        return self.parts.config.model.checkpoint_types

    @property
    def name(self) -> str:
        """What people call it, as far as the configuration knows."""
        model = self.parts.config.model
        return (model.name or model.factory.rpartition(":")[2].rpartition(".")[2])[:NAME_CHARS]


def own_recipe(parts: Parts, log: LogIdentity) -> Recipe:
    """That of a configuration."""
    spec = parts.spec(log.log_id)
    lineage = digest_of(spec)[:LINEAGE_DIGITS]
    return Recipe(lineage, spec, parts.fold_settings(lineage, parts.watch(log.log_id)), parts)


def selecting(recipe: Recipe, selection: Selection, log: LogIdentity) -> Recipe:
    """The same model with another selection of what it learns: another lineage."""
    found = own_recipe(recipe.parts._replace(selection=selection), log)
    settings = found.settings._replace(watch=recipe.settings.watch, concept=recipe.settings.concept)
    return found._replace(settings=settings)


def stored_of(recipe: Recipe) -> StoredModel:
    """What is kept of a recipe."""
    spec = recipe.spec
    return StoredModel(spec, overlay_of(recipe.parts), sources_of(recipe.parts, spec), environment_of())


class Recipes:
    """The recipes that this process has, each built once: by lineage.

    Attributes
    ----------
    own
        The configuration's.
    problem
        Why it cannot be kept in the model store; empty where it is.
    """

    def __init__(self, parts: Parts, facts: TopicFacts, seal: LogSeal | None = None) -> None:
        self._parts, self._log, self._seal = parts, facts.log, seal
        config = parts.config
        self.store = ModelStore(config.path(config.models.directory))
        self.own = own_recipe(parts, facts.log)
        self.problem = ""
        self._known: dict[str, Recipe] = {self.own.lineage: self.own}

    def keep_own(self) -> None:
        """Keep the configuration's in the model store, so that it can be built when the configuration is another."""
        self.problem = self.store.keep(self.own.lineage, stored_of(self.own))

    def of(self, lineage: str, declared: Declared | None) -> Recipe | str:
        """The recipe of a lineage; in words why there is none here.

        Parameters
        ----------
        declared
            What the log says of it; None: nothing.
        """
        known = self._known.get(lineage)
        if known is not None:
            return known
        if declared is None:
            return "the log does not declare it"
        try:
            found = self._built(declared)
        except StreamMLError as error:
            return error.message
        except Exception as error:  # of a factory, or of a specification that somebody made up
            return f"{type(error).__name__}: {str(error)[:300]}"
        self._known[lineage] = found
        return found

    def _built(self, declared: Declared) -> Recipe:
        """Build it out of the store, into which it is brought from the log where that may be.

        Raises
        ------
        ModelStoreError, ConfigError
            It cannot be had here, or comes out as another one.
        """
        stored = self._stored(declared)
        other = why_not_here(stored.spec)
        if other:
            raise ConfigError(other)
        recipe = self._of_stored(declared.lineage, stored)
        if recipe.lineage != declared.lineage or canonical(recipe.spec) != canonical(stored.spec):
            names = ", ".join(differing(recipe.spec, stored.spec))
            raise ConfigError(f"it comes out as another model: {names} differ")
        return recipe

    def respecified(self, declared: Declared) -> tuple[Recipe, list[str]]:
        """The same factory, parameters, features, source and selection under the versions of this process.

        For a model that cannot be built any more: another lineage, and the keys in which its specification differs.

        Raises
        ------
        ModelStoreError, ConfigError
            It cannot be had here at all.
        """
        stored = self._stored(declared)
        recipe = self._of_stored(declared.lineage, stored)
        self._known[recipe.lineage] = recipe
        return recipe, differing(recipe.spec, stored.spec)

    def _stored(self, declared: Declared) -> StoredModel:
        """What is kept of a model, in the store or brought there; ModelStoreError where it is not to be had."""
        if not self.store.folder(declared.lineage).is_dir() and not self._derive(declared):
            self._bring(declared)
        stored = self.store.read(declared.lineage)
        stored.check(declared.digest)
        return stored

    def _of_stored(self, lineage: str, stored: StoredModel) -> Recipe:
        """The recipe that is made of it here; ConfigError where none is."""
        folder = self.store.folder(lineage) / "sources"
        recipe = own_recipe(overlaid(self._parts, stored.spec, stored.overlay, stored.sources, folder), self._log)
        # All models of a process follow one book, which knows the schemas.
        settings = recipe.settings._replace(watch=self.own.settings.watch, concept=self.own.settings.concept)
        return recipe._replace(settings=settings)

    def _derive(self, declared: Declared) -> bool:
        """Put a model into the store that is one of this process but for what it learns; whether there is such one.

        That needs no seal: nothing of what is run comes out of the log.
        """
        spec = declaration_at(self._parts.config, declared.last, self._seal).get("spec")
        if not isinstance(spec, dict):
            return False
        stored = self._neighbour(spec)
        if stored is None:
            return False
        overlay = {name: value for name, value in stored.overlay.items() if name != "learn"}
        learn = spec.get("learn")
        try:
            is_one = canonical(Selection.of(learn).plain()) == canonical(learn)
        except ValueError:
            is_one = False
        if not is_one:  # nothing that somebody made up is kept
            return False
        if learn is not None:
            overlay["learn"] = learn
        found = StoredModel(spec, overlay, stored.sources, stored.environment)
        found.check(declared.digest)
        return not self.store.keep(declared.lineage, found)

    def _neighbour(self, spec: Mapping[str, Any]) -> StoredModel | None:
        """A model that differs from a specification in what it learns alone: of this process, or the store."""
        core = canonical(core_of(spec))
        for recipe in self._known.values():
            if canonical(core_of(recipe.spec)) == core:
                return stored_of(recipe)
        for lineage in self.store.lineages():
            try:
                stored = self.store.read(lineage)
                if canonical(core_of(stored.spec)) == core:
                    stored.check(digest_of(stored.spec))
                    return stored
            except ModelStoreError:  # a damaged one is of no use here, and is told where it is asked for
                continue
        return None

    def _bring(self, declared: Declared) -> None:
        """Put a model out of the log into the store, where its seal is right."""
        config = self._parts.config
        said = declaration_at(config, declared.last, self._seal)
        check_mac(config, said)  # also where it has no source: its factory may be any function that is installed
        parts = [said["spec"], said.get("overlay"), said.get("environment")]
        if not all(isinstance(part, dict) for part in parts):
            raise ModelStoreError("its declaration is none: specification, overlay and environment are JSON objects")
        stored = StoredModel(parts[0], parts[1], unpacked(said), parts[2])
        stored.check(declared.digest)
        problem = self.store.keep(declared.lineage, stored)
        if problem:
            raise ModelStoreError(problem)
        log.info(
            "model %s (%s) was brought from the log into %s", declared.name, declared.lineage, self.store.directory
        )

    def fresh(self, recipe: Recipe) -> FoldSettings:
        """Its settings with payloads of their own: a book that is elsewhere knows other schemas."""
        return recipe.settings._replace(payloads=self._parts.new_payloads())


# --- built, or not ---


def built(recipes: Recipes, of: Declared) -> Recipe:
    """The recipe of a model that the log declares; ConfigError says why there is none here, and what then."""
    found = recipes.of(of.lineage, of)
    if isinstance(found, str):
        raise ConfigError(
            f"{of.name} ({of.lineage}) cannot be built here: {found}",
            "go back to the environment that made it (stream-ml models show CONFIG NAME), take a model that stands by "
            "(stream-ml models ls CONFIG), or the same under today's versions, which is another model: "
            f"stream-ml rollback CONFIG --to {of.name} --respec",
        )
    return found


# --- declarations ---


def declaration(
    recipe: Recipe, config: Config, *, name: str, standby: bool = True, auto: bool = False
) -> dict[str, Any]:
    """Arguments of a command that declares a model, with its source, sealed where there is a key."""
    stored = stored_of(recipe)
    packed = {path: packed_text(text) for path, text in stored.sources.items()}
    key = models_key(config)
    if key is None or sum(map(len, packed.values())) > SOURCES_BYTES_MAX:
        packed = {}  # without a seal nobody may run it
    return {
        "lineage": recipe.lineage,
        "name": name,
        "spec": recipe.spec,
        "overlay": stored.overlay,
        "sources": packed,
        "mac": None if key is None else mac_of(key, recipe.spec, stored.overlay),
        "environment": stored.environment,
        "standby": standby,
        "auto": auto,
        "evidence": None,
        "by": config.instance,
        "why": "",
    }


def declaration_at(config: Config, position: int, seal: LogSeal | None) -> dict[str, Any]:
    """The arguments of the declaration that stands there; ModelStoreError where it is gone."""
    topic = config.training_log_topic
    for batch in read_range(config, topic, 0, position, position + 1, keep_alive=lambda: None):
        for record in batch:
            entry = decode_entry(log_value(record, seal))
            if entry.command == "declare":
                return entry.parsed_arguments()
    raise ModelStoreError(f"its declaration is no longer in {topic} at {position}")


def packed_text(text: bytes) -> str:
    """A source as a declaration holds it."""
    return base64.b64encode(zstandard.ZstdCompressor(level=9).compress(text)).decode()


def unpacked(said: Mapping[str, Any]) -> dict[str, bytes]:
    """The source in a declaration, by path; ModelStoreError where it is none."""
    found: dict[str, bytes] = {}
    sources = {} if said.get("sources") is None else said["sources"]
    if not isinstance(sources, dict) or len(sources) > SOURCES_MAX:
        raise ModelStoreError(f"the sources in its declaration are none, or more than {SOURCES_MAX:,}")
    for path, text in sources.items():
        try:
            if not is_source(path):
                raise ValueError("leads elsewhere")
            packed = base64.b64decode(text, validate=True)
            size = zstandard.frame_content_size(packed)
            if not 0 <= size <= SOURCE_BYTES_MAX:
                raise ValueError(f"it has no size, or more than {SOURCE_BYTES_MAX:,} bytes")
            with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
                found[path] = reader.read(SOURCE_BYTES_MAX + 1)
            if len(found[path]) != size:
                raise ValueError(f"it has {len(found[path]):,} bytes and says {size:,}")
        except (ValueError, TypeError, zstandard.ZstdError) as error:
            raise ModelStoreError(f"the source {str(path)[:100]!r} in its declaration is none: {error}") from error
    return found


def models_key(config: Config) -> bytes | None:
    """The key that seals source in the log; None where none is named."""
    file = config.models.key_file
    return None if file is None else read_key(config.path(file), "models.key_file")


def mac_of(key: bytes, spec: Mapping[str, Any], overlay: Mapping[str, Any]) -> str:
    """What seals a declaration, source included: its digests stand in the specification. HMAC-SHA256, RFC 2104."""
    said = f"{canonical(spec)}\n{canonical(overlay)}".encode()
    return hmac.new(key, _DOMAIN + said, "sha256").hexdigest()


def check_mac(config: Config, said: Mapping[str, Any]) -> None:
    """See that who declared a model has our key.

    Raises
    ------
    ModelStoreError
        There is no key here, or the seal is of another one: nothing of it is run.
    """
    key = models_key(config)
    if key is None:
        raise ModelStoreError("it is in the log alone, and without models.key_file no model out of it is built")
    right = mac_of(key, said["spec"], said.get("overlay", {}))
    if not hmac.compare_digest(str(said.get("mac")).encode("utf-8", "replace"), right.encode()):
        raise ModelStoreError("in the log it is not sealed with the key of models.key_file: it is not built")
