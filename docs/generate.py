"""Writes the pages of this folder that say what the code says: ``python docs/generate.py``; a test holds them to it."""

import ast
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from stream_ml.config.show import reference
from stream_ml.core.api import jobs
from stream_ml.core.drift import signals
from stream_ml.core.log import entry
from stream_ml.core.model import lineage
from stream_ml.core.partition import commit_metadata, outputs, predictions
from stream_ml.observe import metrics
from stream_ml.observe.status import FORMAT as STATUS_FORMAT
from stream_ml.observe.status import AnyStatus
from stream_ml.storage import checkpoints

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "stream_ml"


def first_sentence(file: Path) -> str:
    """What a module says of itself, to the end of its first paragraph."""
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def module_map() -> str:
    """Every folder of the package with its modules, from their docstrings."""
    lines = [
        "# Map of the code",
        "",
        "Every module and what it says of itself. Folders stand in the order of the layers, the lowest last.",
        "",
    ]
    for folder in _folders():
        inside = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
        name = folder.relative_to(PACKAGE.parent).as_posix()
        said = first_sentence(folder / "__init__.py")
        lines += [f"## {name}/", "", said, "", "| module | |", "| --- | --- |"]
        lines += [f"| `{path.name}` | {first_sentence(path)} |" for path in inside] + [""]
    return "\n".join(lines)


SERVED = """

## Of the scoring API

At `/metrics` of `serve.admin_port`, each with the label `child`; `stream_ml_serve_processes_wanted`,
`stream_ml_serve_processes_ready` and `stream_ml_serve_restarts_total` are of all processes.

"""

RUNNERS = """

## Of a runner of jobs

At `/metrics` of `serve.jobs.port`.

"""

ORDER = (
    "cli", "demo", "worker", "serve", "jobs", "offline", "audit", "admin", "check", "follower", "app", "observe", "kafka",
    "storage", "embedded", "core/api", "core/partition", "core/fold", "core/drift", "core/evaluation", "core/model", "core/join",
    "core/inputs", "core/log", "core/avro", "config", "runtime",
)  # fmt: skip


def _folders() -> list[Path]:
    found = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")}
    known = {*ORDER, *(name for name in found if name.rpartition("/")[0] in ORDER)}
    assert found - {".", "core"} == known, found ^ known  # noqa: S101 - a new folder is to be put into ORDER
    return [PACKAGE, *(PACKAGE / name for name in sorted(known, key=_rank))]


def _rank(name: str) -> tuple[int, str]:
    base = name if name in ORDER else name.rpartition("/")[0]
    return ORDER.index(base), name


CONFIGURATION = """# Configuration

A value comes from the first of these that has it:

1. a flag: `--set http.port=8081`
2. the environment: `STREAM_ML_HTTP__PORT=8081`; librdkafka's keys with underscores:
   `STREAM_ML_KAFKA__PROPERTIES__SASL_PASSWORD`
3. a secret file: files named after keys in one directory, as Kubernetes mounts a secret.
   `--secrets /run/secrets/stream-ml` or `STREAM_ML_SECRETS`, and in it for example `kafka.properties.sasl.password`
4. `stream_ml.yaml`
5. the default

Unknown keys are refused wherever they stand, with the line and the nearest known name. Paths are relative to the file.
Durations and sizes have units: `100ms`, `2d`, `1GiB`.

`stream-ml config show stream_ml.yaml --origin` says what is in force and from where, `stream-ml config schema` prints a
JSON Schema for editors, `stream-ml config reference` this table.

"""

METRICS = """# Metrics

At `/metrics` of each worker, for Prometheus. Alerts and dashboard: [watch it](../operate/monitor.md).

"""

FORMATS = """# Formats

Everything that lasts longer than a process, and what a change of it costs.

| what | where | format | a change needs |
| --- | --- | --- | --- |
| log entry | `<app>.training-log`, bare Avro | {log_entry} | another number; replicas of before halt there (`later_format`) until they are replaced |
| prediction | the app's topic, framing of its configuration | {prediction} | another number; a rebuild by a version of before suspends the partition |
| outcome | `<app>.outcomes`, single-object | {outcome} | the same |
| signal | `<app>.signals`, single-object | {signal} | another number; a version of before does not show them |
| answer of the scoring API | header `stream_ml.served` of its event, sealed | 1 | another first byte; a worker of before ignores it and scores |
| job, chunk, result | `<app>.jobs`, `<app>.job-requests`, `<app>.job-results`, JSON | {job} | another `format`; a runner or an API of before says so and stops following jobs |
| dead letter | `<app>.dead-letters`: the record as it came, with headers | {dead_letter} | another number in the header `stream_ml.format` |
| commit metadata | offsets of the group, JSON | {metadata} | another `v`; a version of before refuses to start |
| checkpoint | `<checkpoints.directory>/<lineage>/` of a model, `<checkpoints.directory>/book/<watch>/` of the book and what watches; header and pickle | {checkpoint} | nothing: one of another format is passed over, and the log is folded |
| model store | `<models.directory>/<lineage>/`: `spec.json`, `overlay.json`, `environment.json`, `sources/` | with the lineage | nothing is ever changed there |
| lineage | digest in predictions, entries, checkpoints | fold {fold} | every model is another one, folded from the log's start |
| watch | digest in signals, checkpoints of the book | watch {watch} | quality and drift are folded anew, no model is |
| status | `/v1/status`, JSON | {status} | readers are told in the changelog |

Rules that hold for all of them:

- `format` is the first field (of JSON: `v`). It chooses the schema of the rest. What a version cannot read it says.
- The fields in front never change: eleven of a log entry, six of a prediction, five of an outcome. So code of before
  can say what a record is about.
- Records are flat: a scalar or an optional scalar a field, no lists, maps, records, enums. Several words stand in one
  text, joined by commas: read them as a set.
- A word that you do not know (a flag, an outcome, a kind of signal) is none of your business: pass it by.
- A number or an order that a replica does not know halts it (`unknown_kind`, `unknown_command`): the version that wrote
  it would have obeyed.

Values begin with ten bytes of single-object encoding, but for log entries: two that say so, eight with the fingerprint
of the schema (CRC-64-AVRO). `stream-ml schema show CONFIG WHAT` prints one as your app writes it: predictions have a
column `carried_NAME` for each field of `predictions.carry`, too. `tests/core/partition/golden.json` holds the bytes of
one record of each kind.

## commit metadata

JSON on the committed offset of the events, at most 1,000 bytes; on the offset of the feedback only `v`, `tok` and `ti`.
Both offsets are of one transaction where both have the same `tok`.

| key | meaning |
| --- | --- |
| `v` | Version of this text; {metadata}. |
| `rd` | Log entries and commands up to this number are understood by who wrote it. |
| `lp` | Partition of the training log. |
| `seq` | Sequence of the next example. |
| `wm`, `et`, `lt` | Watermark; times up to which events and labels are expired; ms. |
| `in` | Latest times of both inputs; ms. |
| `ef`, `ff` | Offsets of events and feedback from which a rebuild reads. |
| `from` | Ends of the outputs from which a rebuild reads: `p` predictions, `o` outcomes, `d` dead letters, `l` training log. |
| `tok`, `tid` | Name of the transaction, and who wrote it. |
| `sig` | By origin, eight digits of it: the last position whose signals are written. |
| `kid` | First eight hex digits of HMAC-SHA256(key, `stream_ml.key-id`) of each key by which the owner believes answers of the scoring API, the newest first; left out where it believes none. |
| `rdy` | Models that the owner has at the log's end, lineage and position, who serves first; left out where there is none. |
| `ti` | Which topics the offsets are of: the first eight hex digits of SHA-256 of Kafka's ids. |

## commands about models

JSON in `arguments`, each with `v` 1, `by` and `why`. One that cannot be obeyed is *refused*, at its position by every
replica alike: counted, and told as a signal. `epoch` is the position after the last `serve` that was obeyed, 0 before
the first: who names another one has not seen the last change.

| command | arguments |
| --- | --- |
| `declare` | `lineage`; `name`; `spec`: everything that the lineage covers, whose canonical JSON has the SHA-256 that the lineage begins; `overlay`: sections of the configuration; `sources`: by path, zstd in base64, only where there is a key; `mac`: HMAC-SHA256 with `models.key_file` over `stream_ml.declare.1`, a line feed, the canonical JSON of `spec`, which holds the digest of each source, another line feed, and that of `overlay`; `environment`: versions, for people; `standby`, `auto` |
| `serve` | `epoch` that it replaces; `arms`: one, `{{"lineage", "share": 10000}}`; several halt this version (`unknown_command`) |
| `retire` | `epoch`, `lineage` |
| `freeze`, `resume`, `skip`, `accept` | `lineage`, where it is for one model alone |

## genesis

The first entry of a training log, of kind 4, says which log it is. `topics create` writes it, or the first worker.

| argument | meaning |
| --- | --- |
| `log_id` | 32 hex digits. Lineages and checkpoints are of this log, wherever it is copied to. |
| `hash_key` | 32 hex digits. The hash seed of every process that folds the log comes from it. Secret: who reads the log can prepare keys that collide. |
| `partition`, `partitions`, `scope`, `parent`, `app` | 0, 1, `global`, null and the app's id. |

"""


def formats() -> str:
    """The fields of the own schemas."""
    numbers = {
        "log_entry": entry.FORMAT,
        "prediction": predictions.FORMAT,
        "outcome": outputs.FORMAT,
        "dead_letter": outputs.FORMAT,
        "signal": signals.FORMAT,
        "metadata": commit_metadata.FORMAT,
        "job": jobs.FORMAT,
        "checkpoint": checkpoints.FORMAT,
        "fold": lineage.FOLD_FORMAT,
        "watch": lineage.WATCH_FORMAT,
        "status": STATUS_FORMAT,
    }
    found = [FORMATS.format(**numbers)]
    for name in ("prediction", "outcome", "signal", "log_entry"):
        schema = json.loads((PACKAGE.parent / "schemas" / f"{name}.avsc").read_text("utf-8"))
        found += [f"## {name}\n\n{schema.get('doc', '')}\n\n| field | type | meaning |\n| --- | --- | --- |\n"]
        found += [
            f"| `{field['name']}` | {_type(field['type'])} | {field.get('doc', '')} |\n" for field in schema["fields"]
        ]
        found.append("\n")
    return "".join(found)


STATUS = """# Status

`/v1/status` of each worker, as JSON; `/v1/stream` sends it once a second. Page, terminal, gauges and problems in words
are made from it. Its JSON Schema: [status.schema.json](status.schema.json). `format` grows when a key goes or changes
its meaning; new keys may come any time, so ignore what you do not know. Both addresses add `loop_silent_seconds`: for
how long the loop has given no sign of life.

Until the model is folded a status is a **Starting**, afterwards a **Status**.

"""


def status_schema() -> str:
    """JSON Schema of the status, for who reads it with a program."""
    schema = TypeAdapter(AnyStatus).json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)


def status_page() -> str:
    """Every object of the status with its keys."""
    objects = json.loads(status_schema())["$defs"]
    found = [STATUS]
    for name in ("Starting", "Status", *sorted(objects.keys() - {"Starting", "Status"})):
        one = objects[name]
        found.append(
            f"## {name}\n\n{' '.join(one.get('description', '').split())}\n\n| key | type | |\n| --- | --- | --- |\n"
        )
        required = one.get("required", [])
        for key, schema in one["properties"].items():
            found.append(f"| `{key}` | {_json_type(schema)} | {'' if key in required else 'may be left out'} |\n")
        found.append("\n")
    return "".join(found)


def _json_type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_json_type, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_json_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_json_type(schema['additionalProperties'])}"
    return str(schema.get("type", "any value"))


def _type(type_: object) -> str:
    if isinstance(type_, list):
        return " or ".join(map(_type, type_))
    if isinstance(type_, dict):
        inner = type_.get("logicalType") or type_["type"]
        if inner == "enum":
            return ", ".join(f"`{symbol}`" for symbol in type_["symbols"])
        return f"{inner} of {_type(type_['items'])}" if inner == "array" else str(inner)
    return str(type_)


PAGES = {
    "contribute/map.md": module_map,
    "reference/configuration.md": lambda: CONFIGURATION + reference(),
    "reference/metrics.md": lambda: (
        METRICS
        + (
            metrics.reference()
            + SERVED
            + metrics.reference(metrics.SERVE_TABLE)
            + RUNNERS
            + metrics.reference(metrics.JOBS_TABLE)
        )
    ),
    "reference/formats.md": formats,
    "reference/status-api.md": status_page,
    "reference/status.schema.json": status_schema,
}


def main() -> None:
    """Write all of them."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page().rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    main()
