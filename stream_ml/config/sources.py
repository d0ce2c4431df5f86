"""Where values come from: flags, environment, secret files, the YAML file. Each knows the origin of every value."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic_settings import EnvSettingsSource, SettingsError

from stream_ml.config.tree import Config
from stream_ml.errors import ConfigError, Problems

PREFIX = "STREAM_ML_"
SECRETS = PREFIX + "SECRETS"  # names a directory: each file in it holds the value of the key that it is named after
FILE = PREFIX + "CONFIG"  # names the configuration file of every verb that is given none
RESERVED = {SECRETS, FILE, PREFIX + "FAIL_POINTS"}
SECRET_BYTES_MAX = 65_536
FILE_BYTES_MAX = 300_000
_NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError)  # what its constructors raise
NODES_MAX = 100_000  # values of a file, those that aliases repeat counted each time

UNDERSCORED = {"log_level"}  # librdkafka's only key with an underscore that a file can set
CLIENT_MAPS = (("kafka", "properties"), ("kafka", "consumer"), ("kafka", "producer"))
# What Kubernetes sets in every pod of the namespace for a Service called stream-ml or stream-ml-anything: an address
# under names that end like this. A number under ..._PORT is a key of ours that lacks an underscore, so it is reported.
_OF_KUBERNETES = re.compile(
    r"STREAM_ML_(\w+?_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

Keys = tuple[str, ...]

# librdkafka's own list of what it never logs (_RK_SENSITIVE in rdkafka_conf.c), as a pattern that covers later ones.
SECRET = re.compile(r"password|secret|passphrase|token|\.pem$|sasl\.username|oauthbearer\.config|credential", re.I)
FREE = (*CLIENT_MAPS, ("model", "params"), ("drift", "concept", "params"))


def may_be_secret(keys: Keys) -> bool:
    """Whether a value under these keys may be a secret: by its name, or where the names are somebody else's."""
    return keys[:2] in FREE or keys[:3] in FREE or bool(SECRET.search(".".join(keys)))


class Given(NamedTuple):
    """What one source gives: a nested mapping, and where each of its values stands."""

    values: dict[str, Any]
    origins: dict[Keys, str]

    def origin(self, keys: Keys) -> str | None:
        """Where a value, or else what it is a part of, stands."""
        for end in range(len(keys), 0, -1):
            if keys[:end] in self.origins:
                return self.origins[keys[:end]]
        return None

    def holds(self, keys: Keys) -> bool:
        """Whether it gives this value, or parts of it."""
        values: Any = self.values
        for name in keys:
            if not isinstance(values, dict) or name not in values:
                return False
            values = values[name]
        return True


def _given(values: dict[str, Any], origins: dict[Keys, str]) -> Given:
    """With librdkafka's keys in its own spelling: an environment variable cannot hold the dot of sasl.password."""
    for section, name in CLIENT_MAPS:
        part = values.get(section)
        found = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(found, dict):
            values = {**values, section: {**part, name: {_client_key(key): value for key, value in found.items()}}}
    return Given(values, {_client_keys(keys): where for keys, where in origins.items()})


def _client_key(key: Any) -> str:
    return str(key) if key in UNDERSCORED else str(key).replace("_", ".")


def _client_keys(keys: Keys) -> Keys:
    return (*keys[:2], *map(_client_key, keys[2:])) if keys[:2] in CLIENT_MAPS else keys


def from_flags(flags: list[str]) -> Given:
    """``--set kafka.bootstrap_servers=localhost:9092``; values as in YAML."""
    values: dict[str, Any] = {}
    origins: dict[Keys, str] = {}
    for number, flag in enumerate(flags, 1):
        dotted, equals, text = flag.partition("=")
        if not equals or not dotted:  # what it holds may be a secret
            raise ConfigError(f"--set number {number} is not KEY=VALUE", "for example --set http.port=8081")
        keys = _keys_of(dotted)
        _put(values, keys, _value(text, f"--set {dotted}"))
        origins[keys] = f"--set {dotted}"
    return _given(values, origins)


def from_environment() -> Given:
    """``STREAM_ML_KAFKA__BOOTSTRAP_SERVERS``; of lists and mappings also as JSON."""
    try:
        values = EnvSettingsSource(Config)()
    except (SettingsError, RecursionError) as error:
        words = "it nests too deep" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"an environment variable STREAM_ML_... cannot be read: {words}") from None
    origins = {}
    for name in filter(_is_ours, os.environ):
        keys = tuple(name[len(PREFIX) :].lower().split("__"))
        origins[keys] = name
        if keys[0] not in Config.model_fields:
            _put(values, keys, os.environ[name])
    return _given(values, origins)


def _is_ours(variable: str) -> bool:
    name = variable.upper()
    return name.startswith(PREFIX) and name not in RESERVED and not _is_of_kubernetes(name, os.environ[variable])


def _is_of_kubernetes(name: str, value: str) -> bool:
    found = _OF_KUBERNETES.fullmatch(name)
    if found is None:
        return False
    return found[2] != "PORT" or "://" in value  # stream-ml-http has STREAM_ML_HTTP_PORT=tcp://..., people write 8080


def from_secrets(folder: Path | None) -> Given:
    """Files named after keys (``kafka.properties.sasl.password``), as Kubernetes mounts a secret."""
    values: dict[str, Any] = {}
    origins: dict[Keys, str] = {}
    if folder is None:
        return _given(values, origins)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no directory of secrets", f"it is named by --secrets or {SECRETS}")
    for file in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        if file.stat().st_size > SECRET_BYTES_MAX:
            raise ConfigError(f"{file} has more than {SECRET_BYTES_MAX} bytes: no secret has as many")
        keys = _keys_of(file.name)
        try:
            _put(values, keys, file.read_text("utf-8").rstrip("\r\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"secret {file} cannot be read: {type(error).__name__}") from None
        origins[keys] = str(file)
    return _given(values, origins)


def from_yaml(file: Path) -> Given:
    """The configuration file, with the line of each key.

    Raises
    ------
    ConfigError
        It does not exist, is no YAML, no mapping, or a key in it stands twice.
    """
    if file.is_dir():
        raise ConfigError(f"{file} is a folder", f"name the file in it: {file / 'stream_ml.yaml'}")
    if not file.is_file():
        raise ConfigError(f"{file} does not exist", "name the configuration file: stream-ml run FILE")
    origins: dict[Keys, str] = {}
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"{file} has more than {FILE_BYTES_MAX:,} bytes: no configuration has as many")
        text = file.read_text("utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_aliases(node, str(file))
        _refuse_surprises(node, lambda line: f"{file}:{line}")
        for keys, line in _lines(node, ()):
            if keys in origins:
                raise ConfigError(f"{file}:{line}: {'.'.join(keys)} stands a second time (first at {origins[keys]})")
            origins[keys] = f"{file}:{line}"
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        place = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = re.sub("'[^']*'|\"[^\"]*\"", "...", str(error.problem))  # what it quotes may be a secret
        raise ConfigError(f"{file}{place}: cannot be read as YAML: {problem}") from None
    except RecursionError:
        raise ConfigError(f"{file} cannot be read as YAML: it nests too deep") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except _NO_YAML as error:
        raise ConfigError(f"{file} cannot be read as YAML: {_kind_of(error)}") from None
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"{file} cannot be read as YAML with keys: it holds {type(values).__name__}")
    return _given(_text_keys(values or {}), origins)


_PLAIN = {  # by YAML 1.1's type: how a value of it looks to everybody
    "tag:yaml.org,2002:bool": re.compile("true|false", re.IGNORECASE),
    "tag:yaml.org,2002:int": re.compile("[-+]?(0|[1-9][0-9]*)"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.IGNORECASE
    ),
    "tag:yaml.org,2002:timestamp": re.compile("(?!)"),
}
_SEEN_AS = {"bool": "a boolean", "int": "an integer", "float": "a number", "timestamp": "a date"}


def _refuse_aliases(node: yaml.Node | None, where: str) -> None:
    """Refuse a document whose aliases lead back to what holds them, or which they make too large.

    Raises
    ------
    ConfigError
        In one line, whatever it is.
    """
    sizes: dict[int, int] = {}
    above: set[int] = set()

    def size_of(node: yaml.Node) -> int:
        if id(node) in above:
            raise ConfigError(f"{where}: an alias stands for what it stands in", "write it out")
        if id(node) not in sizes:
            above.add(id(node))
            items = node.value if isinstance(node, yaml.CollectionNode) else []
            parts = [part for item in items for part in (item if isinstance(item, tuple) else (item,))]
            sizes[id(node)] = 1 + sum(map(size_of, parts))
            above.discard(id(node))
        return sizes[id(node)]

    if node is not None and size_of(node) > NODES_MAX:
        raise ConfigError(f"{where}: its aliases make {NODES_MAX:,} values and more", "write less of them")


def _kind_of(error: Exception) -> str:
    """What is wrong without what it is wrong with."""
    kinds = {UnicodeError: "it is no UTF-8", yaml.reader.ReaderError: "it holds a character that YAML does not allow"}
    return next((words for kind, words in kinds.items() if isinstance(error, kind)), "a value is not what its tag says")


def _refuse_surprises(node: yaml.Node | None, place: Callable[[int], str], *, shown: bool = True) -> None:
    """Refuse what YAML 1.1 takes for another thing than its writer: no is false, 012 is ten, 12:30 is 750.

    Raises
    ------
    ConfigError
        Such a value, or such a key; every one is named. Quoted, or written plainly, it is taken.
    """
    problems = Problems()
    for keys, scalar in _scalars(node, (), set()):
        plain = _PLAIN.get(scalar.tag)
        if scalar.style is None and plain is not None and not plain.fullmatch(scalar.value):
            kind = scalar.tag.rpartition(":")[2]
            what, meant, quoted = "its value", "", ""
            if shown and not may_be_secret(keys):
                what, meant, quoted = scalar.value, f" ({_read(scalar)!s})", f": '{scalar.value}'"
            problems.add(
                f"{place(scalar.start_mark.line + 1)}: {what} is {_SEEN_AS[kind]} to YAML{meant}; "
                f"quote it{quoted}" + (", or write true or false" if kind == "bool" else ""),
            )
    if problems.found:
        raise problems.error()


def _read(scalar: yaml.ScalarNode) -> Any:
    try:
        return yaml.safe_load(scalar.value)
    except _NO_YAML:
        return "?"


def _scalars(node: yaml.Node | None, above: Keys, seen: set[int]) -> Iterator[tuple[Keys, yaml.ScalarNode]]:
    """Every scalar, keys too, with the keys above it; what an alias names again is looked at once."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        yield above, node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item, above, seen)
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _scalars(name, above, seen)
            yield from _scalars(value, (*above, str(name.value)), seen)


def _lines(node: yaml.Node | None, above: Keys) -> Iterator[tuple[Keys, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for name, value in node.value:
        keys = (*above, str(name.value))
        yield keys, name.start_mark.line + 1
        yield from _lines(value, keys)


def _text_keys(values: dict[Any, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in values.items()}


def _keys_of(dotted: str) -> Keys:
    """Keys of a dotted name. What comes after kafka.properties (consumer, producer) is one key of librdkafka's."""
    keys = tuple(dotted.split("."))
    if keys[:2] in CLIENT_MAPS and len(keys) > 2:
        return (*keys[:2], ".".join(keys[2:]))
    return keys


def _value(text: str, where: str) -> Any:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_aliases(node, where)
        _refuse_surprises(node, lambda line: where, shown=False)
        return yaml.safe_load(text)
    except ConfigError:
        raise
    except (RecursionError, *_NO_YAML):
        raise ConfigError(f"the value of {where} cannot be read as YAML") from None


def _put(values: dict[str, Any], keys: Keys, value: Any) -> None:
    for depth, name in enumerate(keys[:-1], 1):
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(
                f"{'.'.join(keys)} cannot be set: {'.'.join(keys[:depth])} is given as a value of its own"
            )
    values[keys[-1]] = value
