"""The examples of this project as services, on topics of their own."""

import shutil
from pathlib import Path

import yaml

from tests.support.paths import ROOT
from tests.support.service import Service


def example(name: str, folder: Path, kafka: str, app_id: str) -> Service:
    """A copy of an example with its topics made; nothing of it runs yet."""
    made = Service(folder, kafka, app_id)
    shutil.copytree(ROOT / "examples" / name, folder, dirs_exist_ok=True)
    settings = yaml.safe_load((folder / "stream_ml.yaml").read_text())
    settings["kafka"]["bootstrap_servers"], settings["app"]["id"] = kafka, app_id
    for part in ("events", "feedback", "predictions"):
        settings[part]["topic"] = f"{app_id}-{part}"
    made.settings = settings | {"http": {"port": 0}}
    if "provenance_key_file" in settings.get("serve", {}):
        (folder / settings["serve"]["provenance_key_file"]).write_text("k" * 40)
    made.config = made.write()
    made.create_topics()
    return made
