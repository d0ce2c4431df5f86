"""Where a case runs: the broker, a folder, how large its load is."""

import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster import Cluster


class Stand(NamedTuple):
    """Given to every case. `events` is the size of a throughput run; `environments` the folder of the peers'."""

    cluster: Cluster
    folder: Path
    environments: Path
    events: int
    live_s: float
    soak_s: float

    def scratch(self, case: str) -> Path:
        """A folder of a run's own."""
        return Path(tempfile.mkdtemp(prefix=f"{case}-", dir=self.folder))
