"""A real store that speaks S3 (SeaweedFS, from its wheel), which can be ended and started again with what it holds."""

import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from stream_ml.config.service import BucketSettings
from stream_ml.embedded.broker import free_port
from stream_ml.errors import CheckpointError
from stream_ml.storage.bucket import Bucket
from tests.support.local_server import Quiet, served

KEY, SECRET = "tried", "tried-secret"
START_S = 60.0


class ObjectStore:
    """One server on 127.0.0.1; a bucket is made by the first object in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        self._grpc = {name: free_port() for name in self._ports}
        directory.mkdir(parents=True, exist_ok=True)
        identity = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        (directory / "s3.json").write_text(json.dumps({"identities": [identity]}), "utf-8")

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    def settings(self, name: str, **changes: Any) -> dict[str, Any]:
        """Of a configuration: a prefix of its own."""
        of = {"access_key_id": KEY, "secret_access_key": SECRET, "timeout": "5s", "wait": "20s"}
        return {"url": f"s3://tests/{name}", "endpoint": self.endpoint, **of, **changes}

    def bucket(self, name: str, **changes: Any) -> Bucket:
        """A client of it."""
        return Bucket(BucketSettings(**self.settings(name, **changes)))

    def start(self) -> None:
        """Start it, and wait until it keeps an object."""
        program = shutil.which("weed", path=str(Path(sys.executable).parent))
        assert program is not None
        ports = [f"-{name}.port={port}" for name, port in self._ports.items()]
        ports += [f"-{name}.port.grpc={port}" for name, port in self._grpc.items()]
        here = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        kept = [f"-dir={self._directory}", f"-s3.config={self._directory / 's3.json'}", "-volume.max=20"]
        with (self._directory / "log").open("ab") as log:
            command = [program, "server", *here, *ports, *kept, "-master.volumeSizeLimitMB=64"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._directory)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.bucket("probe").create("started", BytesIO(b"1"))
                return
            except CheckpointError:
                assert self._process.poll() is None and time.monotonic() < deadline, self.log
                time.sleep(0.2)  # between two tries

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text("utf-8", "replace")[-3_000:]

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def object_store(directory: Path) -> Iterator[ObjectStore]:
    """One that is started, and ended behind the block."""
    store = ObjectStore(directory)
    store.start()
    try:
        yield store
    finally:
        store.kill()


@contextlib.contextmanager
def silent_store(*, status: int | None = None) -> Iterator[str]:
    """The address of something that takes requests and never answers, or refuses each with a status."""
    ended = threading.Event()

    class Handler(Quiet):
        def asked(self) -> None:
            self.sent()
            if status is None:
                ended.wait(30)
                return
            self.answer(status)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = asked

    with served(Handler) as port:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            ended.set()
