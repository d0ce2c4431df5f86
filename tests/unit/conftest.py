"""What tests of this folder share."""

import os

import pytest


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the service's is set."""
    for name in list(os.environ):
        if name.startswith("STREAM_ML_"):
            monkeypatch.delenv(name)
